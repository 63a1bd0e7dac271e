package sidecar

import (
	"context"
	"errors"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sending is what a request to send says, whatever is sent.
type sending struct {
	peer offer.PubKey

	// expiresAt is zero if the request does not say.
	expiresAt time.Time

	// now is when the request came.
	now time.Time

	legs wire.Legs
}

// expiry returns when what is sent ends, in an hour unless something else is
// said.
func (s *sending) expiry() time.Time {
	if s.expiresAt.IsZero() {
		return s.now.Add(defaultExpiry)
	}

	return s.expiresAt
}

// SendSocket offers a socket of ours to another node, asks it to host one, or
// passes on a leg of one that a third node hosts.
func (r *rpcServer) SendSocket(ctx context.Context,
	req *socketrpc.SendSocketRequest) (*socketrpc.SendSocketResponse,
	error) {

	to, err := r.parseSend(req, time.Now())
	if err != nil {
		return nil, err
	}

	var id offer.ID
	if r.isRequest(req) {
		id, err = r.request(ctx, req, to)
	} else {
		id, err = r.sendOffer(ctx, req, to)
	}
	if err != nil {
		return nil, err
	}

	return &socketrpc.SendSocketResponse{Id: id.String()}, nil
}

// parseSend checks what a request to send says in any case.
func (r *rpcServer) parseSend(req *socketrpc.SendSocketRequest,
	now time.Time) (*sending, error) {

	peer, err := parsePubKey(req.Pubkey, r.lnd.Node().PubKey)
	if err != nil {
		return nil, err
	}
	expiresAt, err := parseExpiry(req.Expiry, now)
	if err != nil {
		return nil, err
	}
	to := &sending{
		peer:      peer,
		expiresAt: expiresAt,
		now:       now,
		legs:      wire.BothLegs,
	}

	switch req.Mode {
	case socketrpc.SendSocketRequest_AUTO,
		socketrpc.SendSocketRequest_OFFER,
		socketrpc.SendSocketRequest_REQUEST:

	default:
		return nil, invalid("mode", "%d is not known", req.Mode)
	}

	if req.BothLegs {
		if req.Leg != 0 {
			return nil, invalid("leg", "must not be set beside "+
				"both_legs")
		}

		return to, nil
	}
	leg, err := parseLeg(req.Leg)
	if err != nil {
		return nil, err
	}
	to.legs = legSet(leg)

	return to, nil
}

// isRequest tells whether the other node is to be asked to host: the request
// says so, or names no socket and this node cannot host one itself.
func (r *rpcServer) isRequest(req *socketrpc.SendSocketRequest) bool {
	return req.Mode == socketrpc.SendSocketRequest_REQUEST ||
		req.Mode == socketrpc.SendSocketRequest_AUTO &&
			req.SocketId == "" && r.sockets.canHost() != nil
}

// request asks another node to host a socket.
func (r *rpcServer) request(ctx context.Context,
	req *socketrpc.SendSocketRequest, to *sending) (offer.ID, error) {

	inquiry, err := parseInquiry(req)
	if err != nil {
		return offer.ID{}, err
	}
	inquiry.Peer = to.peer
	inquiry.Legs = to.legs
	inquiry.ExpiresAt = to.expiry()

	sent, err := r.offers.Request(ctx, *inquiry)
	if err != nil {
		return offer.ID{}, offerError(err)
	}

	return sent.ID, nil
}

// parseInquiry returns what a request says of the socket that another node is
// asked for.
func parseInquiry(req *socketrpc.SendSocketRequest) (*offer.Inquiry, error) {
	if req.SocketId != "" {
		return nil, invalid("socket_id", "must not be set: the other "+
			"node is asked to start a socket")
	}

	protocol, err := parseProtocol(req.Protocol)
	if err != nil {
		return nil, err
	}
	admission, err := parseAdmission(req.Admission)
	if err != nil {
		return nil, err
	}
	label, err := parseText("label", req.Label)
	if err != nil {
		return nil, err
	}
	limits, err := parseAsked(req.Limits, protocol)
	if err != nil {
		return nil, err
	}

	return &offer.Inquiry{
		Protocol:  offer.Protocol(protocol),
		Admission: offer.Admission(admission),
		Label:     label,
		Limits:    limits,
	}, nil
}

// parseAsked returns the limits that another node is asked for.
func parseAsked(req *socketrpc.SocketLimits,
	protocol relay.Protocol) (offer.SocketLimits, error) {

	var limits offer.SocketLimits
	if req == nil {
		return limits, nil
	}

	var pairs *uint64
	if req.Pairs != nil {
		n := uint64(*req.Pairs)
		pairs = &n
	}
	for _, limit := range []struct {
		name string
		from *uint64
		to   *uint64
	}{
		{"bandwidth", req.Bandwidth, &limits.Bandwidth},
		{"packets", req.Packets, &limits.Packets},
		{"total_bytes", req.TotalBytes, &limits.TotalBytes},
		{"idle_timeout", req.IdleTimeout, &limits.IdleTimeout},
		{"lifetime", req.Lifetime, &limits.Lifetime},
		{"pairs", pairs, &limits.Pairs},
	} {
		switch {
		case limit.from == nil:

		case *limit.from == 0:
			return limits, invalid("limits."+limit.name, "0 is no "+
				"limit, without which no node hosts for "+
				"another one; leave it out for the other "+
				"node's choice")

		case *limit.from > maxQuantity:
			return limits, invalid("limits."+limit.name, "%d is "+
				"too large, at most %d is possible",
				*limit.from, int64(maxQuantity))

		default:
			*limit.to = *limit.from
		}
	}

	switch {
	case limits.Packets != 0 && protocol != relay.UDP:
		return limits, invalid("limits.packets", "a %v socket has no "+
			"packets to count, this is for %v", protocol, relay.UDP)

	case limits.Pairs != 0 && protocol != relay.TCP:
		return limits, invalid("limits.pairs", "a %v socket has no "+
			"pairs of connections, this is for %v", protocol,
			relay.TCP)
	}

	return limits, nil
}

// sendOffer offers the socket that a request names to another node: one of
// ours, or a leg of one that a third node hosts.
func (r *rpcServer) sendOffer(ctx context.Context,
	req *socketrpc.SendSocketRequest, to *sending) (offer.ID, error) {

	// What is for requests only would be ignored.
	for _, field := range []struct {
		name  string
		isSet bool
	}{
		{"protocol", req.Protocol != ""}, {"label", req.Label != ""},
		{"admission", req.Admission != ""},
		{"limits", req.Limits != nil},
	} {
		if field.isSet {
			return offer.ID{}, invalid(field.name, "is for a "+
				"request: the socket that is offered has its "+
				"own; start one, or set mode to REQUEST")
		}
	}

	socket, err := r.socketToOffer(req.SocketId)
	switch {
	case err == nil:
		return r.offerSocket(ctx, socket, to)

	case errors.Is(err, errNoSocket) && req.SocketId != "":
		return r.passOn(ctx, req, to)

	default:
		return offer.ID{}, namedSocketError(err)
	}
}

// socketToOffer returns the socket of ours that a request names; without an id
// it is the default one, started if need be. The error wraps errNoSocket if it
// is none of ours.
func (r *rpcServer) socketToOffer(id string) (*relay.Socket, error) {
	if id == "" {
		return r.sockets.startDefault()
	}

	socketID, err := parseID("socket_id", id)
	if err != nil {
		return nil, err
	}

	return r.sockets.find(socketID)
}

// offerSocket offers a socket of ours.
func (r *rpcServer) offerSocket(ctx context.Context, socket *relay.Socket,
	to *sending) (offer.ID, error) {

	// Before it is sent: the far end may use it at once.
	for _, leg := range legsOf(to.legs) {
		socket.Watch(leg)
	}

	label, _ := r.sockets.describe(socket.ID())
	socketID := offer.ID(socket.ID())
	sent, err := r.offers.Send(ctx, offer.Proposal{
		Peer:      to.peer,
		SocketID:  socketID,
		Protocol:  wire.Protocol(socket.Protocol()),
		Addrs:     r.sockets.addrs,
		Port1:     socket.Port(relay.Leg1),
		Port2:     socket.Port(relay.Leg2),
		Legs:      to.legs,
		Admission: offer.Admission(socket.Options().Admission),
		Label:     label,
		ExpiresAt: to.expiry(),
	})

	// The one that waits may have been counted as an offer meanwhile.
	r.accounts.update(ctx, socket.ID(), to.peer)
	if err != nil {
		return offer.ID{}, offerError(err)
	}

	// A socket that ended meanwhile was closed before it had this offer.
	if _, err := r.sockets.find(socket.ID()); err != nil {
		err := r.offers.SocketClosed(ctx, socketID, "stopped")
		if err != nil {
			return offer.ID{}, offerError(err)
		}
	}

	return sent.ID, nil
}

// passOn passes on a leg of a socket that another node hosts.
func (r *rpcServer) passOn(ctx context.Context,
	req *socketrpc.SendSocketRequest, to *sending) (offer.ID, error) {

	id, err := parseID("socket_id", req.SocketId)
	if err != nil {
		return offer.ID{}, err
	}
	if req.BothLegs {
		return offer.ID{}, invalid("both_legs", "one leg of a socket "+
			"can be passed on that another node hosts")
	}

	sent, err := r.offers.PassOn(ctx, offer.Passing{
		Peer:      to.peer,
		SocketID:  offer.ID(id),
		Legs:      to.legs,
		ExpiresAt: to.expiresAt,
	})
	switch {
	case errors.Is(err, offer.ErrNotFound):
		return offer.ID{}, namedSocketError(errNoSocket)

	case errors.Is(err, offer.ErrAmbiguous):
		return offer.ID{}, status.Errorf(codes.FailedPrecondition,
			"socket_id: %v", err)

	case err != nil:
		return offer.ID{}, offerError(err)
	}

	return sent.ID, nil
}

// legsOf returns the legs of a set.
func legsOf(set wire.Legs) []relay.Leg {
	var legs []relay.Leg
	for _, leg := range []relay.Leg{relay.Leg1, relay.Leg2} {
		if set.Has(legSet(leg)) {
			legs = append(legs, leg)
		}
	}

	return legs
}
