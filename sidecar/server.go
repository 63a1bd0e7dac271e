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
	"slices"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
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
	host        *host
	policy      *policyKeeper
	keeper      *keeper
	pruner      *pruner
	receiver    *receiver
	peers       *peers
	lndStatus   *lndStatus
	auth        *authorizer
	rpc         *rpcServer
}

// Listeners are where the API is served. TLS is theirs to speak.
type Listeners struct {
	GRPC net.Listener
	REST net.Listener
}

// NewServer puts the parts of the daemon together. It does no I/O. The options
// are those that fit into the machine's limits, and the database is the one
// that belongs to lnd's node. The notices are shown to whoever asks for
// information on this daemon.
func NewServer(cfg *Config, lnd Lnd, db *store.DB, logs *Loggers,
	notices *notices) (*Server, error) {

	addrs, reach, err := cfg.addresses()
	if err != nil {
		return nil, err
	}
	relayCfg, err := cfg.Relay.relayConfig(addrs, logs.Relay)
	if err != nil {
		return nil, err
	}

	s := &Server{cfg: cfg, lnd: lnd, logs: logs, hub: newHub(db)}
	s.relayEvents = newRelayEvents(db, logs.Daemon)
	s.relay, err = relay.New(relayCfg, s.relayEvents.notify)
	if err != nil {
		return nil, err
	}

	kept := db.Offers(func(e offer.Event) ([]byte, error) {
		return encodeEvent(offerEvent(e))
	})
	known := &sockets{
		relay:    s.relay,
		addrs:    addrs,
		reach:    reach,
		ports:    cfg.Relay.Ports,
		defaults: cfg.Relay.socketDefaults(),
		db:       db,
		events:   s.relayEvents,
		known:    make(map[relay.ID]*knownSocket),
	}
	if err := s.addOffers(db, kept, known, notices); err != nil {
		return nil, err
	}
	s.accounts = newAccounts(s.relay, s.offers, logs.Daemon)
	s.host.accounts = s.accounts
	s.relayEvents.sockets = known
	s.relayEvents.accounts = s.accounts
	s.relayEvents.offers = s.offers
	s.keeper = &keeper{
		sockets:  known,
		accounts: s.accounts,
		offers:   s.offers,
		store:    kept,
		db:       db,
		log:      logs.Daemon,
		restored: make(chan struct{}),
		failed:   make(map[relay.ID]*reopening),
		ended:    make(map[offer.ID]string),
	}
	s.pruner = &pruner{
		db:       db,
		history:  cfg.Store.History,
		interval: pruneInterval,
		log:      logs.Daemon,
	}

	s.lndStatus = &lndStatus{}
	s.receiver = newReceiver(
		lnd, s.lndStatus, logs.Daemon, s.offers.Receive,
	)

	// What comes first is judged by it.
	s.receiver.before = s.policy.prepare
	s.auth = newAuthorizer(lnd, s.lndStatus, recheckInterval)
	s.rpc = &rpcServer{
		lnd:      lnd,
		sockets:  known,
		accounts: s.accounts,
		offers:   s.offers,
		policy:   s.policy,
		hub:      s.hub,
		max:      cfg.Relay.MaxSockets,
		notices:  notices,
		aliases:  newAliases(lnd.Alias),
		stopping: make(chan struct{}),
	}

	return s, nil
}

// addOffers puts the offers of a store together, and the policies that they go
// by.
func (s *Server) addOffers(db *store.DB, kept *store.Offers, known *sockets,
	notices *notices) error {

	policy, err := s.cfg.Offer.policy()
	if err != nil {
		return err
	}
	requests, err := s.cfg.requestPolicy()
	if err != nil {
		return err
	}

	s.peers = s.newPeers(policy, notices)
	s.host = &host{sockets: known}
	s.offers = s.newOffers(kept, policy, requests.RequestPolicy)
	s.policy = newPolicyKeeper(s, db, requests)

	return nil
}

