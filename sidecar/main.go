package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/btcsuite/btclog/v2"
	"github.com/jessevdk/go-flags"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
)

// The exit codes of the daemon.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main runs the daemon as a program and returns its exit code.
func Main() int {
	cfg, err := LoadConfig(os.Args[1:], os.Environ())
	var flagErr *flags.Error
	switch {
	case errors.As(err, &flagErr) && flagErr.Type == flags.ErrHelp:
		fmt.Println(flagErr.Message)

		return exitDone

	case err != nil:
		fmt.Fprintf(os.Stderr, "socketd: %v\n", err)

		return exitUsage

	case cfg.ShowVersion:
		fmt.Println(versionLine())

		return exitDone
	}

	// A second signal ends the program at once.
	ctx, stop := signal.NotifyContext(
		context.Background(), os.Interrupt, syscall.SIGTERM,
	)
	defer stop()
	context.AfterFunc(ctx, stop)

	if err := run(ctx, cfg); err != nil {
		fmt.Fprintf(os.Stderr, "socketd: %v\n", err)

		return exitFailed
	}

	return exitDone
}

// run runs the daemon until ctx is done.
func run(ctx context.Context, cfg *Config) (err error) {
	if err := makeDir(cfg); err != nil {
		return err
	}

	out, closeLog, err := openLog(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()

	logs, err := newLoggers(out, cfg.DebugLevel)
	if err != nil {
		return err
	}
	logStart(ctx, logs.Daemon, cfg)

	err = runLogged(ctx, cfg, logs)
	switch {
	case ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())):
		logs.Daemon.Infof("socketd stopped")

		return nil

	case err != nil:
		logs.Daemon.Criticalf("socketd stopped: %v", err)
	}

	return err
}

// runLogged opens the database and the listeners and serves until ctx is done.
func runLogged(ctx context.Context, cfg *Config, logs *Loggers) (err error) {
	tlsCfg, err := loadTLS(cfg, logs.Daemon)
	if err != nil {
		return err
	}

	room, err := cfg.Relay.fit(raiseFileLimit())
	if err != nil {
		return err
	}
	logs.Daemon.Info(room.describe())
	cfg.Relay = room.cfg
	if err := cfg.Relay.readLocal(); err != nil {
		return err
	}

	if err := checkLndFiles(cfg); err != nil {
		return err
	}
	db, err := store.Open(
		ctx, store.Config{Path: cfg.databasePath()}, logs.Store,
	)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	lock, err := lockLnd(cfg, logs.Daemon)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	node, err := databaseNode(ctx, cfg, db, logs.Daemon)
	if err != nil {
		return err
	}

	notices := &notices{log: logs.Daemon}
	notices.add(room.warnings...)
	if cfg.Lnd.MacaroonPath == cfg.adminMacaroonPath() {
		notices.add("socketd runs on lnd's admin.macaroon, which may " +
			"do anything; bake one that holds only what is " +
			"needed and name it with lnd.macaroonpath: " +
			lndMacaroonLine(
				cfg.Network, cfg.networkDir()+"/lnd.macaroon",
			))
	}

	lnd := newLndLink(cfg, node, logs.Daemon, func(ctx context.Context,
		lnd Lnd) error {

		return admitLnd(ctx, cfg, db, lnd, logs.Daemon, notices)
	})
	server, err := NewServer(cfg, lnd, db, logs, notices)
	if err != nil {
		return err
	}

	lis, err := listen(ctx, cfg, tlsCfg)
	if err != nil {
		return err
	}
	logs.Daemon.Infof("gRPC server listening on %s",
		formatListen(lis.GRPC.Addr()))
	logs.Daemon.Infof("REST server listening on %s",
		formatListen(lis.REST.Addr()))

	return server.Run(ctx, *lis, lnd.Run, func() {
		logs.Daemon.Info("Ready")
	})
}

// databaseNode returns the node that the database belongs to. A new one belongs
// to the node that lnd is, once it is reached: until then there is nothing that
// could be done without it.
func databaseNode(ctx context.Context, cfg *Config, db *store.DB,
	log btclog.Logger) (offer.PubKey, error) {

	node, ok, err := db.Node(ctx)
	if err != nil || ok {
		return node, err
	}

	lnd, err := connectLnd(ctx, cfg, log)
	if err != nil {
		return offer.PubKey{}, err
	}
	defer lnd.close()
	node = lnd.Node().PubKey

	return node, db.Claim(ctx, node)
}

// admitLnd checks that lnd is the node that the database belongs to, and bakes
// the macaroons of socketd that are missing.
func admitLnd(ctx context.Context, cfg *Config, db *store.DB, lnd Lnd,
	log btclog.Logger, notices *notices) error {

	node := lnd.Node()
	if err := db.Claim(ctx, node.PubKey); err != nil {
		return fmt.Errorf("%s: %w", cfg.databasePath(), err)
	}
	log.Infof("Beside node %v (%s), lnd %s", node.PubKey, node.Alias,
		node.LndVersion)

	warnings, err := bakeMacaroons(ctx, lnd, cfg)
	if err != nil {
		return err
	}
	notices.add(warnings...)

	return nil
}

// listen opens both listeners of the API, or none.
func listen(ctx context.Context, cfg *Config, tlsCfg *tls.Config) (*Listeners,
	error) {

	rpc, err := listenOn(ctx, cfg.RPCListen, withProtocol(tlsCfg, "h2"))
	if err != nil {
		return nil, fmt.Errorf("rpclisten: %w", err)
	}

	rest, err := listenOn(
		ctx, cfg.RESTListen, withProtocol(tlsCfg, "http/1.1"),
	)
	if err != nil {
		return nil, errors.Join(
			fmt.Errorf("restlisten: %w", err), rpc.Close(),
		)
	}

	return &Listeners{GRPC: rpc, REST: rest}, nil
}

// listenOn opens a listener that speaks TLS.
func listenOn(ctx context.Context, addr string, tlsCfg *tls.Config) (
	net.Listener, error) {

	target, err := parseListen(addr)
	if err != nil {
		return nil, err
	}

	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, target[0], target[1])
	if err != nil {
		return nil, err
	}

	return tls.NewListener(lis, tlsCfg), nil
}
