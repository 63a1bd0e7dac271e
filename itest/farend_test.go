//go:build itest

package itest

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

const (
	// farEndProgram is the implementation that was written from the pages
	// of the protocol alone.
	farEndProgram = "farend/farend.py"

	// allowPrivate has it connect to loopback.
	allowPrivate = "--allow-private"

	// greeting is what it says first on a leg.
	greeting = "greetings from the far end"
)

// anyLine matches every line.
var anyLine = regexp.MustCompile("^.*$")

// farEndPermissions are what the program's macaroon allows.
var farEndPermissions = []string{
	"info:read", "offchain:read", "offchain:write",
}

// farEnd is a far end that knows socketd by docs/protocol.md and
// docs/relay-protocol.md only.
type farEnd struct {
	*regtest.Process
	lines *regtest.Follower
}

// farEndLine is a line of what it tells.
type farEndLine struct {
	Event     string `json:"event"`
	ID        string `json:"id"`
	MessageID string `json:"message_id"`
	AcceptID  string `json:"accept_id"`
	Peer      string `json:"peer"`
	SocketID  string `json:"socket_id"`
	Code      string `json:"code"`
	State     string `json:"state"`
	Text      string `json:"text"`
	Admission int    `json:"admission"`
	SeenAs    string `json:"seen_as"`
	Leg       int    `json:"leg"`
	Right     int    `json:"right"`
	Of        int    `json:"of"`
}

// runFarEnd starts the program, which has to have ended well when the test has.
func runFarEnd(t *testing.T, args ...string) *farEnd {
	t.Helper()

	python, err := exec.LookPath("python3")
	require.NoError(t, err, "this test needs Python: run "+
		"apt-get install python3")

	// It leaves no compiled modules in the source.
	proc, err := regtest.Start(t.Context(), regtest.ProcessConfig{
		Name:    farEndProgram,
		Path:    python,
		Args:    append([]string{"-B", farEndProgram}, args...),
		LogFile: filepath.Join(t.TempDir(), "farend.log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, proc.Stop())
		if t.Failed() {
			output, _ := proc.Output()
			t.Log(output)
		}
	})

	return &farEnd{Process: proc, lines: proc.Follow()}
}

// startFarEnd starts the program beside an lnd and waits until it is ready.
func startFarEnd(t *testing.T, lnd *regtest.Lnd, args ...string) *farEnd {
	t.Helper()

	mac, err := lnd.BakeMacaroon(
		testContext(t), farEndPermissions, 0, false,
	)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "farend.macaroon")
	require.NoError(t, os.WriteFile(path, mac, 0o600))

	far := runFarEnd(t, append([]string{
		"--lnd=" + lnd.RESTAddr(),
		"--tlscert=" + lnd.TLSCertPath(),
		"--macaroon=" + path,
		"--echo", "--greeting=" + greeting,
	}, args...)...)
	far.next(t, "started", "")

	return far
}

// next waits for the next line about an event, and about an id if there is one.
func (f *farEnd) next(t *testing.T, event, id string) farEndLine {
	t.Helper()

	for {
		match, err := f.lines.Next(testContext(t), anyLine)
		require.NoError(t, err)

		var line farEndLine
		require.NoError(t, json.Unmarshal([]byte(match[0]), &line),
			match[0])
		if line.Event == event && (id == "" || id == line.ID ||
			id == line.MessageID) {

			return line
		}
	}
}

// TestFarEndVectors checks that the test vectors and the pages say the same:
// the program was written from the pages.
func TestFarEndVectors(t *testing.T) {
	for _, file := range []string{
		"../sidecar/wire/testdata/vectors.json",
		"../relay/bind/testdata/vectors.json",
	} {
		far := runFarEnd(t, "--vectors="+file)
		result := far.next(t, "vectors", "")
		require.Equal(t, result.Of, result.Right)
		require.Greater(t, result.Of, 20)
		require.NoError(t, far.WaitExit(testContext(t)))
	}
}

