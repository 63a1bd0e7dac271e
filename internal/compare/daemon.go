package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc"
)

const (
	// daemonPorts are the ports of the daemon's sockets: below coturn's and
	// those that the system gives to clients, and enough that none has to
	// rest.
	daemonPorts = "10000-25999"

	// maxSockets is how many sockets may be open at once.
	maxSockets = 2000

	// openers is how many calls are under way while sockets are opened.
	openers = 8

	// stopLimit is how long the end of a session's sockets may take.
	stopLimit = 10 * time.Second
)

// daemon is the real socketd, beside a real lnd. Its fields are immutable.
type daemon struct {
	socketd *regtest.Socketd
	conn    *grpc.ClientConn

	// guarded says that its sockets have tokens and limits.
	guarded bool
}

// startSocketd starts the daemon on the relay's core: guarded, with limits on
// what all of its sockets pass, or without.
func startSocketd(ctx context.Context, s *stage, guarded bool) (relay, error) {
	if s.lnd == nil {
		if err := s.startLnd(ctx); err != nil {
			return nil, err
		}
	}
	pinned, err := s.pinnedDir()
	if err != nil {
		return nil, err
	}

	dir := s.file("socketd")
	cert, err := s.copyCert(dir)
	if err != nil {
		return nil, err
	}

	socketd, err := regtest.StartSocketd(ctx, regtest.SocketdConfig{
		Name:            "compared",
		BinDir:          pinned,
		Dir:             dir,
		LndAddr:         s.lnd.RPCAddr(),
		LndTLSPath:      cert,
		LndMacaroonPath: s.macaroonFile(),
		Args:            daemonArgs(guarded),
	})
	if err != nil {
		return nil, err
	}

	conn, err := socketd.Dial()
	if err != nil {
		socketd.Kill()

		return nil, err
	}

	return &daemon{socketd: socketd, conn: conn, guarded: guarded}, nil
}

// startLnd starts a node without a chain, and bakes the daemon's macaroon.
func (s *stage) startLnd(ctx context.Context) error {
	lnd, err := regtest.StartLnd(ctx, regtest.LndConfig{
		Name:   "compared",
		BinDir: s.binDir,
		Dir:    filepath.Join(s.dir, "lnd"),
	})
	if err != nil {
		return err
	}

	err = lnd.BakeSocketdMacaroon(
		ctx, s.macaroonFile(), regtest.SocketdLndPermissions(),
	)
	if err != nil {
		return errors.Join(err, lnd.Kill())
	}
	s.lnd = lnd

	return nil
}

// copyCert returns a copy of lnd's certificate that is a daemon's own. Several
// run beside the lnd at once, which they would refuse if they could see it:
// both would answer the same messages. Here nobody sends any.
func (s *stage) copyCert(dir string) (string, error) {
	cert, err := os.ReadFile(s.lnd.TLSCertPath())
	if err != nil {
		return "", err
	}
	path := dir + "-lnd.cert"

	return path, os.WriteFile(path, cert, 0o600)
}

// macaroonFile holds the macaroon that the daemon uses towards lnd.
func (s *stage) macaroonFile() string {
	return filepath.Join(s.dir, "socketd-lnd.macaroon")
}

// stop ends what the contestants shared.
func (s *stage) stop() error {
	if s.lnd == nil {
		return nil
	}

	return s.lnd.Stop()
}

// pinnedDir returns a directory with a socketd that runs on the relay's core.
func (s *stage) pinnedDir() (string, error) {
	dir := filepath.Join(s.dir, "pinned")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}

	var words []string
	for _, word := range s.become(
		relayCore, filepath.Join(s.binDir, "socketd"),
	) {
		words = append(words, shellQuote(word))
	}
	script := "#!/bin/sh\nexec " + strings.Join(words, " ") + " \"$@\"\n"

	//nolint:gosec // The owner has to be able to run it.
	err := os.WriteFile(
		filepath.Join(dir, "socketd"), []byte(script), 0o700,
	)

	return dir, err
}

// shellQuote returns a word as a shell takes it.
func shellQuote(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// open opens n sockets.
func (d *daemon) open(ctx context.Context, tcp bool, n int) (Ends,
	func() error, error) {

	client := socketrpc.NewSocketClient(d.conn)

	ids := make([]string, n)
	ends := Ends{Kind: Socket, Sockets: make([][2]uint16, n)}
	if d.guarded {
		ends.Tokens = make([]Tokens, n)
	}
	err := parallel(n, func(i int) error {
		resp, err := client.StartSocket(ctx, d.request(tcp))
		if err != nil {
			return fmt.Errorf("start a socket: %w", err)
		}

		ids[i] = resp.SocketId
		ends.Sockets[i], err = parsePorts(resp.Port1, resp.Port2)
		if err == nil && d.guarded {
			ends.Tokens[i], err = parseTokens(resp)
		}

		return err
	})

	// The sockets end also if ctx is done.
	release := func() error {
		ctx, cancel := context.WithTimeout(
			context.WithoutCancel(ctx), stopLimit,
		)
		defer cancel()

		checkErr := d.checkLimits(ctx)
		stopErr := parallel(n, func(i int) error {
			if ids[i] == "" {
				return nil
			}
			_, err := client.StopSocket(
				ctx, &socketrpc.StopSocketRequest{
					SocketId: ids[i],
				},
			)

			return err
		})

		return errors.Join(checkErr, stopErr)
	}
	if err != nil {
		return Ends{}, nil, errors.Join(err, release())
	}

	return ends, release, nil
}

// parsePorts reads the ports of a socket.
func parsePorts(port1, port2 string) ([2]uint16, error) {
	var ports [2]uint16
	for i, text := range []string{port1, port2} {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return ports, fmt.Errorf("port of a socket: %w", err)
		}
		ports[i] = uint16(port)
	}

	return ports, nil
}

// parallel calls f for 0 to n-1, a few at the same time, and returns the first
// error.
func parallel(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, openers)
	for worker := range openers {
		wg.Go(func() {
			for i := worker; i < n; i += openers {
				if err := f(i); err != nil {
					errs[worker] = err

					return
				}
			}
		})
	}
	wg.Wait()

	for _, err := range errs {
		if err != nil {
			return err
		}
	}

	return nil
}

// pids returns the daemon's process.
func (d *daemon) pids() []int {
	return []int{d.socketd.Pid()}
}

// stop ends the daemon in order.
func (d *daemon) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()

	return errors.Join(
		d.checkLimits(ctx), d.conn.Close(), d.socketd.Stop(),
	)
}
