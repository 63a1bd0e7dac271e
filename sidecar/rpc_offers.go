package sidecar

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// SendSocket offers a socket of ours to another node.
func (r *rpcServer) SendSocket(ctx context.Context,
	req *socketrpc.SendSocketRequest) (*socketrpc.SendSocketResponse,
	error) {

	proposal, err := r.parseSend(req, time.Now())
	if err != nil {
		return nil, err
	}

	socket, err := r.socketToOffer(req.SocketId)
	if err != nil {
		return nil, socketError(err)
	}
	label, _ := r.sockets.describe(socket.ID())
	proposal.SocketID = offer.ID(socket.ID())
	proposal.Protocol = wire.Protocol(socket.Protocol())
	proposal.Admission = offer.Admission(socket.Options().Admission)
	proposal.Port1 = socket.Port(relay.Leg1)
	proposal.Port2 = socket.Port(relay.Leg2)
	proposal.Label = label

	// Before it is sent: the far end may use it at once.
	socket.Watch(relay.Leg(grantedLeg(proposal.Legs)))

	sent, err := r.offers.Send(ctx, *proposal)

	// The one that waits may have been counted as an offer meanwhile.
	r.accounts.update(ctx, socket.ID(), proposal.Peer)
	if err != nil {
		return nil, offerError(err)
	}

	// A socket that ended meanwhile was closed before it had this offer.
	if _, err := r.sockets.find(socket.ID()); err != nil {
		err := r.offers.SocketClosed(ctx, proposal.SocketID, "stopped")
		if err != nil {
			return nil, offerError(err)
		}
	}

	return &socketrpc.SendSocketResponse{Id: sent.ID.String()}, nil
}

// parseSend checks a request to send and returns what it says of the offer,
// all but the socket.
func (r *rpcServer) parseSend(req *socketrpc.SendSocketRequest,
	now time.Time) (*offer.Proposal, error) {

	peer, err := parsePubKey(req.Pubkey, r.lnd.Node().PubKey)
	if err != nil {
		return nil, err
	}
	expiry, err := parseExpiry(req.Expiry, now)
	if err != nil {
		return nil, err
	}
	leg, err := parseLeg(req.Leg)
	if err != nil {
		return nil, err
	}

	switch req.Mode {
	case socketrpc.SendSocketRequest_AUTO,
		socketrpc.SendSocketRequest_OFFER:

	case socketrpc.SendSocketRequest_REQUEST:
		return nil, status.Error(codes.Unimplemented, "mode: this "+
			"version cannot request a socket yet, only offer one")

	default:
		return nil, invalid("mode", "%d is not known", req.Mode)
	}

	return &offer.Proposal{
		Peer:      peer,
		Addrs:     r.sockets.addrs,
		Legs:      legSet(leg),
		ExpiresAt: expiry,
	}, nil
}

// socketToOffer returns the socket that a request names; without an id it is
// the default one, started if need be.
func (r *rpcServer) socketToOffer(id string) (*relay.Socket, error) {
	if id == "" {
		return r.sockets.startDefault()
	}

	return r.findSocket(id)
}

// ListOffers returns the offers of this node, oldest first.
func (r *rpcServer) ListOffers(ctx context.Context,
	req *socketrpc.ListOffersRequest) (*socketrpc.ListOffersResponse,
	error) {

	offers, err := r.offers.List(ctx)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	if req.PendingOnly {
		offers = slices.DeleteFunc(offers, func(o offer.Offer) bool {
			return !o.State.Pending()
		})
	}

	return &socketrpc.ListOffersResponse{
		Offers: r.describeOffers(ctx, offers),
	}, nil
}

// AcceptOffer accepts an offer of another node. It is one of the two methods
// whose responses hold tokens.
func (r *rpcServer) AcceptOffer(ctx context.Context,
	req *socketrpc.AcceptOfferRequest) (*socketrpc.AcceptOfferResponse,
	error) {

	id, err := parseID("id", req.Id)
	if err != nil {
		return nil, err
	}

	accepted, tokens, err := r.offers.Accept(ctx, id)
	if err != nil {
		return nil, offerError(err)
	}

	return &socketrpc.AcceptOfferResponse{
		Id:     accepted.DecisionID.String(),
		Offer:  r.describeOffer(ctx, accepted),
		Token1: formatToken(tokens[0]),
		Token2: formatToken(tokens[1]),
	}, nil
}

// RejectOffer turns down an offer of another node.
func (r *rpcServer) RejectOffer(ctx context.Context,
	req *socketrpc.RejectOfferRequest) (*socketrpc.RejectOfferResponse,
	error) {

	id, err := parseID("id", req.Id)
	if err != nil {
		return nil, err
	}
	reason, err := parseText("reason", req.Reason)
	if err != nil {
		return nil, err
	}

	rejected, err := r.offers.Reject(ctx, id, reason)
	if err != nil {
		return nil, offerError(err)
	}

	return &socketrpc.RejectOfferResponse{
		Id: rejected.DecisionID.String(),
	}, nil
}