// TestFarEnd has a node with socketd deal with one that runs another
// implementation of the protocol.
func TestFarEnd(t *testing.T) {
	host, lnd := startNode(t, "--offer.allowrequests=any"), startLnd(t)

	// lnd's REST calls its gRPC at the port of the options. The system has
	// chosen one at the first start, and that is the option of the second.
	require.NoError(t, lnd.Restart(testContext(t)))
	require.NoError(t, host.Lnd.ConnectPeer(testContext(t), lnd))

	for _, kind := range []struct {
		protocol, admission string
	}{
		{"udp", "token"}, {"tcp", "token"}, {"udp", "open"},
		{"tcp", "open"},
	} {
		t.Run(kind.protocol+" "+kind.admission, func(t *testing.T) {
			testFarEnd(t, host, lnd, kind.protocol, kind.admission)
		})
	}
	t.Run("private address", func(t *testing.T) {
		testFarEndAddress(t, host, lnd)
	})
	t.Run("leaves", func(t *testing.T) { testFarEndLeaves(t, host, lnd) })
	t.Run("declines", func(t *testing.T) {
		testFarEndDeclines(t, host, lnd)
	})
	t.Run("asks", func(t *testing.T) { testFarEndAsks(t, host, lnd) })
	t.Run("refuses", func(t *testing.T) { testFarEndRefuses(t, host, lnd) })
}

// offerTo offers leg 2 of a socket to a node and waits until it is delivered.
func (n *node) offerTo(t *testing.T, lnd *regtest.Lnd, on *events,
	socketID string) string {

	t.Helper()

	resp, err := n.client.SendSocket(
		testContext(t), &socketrpc.SendSocketRequest{
			Pubkey: lnd.PubKey(), SocketId: socketID,
		},
	)
	require.NoError(t, err)
	require.Equal(t, resp.Id, on.next(
		t, socketrpc.Event_OFFER_DELIVERED,
	).ReplyToId)

	return resp.Id
}

// testFarEnd goes the way of an offer that is accepted, has bytes go both ways
// through its socket, and stops that.
func testFarEnd(t *testing.T, host *node, lnd *regtest.Lnd, protocol,
	admission string) {

	t.Helper()

	socket := host.start(t, &socketrpc.StartSocketRequest{
		Protocol: protocol, Admission: admission,
	})
	onHost := host.subscribe(t)
	one := legOne(t, onHost, socket)
	far := startFarEnd(t, lnd, allowPrivate)
	id := host.offerTo(t, lnd, onHost, socket.SocketId)

	offer := far.next(t, "offer", id)
	require.Equal(t, host.pubkey(), offer.Peer)
	require.Equal(t, socket.SocketId, offer.SocketID)
	require.Equal(t, admission == "token", offer.Admission == 1)
	acceptID := far.next(t, "accepted", id).AcceptID
	accepted := onHost.next(t, socketrpc.Event_OFFER_ACCEPTED)
	require.Equal(t, acceptID, accepted.Id)
	require.Equal(t, id, accepted.ReplyToId)
	require.Equal(t, lnd.PubKey(), accepted.FromPubkey)
	far.next(t, "answered", acceptID)

	taken := far.next(t, "leg taken", id)
	require.Equal(t, 2, taken.Leg)
	require.Equal(t, greeting, readText(t, one, len(greeting)))
	require.Equal(t, taken.SeenAs, host.socketInfo(
		t, socket.SocketId,
	).Leg2.ClientAddr)
	for _, text := range []string{"one", "two", "three"} {
		pass(t, one, one, text)
		require.Equal(t, text, far.next(t, "received", id).Text)
	}

	_, err := host.client.StopSocket(
		testContext(t), &socketrpc.StopSocketRequest{
			SocketId: socket.SocketId,
		},
	)
	require.NoError(t, err)
	require.Equal(t, "CLOSED", far.next(t, "ended", id).State)
	require.Equal(t, socketrpc.Offer_CLOSED, host.offer(t, id).State)

	told, err := far.Output()
	require.NoError(t, err)
	require.NotContains(t, told, "token")
}

