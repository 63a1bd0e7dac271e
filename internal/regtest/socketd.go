package regtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc"
)

// SocketdRootKeyID is the root key id of lnd under which the macaroon is baked
// that socketd uses towards lnd. It is not the one of socketd's own macaroons,
// so that either can be revoked without the other.
const SocketdRootKeyID = 50500

// The lines in which socketd tells its addresses and that it is ready.
var (
	socketdRPCLine   = regexp.MustCompile(`gRPC server listening on (\S+)$`)
	socketdRESTLine  = regexp.MustCompile(`REST server listening on (\S+)$`)
	socketdReadyLine = regexp.MustCompile(`(?:^|\s)Ready$`)
)

// SocketdLndPermissions returns the permissions of the exact macaroon that
// socketd needs from lnd: those of the methods that it calls. It is what
// socketd documents, which an integration test compares.
func SocketdLndPermissions() []string {
	return []string{
		"uri:/lnrpc.Lightning/GetInfo",
		"uri:/verrpc.Versioner/GetVersion",
		"uri:/lnrpc.Lightning/CheckMacaroonPermissions",
		"uri:/lnrpc.Lightning/SendCustomMessage",
		"uri:/lnrpc.Lightning/SubscribeCustomMessages",
		"uri:/lnrpc.Lightning/GetNodeInfo",
		"uri:/lnrpc.Lightning/ConnectPeer",
		"uri:/lnrpc.Lightning/SubscribePeerEvents",
		"uri:/lnrpc.Lightning/ListPeers",
		"uri:/lnrpc.Lightning/ListChannels",

		// This one lets socketd bake macaroons for its own clients.
		"uri:/lnrpc.Lightning/BakeMacaroon",
	}
}

// SocketdConfig says how to run a socketd.
type SocketdConfig struct {
	// Name is what errors call it.
	Name string

	// BinDir holds the program, socketd.
	BinDir string

	// Dir takes everything that it writes.
	Dir string

	// LndAddr is the host:port of lnd's gRPC, LndTLSPath the file with
	// lnd's certificate, and LndMacaroonPath the one with the macaroon to
	// use there.
	LndAddr         string
	LndTLSPath      string
	LndMacaroonPath string

	// Args are further options.
	Args []string
}

// Socketd is a running socketd. Its methods may be called from any goroutine,
// but only one that starts or stops it at a time.
type Socketd struct {
	daemon

	cfg SocketdConfig

	// The addresses are set by the first start and stay.
	rpcAddr  string
	restAddr string
}

// StartSocketd starts a socketd and waits until every method works. The
// context bounds the start, not the life of the process: that takes a Stop.
func StartSocketd(ctx context.Context, cfg SocketdConfig) (*Socketd, error) {
	s := NewSocketd(cfg)
	if err := s.Start(ctx); err != nil {
		return nil, err
	}

	return s, nil
}

// NewSocketd returns a socketd that is not started yet.
func NewSocketd(cfg SocketdConfig) *Socketd {
	return &Socketd{
		daemon: daemon{
			name: "socketd " + cfg.Name,
			path: filepath.Join(cfg.BinDir, "socketd"),
			dir:  cfg.Dir,
		},
		cfg:      cfg,
		rpcAddr:  loopback,
		restAddr: loopback,
	}
}

// Launch starts the process and does not wait for anything. It is for a
// socketd that cannot become ready; what it prints can be waited for.
func (s *Socketd) Launch(ctx context.Context) (*Process, error) {
	args := []string{
		"--socketdir=" + s.cfg.Dir,
		"--network=regtest",
		"--lnd.host=" + s.cfg.LndAddr,
		"--lnd.tlspath=" + s.cfg.LndTLSPath,
		"--lnd.macaroonpath=" + s.cfg.LndMacaroonPath,
		"--rpclisten=" + s.rpcAddr,
		"--restlisten=" + s.restAddr,
		"--debuglevel=debug",
	}

	return s.start(ctx, append(args, s.cfg.Args...))
}

// Start starts the process, under the addresses that it had if it ran before,
// and waits until every method works. If that fails nothing is left running.
func (s *Socketd) Start(ctx context.Context) error {
	proc, err := s.Launch(ctx)
	if err != nil {
		return err
	}

	if err := s.awaitReady(ctx, proc); err != nil {
		proc.Kill()

		return fmt.Errorf("start %s: %w", s.name, err)
	}

	return nil
}

// awaitReady learns the addresses and waits until every method works.
func (s *Socketd) awaitReady(ctx context.Context, proc *Process) error {
	for line, addr := range map[*regexp.Regexp]*string{
		socketdRPCLine:  &s.rpcAddr,
		socketdRESTLine: &s.restAddr,
	} {
		match, err := proc.WaitLine(ctx, line)
		if err != nil {
			return err
		}
		*addr = match[1]
	}

	_, err := proc.WaitLine(ctx, socketdReadyLine)

	return err
}

// Stop stops socketd in order. Calling it again returns the same.
func (s *Socketd) Stop() error {
	return s.stop()
}

// Kill ends socketd at once.
func (s *Socketd) Kill() {
	s.kill()
}

// Restart stops socketd and starts it again.
func (s *Socketd) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}

	return s.Start(ctx)
}

// RPCAddr returns the host:port of gRPC.
func (s *Socketd) RPCAddr() string {
	return s.rpcAddr
}

// RESTAddr returns the host:port of REST and the WebSockets.
func (s *Socketd) RESTAddr() string {
	return s.restAddr
}

// Dir returns the directory given as --socketdir.
func (s *Socketd) Dir() string {
	return s.cfg.Dir
}

// file returns the path of one of the files of its network.
func (s *Socketd) file(name ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir, "regtest"}, name...)...)
}

// TLSCertPath returns the file that holds its certificate.
func (s *Socketd) TLSCertPath() string {
	return s.file("tls.cert")
}

// TLSKeyPath returns the file that holds its key.
func (s *Socketd) TLSKeyPath() string {
	return s.file("tls.key")
}

// MacaroonPath returns the file that holds its macaroon for everything.
func (s *Socketd) MacaroonPath() string {
	return s.file("socket.macaroon")
}

// ReadonlyMacaroonPath returns the file that holds its macaroon for reading.
func (s *Socketd) ReadonlyMacaroonPath() string {
	return s.file("readonly.macaroon")
}

// LogPath returns its log file.
func (s *Socketd) LogPath() string {
	return s.file("logs", "socketd.log")
}

// Dial makes a connection to its gRPC with its own macaroon. The caller closes
// it.
func (s *Socketd) Dial(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return socketrpc.Dial(
		s.rpcAddr, s.TLSCertPath(), s.MacaroonPath(), opts...,
	)
}

// CLIArgs returns the options with which socketcli reaches it.
func (s *Socketd) CLIArgs() []string {
	return []string{
		"--network=regtest",
		"--socketdir=" + s.cfg.Dir,
		"--rpcserver=" + s.rpcAddr,
	}
}

// BakeSocketdMacaroon bakes the macaroon that socketd uses towards the node and
// writes it to a file that only its owner can read. A file that was there is
// replaced.
func (l *Lnd) BakeSocketdMacaroon(ctx context.Context, path string,
	perms []string) error {

	mac, err := l.BakeMacaroon(
		ctx, slices.Clone(perms), SocketdRootKeyID, false,
	)
	if err != nil {
		return err
	}

	if err := os.WriteFile(path, mac, fileMode); err != nil {
		return fmt.Errorf("write macaroon for socketd: %w", err)
	}

	return nil
}
