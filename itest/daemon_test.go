//go:build itest

package itest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/sidecar"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// documentedPermissions are the permissions of the macaroon that the documents
// tell users to bake for socketd.
func documentedPermissions() []string {
	return sidecar.LndPermissions()
}

// TestDocumentedPermissions checks that the network of the tests and the demo
// runs on the permissions that the documents name, and baking.
func TestDocumentedPermissions(t *testing.T) {
	require.ElementsMatch(
		t, append(
			documentedPermissions(),
			"uri:/lnrpc.Lightning/BakeMacaroon",
		), regtest.SocketdLndPermissions(),
	)

	operations := string(readFile(t, "../docs/operations.md"))
	require.Contains(
		t, operations, strings.Join(documentedPermissions(), " "),
	)
}

// TestDemo runs the demo as make demo does.
func TestDemo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*startTimeout)
	defer cancel()
	cmd := exec.CommandContext(
		ctx, filepath.Join(binDir, "socketdev"), "demo",
	)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.True(t, strings.HasSuffix(string(out), "\ndemo: ok\n"), "%s",
		out)
}

// TestSocketcli goes the way of an offer with socketcli alone.
func TestSocketcli(t *testing.T) {
	a, b := shared.a, shared.b
	onA, onB := a.subscribe(t), b.subscribe(t)

	require.Equal(t, a.pubkey(), a.socketcli(t, "getinfo")["node_pubkey"])
	started := a.socketcli(t, "start", "--label", "from the shell")
	socketID := started["socket_id"].(string)

	id := a.socketcli(
		t, "send", b.pubkey(), "--socket_id", socketID[:8],
		"--expiry", "10m",
	)["id"].(string)
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	accepted := b.socketcli(t, "accept", id[:8])
	require.Equal(t, id, accepted["offer"].(map[string]any)["id"])
	require.Len(t, accepted["token2"], 32)
	require.Equal(t, started, a.socketcli(
		t, "start", "--socket_id", socketID[:8],
	))
	onA.next(t, socketrpc.Event_OFFER_ACCEPTED)

	other := a.socketcli(
		t, "send", b.pubkey(), "--socket_id", socketID, "--leg", "1",
	)["id"].(string)
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	b.socketcli(t, "reject", other[:10], "--reason", "no, thanks")
	rejected := onA.next(t, socketrpc.Event_OFFER_REJECTED)
	require.Contains(t, rejected.Reason, "no, thanks")

	require.NotEmpty(t, a.socketcli(t, "list")["sockets"])
	require.NotEmpty(t, b.socketcli(t, "offers")["offers"])
	a.socketcli(t, "stop", socketID[:8])

	// Refusals go to stderr in words, and the exit code tells.
	_, err := a.trySocketcli(t, "stop", strings.Repeat("ab", 32))
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode())
	require.Contains(t, string(exit.Stderr), "no open socket has this id")

	_, err = a.trySocketcli(t, "nosuch")
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 2, exit.ExitCode())
}

// TestCannotHost checks a node without a public address: it takes part, and
// says what to set wherever it is asked to host.
func TestCannotHost(t *testing.T) {
	n := startNode(t, "--relay.externalip=")
	info := n.info(t)
	require.False(t, info.CanHost)
	const what = "set relay.externalip=<public address> and open UDP and " +
		"TCP 21000-21999"
	require.Contains(t, info.CannotHostReason, what)
	require.Empty(t, info.ExternalIp)

	_, err := n.client.StartSocket(
		testContext(t), &socketrpc.StartSocketRequest{},
	)
	requireCode(t, err, codes.FailedPrecondition, what)
	_, err = n.client.SendSocket(
		testContext(t), &socketrpc.SendSocketRequest{
			Pubkey: shared.a.pubkey(),
			Mode:   socketrpc.SendSocketRequest_OFFER,
		},
	)
	requireCode(t, err, codes.FailedPrecondition, what)
}

// TestWaitsForLnd starts socketd while its lnd is not there: it waits, ^C works
// meanwhile, and it gets ready once lnd is there.
func TestWaitsForLnd(t *testing.T) {
	n := startNode(t)
	ctx := testContext(t)
	require.NoError(t, n.Socketd.Stop())
	require.NoError(t, n.Lnd.Stop())

	waiting := regexp.MustCompile("Waiting for lnd at ")
	proc, err := n.Socketd.Launch(ctx)
	require.NoError(t, err)
	_, err = proc.WaitLine(ctx, waiting)
	require.NoError(t, err)
	require.NoError(t, n.Socketd.Stop())

	proc, err = n.Socketd.Launch(ctx)
	require.NoError(t, err)
	_, err = proc.WaitLine(ctx, waiting)
	require.NoError(t, err)
	require.NoError(t, n.Lnd.Start(ctx))
	_, err = proc.WaitLine(ctx, regexp.MustCompile(`Ready$`))
	require.NoError(t, err)
}

