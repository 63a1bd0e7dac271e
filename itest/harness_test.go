//go:build itest

package itest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// testTimeout bounds every wait of a test. It is for a machine that is slow
// and busy: a test that passes never waits so long.
const testTimeout = 60 * time.Second

// node is a node with connections to its socketd.
type node struct {
	*regtest.Node
	conn   *grpc.ClientConn
	client socketrpc.SocketClient
}

// newNode connects to a running node.
func newNode(n *regtest.Node) (*node, error) {
	conn, err := n.Socketd.Dial()
	if err != nil {
		return nil, err
	}

	return &node{
		Node: n, conn: conn, client: socketrpc.NewSocketClient(conn),
	}, nil
}

// close closes the connections.
func (n *node) close() error {
	return n.conn.Close()
}

// startNode starts a node of the test's own, a socketd with further options.
func startNode(t *testing.T, args ...string) *node {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	started, err := regtest.StartNode(ctx, regtest.NodeConfig{
		Name:        "own",
		BinDir:      binDir,
		Dir:         t.TempDir(),
		SocketdArgs: args,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, started.Stop()) })

	n, err := newNode(started)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.close()) })

	return n
}

// startLnd starts an lnd of the test's own, without a socketd beside it.
func startLnd(t *testing.T) *regtest.Lnd {
	t.Helper()

	lnd, err := regtest.StartLnd(testContext(t), regtest.LndConfig{
		Name: "own", BinDir: binDir, Dir: t.TempDir(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lnd.Stop()) })

	return lnd
}

// testContext returns a context that bounds the waits of a test.
func testContext(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)

	return ctx
}

// pubkey is the node's public key in hex.
func (n *node) pubkey() string {
	return n.Lnd.PubKey()
}

// socketcli runs socketcli against the node and decodes what it prints.
func (n *node) socketcli(t *testing.T, args ...string) map[string]any {
	t.Helper()

	out, err := n.trySocketcli(t, args...)
	require.NoError(t, err)

	var decoded map[string]any
	require.NoError(t, json.Unmarshal(out, &decoded), "%s", out)

	return decoded
}

// trySocketcli runs socketcli against the node.
func (n *node) trySocketcli(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()

	args = append(n.Socketd.CLIArgs(), args...)
	cmd := exec.CommandContext(
		testContext(t), filepath.Join(binDir, "socketcli"), args...,
	)

	return cmd.Output()
}

// startSocket opens a UDP socket of the test's own, OPEN, which ends with the
// test.
func (n *node) startSocket(t *testing.T,
	label string) *socketrpc.StartSocketResponse {

	t.Helper()

	return n.start(t, &socketrpc.StartSocketRequest{
		Protocol:  "udp",
		Label:     label,
		Admission: "open",
	})
}

// start opens a socket of the test's own, which ends with the test.
func (n *node) start(t *testing.T,
	req *socketrpc.StartSocketRequest) *socketrpc.StartSocketResponse {

	t.Helper()

	resp, err := n.client.StartSocket(testContext(t), req)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := n.client.StopSocket(
			context.WithoutCancel(t.Context()),
			&socketrpc.StopSocketRequest{SocketId: resp.SocketId},
		)
		if status.Code(err) != codes.NotFound {
			require.NoError(t, err)
		}
	})

	return resp
}

// stopDefault stops the default socket, so that the next test finds none.
func (n *node) stopDefault(t *testing.T) {
	t.Helper()

	_, err := n.client.StopSocket(
		testContext(t), &socketrpc.StopSocketRequest{},
	)
	require.NoError(t, err)
}

// events is a live stream of a node's events.
type events struct {
	stream grpc.ServerStreamingClient[socketrpc.Event]
}

// subscribe opens a stream of the node's events and waits until it is live.
func (n *node) subscribe(t *testing.T) *events {
	t.Helper()

	stream, err := n.client.SubscribeEvents(
		testContext(t), &socketrpc.SubscribeEventsRequest{},
	)
	require.NoError(t, err)
	_, err = stream.Header()
	require.NoError(t, err)

	return &events{stream}
}

// next waits for the next event of a type, passing over others.
func (e *events) next(t *testing.T,
	kind socketrpc.Event_Type) *socketrpc.Event {

	t.Helper()

	return e.match(t, func(event *socketrpc.Event) bool {
		return event.Type == kind
	})
}

// match waits for the next event that fits, passing over others.
func (e *events) match(t *testing.T,
	fits func(*socketrpc.Event) bool) *socketrpc.Event {

	t.Helper()

	for {
		event, err := e.stream.Recv()
		require.NoError(t, err)
		if fits(event) {
			return event
		}
	}
}

// send offers a socket of the node to another and returns the offer's id.
func (n *node) send(t *testing.T, to *node, socketID string) string {
	t.Helper()

	resp, err := n.client.SendSocket(
		testContext(t), &socketrpc.SendSocketRequest{
			Pubkey:   to.pubkey(),
			SocketId: socketID,
		},
	)
	require.NoError(t, err)

	return resp.Id
}

// offer returns an offer that a node knows.
func (n *node) offer(t *testing.T, id string) *socketrpc.Offer {
	t.Helper()

	resp, err := n.client.ListOffers(
		testContext(t), &socketrpc.ListOffersRequest{},
	)
	require.NoError(t, err)
	for _, offer := range resp.Offers {
		if offer.Id == id {
			return offer
		}
	}
	require.Fail(t, "no such offer", id)

	return nil
}

// socketInfo returns what a node says of an open socket.
func (n *node) socketInfo(t *testing.T, id string) *socketrpc.SocketInfo {
	t.Helper()

	list, err := n.client.ListSockets(
		testContext(t), &socketrpc.ListSocketsRequest{},
	)
	require.NoError(t, err)
	for _, info := range list.Sockets {
		if info.SocketId == id {
			return info
		}
	}
	require.Fail(t, "no such socket", id)

	return nil
}

// info returns what a node's socketd says of itself.
func (n *node) info(t *testing.T) *socketrpc.GetInfoResponse {
	t.Helper()

	info, err := n.client.GetInfo(
		testContext(t), &socketrpc.GetInfoRequest{},
	)
	require.NoError(t, err)

	return info
}

// requireCode checks the code of an error, and that its text names something.
func requireCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()

	require.Equal(t, code, status.Code(err), "%v", err)
	require.ErrorContains(t, err, text)
}

// readFile reads a file.
func readFile(t *testing.T, path string) []byte {
	t.Helper()

	data, err := os.ReadFile(path)
	require.NoError(t, err)

	return data
}

// withMacaroon returns a context whose calls carry a macaroon.
func withMacaroon(ctx context.Context, mac []byte) context.Context {
	return metadata.AppendToOutgoingContext(
		ctx, socketrpc.MacaroonHeader, hex.EncodeToString(mac),
	)
}
