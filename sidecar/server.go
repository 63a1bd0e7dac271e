// Package sidecar is socketd itself, the composition root: it takes the
// options, connects to lnd, and runs the relay, the offers and the API on top
// of it.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/socketrpc"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// portRest is how long a freed port is not given to another socket.
	portRest = 5 * time.Minute

	// maxConns is how many connections each of the two API listeners
	// serves at once.
	maxConns = 256

	// connIdleTimeout is how long a gRPC connection stays open without a
	// call; its client connects again by itself.
	connIdleTimeout = 10 * time.Minute

	// maxStreams is how many calls one gRPC connection makes at once.
	maxStreams = 128

	// stopTimeout bounds the wait for calls that are under way when the
	// daemon stops.
	stopTimeout = 5 * time.Second

	// httpHeaderTimeout and httpIdleTimeout bound how long a REST client
	// may say nothing.
	httpHeaderTimeout = 10 * time.Second
	httpIdleTimeout   = 2 * time.Minute
	httpMaxHeader     = 32 << 10
)

// Server is the daemon without its surroundings: it knows neither how its
// connection to lnd nor its listeners came to be. All fields are immutable.
type Server struct {
	cfg  *Config
	lnd  Lnd
	logs *Loggers

	hub         *hub
	relay       *relay.Relay
	relayEvents *relayEvents
	offers      *offer.Manager
	accounts    *accounts
	receiver    *receiver
	auth        *authorizer
	rpc         *rpcServer
}

// Listeners are where the API is served. TLS is theirs to speak.
type Listeners struct {
	GRPC net.Listener
	REST net.Listener
}

// NewServer puts the parts of the daemon together. It does no I/O. The options
// are those that fit into the machine's limits. The warnings are shown to
// whoever asks for information on this daemon.
func NewServer(cfg *Config, lnd Lnd, logs *Loggers,
	warnings []string) (*Server, error) {

	addrs, err := cfg.Relay.externalAddrs()
	if err != nil {
		return nil, err
	}
	relayCfg, err := cfg.Relay.relayConfig(addrs, logs.Relay)
	if err != nil {
		return nil, err
	}

	s := &Server{cfg: cfg, lnd: lnd, logs: logs, hub: newHub(maxEvents)}
	s.relayEvents = newRelayEvents(s.hub, logs.Daemon)
	s.relay, err = relay.New(relayCfg, s.relayEvents.notify)
	if err != nil {
		return nil, err
	}

	limits := offer.DefaultLimits()
	limits.SocketsPerPeer = cfg.Relay.NodeSockets
	s.offers = offer.New(
		offer.Config{
			Self:   lnd.Node().PubKey,
			Limits: limits,
		}, offer.Deps{
			Messenger: lnd,
			Store:     offer.NewMemStore(),
			Opener:    opener{s.relay},
			Logger:    logs.Offer,
			Notify: func(e offer.Event) {
				s.accounts.offerEvent(e)
				s.hub.publish(offerEvent(e))
			},
		},
	)
	s.accounts = newAccounts(s.relay, s.offers, logs.Daemon)

	known := &sockets{
		relay:    s.relay,
		addrs:    addrs,
		ports:    cfg.Relay.Ports,
		defaults: cfg.Relay.socketDefaults(),
		hub:      s.hub,
		labels:   make(map[relay.ID]string),
	}
	s.relayEvents.sockets = known
	s.relayEvents.accounts = s.accounts
	s.relayEvents.offers = s.offers

	lndStatus := &lndStatus{}
	s.receiver = newReceiver(
		lnd, lndStatus, logs.Daemon, s.offers.Receive,
	)
	s.auth = newAuthorizer(lnd, lndStatus, recheckInterval)
	s.rpc = &rpcServer{
		node:     lnd.Node(),
		sockets:  known,
		accounts: s.accounts,
		offers:   s.offers,
		hub:      s.hub,
		max:      cfg.Relay.MaxSockets,
		warnings: warnings,
		stopping: make(chan struct{}),
	}

	return s, nil
}

