package sidecar

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// maxConnectAddrs is how many of a node's addresses are tried.
	maxConnectAddrs = 3

	// connectTimeout is how long lnd may take to connect to one of them.
	connectTimeout = 15 * time.Second
)

// The permissions that socketd can do without, each of which it then does
// something less for.
const (
	permNodeInfo   = "uri:/lnrpc.Lightning/GetNodeInfo"
	permConnect    = "uri:/lnrpc.Lightning/ConnectPeer"
	permPeerEvents = "uri:/lnrpc.Lightning/SubscribePeerEvents"
	permListPeers  = "uri:/lnrpc.Lightning/ListPeers"
	permChannels   = "uri:/lnrpc.Lightning/ListChannels"
)

// optionalPermissions are the permissions that socketd can do without, with the
// entity and action of lnd that hold them as well.
var optionalPermissions = []struct {
	name string
	perm socketrpc.Permission
}{
	{permNodeInfo, socketrpc.Permission{Entity: "info", Action: "read"}},
	{permConnect, socketrpc.Permission{Entity: "peers", Action: "write"}},
	{permPeerEvents, socketrpc.Permission{Entity: "peers", Action: "read"}},
	{permListPeers, socketrpc.Permission{Entity: "peers", Action: "read"}},
	{permChannels, socketrpc.Permission{
		Entity: "offchain", Action: "read",
	}},
}

// LndPeers is what the server needs to know of lnd's peers, and of the graph.
// Errors carry the gRPC status that lnd answered with.
type LndPeers interface {
	// Connector has lnd connect to nodes.
	offer.Connector

	// SubscribePeers streams the peers that come online until ctx is done
	// or lnd goes away; then both channels are closed. It may return before
	// lnd has begun.
	SubscribePeers(ctx context.Context) (<-chan offer.PubKey, <-chan error,
		error)

	// Peers returns the peers that are online.
	Peers(ctx context.Context) ([]offer.PubKey, error)

	// ChannelPeers returns the nodes with which there are open channels,
	// online or not.
	ChannelPeers(ctx context.Context) ([]offer.PubKey, error)

	// Alias returns the alias of a node in the graph, as the node has it.
	Alias(ctx context.Context, node offer.PubKey) (string, error)

	// MissingPermissions returns which of the permissions that socketd can
	// do without its lnd macaroon does not hold.
	MissingPermissions(ctx context.Context) ([]string, error)
}

// raw returns lnd's own client, and a context for one call.
func (l *lndConn) raw(ctx context.Context) (context.Context,
	context.CancelFunc, lnrpc.LightningClient) {

	ctx, timeout, client := l.services.Client.RawClientWithMacAuth(ctx)
	ctx, cancel := context.WithTimeout(ctx, timeout)

	return ctx, cancel, client
}

// Connect connects to a node at the addresses that it announces in the graph,
// one after the other. Whether and how they are reached is lnd's own business:
// they are not the addresses of any offer.
func (l *lndConn) Connect(ctx context.Context, peer offer.PubKey) error {
	node, err := l.nodeInfo(ctx, peer)
	if err != nil {
		return fmt.Errorf("look up node: %w", err)
	}

	errs := []error{errNoAddress}
	for i, addr := range node.GetAddresses() {
		if i == maxConnectAddrs {
			break
		}
		err := l.connectTo(ctx, peer, addr.GetAddr())
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}

	return errors.Join(errs...)
}

// errNoAddress is what connecting fails with if no address worked.
var errNoAddress = errors.New("no address of the node worked")

// nodeInfo returns what the graph has of a node.
func (l *lndConn) nodeInfo(ctx context.Context,
	node offer.PubKey) (*lnrpc.LightningNode, error) {

	ctx, cancel, client := l.raw(ctx)
	defer cancel()

	info, err := client.GetNodeInfo(ctx, &lnrpc.NodeInfoRequest{
		PubKey: node.String(),
	})
	if err != nil {
		return nil, err
	}

	return info.GetNode(), nil
}

