//go:build itest

package regtest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestChannel opens channels, the second one of a node that has coins already,
// and closes one.
func TestChannel(t *testing.T) {
	ctx := timeLimit(t)
	network, err := StartNetwork(ctx, NetworkConfig{
		BinDir:     binDir,
		Dir:        t.TempDir(),
		Nodes:      4,
		ChainNodes: 3,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, network.Stop()) })

	a, b, c := network.Nodes[0].Lnd, network.Nodes[1].Lnd,
		network.Nodes[2].Lnd
	require.NoError(t, a.ConnectPeer(ctx, c))
	require.Zero(t, countActive(ctx, t, a, b))

	require.NoError(t, network.OpenChannel(ctx, 0, 1))
	require.Equal(t, 1, countActive(ctx, t, a, b))
	require.Equal(t, 1, countActive(ctx, t, b, a))

	// Whoever is a peer of one of them hears of the other.
	require.NoError(t, c.AwaitNode(ctx, b))
	peers, err := c.HasPeer(ctx, b.PubKey())
	require.NoError(t, err)
	require.False(t, peers)

	require.NoError(t, network.OpenChannel(ctx, 0, 2))
	require.Equal(t, 1, countActive(ctx, t, a, c))

	// Either side may close.
	require.NoError(t, network.CloseChannel(ctx, 1, 0))
	require.Zero(t, countActive(ctx, t, a, b))
	require.Zero(t, countActive(ctx, t, b, a))
	require.Equal(t, 1, countActive(ctx, t, a, c))
	require.NoError(t, network.CloseChannel(ctx, 1, 0))

	// A node without a chain has no channels, and nobody hears of it.
	for _, pair := range [][2]int{{0, 3}, {3, 0}} {
		err := network.OpenChannel(ctx, pair[0], pair[1])
		require.ErrorIs(t, err, ErrNoChain)
		require.ErrorContains(t, err, "lnd D has no chain")
	}
	short, cancel := context.WithTimeout(ctx, 2*relistInterval)
	defer cancel()
	err = a.AwaitNode(short, network.Nodes[3].Lnd)
	require.ErrorContains(t, err, "wait until lnd A knows lnd D")

	// The time may be over in a call of lnd, too.
	isOver := errors.Is(err, context.DeadlineExceeded) ||
		status.Code(err) == codes.DeadlineExceeded
	require.True(t, isOver, "%v", err)
}

// countActive returns how many active channels with another one a node lists.
func countActive(ctx context.Context, t *testing.T, lnd, other *Lnd) int {
	t.Helper()

	channels, err := lnd.channels(ctx, other)
	require.NoError(t, err)
	var active int
	for _, channel := range channels {
		require.Equal(t, int64(channelAmount), channel.Capacity)
		if channel.Active {
			active++
		}
	}

	return active
}