// newPeers returns what knows of lnd's peers, as far as a policy or that of the
// requests asks, and tells the offers of them.
func (s *Server) newPeers(policy offer.Policy, notices *notices) *peers {
	return newPeers(
		s.lnd, s.logs.Daemon, func() bool {
			return policy.AutoAccept == offer.AutoAcceptChannel ||
				s.policy.wantsChannels()
		},
		lndMacaroonLine(
			s.cfg.Network, s.cfg.networkDir()+"/lnd.macaroon",
		),
		notices, func(peer offer.PubKey) { s.offers.PeerOnline(peer) },
	)
}

// newOffers returns the manager of the offers of a store.
func (s *Server) newOffers(kept *store.Offers, policy offer.Policy,
	requests offer.RequestPolicy) *offer.Manager {

	return offer.New(
		offer.Config{
			Self:       s.lnd.Node().PubKey,
			Limits:     offer.DefaultLimits(),
			Policy:     policy,
			CannotHost: s.host.sockets.canHost() != nil,
			Requests:   requests,
		}, offer.Deps{
			Messenger: s.lnd,
			Connector: s.lnd,
			Channels:  s.peers,
			Store:     kept,
			Opener:    opener{s.relay},
			Host:      s.host,
			Logger:    s.logs.Offer,

			// What is told of it is in the store already.
			Notify: func(e offer.Event) {
				s.accounts.offerEvent(e)
			},
		},
	)
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

// Run serves on the listeners until ctx is done, and closes them. All the time
// it runs connect, which keeps the connection to lnd. ready is called once
// every method works.
func (s *Server) Run(ctx context.Context, lis Listeners,
	connect func(context.Context) error, ready func()) error {

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

	// Until it answers, lnd is away.
	s.lndStatus.down()

	return runGroup(ctx, slices.Concat([]component{
		{"lnd", connect},
	}, s.core(), []component{
		{"messages", s.receiver.Run},
		{"peers", s.peers.Run},
		{"pruning", s.pruner.Run},
		{"in-process gRPC", func(ctx context.Context) error {
			return s.serveGRPC(ctx, pipe, forwardedAddr)
		}},
		{"gRPC", func(ctx context.Context) error {
			return s.serveGRPC(ctx, netutil.LimitListener(
				lis.GRPC, maxConns,
			), connAddr)
		}},
		{"REST", func(ctx context.Context) error {
			return s.serveREST(ctx, netutil.LimitListener(
				lis.REST, maxConns,
			), rest)
		}},
		{"streams", func(ctx context.Context) error {
			// The first to be stopped: it makes the streams end,
			// which the servers below wait for.
			return s.holdStreams(ctx, ready)
		}},
	})...)
}

// core returns the components that do the work, without those that others reach
// it by.
func (s *Server) core() []component {
	return []component{
		{"relay events", s.relayEvents.Run},
		{"relay", s.relay.Run},
		{"sockets", s.runSockets},
		{"offers", s.runOffers},
	}
}

// runSockets keeps the sockets, within the policy that holds.
func (s *Server) runSockets(ctx context.Context) error {
	if err := s.policy.load(ctx); err != nil {
		return ignoreDone(ctx, err)
	}

	return s.keeper.Run(ctx)
}

// runOffers runs the offers once their sockets are there.
func (s *Server) runOffers(ctx context.Context) error {
	select {
	case <-s.keeper.restored:
		return ignoreDone(ctx, s.offers.Run(ctx))

	case <-ctx.Done():
		// Whoever waits for the offers learns that there are none.
		_ = s.offers.Run(ctx)

		return nil
	}
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

// serveGRPC serves gRPC on a listener until ctx is done. It begins when the
// sockets are there that it is asked about.
func (s *Server) serveGRPC(ctx context.Context, lis net.Listener,
	addr addrFunc) error {

	select {
	case <-s.keeper.restored:
	case <-ctx.Done():
		return lis.Close()
	}

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

	// It may have been stopped before it had begun.
	err := <-served
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}

	return err
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