// connectTo connects to a node at an address. The connection is not kept up: if
// it ends it is not for socketd to say whether there is to be another one.
func (l *lndConn) connectTo(ctx context.Context, node offer.PubKey,
	addr string) error {

	ctx, cancel, client := l.raw(ctx)
	defer cancel()

	_, err := client.ConnectPeer(ctx, &lnrpc.ConnectPeerRequest{
		Addr: &lnrpc.LightningAddress{
			Pubkey: node.String(),
			Host:   addr,
		},
		Timeout: uint64(connectTimeout / time.Second),
	})

	return err
}

// SubscribePeers streams the peers that come online.
func (l *lndConn) SubscribePeers(ctx context.Context) (<-chan offer.PubKey,
	<-chan error, error) {

	ctx, _, client := l.services.Client.RawClientWithMacAuth(ctx)
	stream, err := client.SubscribePeerEvents(
		ctx, &lnrpc.PeerEventSubscription{},
	)
	if err != nil {
		return nil, nil, err
	}

	out, errs := make(chan offer.PubKey), make(chan error, 1)
	go func() {
		defer close(errs)
		defer close(out)

		for {
			event, err := stream.Recv()
			if err != nil {
				errs <- err

				return
			}
			if event.Type != lnrpc.PeerEvent_PEER_ONLINE {
				continue
			}
			peer, err := parseNode(event.PubKey)
			if err != nil {
				errs <- err

				return
			}

			select {
			case out <- peer:
			case <-ctx.Done():
				return
			}
		}
	}()

	return out, errs, nil
}

// Peers returns the peers that are online.
func (l *lndConn) Peers(ctx context.Context) ([]offer.PubKey, error) {
	ctx, cancel, client := l.raw(ctx)
	defer cancel()

	resp, err := client.ListPeers(ctx, &lnrpc.ListPeersRequest{})
	if err != nil {
		return nil, err
	}

	return parseNodes(resp.Peers, (*lnrpc.Peer).GetPubKey)
}

// ChannelPeers returns the nodes with which there are open channels.
func (l *lndConn) ChannelPeers(ctx context.Context) ([]offer.PubKey, error) {
	ctx, cancel, client := l.raw(ctx)
	defer cancel()

	resp, err := client.ListChannels(ctx, &lnrpc.ListChannelsRequest{})
	if err != nil {
		return nil, err
	}

	return parseNodes(resp.Channels, (*lnrpc.Channel).GetRemotePubkey)
}

// Alias returns the alias of a node in the graph, as the node has it.
func (l *lndConn) Alias(ctx context.Context, node offer.PubKey) (string,
	error) {

	info, err := l.nodeInfo(ctx, node)

	return info.GetAlias(), err
}

// MissingPermissions returns which permissions the lnd macaroon does not hold.
// lnd is asked about the macaroon: how it refuses a call that is not allowed
// can be told from other failures by its text only.
func (l *lndConn) MissingPermissions(ctx context.Context) ([]string, error) {
	withMac, _, _ := l.services.Client.RawClientWithMacAuth(ctx)
	md, _ := metadata.FromOutgoingContext(withMac)
	values := md.Get("macaroon")
	if len(values) == 0 {
		return nil, ErrNoMacaroon
	}
	mac, err := hex.DecodeString(values[0])
	if err != nil {
		// The library's error would repeat a part of it.
		return nil, ErrNoMacaroon
	}

	var missing []string
	for _, optional := range optionalPermissions {
		err := l.CheckMacaroon(
			ctx, mac, optional.perm, optional.name[len("uri:"):],
		)
		switch {
		case status.Code(err) == codes.InvalidArgument:
			missing = append(missing, optional.name)

		case err != nil:
			return nil, err
		}
	}

	return missing, nil
}

// parseNodes returns the public keys of what lnd lists.
func parseNodes[T any](list []T, key func(T) string) ([]offer.PubKey, error) {
	nodes := make([]offer.PubKey, 0, len(list))
	for _, item := range list {
		node, err := parseNode(key(item))
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}

	return nodes, nil
}

// parseNode returns a public key that lnd names.
func parseNode(text string) (offer.PubKey, error) {
	var node offer.PubKey
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(node) {
		return node, fmt.Errorf("lnd: %q is no public key", text)
	}

	return offer.PubKey(raw), nil
}
