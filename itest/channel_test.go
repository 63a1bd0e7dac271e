//go:build itest

package itest

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// channelNetwork is a network of three nodes with a chain: A, B and C.
type channelNetwork struct {
	*regtest.Network
	a, b, c *node
}

// startChannelNetwork starts three nodes with further options of their
// socketds, and opens a channel between A and B, whose socketds know of it.
// C is a peer of A only, and has B's address from the graph.
func startChannelNetwork(t *testing.T, args ...string) *channelNetwork {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	network, err := regtest.StartNetwork(ctx, regtest.NetworkConfig{
		BinDir:      binDir,
		Dir:         t.TempDir(),
		Nodes:       3,
		ChainNodes:  3,
		SocketdArgs: args,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, network.Stop()) })

	a, b, c := network.Nodes[0], network.Nodes[1], network.Nodes[2]
	require.NoError(t, c.Lnd.ConnectPeer(ctx, a.Lnd))
	require.NoError(t, network.OpenChannel(ctx, 0, 1))
	require.NoError(t, c.Lnd.AwaitNode(ctx, b.Lnd))

	return &channelNetwork{
		Network: network,
		a:       restartSocketd(t, a),
		b:       restartSocketd(t, b),
		c:       restartSocketd(t, c),
	}
}

// restartSocketd restarts the socketd of a node, which asks for the channels
// when it starts and once a minute, and connects to it.
func restartSocketd(t *testing.T, started *regtest.Node) *node {
	t.Helper()

	require.NoError(t, started.Socketd.Restart(testContext(t)))
	n, err := newNode(started)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.close()) })

	return n
}

// TestChannels starts a network with one channel and tests what depends on
// channels and on the graph, from the first to the last.
func TestChannels(t *testing.T) {
	n := startChannelNetwork(t, "--offer.autoaccept=channel")

	t.Run("graph", n.testGraph)
	t.Run("auto-accept", n.testAutoAccept)
}

// testAutoAccept checks that B accepts what A offers when it comes, for they
// have a channel, and does not accept what C offers, nor what A offers when the
// channel is closed.
func (n *channelNetwork) testAutoAccept(t *testing.T) {
	require.NoError(t, n.c.Lnd.ConnectPeer(testContext(t), n.b.Lnd))
	n.requireAccepted(t, n.a)
	n.requireNotAccepted(t, n.c)

	require.NoError(t, n.CloseChannel(testContext(t), 0, 1))
	n.b = restartSocketd(t, n.b.Node)
	n.requireNotAccepted(t, n.a)
}

// requireAccepted has a node offer a socket to B, and checks that B accepts it
// when it comes and says why.
func (n *channelNetwork) requireAccepted(t *testing.T, from *node) {
	t.Helper()

	onFrom, onB := from.subscribe(t), n.b.subscribe(t)
	socket := from.start(t, &socketrpc.StartSocketRequest{
		Admission: "token",
	}).SocketId
	id := from.send(t, n.b, socket)

	const reason = "accepted automatically: open channel"
	received := onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	require.Equal(t, id, received.Id)
	require.Equal(t, reason, received.Reason)
	require.Equal(t, id, onFrom.next(
		t, socketrpc.Event_OFFER_ACCEPTED,
	).ReplyToId)

	offer := n.b.offer(t, id)
	require.Equal(t, socketrpc.Offer_ACCEPTED, offer.State)
	require.Equal(t, reason, offer.Reason)
}

// requireNotAccepted has a node offer a socket to B, and checks that B leaves
// it to its owner.
func (n *channelNetwork) requireNotAccepted(t *testing.T, from *node) {
	t.Helper()

	onFrom, onB := from.subscribe(t), n.b.subscribe(t)
	id := from.send(t, n.b, from.startSocket(t, "").SocketId)

	received := onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	require.Equal(t, id, received.Id)
	require.Empty(t, received.Reason)

	require.Equal(t, id, onFrom.next(
		t, socketrpc.Event_OFFER_DELIVERED,
	).ReplyToId)
	for _, node := range []*node{from, n.b} {
		offer := node.offer(t, id)
		require.Equal(t, socketrpc.Offer_PENDING, offer.State)
		require.Empty(t, offer.Reason)
	}
}

// TestUpWithChannel runs `socketdev up --channel` and has a shell do what it
// prints.
func TestUpWithChannel(t *testing.T) {
	ctx := testContext(t)
	proc, err := regtest.Start(ctx, regtest.ProcessConfig{
		Name: "socketdev",
		Path: filepath.Join(binDir, "socketdev"),
		Args: []string{
			"up", "--channel", "--nodes=3", "--dir=" + t.TempDir(),
		},
		LogFile: filepath.Join(t.TempDir(), "output.log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proc.Stop()) })
	_, err = proc.WaitLine(ctx, regexp.MustCompile(`^# \^C takes`))
	require.NoError(t, err)
	guide, err := proc.Output()
	require.NoError(t, err)

	// What it defines comes before the examples, and what a channel is
	// good for is the last one.
	definitions, examples, _ := strings.Cut(guide, "\n# An example")
	_, example, found := strings.Cut(examples, "\n# A and B have a channel")
	require.True(t, found)
	run := func(script string) (string, error) {
		out, err := exec.CommandContext(
			ctx, "sh", "-ec", definitions+"\n"+script,
		).CombinedOutput()

		return string(out), err
	}

	for script, active := range map[string]int{
		"lncli-a listchannels --active_only": 1,
		"lncli-b listchannels --active_only": 1,
		"lncli-c listchannels":               0,
		"btcctl generate 1":                  0,
	} {
		out, err := run(script)
		require.NoError(t, err, out)
		require.Equal(
			t, active, strings.Count(out, `"channel_point"`), out,
		)
	}

	// A hosts a socket for B, and not for C. The answers may come after
	// what is typed next.
	out, err := run("# A and B" + example)
	require.NoError(t, err, out)
	for script, text := range map[string]string{
		"socketcli-b offers": "answers our request",
		"socketcli-c offers": "we have no channel with you",
	} {
		require.Eventually(t, func() bool {
			out, err := run(script)

			return err == nil && strings.Contains(out, text)
		}, testTimeout, 100*time.Millisecond, script)
	}
}
