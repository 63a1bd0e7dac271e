//go:build itest

package regtest

import (
	"net"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// TestNetwork starts nodes with their socketds, one of them with a chain, makes
// them peers, and restarts parts.
func TestNetwork(t *testing.T) {
	ctx := timeLimit(t)
	network, err := StartNetwork(ctx, NetworkConfig{
		BinDir:      binDir,
		Dir:         t.TempDir(),
		Nodes:       3,
		ChainNodes:  1,
		SocketdArgs: []string{"--relay.maxsockets=7"},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, network.Stop())
		require.NoError(t, network.Stop())
	})

	require.NoError(t, network.ConnectAll(ctx))
	require.Len(t, network.Nodes, 3)
	for i, name := range []string{"A", "B", "C"} {
		node := network.Nodes[i]
		require.Equal(t, name, node.Name)

		peers, err := node.Lnd.Client().ListPeers(
			ctx, &lnrpc.ListPeersRequest{},
		)
		require.NoError(t, err)
		require.Len(t, peers.Peers, 2)

		requireInfo(t, node)
	}

	// A socketd that comes back is found where it was.
	b := network.Nodes[1]
	addrs := b.Socketd.RPCAddr() + " " + b.Socketd.RESTAddr()
	pid := b.Socketd.Pid()
	require.NoError(t, b.Socketd.Restart(ctx))
	require.Equal(
		t, addrs, b.Socketd.RPCAddr()+" "+b.Socketd.RESTAddr(),
	)
	require.NotEqual(t, pid, b.Socketd.Pid())
	requireInfo(t, b)

	conn, err := net.Dial("tcp", b.Socketd.RESTAddr())
	require.NoError(t, err)
	require.NoError(t, conn.Close())

	for _, file := range []string{
		b.Socketd.TLSCertPath(), b.Socketd.TLSKeyPath(),
		b.Socketd.MacaroonPath(), b.Socketd.ReadonlyMacaroonPath(),
		b.Socketd.LogPath(),
	} {
		require.FileExists(t, file)
	}

	// Both starts are in what it printed.
	out, err := b.Socketd.Output()
	require.NoError(t, err)
	require.Regexp(t, `(?s)Ready\n.*Ready\n`, out)

	require.NoError(t, network.Nodes[2].Kill())
	require.ErrorIs(t, b.Socketd.Start(ctx), ErrRunning)
}

// requireInfo asks the socketd of a node for its node.
func requireInfo(t *testing.T, node *Node) {
	t.Helper()

	conn, err := node.Socketd.Dial()
	require.NoError(t, err)
	info, err := socketrpc.NewSocketClient(conn).GetInfo(
		t.Context(), &socketrpc.GetInfoRequest{},
	)
	require.NoError(t, conn.Close())
	require.NoError(t, err)
	require.Equal(t, node.Lnd.PubKey(), info.NodePubkey)
	require.Equal(t, uint32(7), info.MaxSockets)
}

// TestNetworkStartFails checks that nothing is left of a network of which a
// part does not start, and that every such part is named.
func TestNetworkStartFails(t *testing.T) {
	dir := t.TempDir()
	_, err := StartNetwork(timeLimit(t), NetworkConfig{
		BinDir:      binDir,
		Dir:         dir,
		Nodes:       2,
		ChainNodes:  1,
		SocketdArgs: []string{"--no-such-option"},
	})
	require.ErrorContains(t, err, "start socketd A")
	require.ErrorContains(t, err, "start socketd B")
	require.ErrorContains(t, err, "no-such-option")

	// The lnds had told their addresses, where nobody listens any more.
	rpcLine := regexp.MustCompile("(?m)" + lndRPCLine.String())
	for _, name := range []string{"a", "b"} {
		out, err := (&output{
			path: filepath.Join(dir, name, "lnd", outputFilename),
		}).readFrom(0)
		require.NoError(t, err)

		match := rpcLine.FindSubmatch(out)
		require.NotNil(t, match)
		_, err = net.Dial("tcp", string(match[1]))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
}