// TestLndRestarts takes lnd away from a running socketd: its relay goes on, its
// API says since when lnd is away, and both are back when lnd is.
func TestLndRestarts(t *testing.T) {
	n := startNode(t)
	ctx := testContext(t)
	socket := n.startSocket(t, "")
	events := n.subscribe(t)
	one, two := dialLeg(t, socket.Port1), dialLeg(t, socket.Port2)
	pin(t, one, events)
	pin(t, two, events)
	receive(t, one, nil)

	require.NoError(t, n.Lnd.Stop())
	_, err := n.Socketd.WaitLine(ctx, regexp.MustCompile("lnd is away"))
	require.NoError(t, err)

	_, err = n.client.GetInfo(ctx, &socketrpc.GetInfoRequest{})
	requireCode(t, err, codes.Unavailable, "since 20")
	sendTo(t, one, []byte("still here"))
	receive(t, two, []byte("still here"))

	require.NoError(t, n.Lnd.Start(ctx))
	require.Eventually(t, func() bool {
		_, err := n.client.GetInfo(ctx, &socketrpc.GetInfoRequest{})

		return err == nil
	}, testTimeout, 10*time.Millisecond)

	// Messages arrive again too.
	require.NoError(t, n.Lnd.ConnectPeer(ctx, shared.a.Lnd))
	again := n.subscribe(t)
	id := shared.a.send(t, n, shared.a.startSocket(t, "").SocketId)
	require.Equal(t, id, again.next(
		t, socketrpc.Event_OFFER_RECEIVED,
	).Id)
}

// TestStartFailures checks that a daemon that cannot start says why, and leaves
// no port open.
func TestStartFailures(t *testing.T) {
	lnd := startLnd(t)
	busy, err := new(net.ListenConfig).Listen(
		t.Context(), "tcp", "127.0.0.1:0",
	)
	require.NoError(t, err)
	defer busy.Close()

	notRoot := filepath.Join(t.TempDir(), "few.macaroon")
	require.NoError(t, lnd.BakeSocketdMacaroon(
		testContext(t), notRoot, []string{"info:write"},
	))

	tests := []struct {
		name     string
		macaroon string
		args     []string
		want     string
	}{
		{"no macaroon", "/no/such.macaroon", nil,
			"bake one with\n\n  lncli --network regtest " +
				"bakemacaroon --root_key_id 50500"},
		{"macaroon too weak", notRoot, nil, "permission denied"},
		{"network", "", []string{"--network=simnet"},
			"network mismatch"},
		{"REST port taken", "", []string{
			"--restlisten=" + busy.Addr().String(),
		}, "restlisten: "},
		{"debug level", "", []string{"--debuglevel=loud"},
			"debuglevel: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			mac := filepath.Join(dir, "lnd.macaroon")
			require.NoError(t, lnd.BakeSocketdMacaroon(
				testContext(t), mac,
				regtest.SocketdLndPermissions(),
			))
			if test.macaroon != "" {
				mac = test.macaroon
			}

			s := regtest.NewSocketd(regtest.SocketdConfig{
				Name: test.name, BinDir: binDir, Dir: dir,
				LndAddr:         lnd.RPCAddr(),
				LndTLSPath:      lnd.TLSCertPath(),
				LndMacaroonPath: mac,
				Args:            test.args,
			})
			proc, err := s.Launch(testContext(t))
			require.NoError(t, err)
			err = proc.WaitExit(testContext(t))
			var exit *regtest.ExitError
			require.ErrorAs(t, err, &exit)
			out, err := proc.Output()
			require.NoError(t, err)
			require.Contains(t, out, test.want)
		})
	}
}

