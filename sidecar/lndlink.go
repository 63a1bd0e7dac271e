package sidecar

import (
	"context"
	"fmt"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errNotReached is what calls of lnd end with before it was reached for the
// first time.
var errNotReached = status.Error(
	codes.Unavailable, "lnd has not been reached since socketd started",
)

// lndLink is the Lnd of a node that need not be there yet: socketd starts
// without it, and goes on with it.
type lndLink struct {
	// What follows is immutable.

	cfg *Config
	log btclog.Logger

	// before is the node as it is known before it was reached.
	before NodeInfo

	// admit is called with the connection before others use it. If it
	// fails nobody does.
	admit func(ctx context.Context, lnd Lnd) error

	// ready is closed when there is a connection.
	ready chan struct{}

	// conn is the connection. It is set before ready is closed, and read
	// after.
	conn *lndConn
}

// A compile-time check that lndLink is what the server needs.
var _ Lnd = (*lndLink)(nil)

// newLndLink returns a link to a node of which the public key is known.
func newLndLink(cfg *Config, node offer.PubKey, log btclog.Logger,
	admit func(context.Context, Lnd) error) *lndLink {

	return &lndLink{
		cfg:    cfg,
		log:    log,
		before: NodeInfo{PubKey: node, Network: cfg.Network},
		admit:  admit,
		ready:  make(chan struct{}),
	}
}

// Run connects to lnd, waiting as long as it is not there, and keeps the
// connection until ctx is done. It returns early with what waiting does not
// mend.
func (l *lndLink) Run(ctx context.Context) error {
	conn, err := connectLnd(ctx, l.cfg, l.log)
	if err != nil {
		return ignoreDone(ctx, err)
	}
	defer conn.close()

	if err := l.admit(ctx, conn); err != nil {
		return ignoreDone(ctx, err)
	}
	l.conn = conn
	close(l.ready)
	<-ctx.Done()

	return nil
}

// get returns the connection, or the status that a call ends with.
func (l *lndLink) get() (*lndConn, error) {
	select {
	case <-l.ready:
		return l.conn, nil

	default:
		return nil, errNotReached
	}
}

// Node describes the node. Before it was reached only its key is known.
func (l *lndLink) Node() NodeInfo {
	conn, err := l.get()
	if err != nil {
		return l.before
	}

	return conn.Node()
}

// Ping returns nil if lnd answers calls. It waits until lnd was reached for the
// first time.
func (l *lndLink) Ping(ctx context.Context) error {
	select {
	case <-l.ready:
		return l.conn.Ping(ctx)

	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errNotReached, ctx.Err())
	}
}

// CheckMacaroon asks lnd about a macaroon.
func (l *lndLink) CheckMacaroon(ctx context.Context, mac []byte,
	perm socketrpc.Permission, fullMethod string) error {

	conn, err := l.get()
	if err != nil {
		return err
	}

	return conn.CheckMacaroon(ctx, mac, perm, fullMethod)
}

// Send hands a custom message to lnd.
func (l *lndLink) Send(ctx context.Context, peer offer.PubKey, msgType uint16,
	body []byte) error {

	conn, err := l.get()
	if err != nil {
		return err
	}

	return conn.Send(ctx, peer, msgType, body)
}

// Subscribe streams the custom messages of all peers.
func (l *lndLink) Subscribe(ctx context.Context) (<-chan Message, <-chan error,
	error) {

	conn, err := l.get()
	if err != nil {
		return nil, nil, err
	}

	return conn.Subscribe(ctx)
}

// BakeMacaroon makes a macaroon that holds external permissions.
func (l *lndLink) BakeMacaroon(ctx context.Context,
	perms []socketrpc.Permission, rootKeyID uint64) ([]byte, error) {

	conn, err := l.get()
	if err != nil {
		return nil, err
	}

	return conn.BakeMacaroon(ctx, perms, rootKeyID)
}
