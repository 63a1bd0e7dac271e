package regtest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/lightningnetwork/lnd/lnrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// The lines in which lnd tells its addresses.
var (
	lndRPCLine  = regexp.MustCompile(`RPC server listening on (\S+)$`)
	lndRESTLine = regexp.MustCompile(`gRPC proxy started at (\S+)$`)
	lndP2PLine  = regexp.MustCompile(`CMGR: Server listening on (\S+)$`)
)

// LndConfig says how to run an lnd.
type LndConfig struct {
	// Name is the node's alias, and what errors call it.
	Name string

	// BinDir holds the program, lnd.
	BinDir string

	// Dir takes everything that the node writes. A directory that was used
	// before gives the same node again.
	Dir string

	// Backend is the node's chain; nil for a node without one, which knows
	// peers, messages and macaroons, and never says that it is synced.
	Backend *Backend

	// NoMacaroons turns authentication off.
	NoMacaroons bool

	// Args are further options.
	Args []string
}

// Lnd is an lnd node. Its methods may be called from any goroutine, but only
// one that starts or stops the node at a time.
type Lnd struct {
	daemon

	cfg LndConfig

	// The addresses and the public key are set by the first start and stay.
	rpcAddr  string
	restAddr string
	p2pAddr  string
	pubKey   string

	// conn is the connection to the node, and connected says that it is
	// not closed yet. Both are guarded by daemon.mu.
	conn      *grpc.ClientConn
	connected bool
}

// StartLnd starts an lnd and waits until it takes calls. The context bounds
// the start, not the life of the node: that takes a Stop.
func StartLnd(ctx context.Context, cfg LndConfig) (*Lnd, error) {
	l := &Lnd{
		daemon: daemon{
			name: "lnd " + cfg.Name,
			path: filepath.Join(cfg.BinDir, "lnd"),
			dir:  cfg.Dir,
		},
		cfg:      cfg,
		rpcAddr:  loopback,
		restAddr: loopback,
		p2pAddr:  loopback,
	}

	if err := l.Start(ctx); err != nil {
		return nil, err
	}

	return l, nil
}

// Start starts the node again after Stop or Kill, under the addresses that it
// had, and waits until it takes calls. If that fails nothing is left running.
// Connections from before are of no use: ask for a new one.
func (l *Lnd) Start(ctx context.Context) error {
	proc, err := l.start(ctx, l.args())
	if err != nil {
		return err
	}

	if err := l.awaitReady(ctx, proc); err != nil {
		proc.Kill()

		return fmt.Errorf("start %s: %w", l.name, err)
	}

	return nil
}

// args returns lnd's command line.
func (l *Lnd) args() []string {
	args := []string{
		"--configfile=" + os.DevNull,
		"--lnddir=" + l.cfg.Dir,
		"--alias=" + l.cfg.Name,
		"--bitcoin.regtest",
		"--noseedbackup",
		"--nobootstrap",
		"--listen=" + l.p2pAddr,
		"--rpclisten=" + l.rpcAddr,
		"--restlisten=" + l.restAddr,
	}

	if l.cfg.Backend == nil {
		args = append(args, "--bitcoin.node=nochainbackend")
	} else {
		args = append(args, l.cfg.Backend.lndArgs()...)
	}

	if l.cfg.NoMacaroons {
		args = append(args, "--no-macaroons")
	}

	return append(args, l.cfg.Args...)
}

// awaitReady waits until the node takes every call, learns its addresses and
// its key, and connects to it.
func (l *Lnd) awaitReady(ctx context.Context, proc *Process) error {
	ctx, release := withProcess(ctx, proc)
	defer release()

	for line, addr := range map[*regexp.Regexp]*string{
		lndRPCLine:  &l.rpcAddr,
		lndRESTLine: &l.restAddr,
	} {
		match, err := proc.WaitLine(ctx, line)
		if err != nil {
			return err
		}
		*addr = match[1]
	}

	if err := l.awaitActive(ctx); err != nil {
		return withCause(ctx, err)
	}

	// The line was printed before the server became active.
	match, err := proc.WaitLine(ctx, lndP2PLine)
	if err != nil {
		return err
	}
	l.p2pAddr = match[1]

	conn, err := l.dial(true)
	if err != nil {
		return err
	}

	info, err := lnrpc.NewLightningClient(conn).GetInfo(
		ctx, &lnrpc.GetInfoRequest{},
	)
	if err != nil {
		return errors.Join(withCause(ctx, err), conn.Close())
	}
	l.pubKey = info.IdentityPubkey

	l.mu.Lock()
	l.conn, l.connected = conn, true
	l.mu.Unlock()

	return nil
}

// awaitActive waits until the state service says that the server is active.
func (l *Lnd) awaitActive(ctx context.Context) (err error) {
	// The state service takes no macaroon, and there is none yet.
	conn, err := l.dial(false)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, conn.Close())
	}()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	stream, err := lnrpc.NewStateClient(conn).SubscribeState(
		ctx, &lnrpc.SubscribeStateRequest{}, grpc.WaitForReady(true),
	)
	if err != nil {
		return fmt.Errorf("subscribe to state: %w", err)
	}

	for {
		resp, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("wait for active server: %w", err)
		}

		if resp.State == lnrpc.WalletState_SERVER_ACTIVE {
			return nil
		}
	}
}

