package regtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
)

// relistInterval is when the peers are listed again although no event came. A
// subscription of lnd is live only some time after the call that made it has
// returned, so that an early event can be missed.
const relistInterval = 250 * time.Millisecond

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
	ctx, cancel := context.WithCancel(ctx)

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	// One place is enough: an event only says that it is time to look.
	events := make(chan struct{}, 1)
	for _, node := range []*Lnd{l, other} {
		stream, err := node.Client().SubscribePeerEvents(
			ctx, &lnrpc.PeerEventSubscription{},
		)
		if err != nil {
			return fmt.Errorf("subscribe to peer events: %w", err)
		}

		// A stream that breaks ends the goroutine. The listing below
		// meets the same trouble and reports it.
		wg.Go(func() {
			for {
				if _, err := stream.Recv(); err != nil {
					return
				}

				select {
				case events <- struct{}{}:
				default:
				}
			}
		})
	}

	peers, err := l.arePeers(ctx, other)
	if err != nil || peers {
		return err
	}

	connectErr := l.dialPeer(ctx, other)

	ticker := time.NewTicker(relistInterval)
	defer ticker.Stop()
	reconnect := time.NewTicker(reconnectInterval)
	defer reconnect.Stop()

	for {
		peers, err := l.arePeers(ctx, other)
		if err != nil || peers {
			return err
		}

		// The other node may have connected to this one meanwhile,
		// which is an error here and no harm. Everything else is.
		if connectErr != nil {
			return connectErr
		}

		select {
		case <-events:
		case <-ticker.C:
		case <-reconnect.C:
			// The first one was told what to do without an error.
			// Now it may say that it is about to.
			_ = l.dialPeer(ctx, other)

		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
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
