//go:build itest

package itest

import (
	"testing"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// testGraph checks that an offer to a node that is no peer reaches it: C has
// its lnd connect to B at the address that B announces, which C has from A.
func (n *channelNetwork) testGraph(t *testing.T) {
	b, c := n.b, n.c
	peers, err := c.Lnd.HasPeer(testContext(t), b.pubkey())
	require.NoError(t, err)
	require.False(t, peers)

	onB, onC := b.subscribe(t), c.subscribe(t)
	id := c.send(t, b, c.startSocket(t, "").SocketId)
	require.Equal(t, id, onB.next(t, socketrpc.Event_OFFER_RECEIVED).Id)
	require.Equal(t, id, onC.next(
		t, socketrpc.Event_OFFER_DELIVERED,
	).ReplyToId)

	offer := c.offer(t, id)
	require.Equal(t, socketrpc.Offer_PENDING, offer.State)
	require.Equal(t, "B", offer.PeerAlias)

	// It was C that connected, and to that address.
	list, err := c.Lnd.Client().ListPeers(
		testContext(t), &lnrpc.ListPeersRequest{},
	)
	require.NoError(t, err)
	for _, peer := range list.Peers {
		if peer.PubKey == b.pubkey() {
			require.False(t, peer.Inbound)
			require.Equal(t, b.Lnd.P2PAddr(), peer.Address)

			return
		}
	}
	require.Fail(t, "B is no peer of C")
}
