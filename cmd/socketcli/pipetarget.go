package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
)

// pipeMatch is an offer or a socket whose id, or whose socket's id, begins as
// the argument does.
type pipeMatch struct {
	// isOffer tells whether it is an offer or a socket of this node.
	isOffer bool

	id       string
	protocol string
}

// String returns what it is.
func (m pipeMatch) String() string {
	if m.isOffer {
		return "offer " + m.id
	}

	return "socket " + m.id
}

// pipeTarget is a leg to use.
type pipeTarget struct {
	// name is what it is a leg of.
	name string

	protocol string

	// addrs are the addresses of the leg, in the order in which they are
	// tried. Once one of them is in use it is the only one.
	addrs []netip.AddrPort

	leg      uint32
	socketID [32]byte

	// hasToken tells whether the leg takes only who holds the token.
	hasToken bool
	token    bind.Token
}

// resolvePipe returns the incoming offer or the socket of this node whose id
// begins with prefix, or the offer whose socket's does.
func (c *client) resolvePipe(ctx context.Context,
	prefix string) (*pipeMatch, error) {

	sockets, err := c.ListSockets(ctx, &socketrpc.ListSocketsRequest{})
	if err != nil {
		return nil, fmt.Errorf("id: list the sockets to find %s: %w",
			prefix, err)
	}

	offers, err := c.ListOffers(ctx, &socketrpc.ListOffersRequest{})
	if err != nil {
		return nil, fmt.Errorf("id: list the offers to find %s: %w",
			prefix, err)
	}

	return matchPipe(prefix, sockets.GetSockets(), offers.GetOffers())
}

// matchPipe is resolvePipe for the sockets and offers that there are.
func matchPipe(prefix string, sockets []*socketrpc.SocketInfo,
	offers []*socketrpc.Offer) (*pipeMatch, error) {

	var (
		matches []string
		found   = make(map[string]*pipeMatch)
		over    *socketrpc.Offer
	)
	add := func(match pipeMatch) {
		if found[match.String()] == nil {
			found[match.String()] = &match
			matches = append(matches, match.String())
		}
	}

	for _, socket := range sockets {
		if strings.HasPrefix(socket.GetSocketId(), prefix) {
			add(pipeMatch{
				id:       socket.GetSocketId(),
				protocol: socket.GetProtocol(),
			})
		}
	}

	for _, offer := range offers {
		isMeant := strings.HasPrefix(offer.GetId(), prefix)
		isSocket := strings.HasPrefix(offer.GetSocketId(), prefix)
		switch {
		case offer.GetDirection() != socketrpc.Offer_INCOMING ||
			offer.GetIsRequest() || !isMeant && !isSocket:

		// Many offers of a socket may have been there before. One that
		// is named by its own id is for socketd to refuse.
		case !isMeant && !isUsable(offer):
			over = offer

		default:
			add(pipeMatch{
				isOffer: true, id: offer.GetId(),
				protocol: offer.GetProtocol(),
			})
		}
	}

	switch {
	case len(matches) == 1:
		return found[matches[0]], nil

	case len(matches) > 1:
		return nil, fmt.Errorf("id: %d offers and sockets match %s, "+
			"give more digits, or the id of one: %s", len(matches),
			prefix, strings.Join(matches, ", "))

	case over != nil:
		return nil, fmt.Errorf("id: offer %s of the socket is over: %v",
			over.GetId(), over.GetState())

	default:
		return nil, fmt.Errorf("id: no incoming offer and no socket "+
			"begins with %s", prefix)
	}
}

// isUsable tells whether an incoming offer is undecided or accepted.
func isUsable(offer *socketrpc.Offer) bool {
	return offer.GetState() == socketrpc.Offer_PENDING ||
		offer.GetState() == socketrpc.Offer_ACCEPTED
}

// connection is what socketd says of a socket to whoever may use it.
type connection struct {
	admission, socketID string

	// ips are the host's addresses, the preferred one first.
	ips []string

	// ports and tokens are those of leg 1 and leg 2.
	ports, tokens [2]string

	// granted is the leg that is used unless another one is asked for.
	granted uint32
}

