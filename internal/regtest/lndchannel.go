package regtest

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/lightningnetwork/lnd/lnrpc/peersrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// AwaitNode waits until the node has another's announcement with its address,
// the one that P2PAddr returns.
func (l *Lnd) AwaitNode(ctx context.Context, other *Lnd) error {
	err := await(ctx, func(ctx context.Context) (bool, error) {
		return l.knowsNode(ctx, other)
	}, func(ctx context.Context) (event, error) {
		return eventsOf(l.Client().SubscribeChannelGraph(
			ctx, &lnrpc.GraphTopologySubscription{},
		))
	})
	if err != nil {
		return fmt.Errorf("wait until %s knows %s: %w", l.name,
			other.name, err)
	}

	return nil
}

// knowsNode says whether the node has another's announcement with its address.
func (l *Lnd) knowsNode(ctx context.Context, other *Lnd) (bool, error) {
	info, err := l.Client().GetNodeInfo(ctx, &lnrpc.NodeInfoRequest{
		PubKey: other.PubKey(),
	})
	if status.Code(err) == codes.NotFound {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up node: %w", err)
	}

	return slices.ContainsFunc(info.Node.Addresses, func(
		addr *lnrpc.NodeAddress) bool {

		return addr.Addr == other.P2PAddr()
	}), nil
}

// announceAddr has the node announce the address at which peers reach it. It
// cannot be told so when it starts: nobody knows the port then.
func (l *Lnd) announceAddr(ctx context.Context) error {
	_, err := peersrpc.NewPeersClient(l.Conn()).UpdateNodeAnnouncement(
		ctx, &peersrpc.NodeAnnouncementUpdateRequest{
			AddressUpdates: []*peersrpc.UpdateAddressAction{{
				Action:  peersrpc.UpdateAction_ADD,
				Address: l.P2PAddr(),
			}},
		},
	)
	if err != nil {
		return fmt.Errorf("announce the address of %s: %w", l.name, err)
	}

	return nil
}

// channels returns the open channels with another node.
func (l *Lnd) channels(ctx context.Context, other *Lnd) ([]*lnrpc.Channel,
	error) {

	peer, err := hex.DecodeString(other.PubKey())
	if err != nil {
		return nil, fmt.Errorf("public key of %s: %w", other.name, err)
	}
	resp, err := l.Client().ListChannels(ctx, &lnrpc.ListChannelsRequest{
		Peer: peer,
	})
	if err != nil {
		return nil, fmt.Errorf("list channels of %s: %w", l.name, err)
	}

	return resp.Channels, nil
}

// awaitChannel waits until the node lists an active channel with another.
func (l *Lnd) awaitChannel(ctx context.Context, other *Lnd) error {
	return l.awaitChannels(ctx, other, func(list []*lnrpc.Channel) bool {
		return slices.ContainsFunc(list, (*lnrpc.Channel).GetActive)
	})
}

// awaitNoChannel waits until the node lists no channel with another.
func (l *Lnd) awaitNoChannel(ctx context.Context, other *Lnd) error {
	return l.awaitChannels(ctx, other, func(list []*lnrpc.Channel) bool {
		return len(list) == 0
	})
}

// awaitChannels waits until the open channels with another node are as wanted.
func (l *Lnd) awaitChannels(ctx context.Context, other *Lnd,
	wanted func([]*lnrpc.Channel) bool) error {

	err := await(ctx, func(ctx context.Context) (bool, error) {
		channels, err := l.channels(ctx, other)

		return err == nil && wanted(channels), err
	}, func(ctx context.Context) (event, error) {
		return eventsOf(l.Client().SubscribeChannelEvents(
			ctx, &lnrpc.ChannelEventSubscription{},
		))
	})
	if err != nil {
		return fmt.Errorf("wait for the channels of %s: %w", l.name,
			err)
	}

	return nil
}

// parseChannelPoint returns a channel's outpoint, of which lnd lists the text.
func parseChannelPoint(text string) (*lnrpc.ChannelPoint, error) {
	hash, index, _ := strings.Cut(text, ":")
	number, err := strconv.ParseUint(index, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("channel point %q: %w", text, err)
	}

	return &lnrpc.ChannelPoint{
		FundingTxid: &lnrpc.ChannelPoint_FundingTxidStr{
			FundingTxidStr: hash,
		},
		OutputIndex: uint32(number),
	}, nil
}
