package sidecar

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// rpcServer implements the API over the parts that do the work. All fields are
// immutable.
type rpcServer struct {
	socketrpc.UnimplementedSocketServer
	socketrpc.UnimplementedWebsocketServer

	lnd      Lnd
	sockets  *sockets
	accounts *accounts
	offers   *offer.Manager
	policy   *policyKeeper
	hub      *hub
	max      int
	notices  *notices
	aliases  *aliases

	// stopping is closed when the daemon stops, so that streams end.
	stopping chan struct{}
}

// StartSocket starts the default socket or a further one, or returns a running
// one again. It is one of the two methods whose responses hold tokens.
func (r *rpcServer) StartSocket(_ context.Context,
	req *socketrpc.StartSocketRequest) (*socketrpc.StartSocketResponse,
	error) {

	var (
		socket *relay.Socket
		err    error
	)
	switch {
	case proto.Size(req) == 0:
		socket, err = r.sockets.startDefault()

	case req.SocketId != "":
		socket, err = r.runningSocket(req)

	default:
		socket, err = r.startFurther(req)
	}
	if err != nil {
		return nil, socketError(err)
	}

	return &socketrpc.StartSocketResponse{
		Protocol:  socket.Protocol().String(),
		Ip:        r.sockets.ip(),
		Port1:     formatPort(socket.Port(relay.Leg1)),
		Port2:     formatPort(socket.Port(relay.Leg2)),
		SocketId:  socket.ID().String(),
		Token1:    ownToken(socket, relay.Leg1),
		Token2:    ownToken(socket, relay.Leg2),
		Admission: socket.Options().Admission.String(),
		Ips:       r.sockets.ips(),
	}, nil
}

// startFurther opens a socket besides the default one.
func (r *rpcServer) startFurther(req *socketrpc.StartSocketRequest) (
	*relay.Socket, error) {

	label, err := parseText("label", req.Label)
	if err != nil {
		return nil, err
	}
	opts, err := r.sockets.defaults.parseStart(req, time.Now())
	if err != nil {
		return nil, err
	}

	return r.sockets.start(opts, label)
}

// runningSocket returns the socket that a request to start names, which says
// nothing else.
func (r *rpcServer) runningSocket(req *socketrpc.StartSocketRequest) (
	*relay.Socket, error) {

	msg := req.ProtoReflect()
	fields := msg.Descriptor().Fields()
	for i := range fields.Len() {
		name := string(fields.Get(i).Name())
		if name != "socket_id" && msg.Has(fields.Get(i)) {
			return nil, invalid(name, "must not be set beside "+
				"socket_id, which names a socket that runs "+
				"already")
		}
	}

	return r.findSocket(req.SocketId)
}

// ownToken returns a leg's own token in hex, or nothing if the leg is OPEN.
func ownToken(socket *relay.Socket, leg relay.Leg) string {
	token, ok := socket.Token(leg)
	if !ok {
		return ""
	}

	return token.Hex()
}

// StopSocket stops the default socket or the one that is named, here or at its
// host.
func (r *rpcServer) StopSocket(ctx context.Context,
	req *socketrpc.StopSocketRequest) (*socketrpc.StopSocketResponse,
	error) {

	if req.SocketId == "" {
		if err := r.sockets.stopDefault(ctx); err != nil {
			return nil, socketError(err)
		}

		return &socketrpc.StopSocketResponse{}, nil
	}

	id, err := parseID("socket_id", req.SocketId)
	if err != nil {
		return nil, err
	}
	err = r.sockets.stop(ctx, id)
	if errors.Is(err, errNoSocket) {
		err = r.stopRemote(ctx, offer.ID(id))
	}
	if err != nil {
		return nil, namedSocketError(err)
	}

	return &socketrpc.StopSocketResponse{}, nil
}

// stopRemote ends our offer of a socket that another node hosts, which ends the
// socket if it was opened on our request.
func (r *rpcServer) stopRemote(ctx context.Context, id offer.ID) error {
	_, err := r.offers.EndRemote(ctx, id, "stopped")
	switch {
	case errors.Is(err, offer.ErrNotFound):
		return errNoSocket

	case err != nil:
		return offerError(err)
	}

	return nil
}

// findSocket returns the open socket that a request names.
func (r *rpcServer) findSocket(s string) (*relay.Socket, error) {
	id, err := parseID("socket_id", s)
	if err != nil {
		return nil, err
	}

	socket, err := r.sockets.find(id)
	if err != nil {
		return nil, namedSocketError(err)
	}

	return socket, nil
}

// namedSocketError returns the status for what went wrong with a socket that a
// request names.
func namedSocketError(err error) error {
	if errors.Is(err, errNoSocket) {
		return status.Errorf(codes.NotFound, "socket_id: %v", err)
	}

	return socketError(err)
}

// ListSockets returns every socket that has not ended, oldest first.
func (r *rpcServer) ListSockets(ctx context.Context,
	_ *socketrpc.ListSocketsRequest) (*socketrpc.ListSocketsResponse,
	error) {

	views := r.sockets.list()
	resp := &socketrpc.ListSocketsResponse{
		Sockets: make([]*socketrpc.SocketInfo, 0, len(views)),
	}
	for i := range views {
		info := r.marshalSocket(&views[i])
		if err := r.describeHosted(ctx, info, &views[i]); err != nil {
			return nil, err
		}
		resp.Sockets = append(resp.Sockets, info)
	}

	return resp, nil
}