// WithdrawOffer ends an offer of ours, or one of another node that was
// accepted.
func (r *rpcServer) WithdrawOffer(ctx context.Context,
	req *socketrpc.WithdrawOfferRequest) (*socketrpc.WithdrawOfferResponse,
	error) {

	id, err := parseID("id", req.Id)
	if err != nil {
		return nil, err
	}
	reason, err := parseText("reason", req.Reason)
	if err != nil {
		return nil, err
	}

	ended, closeID, err := r.offers.Withdraw(ctx, id, reason)
	if err != nil {
		return nil, offerError(err)
	}

	return &socketrpc.WithdrawOfferResponse{
		Id:    formatID(closeID),
		Offer: r.describeOffer(ctx, ended),
	}, nil
}

// offerError returns the status for what went wrong with an offer.
func offerError(err error) error {
	switch {
	case errors.Is(err, offer.ErrNotFound):
		return status.Errorf(codes.NotFound, "id: %v", err)

	case errors.Is(err, errNoSocket):
		return status.Errorf(codes.NotFound, "socket_id: %v", err)

	case errors.Is(err, offer.ErrState),
		errors.Is(err, offer.ErrGranted),
		errors.Is(err, relay.ErrGrant):

		return status.Error(codes.FailedPrecondition, err.Error())

	case errors.Is(err, offer.ErrLimit):
		return status.Error(codes.ResourceExhausted, err.Error())

	case errors.Is(err, offer.ErrInvalid):
		return status.Error(codes.InvalidArgument, err.Error())

	case errors.Is(err, offer.ErrStopped):
		return status.Error(codes.Unavailable, err.Error())

	case errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded):

		return status.FromContextError(err).Err()
	}

	return status.Error(codes.Internal, err.Error())
}

// marshalOffer returns an offer as the API has it.
func marshalOffer(o *offer.Offer) *socketrpc.Offer {
	return &socketrpc.Offer{
		Id:         o.ID.String(),
		Direction:  socketrpc.Offer_Direction(o.Direction),
		State:      socketrpc.Offer_State(o.State),
		PeerPubkey: o.Peer.String(),
		HostPubkey: o.Host.String(),
		Protocol:   o.Protocol.String(),
		Ip:         firstAddr(o.Addrs),
		Port1:      formatPort(o.Port1),
		Port2:      formatPort(o.Port2),
		Label:      o.Label,
		ReplyToId:  formatID(o.ReplyTo),
		SocketId:   o.SocketID.String(),
		CreatedAt:  unixOrZero(o.CreatedAt),
		ExpiresAt:  unixOrZero(o.ExpiresAt),
		Reason:     o.Reason,
		Leg:        grantedLeg(o.Legs),
		Admission:  o.Admission.String(),
	}
}

// legSet returns the set that has one leg.
func legSet(leg relay.Leg) wire.Legs {
	if leg == relay.Leg1 {
		return wire.Leg1
	}

	return wire.Leg2
}

// grantedLeg returns the leg that an offer grants; of both, leg 1.
func grantedLeg(legs wire.Legs) uint32 {
	if legs.Has(wire.Leg1) {
		return 1
	}

	return 2
}

// formatID returns an id as the API has it, empty for none.
func formatID(id offer.ID) string {
	if id == (offer.ID{}) {
		return ""
	}

	return id.String()
}

// formatToken returns a token as the API has it, empty for none.
func formatToken(token offer.Token) string {
	if token.IsZero() {
		return ""
	}

	return token.Hex()
}

// firstAddr returns the preferred one of a host's addresses.
func firstAddr(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return ""
	}

	return addrs[0].String()
}

// eventTypes has the API's name of everything that happens to an offer.
var eventTypes = map[offer.EventKind]socketrpc.Event_Type{
	offer.EventReceived:  socketrpc.Event_OFFER_RECEIVED,
	offer.EventDelivered: socketrpc.Event_OFFER_DELIVERED,
	offer.EventAccepted:  socketrpc.Event_OFFER_ACCEPTED,
	offer.EventRejected:  socketrpc.Event_OFFER_REJECTED,
	offer.EventExpired:   socketrpc.Event_OFFER_EXPIRED,
	offer.EventClosed:    socketrpc.Event_OFFER_CLOSED,
}

// offerEvent returns what happened to an offer as the API has it.
func offerEvent(e offer.Event) *socketrpc.Event {
	o := &e.Offer
	event := &socketrpc.Event{
		Type:       eventTypes[e.Kind],
		Id:         o.ID.String(),
		ReplyToId:  formatID(o.ReplyTo),
		FromPubkey: o.Peer.String(),
		SocketId:   o.SocketID.String(),
		Reason:     e.Reason,
		Data: mustJSON(connection{
			Protocol:  o.Protocol.String(),
			IP:        firstAddr(o.Addrs),
			Port1:     formatPort(o.Port1),
			Port2:     formatPort(o.Port2),
			SocketID:  o.SocketID.String(),
			Admission: o.Admission.String(),
			Leg:       grantedLeg(o.Legs),
			Label:     o.Label,
			ExpiresAt: unixOrZero(o.ExpiresAt),
		}),
	}
	if e.MessageID != (offer.ID{}) {
		event.Id = e.MessageID.String()
	}

	// Whoever sent the offer waits for its id.
	if o.Direction == offer.Outgoing {
		event.ReplyToId = o.ID.String()
	}

	return event
}
