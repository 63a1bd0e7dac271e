package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// callTimeout is how long a unary call may take.
const callTimeout = 30 * time.Second

// bakeLine is how to make the macaroon that socketcli asks for.
const bakeLine = "lncli bakemacaroon --allow_external_permissions " +
	"--root_key_id 50501 --save_to %s socket:read socket:write"

// client is a connection to socketd.
type client struct {
	socketrpc.SocketClient

	conn *grpc.ClientConn
	addr string
}

// connect makes the connection that the global flags of cmd describe. The
// first call opens it; close must be called in any case.
func connect(cmd *cli.Command) (*client, error) {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return nil, err
	}

	c := &client{addr: cfg.rpcServer}

	c.conn, err = socketrpc.Dial(
		cfg.rpcServer, cfg.tlsCertPath, cfg.macaroonPath,
		grpc.WithUnaryInterceptor(c.unary),
		grpc.WithStatsHandler(answerWatch{}),
	)
	if err != nil {
		return nil, explainDial(cfg, err)
	}
	c.SocketClient = socketrpc.NewSocketClient(c.conn)

	return c, nil
}

// close ends the connection. An error could only say that it was closed
// before.
func (c *client) close() {
	_ = c.conn.Close()
}

// unary is the interceptor of every unary call. It limits the time of the call
// and explains its error.
func (c *client) unary(ctx context.Context, method string, req, reply any,
	conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	// The limit is for the whole call, connecting included.
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	ctx, answered := watchAnswer(ctx)
	err := invoke(ctx, method, req, reply, conn, opts...)

	return c.explain(ctx, err, answered.Load())
}

// explainDial says in words why Dial refused cfg.
func explainDial(cfg *config, err error) error {
	var file *fs.PathError
	isFile := errors.As(err, &file)

	switch {
	case errors.Is(err, socketrpc.ErrMacaroon):
		return fmt.Errorf("%w; set --macaroonpath, or bake one: "+
			bakeLine, err, cfg.macaroonPath)

	case isFile && file.Path == cfg.tlsCertPath:
		return fmt.Errorf("%w; socketd writes it when it starts; set "+
			"--tlscertpath, or --socketdir and --network", err)

	case isFile && file.Path == cfg.macaroonPath:
		return fmt.Errorf("%w; set --macaroonpath, or --socketdir and "+
			"--network, or bake one: "+bakeLine, err,
			cfg.macaroonPath)

	default:
		return fmt.Errorf("cannot connect to %s (--rpcserver) with "+
			"the certificate %s (--tlscertpath): %w",
			cfg.rpcServer, cfg.tlsCertPath, err)
	}
}

// answeredKey is the key of a call's answered mark in its context.
type answeredKey struct{}

// watchAnswer returns a context for a call, and a mark that is set once the
// server itself has ended the call. It tells a status that socketd sent from
// one that gRPC made up because it did not reach socketd.
func watchAnswer(ctx context.Context) (context.Context, *atomic.Bool) {
	answered := new(atomic.Bool)

	return context.WithValue(ctx, answeredKey{}, answered), answered
}

// answerWatch is the stats handler that sets the marks of watchAnswer: a
// server's status comes in a trailer.
type answerWatch struct{}

// TagRPC returns the context unchanged.
func (answerWatch) TagRPC(ctx context.Context,
	_ *stats.RPCTagInfo) context.Context {
	// The call has put its mark there itself.
	return ctx
}

// HandleRPC sets the mark of a call that the server ended.
func (answerWatch) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if _, ok := event.(*stats.InTrailer); !ok {
		return
	}

	if answered, ok := ctx.Value(answeredKey{}).(*atomic.Bool); ok {
		answered.Store(true)
	}
}

// TagConn returns the context unchanged.
func (answerWatch) TagConn(ctx context.Context,
	_ *stats.ConnTagInfo) context.Context {
	// Only calls matter here, not connections.
	return ctx
}

// HandleConn does nothing.
func (answerWatch) HandleConn(context.Context, stats.ConnStats) {}
