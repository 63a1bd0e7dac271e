package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// errOtherBytes means that a stream is not what was sent.
var errOtherBytes = errors.New("other bytes came out")

// current is a stream that flows from one caller to another, all the while.
type current struct {
	stop   atomic.Bool
	passed atomic.Int64
	done   chan error
}

// pour lets a stream flow.
func pour(from, to *caller, seed byte) *current {
	c := &current{done: make(chan error, 2)}
	go func() {
		bytes, chunk := stream(seed), make([]byte, 1<<20)
		for !c.stop.Load() {
			_, _ = io.ReadFull(bytes, chunk)
			if _, err := from.Write(chunk); err != nil {
				c.done <- err

				return
			}
		}
		c.done <- from.CloseWrite()
	}()
	go func() {
		c.done <- c.check(to, seed)
	}()

	return c
}

// check reads the stream to its end.
func (c *current) check(to io.Reader, seed byte) error {
	want, bytes := make([]byte, 1<<20), stream(seed)
	for got := make([]byte, len(want)); ; {
		n, err := io.ReadFull(to, got)
		_, _ = io.ReadFull(bytes, want[:n])
		if string(got[:n]) != string(want[:n]) {
			return fmt.Errorf("after %d bytes: %w",
				c.passed.Load(), errOtherBytes)
		}
		c.passed.Add(int64(n))

		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil

		default:
			return err
		}
	}
}

// requirePasses waits until so many more bytes have passed.
func (c *current) requirePasses(t *testing.T, count int64) {
	t.Helper()

	before := c.passed.Load()
	require.Eventually(t, func() bool {
		return c.passed.Load() >= before+count
	}, limit, tick)
}

// requireEnd ends streams, cleanly.
func requireEnd(t *testing.T, currents ...*current) {
	t.Helper()

	for _, c := range currents {
		c.stop.Store(true)
	}
	for _, c := range currents {
		for range cap(c.done) {
			require.NoError(t, <-c.done)
		}
	}
}

// exhaust opens files until the system gives no more, and returns what closes
// them.
func exhaust(t *testing.T) func() {
	t.Helper()

	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))

	// No more than there are, and then those that were given back.
	few := unix.Rlimit{Cur: uint64(openFiles()), Max: old.Max}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))

	var files []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			require.ErrorIs(t, err, unix.EMFILE)

			break
		}
		files = append(files, file)
	}

	return func() {
		for _, file := range files {
			require.NoError(t, file.Close())
		}
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	}
}

// TestTCPDescriptors takes all descriptors away while pairs flow. They go on,
// also those that flow for the first time. New connections wait until there are
// descriptors again.
func TestTCPDescriptors(t *testing.T) {
	t.Parallel()

	if !inChild(t) {
		return
	}

	w := newWorld(t, nil)
	checkInnocent := w.innocent()
	s := w.openTCP()

	a, b := callBoth(t, s)
	first := pour(a, b, 1)
	first.requirePasses(t, 20<<20)
	c, d := callBoth(t, s)

	// The system does not open a socket for a new client either.
	late := [2]int{rawSocket(t), rawSocket(t)}

	release := exhaust(t)
	first.requirePasses(t, 20<<20)
	second, third := pour(c, d, 2), pour(d, c, 3)
	second.requirePasses(t, 20<<20)
	third.requirePasses(t, 20<<20)

	for i, fd := range late {
		require.NoError(t, unix.Connect(fd, &unix.SockaddrInet4{
			Port: int(s.Port(Leg1 + Leg(i))),
			Addr: loopback4.As4(),
		}))
		_, err := unix.Write(fd, []byte("early"))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		stats := s.Stats()

		return stats.Leg1.Drops[DropLimit] == 1 &&
			stats.Leg2.Drops[DropLimit] == 1
	}, limit, tick)
	first.requirePasses(t, 1<<20)
	require.EqualValues(t, 2, s.Stats().Leg1.Accepted)

	release()
	for _, fd := range late {
		got := make([]byte, 5)
		_, err := unix.Read(fd, got)
		require.NoError(t, err)
		require.Equal(t, "early", string(got))
		require.NoError(t, unix.Close(fd))
	}

	for _, current := range []*current{first, second, third} {
		current.requirePasses(t, 20<<20)
	}
	requireEnd(t, first, second, third)
	b.halfClose()
	a.hearEnd()
	waitClosed(t, s)
	checkInnocent()

	for _, leg := range []Leg{Leg1, Leg2} {
		stats := legStats(s, leg)
		require.EqualValues(t, 3, stats.Accepted)
		require.Zero(t, stats.Resets)
		requireDrops(t, s, leg, drops{
			DropLimit: stats.Drops[DropLimit],
		})
	}
}

// rawSocket opens a socket that is not connected, whose calls wait for some
// time at most.
func rawSocket(t *testing.T) int {
	t.Helper()

	fd, err := unix.Socket(
		unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0,
	)
	require.NoError(t, err)
	wait := unix.NsecToTimeval(limit.Nanoseconds())
	require.NoError(t, unix.SetsockoptTimeval(
		fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait,
	))

	return fd
}

// TestTCPFlood lets strangers and clients connect to every port at once. Each
// leg takes one client, and of that no more connections than it may.
func TestTCPFlood(t *testing.T) {
	const sockets, strangers, maxWaiting = 4, 40, 5

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxWaiting = maxWaiting
	})
	require.NoError(t, w.openTCP().Close())
	files := openFiles()
	checkInnocent := w.innocent()

	var all []*Socket
	for range sockets {
		all = append(all, w.openTCP())
	}

	var (
		group sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	for i := range strangers {
		group.Go(func() {
			from := local4(1, byte(i))
			for _, s := range all {
				for _, leg := range []Leg{Leg1, Leg2} {
					conn, err := tryCall(from, s.Port(leg))
					if err != nil {
						continue
					}

					mu.Lock()
					conns = append(conns, conn)
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()

	for _, s := range all {
		for _, leg := range []Leg{Leg1, Leg2} {
			waitDrops(t, s, leg, DropStranger, strangers-1)
			waitConns(t, s, leg, connStats{accepted: 1, open: 1})
		}
	}

	// The client itself.
	s := all[0]
	client := s.Stats().Leg1.Client.Addr()
	for range strangers {
		conn, err := tryCall(client, s.Port(Leg1))
		if err == nil {
			conns = append(conns, conn)
		}
	}
	require.Eventually(t, func() bool {
		return s.Stats().Leg1.Drops[DropLimit] == strangers-maxWaiting
	}, limit, tick)
	waitConns(t, s, Leg1, connStats{
		accepted: 1 + maxWaiting, open: 1 + maxWaiting,
		waiting: maxWaiting,
	})

	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	for _, s := range all {
		waitClosed(t, s)
		require.NoError(t, s.Close())
	}
	checkInnocent()
	require.Zero(t, w.conns.Load())
	require.Equal(t, files, openFiles())
}