// relayConfig returns the relay's own configuration.
func (r *RelayConfig) relayConfig(addrs []netip.Addr,
	log *slog.Logger) (relay.Config, error) {

	listen, err := r.listenAddr()
	if err != nil {
		return relay.Config{}, err
	}
	ports, err := relay.ParsePortRange(r.Ports)
	if err != nil {
		return relay.Config{}, fmt.Errorf("relay.ports: %w", err)
	}

	return relay.Config{
		Listen:      listen,
		SelfAddrs:   addrs,
		Ports:       ports,
		PortRest:    portRest,
		MaxSockets:  r.MaxSockets,
		PinTimeout:  r.PinTimeout,
		MaxPairs:    r.MaxPairs,
		MaxWaiting:  r.MaxWaiting,
		WaitTimeout: r.WaitTimeout,
		MaxConns:    r.MaxConns,
		KeepAlive:   r.KeepAlive,
		Bandwidth:   uint64(r.Bandwidth),

		// How many sockets a far end may have is for the offers to say.
		AccountBandwidth: uint64(r.NodeBandwidth),
		Logger:           log,
	}, nil
}

// Run serves on the listeners until ctx is done, and closes them. ready is
// called once every method works.
func (s *Server) Run(ctx context.Context, lis Listeners,
	ready func()) error {

	pipe := newPipeListener()
	conn, err := grpc.NewClient(
		"passthrough:///socketd", grpc.WithContextDialer(pipe.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),

		// It is our own. A list of sockets outgrows gRPC's 4 MiB.
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(math.MaxInt32),
		),
	)
	if err != nil {
		return fmt.Errorf("in-process connection: %w", err)
	}
	defer conn.Close()

	rest, err := newRESTHandler(ctx, conn, s.cfg.RESTCORS, s.logs.RPC)
	if err != nil {
		return fmt.Errorf("REST gateway: %w", err)
	}

	return runGroup(
		ctx,
		component{"relay events", s.relayEvents.Run},
		component{"relay", s.relay.Run},
		component{"offers", s.offers.Run},
		component{"messages", s.receiver.Run},
		component{"in-process gRPC", func(ctx context.Context) error {
			return s.serveGRPC(ctx, pipe, forwardedAddr)
		}},
		component{"gRPC", func(ctx context.Context) error {
			return s.serveGRPC(ctx, netutil.LimitListener(
				lis.GRPC, maxConns,
			), connAddr)
		}},
		component{"REST", func(ctx context.Context) error {
			return s.serveREST(ctx, netutil.LimitListener(
				lis.REST, maxConns,
			), rest)
		}},
		component{"streams", func(ctx context.Context) error {
			// The first to be stopped: it makes the streams end,
			// which the servers below wait for.
			return s.holdStreams(ctx, ready)
		}},
	)
}

// holdStreams calls ready when messages are received, and ends all streams
// when ctx is done.
func (s *Server) holdStreams(ctx context.Context, ready func()) error {
	defer close(s.rpc.stopping)

	select {
	case <-s.receiver.ready:
		ready()
		<-ctx.Done()

	case <-ctx.Done():
	}

	return nil
}

// serveGRPC serves gRPC on a listener until ctx is done.
func (s *Server) serveGRPC(ctx context.Context, lis net.Listener,
	addr addrFunc) error {

	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(s.auth.unary(addr)),
		grpc.ChainStreamInterceptor(s.auth.stream(addr)),
		grpc.MaxRecvMsgSize(maxRequestSize),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: connIdleTimeout,
			Time:              time.Minute,
			Timeout:           20 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             5 * time.Second,
			PermitWithoutStream: true,
		}),
	)
	socketrpc.RegisterSocketServer(server, s.rpc)
	socketrpc.RegisterWebsocketServer(server, s.rpc)

	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()

	select {
	case err := <-served:
		return err

	case <-ctx.Done():
	}

	force := time.AfterFunc(stopTimeout, server.Stop)
	defer force.Stop()
	server.GracefulStop()

	return <-served
}

// serveREST serves REST and WebSockets on a listener until ctx is done.
func (s *Server) serveREST(ctx context.Context, lis net.Listener,
	handler *restHandler) error {

	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: httpHeaderTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpMaxHeader,
		ErrorLog: slog.NewLogLogger(
			s.logs.RPC.Handler(), slog.LevelDebug,
		),
	}

	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()

	select {
	case err := <-served:
		return err

	case <-ctx.Done():
	}

	stop, cancel := context.WithTimeout(
		context.WithoutCancel(ctx), stopTimeout,
	)
	defer cancel()

	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	handler.sockets.Wait()

	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}

	return err
}