// dial makes a connection to the node, with the admin macaroon or without one.
func (l *Lnd) dial(withMacaroon bool) (*grpc.ClientConn, error) {
	creds, err := credentials.NewClientTLSFromFile(l.TLSCertPath(), "")
	if err != nil {
		return nil, fmt.Errorf("read TLS certificate: %w", err)
	}
	opts := []grpc.DialOption{grpc.WithTransportCredentials(creds)}

	if withMacaroon && !l.cfg.NoMacaroons {
		mac, err := os.ReadFile(l.AdminMacaroonPath())
		if err != nil {
			return nil, fmt.Errorf("read admin macaroon: %w", err)
		}

		opts = append(opts, grpc.WithPerRPCCredentials(
			macaroonCredential(hex.EncodeToString(mac)),
		))
	}

	conn, err := grpc.NewClient(l.rpcAddr, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", l.name, err)
	}

	return conn, nil
}

// Stop stops the node in order and closes the connection to it. Calling it
// again returns the same.
func (l *Lnd) Stop() error {
	return errors.Join(l.closeConn(), l.stop())
}

// Kill ends the node at once.
func (l *Lnd) Kill() error {
	err := l.closeConn()
	l.kill()

	return err
}

// Restart stops the node and starts it again.
func (l *Lnd) Restart(ctx context.Context) error {
	if err := l.Stop(); err != nil {
		return err
	}

	return l.Start(ctx)
}

func (l *Lnd) closeConn() error {
	l.mu.Lock()
	conn, connected := l.conn, l.connected
	l.connected = false
	l.mu.Unlock()

	if !connected {
		return nil
	}

	return conn.Close()
}

// Conn returns the connection to the node, which carries the admin macaroon.
// It belongs to the node: Stop closes it, and its calls fail from then on.
func (l *Lnd) Conn() *grpc.ClientConn {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.conn
}

// Client returns lnd's main service on Conn.
func (l *Lnd) Client() lnrpc.LightningClient {
	return lnrpc.NewLightningClient(l.Conn())
}

// PubKey returns the node's public key: 66 hex digits.
func (l *Lnd) PubKey() string {
	return l.pubKey
}

// P2PAddr returns the host:port at which peers reach the node.
func (l *Lnd) P2PAddr() string {
	return l.p2pAddr
}

// RPCAddr returns the host:port of gRPC.
func (l *Lnd) RPCAddr() string {
	return l.rpcAddr
}

// RESTAddr returns the host:port of REST.
func (l *Lnd) RESTAddr() string {
	return l.restAddr
}

// Dir returns the directory that holds everything of the node.
func (l *Lnd) Dir() string {
	return l.dir
}

// TLSCertPath returns the file that holds the node's certificate.
func (l *Lnd) TLSCertPath() string {
	return filepath.Join(l.cfg.Dir, "tls.cert")
}

// AdminMacaroonPath returns the file that holds the admin macaroon. There is
// none for a node without macaroons.
func (l *Lnd) AdminMacaroonPath() string {
	return filepath.Join(
		l.cfg.Dir, "data", "chain", "bitcoin", "regtest",
		"admin.macaroon",
	)
}

// CLIArgs returns the options with which lncli reaches the node.
func (l *Lnd) CLIArgs() []string {
	args := []string{
		"--network=regtest",
		"--lnddir=" + l.cfg.Dir,
		"--rpcserver=" + l.rpcAddr,
	}
	if l.cfg.NoMacaroons {
		args = append(args, "--no-macaroons")
	}

	return args
}

// BakeMacaroon bakes a macaroon and returns it in its binary form. Each
// permission is "entity:action" or "uri:/package.Service/Method". Under root
// key id 0 it could never be revoked. Permissions that are not lnd's own need
// allowExternal.
func (l *Lnd) BakeMacaroon(ctx context.Context, perms []string,
	rootKeyID uint64, allowExternal bool) ([]byte, error) {

	req := &lnrpc.BakeMacaroonRequest{
		RootKeyId:                rootKeyID,
		AllowExternalPermissions: allowExternal,
	}
	for _, perm := range perms {
		entity, action, ok := strings.Cut(perm, ":")
		if !ok {
			return nil, fmt.Errorf("bake macaroon: permission "+
				"%q is not entity:action", perm)
		}

		req.Permissions = append(
			req.Permissions, &lnrpc.MacaroonPermission{
				Entity: entity,
				Action: action,
			},
		)
	}

	resp, err := l.Client().BakeMacaroon(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("bake macaroon: %w", err)
	}

	mac, err := hex.DecodeString(resp.Macaroon)
	if err != nil {
		return nil, fmt.Errorf("bake macaroon: %w", err)
	}

	return mac, nil
}

// withCause adds to an error why its context ended, if that says more than the
// error itself.
func withCause(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}

	return fmt.Errorf("%w: %w", err, cause)
}

// macaroonCredential adds a macaroon, in hex, to every call of a connection.
type macaroonCredential string

// GetRequestMetadata returns the metadata that carries the macaroon.
func (m macaroonCredential) GetRequestMetadata(context.Context,
	...string) (map[string]string, error) {

	return map[string]string{"macaroon": string(m)}, nil
}

// RequireTransportSecurity keeps the macaroon off connections without TLS.
func (m macaroonCredential) RequireTransportSecurity() bool {
	return true
}
