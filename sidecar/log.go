package sidecar

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/btcsuite/btclog/v2"
	"github.com/lightninglabs/lndclient"
	"github.com/lightningnetwork/lnd/build"
	"google.golang.org/grpc/grpclog"
)

// The subsystems that --debuglevel knows.
const (
	subsystemDaemon    = "SCKD"
	subsystemRPC       = "RPCS"
	subsystemRelay     = "RELY"
	subsystemOffer     = "OFFR"
	subsystemStore     = "STOR"
	subsystemLndClient = "LNDC"
	subsystemGRPC      = "GRPC"
)

// Loggers holds one logger for each subsystem.
type Loggers struct {
	Daemon btclog.Logger
	RPC    *slog.Logger
	Relay  *slog.Logger
	Offer  *slog.Logger
	Store  *slog.Logger
}

// newLoggers makes the loggers of all subsystems, all writing to w, with the
// levels that debugLevel asks for.
func newLoggers(w io.Writer, debugLevel string) (*Loggers, error) {
	var (
		root    = btclog.NewDefaultHandler(w)
		manager = build.NewSubLoggerManager()
	)
	sub := func(subsystem string) (btclog.Logger, *slog.Logger) {
		handler := root.SubSystem(subsystem)
		logger := btclog.NewSLogger(handler)
		manager.RegisterSubLogger(subsystem, logger)

		return logger, slog.New(handler)
	}

	logs := &Loggers{}
	logs.Daemon, _ = sub(subsystemDaemon)
	_, logs.RPC = sub(subsystemRPC)
	_, logs.Relay = sub(subsystemRelay)
	_, logs.Offer = sub(subsystemOffer)
	_, logs.Store = sub(subsystemStore)

	// These two libraries log through package variables.
	lndLog, _ := sub(subsystemLndClient)
	lndclient.UseLogger(lndLog)
	grpcLog, _ := sub(subsystemGRPC)
	grpclog.SetLoggerV2(grpcLogger{grpcLog})

	err := build.ParseAndSetDebugLevels(debugLevel, manager)
	if err != nil {
		return nil, fmt.Errorf("debuglevel: %w", err)
	}

	return logs, nil
}

// openLog opens the rotated log file and returns a writer to it and to stdout,
// and what closes the file.
func openLog(cfg *Config) (io.Writer, func() error, error) {
	file := build.NewRotatingLogWriter()
	fileCfg := build.DefaultLogConfig().File
	fileCfg.MaxLogFiles = cfg.MaxLogFiles
	fileCfg.MaxLogFileSize = cfg.MaxLogSize

	path := filepath.Join(cfg.networkDir(), logDirname, logFilename)
	if err := file.InitLogRotator(fileCfg, path); err != nil {
		return nil, nil, fmt.Errorf("log file: %w", err)
	}

	return io.MultiWriter(os.Stdout, file), file.Close, nil
}

// grpcLogger passes what gRPC logs to a subsystem, all of it at debug level or
// below: an outsider can cause most of it.
type grpcLogger struct {
	log btclog.Logger
}

// Info logs at trace level.
func (g grpcLogger) Info(args ...any) { g.log.Trace(args...) }

// Infoln logs at trace level.
func (g grpcLogger) Infoln(args ...any) { g.log.Trace(args...) }

// Infof logs at trace level.
func (g grpcLogger) Infof(format string, args ...any) {
	g.log.Tracef(format, args...)
}

// Warning logs at debug level.
func (g grpcLogger) Warning(args ...any) { g.log.Debug(args...) }

// Warningln logs at debug level.
func (g grpcLogger) Warningln(args ...any) { g.log.Debug(args...) }

// Warningf logs at debug level.
func (g grpcLogger) Warningf(format string, args ...any) {
	g.log.Debugf(format, args...)
}

// Error logs at debug level.
func (g grpcLogger) Error(args ...any) { g.log.Debug(args...) }

// Errorln logs at debug level.
func (g grpcLogger) Errorln(args ...any) { g.log.Debug(args...) }

// Errorf logs at debug level.
func (g grpcLogger) Errorf(format string, args ...any) {
	g.log.Debugf(format, args...)
}

// Fatal logs at critical level.
func (g grpcLogger) Fatal(args ...any) { g.log.Critical(args...) }

// Fatalln logs at critical level.
func (g grpcLogger) Fatalln(args ...any) { g.log.Critical(args...) }

// Fatalf logs at critical level.
func (g grpcLogger) Fatalf(format string, args ...any) {
	g.log.Criticalf(format, args...)
}

// V tells whether messages of a verbosity are wanted.
func (g grpcLogger) V(int) bool { return g.log.Level() <= btclog.LevelTrace }

// logStart is the first line of every run.
func logStart(ctx context.Context, log btclog.Logger, cfg *Config) {
	log.InfoS(ctx, "socketd starts", "version", Version(),
		"network", cfg.Network, "dir", cfg.networkDir())
}
