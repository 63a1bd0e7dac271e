package regtest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/lightningnetwork/lnd/lnrpc"
)

const (
	// channelAmount is what a channel holds, in satoshis. All of it is the
	// opener's.
	channelAmount = 1_000_000

	// channelFeeRate is what the transactions of a channel pay, in satoshis
	// per virtual byte. On a chain of one's own there is nothing to
	// estimate it from.
	channelFeeRate = 2

	// channelBlocks is how many blocks make a channel open and have it
	// announced (BOLT 7), or make its close final.
	channelBlocks = 6
)

// ErrNoChain is returned for what takes a chain, by a node that has none.
var ErrNoChain = errors.New("has no chain")

// OpenChannel opens a channel of one node to another, which are counted from 0,
// and announces it. Both must have a chain. It makes them peers, gives the
// first one coins if it has too few, and mines what it takes. When it returns
// both list the channel as active, and each has the other's address from the
// announcement of the node: the one that Lnd.P2PAddr returns.
func (n *Network) OpenChannel(ctx context.Context, from, to int) error {
	opener, other := n.Nodes[from].Lnd, n.Nodes[to].Lnd
	if err := n.openChannel(ctx, opener, other); err != nil {
		return fmt.Errorf("open a channel of %s to %s: %w",
			opener.name, other.name, err)
	}

	return nil
}

func (n *Network) openChannel(ctx context.Context, opener, other *Lnd) error {
	for _, lnd := range []*Lnd{opener, other} {
		if lnd.cfg.Backend == nil {
			return fmt.Errorf("%s %w", lnd.name, ErrNoChain)
		}
	}
	for _, lnd := range []*Lnd{opener, other} {
		if err := lnd.announceAddr(ctx); err != nil {
			return err
		}
	}

	if err := opener.ConnectPeer(ctx, other); err != nil {
		return err
	}
	if err := n.giveCoins(ctx, opener); err != nil {
		return err
	}
	for _, lnd := range []*Lnd{opener, other} {
		if err := n.awaitSynced(ctx, lnd); err != nil {
			return err
		}
	}

	if err := n.fundChannel(ctx, opener, other); err != nil {
		return err
	}
	for _, pair := range [][2]*Lnd{{opener, other}, {other, opener}} {
		if err := pair[0].awaitChannel(ctx, pair[1]); err != nil {
			return err
		}
		if err := pair[0].AwaitNode(ctx, pair[1]); err != nil {
			return err
		}
	}

	return nil
}

// CloseChannel closes the channels between two nodes, which are counted from 0,
// together with the other node, and mines what it takes. When it returns
// neither lists one. It succeeds if there was none.
func (n *Network) CloseChannel(ctx context.Context, from, to int) error {
	closer, other := n.Nodes[from].Lnd, n.Nodes[to].Lnd
	if err := n.closeChannel(ctx, closer, other); err != nil {
		return fmt.Errorf("close the channel of %s to %s: %w",
			closer.name, other.name, err)
	}

	return nil
}

func (n *Network) closeChannel(ctx context.Context, closer, other *Lnd) error {
	channels, err := closer.channels(ctx, other)
	if err != nil {
		return err
	}

	for _, channel := range channels {
		if err := n.settle(ctx, closer, channel); err != nil {
			return err
		}
	}

	for _, pair := range [][2]*Lnd{{closer, other}, {other, closer}} {
		if err := pair[0].awaitNoChannel(ctx, pair[1]); err != nil {
			return err
		}
	}

	return nil
}

// giveCoins pays to the node's wallet if what is in it does not make a channel.
func (n *Network) giveCoins(ctx context.Context, lnd *Lnd) error {
	rich := func(ctx context.Context) (bool, error) {
		balance, err := lnd.Client().WalletBalance(
			ctx, &lnrpc.WalletBalanceRequest{},
		)
		if err != nil {
			return false, fmt.Errorf("balance of %s: %w", lnd.name,
				err)
		}

		return balance.ConfirmedBalance >= 2*channelAmount, nil
	}

	enough, err := rich(ctx)
	if err != nil || enough {
		return err
	}

	addr, err := lnd.Client().NewAddress(ctx, &lnrpc.NewAddressRequest{
		Type: lnrpc.AddressType_WITNESS_PUBKEY_HASH,
	})
	if err != nil {
		return fmt.Errorf("new address of %s: %w", lnd.name, err)
	}
	if err := n.Btcd.Pay(ctx, addr.Address); err != nil {
		return err
	}

	return await(ctx, rich, func(ctx context.Context) (event, error) {
		return eventsOf(lnd.Client().SubscribeTransactions(
			ctx, &lnrpc.GetTransactionsRequest{},
		))
	})
}

// awaitSynced waits until a node has seen every block that there is. Before
// that it opens no channel, for itself or for another. lnd has no event for it.
func (n *Network) awaitSynced(ctx context.Context, lnd *Lnd) error {
	height, err := n.Btcd.Height(ctx)
	if err != nil {
		return err
	}

	return await(ctx, func(ctx context.Context) (bool, error) {
		info, err := lnd.Client().GetInfo(ctx, &lnrpc.GetInfoRequest{})
		if err != nil {
			return false, fmt.Errorf("info of %s: %w", lnd.name,
				err)
		}

		return info.SyncedToChain && info.BlockHeight >= height, nil
	})
}

// fundChannel opens a channel and mines the blocks that make it open.
func (n *Network) fundChannel(ctx context.Context, opener, other *Lnd) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	peer, err := hex.DecodeString(other.PubKey())
	if err != nil {
		return err
	}
	stream, err := opener.Client().OpenChannel(
		ctx, &lnrpc.OpenChannelRequest{
			NodePubkey:         peer,
			LocalFundingAmount: channelAmount,
			SatPerVbyte:        channelFeeRate,
		},
	)
	if err != nil {
		return err
	}

	for {
		status, err := stream.Recv()
		if err != nil {
			return err
		}

		switch status.Update.(type) {
		// The transaction is published.
		case *lnrpc.OpenStatusUpdate_ChanPending:
			err := n.Btcd.Mine(ctx, channelBlocks)
			if err != nil {
				return err
			}

		case *lnrpc.OpenStatusUpdate_ChanOpen:
			return nil
		}
	}
}

// settle closes a channel and mines the blocks that make the close final.
func (n *Network) settle(ctx context.Context, closer *Lnd,
	channel *lnrpc.Channel) error {

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	point, err := parseChannelPoint(channel.ChannelPoint)
	if err != nil {
		return err
	}
	stream, err := closer.Client().CloseChannel(
		ctx, &lnrpc.CloseChannelRequest{
			ChannelPoint: point,
			SatPerVbyte:  channelFeeRate,
		},
	)
	if err != nil {
		return err
	}

	for {
		status, err := stream.Recv()
		if err != nil {
			return err
		}

		switch status.Update.(type) {
		// The transaction is published.
		case *lnrpc.CloseStatusUpdate_ClosePending:
			err := n.Btcd.Mine(ctx, channelBlocks)
			if err != nil {
				return err
			}

		case *lnrpc.CloseStatusUpdate_ChanClose:
			return nil
		}
	}
}