// marshalSocket returns a socket as the API has it.
func (r *rpcServer) marshalSocket(v *socketView) *socketrpc.SocketInfo {
	kept := &v.kept
	stats := relay.Stats{
		Leg1: relay.LegStats{Port: kept.Ports[0]},
		Leg2: relay.LegStats{Port: kept.Ports[1]},
	}
	if v.socket != nil {
		stats = v.socket.Stats()
	}
	addCounters(&stats.Leg1, v.before, relay.Leg1)
	addCounters(&stats.Leg2, v.before, relay.Leg2)

	return &socketrpc.SocketInfo{
		SocketId:  kept.ID.String(),
		Protocol:  kept.Protocol.String(),
		Ip:        r.sockets.ip(),
		Label:     kept.Label,
		IsDefault: v.isDefault,
		CreatedAt: unixOrZero(kept.CreatedAt),
		ExpiresAt: unixOrZero(kept.ExpiresAt),
		Leg1:      marshalLeg(&stats.Leg1, kept.Allow[0]),
		Leg2:      marshalLeg(&stats.Leg2, kept.Allow[1]),
		Admission: kept.Admission.String(),
		Limits:    r.sockets.defaults.marshalLimits(kept),
		State:     socketrpc.SocketInfo_State(kept.State),
		Reason:    kept.Reason,
		Ips:       r.sockets.ips(),
	}
}

// describeHosted adds to a socket whom it is counted against, and the request
// that it is hosted on.
func (r *rpcServer) describeHosted(ctx context.Context,
	info *socketrpc.SocketInfo, v *socketView) error {

	node, ok := r.accounts.node(relay.ID(v.kept.ID))
	if !ok {
		return nil
	}
	info.PeerPubkey = node.String()

	live, err := r.offers.Live(ctx, v.kept.ID)
	if err != nil {
		return offerError(err)
	}
	for i := range live {
		if live[i].ReplyTo != (offer.ID{}) {
			info.RequestId = live[i].ReplyTo.String()
		}
	}

	return nil
}

// marshalLeg returns a leg, and the networks that it allows, as the API has
// it.
func marshalLeg(leg *relay.LegStats, allow []netip.Prefix) *socketrpc.Leg {
	drops := make(map[string]uint64, len(leg.Drops))
	for reason, n := range leg.Drops {
		drops[reason.String()] = n
	}

	return &socketrpc.Leg{
		Port:       formatPort(leg.Port),
		ClientAddr: formatAddr(leg.Client),
		PacketsIn:  leg.PacketsIn,
		BytesIn:    leg.BytesIn,
		PacketsOut: leg.PacketsOut,
		BytesOut:   leg.BytesOut,
		Drops:      drops,
		LastSeen:   unixOrZero(leg.LastSeen),
		Accepted:   leg.Accepted,
		Open:       uint32(leg.Open),
		Waiting:    uint32(leg.Waiting),
		Resets:     leg.Resets,
		Allow:      marshalAllow(allow),
		Unbound:    uint32(leg.Unbound),
	}
}

// unixOrZero returns a time in Unix seconds, 0 for the zero time.
func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}

	return t.Unix()
}

// GetInfo describes this daemon.
func (r *rpcServer) GetInfo(context.Context,
	*socketrpc.GetInfoRequest) (*socketrpc.GetInfoResponse, error) {

	node := r.lnd.Node()
	resp := &socketrpc.GetInfoResponse{
		Version:          Version(),
		Commit:           Commit(),
		NodePubkey:       node.PubKey.String(),
		Alias:            node.Alias,
		Network:          node.Network,
		LndVersion:       node.LndVersion,
		CanHost:          true,
		ExternalIp:       r.sockets.ip(),
		NumSockets:       uint32(r.sockets.relay.NumSockets()),
		MaxSockets:       uint32(r.max),
		NumPendingOffers: uint32(r.offers.NumPending()),
		Warnings: slices.Concat(
			r.notices.get(), r.policy.warnings(),
			r.sockets.reach.warnings(),
		),
		MessagesRefused: r.offers.Counters(),
	}
	if err := r.sockets.canHost(); err != nil {
		resp.CanHost = false
		resp.CannotHostReason = err.Error()
	}

	return resp, nil
}

// isNoRoom tells whether a socket was not opened because there are too many.
func isNoRoom(err error) bool {
	return errors.Is(err, relay.ErrTooManySockets) ||
		errors.Is(err, relay.ErrNoFreePort) ||
		errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE)
}

// socketError returns the status for what went wrong with a socket. A status
// stays as it is.
func socketError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}

	code := codes.Internal
	switch {
	case errors.Is(err, errCannotHost), errors.Is(err, errFailed):
		code = codes.FailedPrecondition

	case errors.Is(err, relay.ErrOptions):
		code = codes.InvalidArgument

	case isNoRoom(err):
		code = codes.ResourceExhausted

	case errors.Is(err, relay.ErrClosed):
		code = codes.Unavailable
	}

	return status.Error(code, err.Error())
}
