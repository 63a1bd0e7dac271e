package regtest

import (
	"context"
	"fmt"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
)

// reconnectInterval is when a node is told again to connect to another. Two
// that connect to each other at the same moment may each drop the connection
// that the other keeps.
const reconnectInterval = 3 * time.Second

// ConnectPeer connects the node to another and returns when each lists the
// other as a peer. It succeeds if they are peers already.
func (l *Lnd) ConnectPeer(ctx context.Context, other *Lnd) error {
	err := l.connectPeer(ctx, other)
	if err != nil {
		return fmt.Errorf("connect %s to %s: %w", l.name, other.name,
			err)
	}

	return nil
}

func (l *Lnd) connectPeer(ctx context.Context, other *Lnd) error {
	var (
		dialed  time.Time
		dialErr error
	)

	return await(ctx, func(ctx context.Context) (bool, error) {
		peers, err := l.arePeers(ctx, other)
		switch {
		case err != nil || peers:
			return peers, err

		// The other node may have connected to this one meanwhile,
		// which is an error here and no harm. Everything else is.
		case dialErr != nil:
			return false, dialErr

		case dialed.IsZero():
			dialErr = l.dialPeer(ctx, other)
			dialed = time.Now()

		// The first one was told what to do without an error. Now it
		// may say that it is about to.
		case time.Since(dialed) >= reconnectInterval:
			_ = l.dialPeer(ctx, other)
			dialed = time.Now()
		}

		return false, nil
	}, l.peerEvents, other.peerEvents)
}

// peerEvents subscribes to the peers that come and go.
func (l *Lnd) peerEvents(ctx context.Context) (event, error) {
	return eventsOf(l.Client().SubscribePeerEvents(
		ctx, &lnrpc.PeerEventSubscription{},
	))
}

// dialPeer tells the node to connect to another.
func (l *Lnd) dialPeer(ctx context.Context, other *Lnd) error {
	_, err := l.Client().ConnectPeer(ctx, &lnrpc.ConnectPeerRequest{
		Addr: &lnrpc.LightningAddress{
			Pubkey: other.PubKey(),
			Host:   other.P2PAddr(),
		},
	})

	return err
}

// arePeers says whether each of two nodes lists the other as a peer.
func (l *Lnd) arePeers(ctx context.Context, other *Lnd) (bool, error) {
	there, err := l.HasPeer(ctx, other.PubKey())
	if err != nil || !there {
		return false, err
	}

	return other.HasPeer(ctx, l.PubKey())
}

// HasPeer says whether the node lists the node with the given public key as a
// peer.
func (l *Lnd) HasPeer(ctx context.Context, pubKey string) (bool, error) {
	resp, err := l.Client().ListPeers(ctx, &lnrpc.ListPeersRequest{})
	if err != nil {
		return false, fmt.Errorf("list peers of %s: %w", l.name, err)
	}

	for _, peer := range resp.Peers {
		if peer.PubKey == pubKey {
			return true, nil
		}
	}

	return false, nil
}