// legOne returns a client of leg 1 to which the relay sends already.
func legOne(t *testing.T, on *events,
	socket *socketrpc.StartSocketResponse) net.Conn {

	t.Helper()

	if socket.Admission == "token" {
		return bindLeg(t, socket.SocketId, socket.Protocol, 1,
			socket.Port1, socket.Token1)
	}
	if socket.Protocol == "tcp" {
		return connectLeg(t, socket.Port1)
	}
	conn := dialLeg(t, socket.Port1)
	pin(t, conn, on)

	return conn
}

// readText reads so many bytes, which over UDP are one datagram.
func readText(t *testing.T, conn net.Conn, size int) string {
	t.Helper()

	buf := make([]byte, 1<<16)
	for at := 0; ; {
		n, err := conn.Read(buf[at:])
		require.NoError(t, err)
		if at += n; at >= size {
			return string(buf[:at])
		}
	}
}

// testFarEndAddress has an offer name an address that a stranger may not send
// the far end to. It may be accepted all the same.
func testFarEndAddress(t *testing.T, host *node, lnd *regtest.Lnd) {
	t.Helper()

	socket := host.startSocket(t, "")
	onHost := host.subscribe(t)
	far := startFarEnd(t, lnd)
	id := host.offerTo(t, lnd, onHost, socket.SocketId)
	far.next(t, "leg refused", id)

	require.Equal(t, socketrpc.Offer_ACCEPTED, host.offer(t, id).State)
	require.Empty(t, host.socketInfo(t, socket.SocketId).Leg2.ClientAddr)
}

// testFarEndLeaves has the far end close its offer, as it does when it ends.
func testFarEndLeaves(t *testing.T, host *node, lnd *regtest.Lnd) {
	t.Helper()

	socket := host.start(t, &socketrpc.StartSocketRequest{Protocol: "tcp"})
	onHost := host.subscribe(t)
	far := startFarEnd(t, lnd, allowPrivate)
	id := host.offerTo(t, lnd, onHost, socket.SocketId)
	far.next(t, "leg taken", id)
	require.NoError(t, far.Stop())

	require.Equal(t, id, onHost.next(
		t, socketrpc.Event_OFFER_CLOSED,
	).ReplyToId)
	require.Equal(t, socketrpc.Offer_CLOSED, host.offer(t, id).State)
	far.next(t, "stopped", "")
}

// testFarEndDeclines has the far end decline, and say why.
func testFarEndDeclines(t *testing.T, host *node, lnd *regtest.Lnd) {
	t.Helper()

	socket := host.startSocket(t, "")
	onHost := host.subscribe(t)
	far := startFarEnd(t, lnd, "--decline=not today")
	id := host.offerTo(t, lnd, onHost, socket.SocketId)

	event := onHost.next(t, socketrpc.Event_OFFER_REJECTED)
	require.Equal(t, id, event.ReplyToId)
	require.Contains(t, event.Reason, "not today")
	require.Equal(t, "REJECTED", far.next(t, "ended", id).State)
	require.Equal(t, event.Id, far.next(t, "answered", event.Id).ID)
}

// testFarEndAsks has the far end ask the node to host, use what it is offered,
// and end it.
func testFarEndAsks(t *testing.T, host *node, lnd *regtest.Lnd) {
	t.Helper()

	onHost := host.subscribe(t)
	far := startFarEnd(
		t, lnd, allowPrivate, "--request="+host.pubkey(),
		"--protocol=tcp",
	)
	request := onHost.next(t, socketrpc.Event_REQUEST_RECEIVED)
	require.Equal(t, far.next(t, "requested", "").ID, request.Id)
	require.Equal(t, lnd.PubKey(), request.FromPubkey)

	offer := far.next(t, "offer", "")
	onHost.match(t, func(event *socketrpc.Event) bool {
		return event.Type == socketrpc.Event_OFFER_ACCEPTED &&
			event.ReplyToId == offer.MessageID
	})
	taken := far.next(t, "leg taken", offer.MessageID)
	info := host.socketInfo(t, offer.SocketID)
	require.Equal(t, taken.SeenAs, info.Leg2.ClientAddr)
	require.Equal(t, request.Id, info.RequestId)

	require.NoError(t, far.Stop())
	requireStopped(t, onHost, offer.SocketID)
}