// pipeTarget returns the leg to use of an offer, which is accepted, or of a
// socket.
func (c *client) pipeTarget(ctx context.Context, match *pipeMatch,
	opts *pipeOptions) (*pipeTarget, error) {

	switch {
	case match.protocol != protocolUDP && match.protocol != protocolTCP:
		return nil, fmt.Errorf("%v has the protocol %q, which this "+
			"socketcli does not know", match, match.protocol)

	case match.protocol != protocolUDP && opts.isListenSet:
		return nil, usagef("--%s is for udp: %v is of %s", listenFlag,
			match, match.protocol)
	}

	ask := c.ownConnection
	if match.isOffer {
		ask = c.offeredConnection
	}
	conn, err := ask(ctx, match.id)
	if err != nil {
		return nil, err
	}

	target, err := conn.target(match, opts.leg)
	if err != nil {
		return nil, err
	}

	if match.isOffer {
		var own []netip.Prefix
		if !opts.allowPrivate {
			if own, err = c.ownNetworks(ctx); err != nil {
				return nil, err
			}
		}
		target.addrs, err = offeredAddrs(
			match, target.addrs, own, opts.allowPrivate,
		)
		if err != nil {
			return nil, err
		}
	}

	return target, nil
}

// ownConnection asks for a socket of this node.
func (c *client) ownConnection(ctx context.Context,
	id string) (*connection, error) {

	resp, err := c.StartSocket(ctx, &socketrpc.StartSocketRequest{
		SocketId: id,
	})
	if err != nil {
		return nil, err
	}

	return &connection{
		ips:       allIPs(resp.GetIps(), resp.GetIp()),
		admission: resp.GetAdmission(),
		socketID:  resp.GetSocketId(),
		ports:     [2]string{resp.GetPort1(), resp.GetPort2()},
		tokens:    [2]string{resp.GetToken1(), resp.GetToken2()},
		granted:   1,
	}, nil
}

// offeredConnection accepts an offer. It may have been accepted before.
func (c *client) offeredConnection(ctx context.Context,
	id string) (*connection, error) {

	resp, err := c.AcceptOffer(ctx, &socketrpc.AcceptOfferRequest{Id: id})
	if err != nil {
		return nil, err
	}

	offer := resp.GetOffer()

	return &connection{
		ips:       allIPs(offer.GetIps(), offer.GetIp()),
		admission: offer.GetAdmission(),
		socketID:  offer.GetSocketId(),
		ports:     [2]string{offer.GetPort1(), offer.GetPort2()},
		tokens:    [2]string{resp.GetToken1(), resp.GetToken2()},
		granted:   offer.GetLeg(),
	}, nil
}

// target returns the leg to use, 0 meaning the one that is granted.
func (c *connection) target(match *pipeMatch, leg uint32) (*pipeTarget, error) {
	if leg == 0 {
		leg = c.granted
	}
	if leg != 1 && leg != 2 {
		return nil, fmt.Errorf("%v grants leg %d", match, leg)
	}

	t := &pipeTarget{
		name: match.String(), protocol: match.protocol, leg: leg,
	}

	var err error
	for _, ip := range c.ips {
		addr, err := netip.ParseAddrPort(
			joinHostPort(ip, c.ports[leg-1]),
		)
		if err != nil || addr.Port() == 0 {
			return nil, fmt.Errorf("%v has no address and port of "+
				"leg %d: %q and %q", match, leg, ip,
				c.ports[leg-1])
		}
		t.addrs = append(t.addrs, addr)
	}

	switch c.admission {
	case admissionOpen:
		return t, nil

	case admissionToken:
		t.hasToken = true

	default:
		return nil, fmt.Errorf("%v has the admission %q, which this "+
			"socketcli does not know", match, c.admission)
	}

	token := c.tokens[leg-1]
	if token == "" {
		return nil, fmt.Errorf("--leg: %v does not grant leg %d", match,
			leg)
	}
	if t.token, err = bind.ParseToken(token); err != nil {
		return nil, fmt.Errorf("token of leg %d of %v: %w", leg, match,
			err)
	}

	id, err := hex.DecodeString(c.socketID)
	if err != nil || len(id) != len(t.socketID) {
		return nil, fmt.Errorf("%v has no socket id: %q", match,
			c.socketID)
	}
	t.socketID = [32]byte(id)

	return t, nil
}
