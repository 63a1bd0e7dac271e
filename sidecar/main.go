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

	"github.com/jessevdk/go-flags"
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

// runLogged connects to lnd, opens the listeners and serves until ctx is done.
func runLogged(ctx context.Context, cfg *Config, logs *Loggers) error {
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

	lnd, err := connectLnd(ctx, cfg, logs.Daemon)
	if err != nil {
		return err
	}
	defer lnd.close()

	warnings, err := bakeMacaroons(ctx, lnd, cfg)
	if err != nil {
		return err
	}
	warnings = append(warnings, room.warnings...)
	if cfg.Lnd.MacaroonPath == cfg.adminMacaroonPath() {
		warnings = append(warnings, "socketd runs on lnd's "+
			"admin.macaroon, which may do anything; bake one that "+
			"holds only what is needed and name it with "+
			"lnd.macaroonpath: "+lndMacaroonLine(
			cfg.Network, cfg.networkDir()+"/lnd.macaroon",
		))
	}
	for _, warning := range warnings {
		logs.Daemon.Warn(warning)
	}

	server, err := NewServer(cfg, lnd, logs, warnings)
	if err != nil {
		return err
	}

	lis, err := listen(ctx, cfg, tlsCfg)
	if err != nil {
		return err
	}
	logs.Daemon.Infof("Beside node %v (%s), lnd %s", lnd.Node().PubKey,
		lnd.Node().Alias, lnd.Node().LndVersion)
	logs.Daemon.Infof("gRPC server listening on %s",
		formatListen(lis.GRPC.Addr()))
	logs.Daemon.Infof("REST server listening on %s",
		formatListen(lis.REST.Addr()))

	return server.Run(ctx, *lis, func() {
		logs.Daemon.Info("Ready")
	})
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
