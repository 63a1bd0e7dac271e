package sidecar

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/socketd/socketd/sidecar/caveat"
	"github.com/socketd/socketd/socketrpc"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	// maxChecks is how many macaroons lnd is asked about at once.
	maxChecks = 64

	// checkTimeout bounds a check, the wait for its turn included.
	checkTimeout = 10 * time.Second

	// recheckInterval is how often the macaroon of a stream is checked
	// again.
	recheckInterval = 30 * time.Second

	// clientAddrKey is the metadata key under which the REST side of
	// socketd tells the gRPC side its client's address.
	clientAddrKey = "socketd-client-addr"
)

// authorizer lets a call in only if lnd says that its macaroon may make it.
// Nothing is cached. All fields are immutable.
type authorizer struct {
	lnd     Lnd
	status  *lndStatus
	recheck time.Duration

	// checks bounds how many checks are under way.
	checks *semaphore.Weighted
}

// newAuthorizer returns an authorizer that checks streams again after every
// recheck.
func newAuthorizer(lnd Lnd, status *lndStatus,
	recheck time.Duration) *authorizer {

	return &authorizer{
		lnd:     lnd,
		status:  status,
		recheck: recheck,
		checks:  semaphore.NewWeighted(maxChecks),
	}
}

// addrFunc finds the true address of the client of a call. It is invalid for a
// client without one.
type addrFunc func(ctx context.Context) netip.Addr

// connAddr takes the client's address from its connection.
func connAddr(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	tcp, ok := p.Addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}

	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// forwardedAddr takes the client's address from the metadata that the REST
// side adds. It is used only on the in-process listener, which nothing but the
// REST side can reach.
func forwardedAddr(ctx context.Context) netip.Addr {
	values := metadata.ValueFromIncomingContext(ctx, clientAddrKey)
	if len(values) != 1 {
		return netip.Addr{}
	}
	addrPort, err := netip.ParseAddrPort(values[0])
	if err != nil {
		return netip.Addr{}
	}

	return addrPort.Addr().Unmap().WithZone("")
}

// authorize returns nil if the call may be made, and else the status that it
// is answered with.
func (a *authorizer) authorize(ctx context.Context, fullMethod string,
	client netip.Addr) error {

	perm, ok := socketrpc.MethodPermission(fullMethod)
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s",
			fullMethod)
	}

	raw, mac, err := caveat.Parse(metadata.ValueFromIncomingContext(
		ctx, socketrpc.MacaroonHeader,
	))
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}

	if err := caveat.CheckAddr(mac, client); err != nil {
		return status.Errorf(codes.PermissionDenied, "%v; note that "+
			"such a macaroon works only for clients at the "+
			"address from which socketd reaches lnd", err)
	}

	return a.ask(ctx, raw, perm, fullMethod)
}

// ask asks lnd about a macaroon.
func (a *authorizer) ask(ctx context.Context, raw []byte,
	perm socketrpc.Permission, fullMethod string) error {

	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()

	if err := a.checks.Acquire(ctx, 1); err != nil {
		return status.Errorf(codes.Unavailable, "%d macaroon checks "+
			"are under way, try again", maxChecks)
	}
	defer a.checks.Release(1)

	err := a.lnd.CheckMacaroon(ctx, raw, perm, fullMethod)
	switch status.Code(err) {
	case codes.OK:
		a.status.up()

		return nil

	case codes.InvalidArgument:
		return status.Errorf(codes.PermissionDenied,
			"lnd refuses the macaroon: %s",
			status.Convert(err).Message())

	case codes.Canceled:
		return status.Error(codes.Canceled, "call canceled")

	default:
		// Whatever else it is, nobody has said that the call may be
		// made.
		since := a.status.down().UTC().Format(time.RFC3339)

		return status.Errorf(codes.Unavailable, "lnd is away since "+
			"%s and cannot check the macaroon: %s; sockets keep "+
			"relaying", since, status.Convert(err).Message())
	}
}

// unary returns the interceptor of single calls.
func (a *authorizer) unary(addr addrFunc) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo,
		handler grpc.UnaryHandler) (any, error) {

		err := a.authorize(ctx, info.FullMethod, addr(ctx))
		if err != nil {
			return nil, err
		}

		return handler(ctx, req)
	}
}

// authorizedStream is a stream whose context ends when its macaroon is no
// longer good.
type authorizedStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // As grpc.ServerStream does.
}

// Context returns the context of the stream.
func (s *authorizedStream) Context() context.Context {
	return s.ctx
}

// stream returns the interceptor of streams.
func (a *authorizer) stream(addr addrFunc) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo,
		handler grpc.StreamHandler) error {

		client := addr(ss.Context())
		err := a.authorize(ss.Context(), info.FullMethod, client)
		if err != nil {
			return err
		}

		var (
			wg      sync.WaitGroup
			refused error
		)
		ctx, cancel := context.WithCancel(ss.Context())
		wg.Go(func() {
			defer cancel()
			refused = a.keepChecking(ctx, info.FullMethod, client)
		})

		err = handler(srv, &authorizedStream{ss, ctx})
		cancel()
		wg.Wait()

		if refused != nil {
			return refused
		}

		return err
	}
}

// keepChecking checks the macaroon of a stream again and again. It returns the
// status that the stream ends with, or nil when ctx is done.
func (a *authorizer) keepChecking(ctx context.Context, fullMethod string,
	client netip.Addr) error {

	ticker := time.NewTicker(a.recheck)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil

		case <-ticker.C:
		}

		err := a.authorize(ctx, fullMethod, client)
		switch {
		case ctx.Err() != nil:
			return nil

		case status.Code(err) == codes.PermissionDenied:
			return status.Error(codes.Unauthenticated,
				status.Convert(err).Message())

		case err != nil:
			return err
		}
	}
}
