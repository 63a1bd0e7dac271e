package sidecar

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

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
		Port1:      formatOfferPort(o.Port1),
		Port2:      formatOfferPort(o.Port2),
		Label:      o.Label,
		ReplyToId:  formatID(o.ReplyTo),
		SocketId:   formatID(o.SocketID),
		CreatedAt:  unixOrZero(o.CreatedAt),
		ExpiresAt:  unixOrZero(o.ExpiresAt),
		Reason:     o.Reason,
		Leg:        grantedLeg(o.Legs),
		Admission:  o.Admission.String(),
		Ips:        formatIPs(o.Addrs),
		BothLegs:   o.Legs == offer.BothLegs,
		ParentId:   formatID(o.Parent),
		IsRequest:  o.IsRequest,
		Limits:     marshalAsked(o),
	}
}

// marshalAsked returns the limits that a request asks for as the API has them,
// none for an offer. Those that are left to the host are not set.
func marshalAsked(o *offer.Offer) *socketrpc.SocketLimits {
	if !o.IsRequest {
		return nil
	}

	limits := &socketrpc.SocketLimits{}
	for _, limit := range []struct {
		from uint64
		to   **uint64
	}{
		{o.Limits.Bandwidth, &limits.Bandwidth},
		{o.Limits.Packets, &limits.Packets},
		{o.Limits.TotalBytes, &limits.TotalBytes},
		{o.Limits.IdleTimeout, &limits.IdleTimeout},
		{o.Limits.Lifetime, &limits.Lifetime},
	} {
		if limit.from != 0 {
			*limit.to = proto.Uint64(limit.from)
		}
	}
	if o.Limits.Pairs != 0 {
		pairs := min(o.Limits.Pairs, math.MaxUint32)
		limits.Pairs = proto.Uint32(uint32(pairs))
	}

	return limits
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

// formatOfferPort returns the port of a leg as the API has it, empty for that
// of a request.
func formatOfferPort(port uint16) string {
	if port == 0 {
		return ""
	}

	return formatPort(port)
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

// eventTypes has the API's name of everything that happens to an offer, and to
// a request unless requestEvents has another one.
var eventTypes = map[offer.EventKind]socketrpc.Event_Type{
	offer.EventReceived:  socketrpc.Event_OFFER_RECEIVED,
	offer.EventDelivered: socketrpc.Event_OFFER_DELIVERED,
	offer.EventAccepted:  socketrpc.Event_OFFER_ACCEPTED,
	offer.EventRejected:  socketrpc.Event_OFFER_REJECTED,
	offer.EventExpired:   socketrpc.Event_OFFER_EXPIRED,
	offer.EventClosed:    socketrpc.Event_OFFER_CLOSED,
}

// requestEvents has the API's name of what happens to requests and not to
// offers.
var requestEvents = map[offer.EventKind]socketrpc.Event_Type{
	offer.EventReceived: socketrpc.Event_REQUEST_RECEIVED,
	offer.EventRejected: socketrpc.Event_REQUEST_REJECTED,
}

// offerEvent returns what happened to an offer as the API has it.
func offerEvent(e offer.Event) *socketrpc.Event {
	o := &e.Offer
	event := &socketrpc.Event{
		Type:       eventTypes[e.Kind],
		Id:         o.ID.String(),
		ReplyToId:  formatID(o.ReplyTo),
		FromPubkey: o.Peer.String(),
		SocketId:   formatID(o.SocketID),
		Reason:     e.Reason,
		Data: mustJSON(connection{
			Protocol:   o.Protocol.String(),
			IP:         firstAddr(o.Addrs),
			IPs:        formatIPs(o.Addrs),
			Port1:      formatOfferPort(o.Port1),
			Port2:      formatOfferPort(o.Port2),
			SocketID:   formatID(o.SocketID),
			Admission:  o.Admission.String(),
			Leg:        grantedLeg(o.Legs),
			BothLegs:   o.Legs == offer.BothLegs,
			Label:      o.Label,
			HostPubkey: o.Host.String(),
			IsRequest:  o.IsRequest,
			ExpiresAt:  unixOrZero(o.ExpiresAt),
		}),
	}
	if kind, ok := requestEvents[e.Kind]; ok && o.IsRequest {
		event.Type = kind
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