// TestStop checks that a daemon that is told to stop ends its streams, leaves
// no port open, and loses no time.
func TestStop(t *testing.T) {
	n := startNode(t)
	socket, err := n.client.StartSocket(
		testContext(t), &socketrpc.StartSocketRequest{},
	)
	require.NoError(t, err)
	events := n.subscribe(t)
	ws, _, err := n.dialWebSocket(
		t, "/v1/subscribe", n.macaroonHex(t), false, nil,
	)
	require.NoError(t, err)

	require.NoError(t, n.Socketd.Stop())
	_, err = events.stream.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	require.ErrorContains(t, err, "socketd stops")
	var last map[string]json.RawMessage
	require.NoError(t, ws.ReadJSON(&last))
	require.Contains(t, string(last["error"]), "socketd stops")

	for _, addr := range []string{
		n.Socketd.RPCAddr(), n.Socketd.RESTAddr(),
	} {
		lis, err := new(net.ListenConfig).Listen(
			t.Context(), "tcp", addr,
		)
		require.NoError(t, err)
		require.NoError(t, lis.Close())
	}
	for _, port := range []string{socket.Port1, socket.Port2} {
		conn, err := new(net.ListenConfig).ListenPacket(
			t.Context(), "udp", "127.0.0.1:"+port,
		)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}

	out, err := n.Socketd.Output()
	require.NoError(t, err)
	require.Contains(t, out, "socketd stopped")
	require.NotContains(t, out, "[ERR]")
	require.NotContains(t, out, "[CRT]")
}

// TestHostileMessages sends B messages that no socketd sends: nothing is
// stored, everything is counted, and nothing is logged above debug level.
func TestHostileMessages(t *testing.T) {
	a, b := shared.a, startNode(t)
	ctx := testContext(t)
	require.NoError(t, a.Lnd.ConnectPeer(ctx, b.Lnd))

	unsolicited := &wire.Accept{ID: wire.ID{1}, ReplyTo: wire.ID{2}}
	accept, err := wire.Encode(unsolicited)
	require.NoError(t, err)
	version := append([]byte{}, accept...)
	version[2] = 2

	for reason, body := range map[string][]byte{
		"malformed":   []byte("nonsense"),
		"oversized":   make([]byte, 4096),
		"unsolicited": accept,
		"version":     version,
	} {
		require.Eventually(t, func() bool {
			// A subscription may not be live yet: send until it
			// is counted.
			a.sendCustom(t, b, uint32(wire.TypeAccept), body)

			return b.info(t).MessagesRefused[reason] > 0
		}, testTimeout, 200*time.Millisecond, reason)
	}

	list, err := b.client.ListOffers(ctx, &socketrpc.ListOffersRequest{})
	require.NoError(t, err)
	require.Empty(t, list.Offers)

	// An offer that comes twice is one offer.
	offer, err := wire.Encode(&wire.Offer{
		ID: wire.ID{3}, Protocol: wire.ProtocolUDP,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Port1: 1, Port2: 2, Legs: wire.Leg2, SocketID: wire.ID{4},
		Expiry: uint64(time.Now().Add(time.Hour).Unix()),
	})
	require.NoError(t, err)
	a.sendCustom(t, b, uint32(wire.TypeOffer), offer)
	a.sendCustom(t, b, uint32(wire.TypeOffer), offer)
	require.Eventually(t, func() bool {
		return b.info(t).MessagesRefused["duplicate"] == 1
	}, testTimeout, 10*time.Millisecond)
	list, err = b.client.ListOffers(ctx, &socketrpc.ListOffersRequest{})
	require.NoError(t, err)
	require.Len(t, list.Offers, 1)

	for line := range strings.Lines(string(readFile(
		t, b.Socketd.LogPath(),
	))) {
		require.NotContains(t, line, "[ERR]")
		if strings.Contains(line, "OFFR") {
			require.True(t, strings.Contains(line, "[DBG]") ||
				strings.Contains(line, "[TRC]"), line)
		}
	}

	// A peer that sends too much is heard no more, and others are.
	for range 100 {
		a.sendCustom(t, b, uint32(wire.TypeAccept), accept)
	}
	require.Eventually(t, func() bool {
		return b.info(t).MessagesRefused["rate"] > 0
	}, testTimeout, 10*time.Millisecond)
	require.NoError(t, shared.c.Lnd.ConnectPeer(ctx, b.Lnd))
	events := b.subscribe(t)
	id := shared.c.send(t, b, shared.c.startSocket(t, "").SocketId)
	require.Equal(t, id, events.next(
		t, socketrpc.Event_OFFER_RECEIVED,
	).Id)
}

// sendCustom sends a custom message from the node's lnd to another node.
func (n *node) sendCustom(t *testing.T, to *node, msgType uint32,
	body []byte) {

	t.Helper()

	peer, err := hex.DecodeString(to.pubkey())
	require.NoError(t, err)
	_, err = n.Lnd.Client().SendCustomMessage(
		testContext(t), &lnrpc.SendCustomMessageRequest{
			Peer: peer, Type: msgType, Data: body,
		},
	)
	require.NoError(t, err)
}
