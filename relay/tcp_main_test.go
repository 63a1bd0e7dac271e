package relay

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stallTime is how long a connection must take no more bytes to count as
// stalled.
const stallTime = 300 * time.Millisecond

// openTCP opens a TCP socket without limits.
func (w *world) openTCP() *Socket {
	w.t.Helper()

	return w.openWith(Options{Protocol: TCP})
}

// caller is a TCP client of a leg. Every call that waits ends after some time.
type caller struct {
	*net.TCPConn

	t testing.TB
}

// tryCall connects to a port of the relay from the address, over loopback.
func tryCall(from netip.Addr, port uint16) (*net.TCPConn, error) {
	to := loopback4
	if from.Is6() {
		to = loopback6
	}

	conn, err := net.DialTCP(
		"tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
		net.TCPAddrFromAddrPort(netip.AddrPortFrom(to, port)),
	)
	if err != nil {
		return nil, err
	}

	return conn, conn.SetDeadline(time.Now().Add(limit))
}

// callFrom connects to a leg from the address, until the test ends. Whether the
// leg admits it is another matter.
func callFrom(tb testing.TB, from netip.Addr, s *Socket, leg Leg) *caller {
	tb.Helper()

	conn, err := tryCall(from, s.Port(leg))
	require.NoError(tb, err)
	tb.Cleanup(func() {
		_ = conn.Close()
	})

	return &caller{TCPConn: conn, t: tb}
}

// call connects to a leg and waits until it is admitted, so that the next comes
// after it.
func call(tb testing.TB, s *Socket, leg Leg) *caller {
	tb.Helper()

	return callAdmitted(tb, loopback4, s, leg)
}

// callAdmitted is call from an address.
func callAdmitted(tb testing.TB, from netip.Addr, s *Socket, leg Leg) *caller {
	tb.Helper()

	before := legStats(s, leg).Accepted
	c := callFrom(tb, from, s, leg)
	require.Eventually(tb, func() bool {
		return legStats(s, leg).Accepted > before
	}, limit, tick)

	return c
}

// callBoth connects to both legs. The two are a pair if nobody waits.
func callBoth(tb testing.TB, s *Socket) (*caller, *caller) {
	tb.Helper()

	return call(tb, s, Leg1), call(tb, s, Leg2)
}

// callRefused connects to a leg from the address, and is reset.
func callRefused(tb testing.TB, from netip.Addr, s *Socket, leg Leg) {
	tb.Helper()

	require.ErrorIs(tb, tryRefused(from, s, leg), syscall.ECONNRESET)
}

// tryRefused connects to a leg from the address, and returns what ended that.
func tryRefused(from netip.Addr, s *Socket, leg Leg) error {
	// The reset may come before the system has told of the connection.
	conn, err := tryCall(from, s.Port(leg))
	if err != nil {
		return err
	}

	_, err = conn.Read(make([]byte, 1))

	return errors.Join(err, conn.Close())
}

// addr returns the client's source address.
func (c *caller) addr() netip.AddrPort {
	return c.LocalAddr().(*net.TCPAddr).AddrPort()
}

// say sends words.
func (c *caller) say(words string) {
	c.t.Helper()

	_, err := c.Write([]byte(words))
	require.NoError(c.t, err)
}

// hear waits for words and requires them.
func (c *caller) hear(words string) {
	c.t.Helper()

	got := make([]byte, len(words))
	_, err := io.ReadFull(c, got)
	require.NoError(c.t, err)
	require.Equal(c.t, words, string(got))
}

// hearEnd waits for a clean end.
func (c *caller) hearEnd() {
	c.t.Helper()

	n, err := c.Read(make([]byte, 1))
	require.ErrorIs(c.t, err, io.EOF)
	require.Zero(c.t, n)
}

// hearReset waits for a reset, with nothing before it.
func (c *caller) hearReset() {
	c.t.Helper()

	n, err := c.Read(make([]byte, 1))
	require.ErrorIs(c.t, err, syscall.ECONNRESET)
	require.Zero(c.t, n)
}

// hangUp closes the connection, cleanly if nothing is left to read.
func (c *caller) hangUp() {
	c.t.Helper()

	require.NoError(c.t, c.Close())
}

// halfClose tells that nothing more will be said.
func (c *caller) halfClose() {
	c.t.Helper()

	require.NoError(c.t, c.CloseWrite())
}

// abort closes the connection with a reset.
func (c *caller) abort() {
	c.t.Helper()

	require.NoError(c.t, c.SetLinger(0))
	require.NoError(c.t, c.Close())
}

// fill writes until nobody takes any more, and returns how many bytes were
// taken.
func (c *caller) fill(from io.Reader) int64 {
	c.t.Helper()

	// A write after the deadline would not write even what fits.
	total, chunk := int64(0), make([]byte, 64<<10)
	for {
		_, err := io.ReadFull(from, chunk)
		require.NoError(c.t, err)

		deadline := time.Now().Add(stallTime)
		require.NoError(c.t, c.SetWriteDeadline(deadline))
		n, err := c.Write(chunk)
		total += int64(n)
		if err == nil {
			continue
		}

		require.ErrorIs(c.t, err, os.ErrDeadlineExceeded)
		deadline = time.Now().Add(limit)
		require.NoError(c.t, c.SetWriteDeadline(deadline))

		return total
	}
}

// stream returns endless bytes that are the same for the same seed only.
func stream(seed byte) io.Reader {
	return rand.NewChaCha8([32]byte{seed})
}

// digest sums up the first bytes of a stream.
func digest(seed byte, size int64) []byte {
	sum := sha256.New()
	_, _ = io.CopyN(sum, stream(seed), size)

	return sum.Sum(nil)
}

// requireStream reads so many bytes, and requires them to be those of the
// stream.
func (c *caller) requireStream(seed byte, size int64) {
	c.t.Helper()

	require.NoError(c.t, checkStream(c, seed, size))
}

// checkStream is requireStream for goroutines, which must not end the test.
func checkStream(from io.Reader, seed byte, size int64) error {
	sum := sha256.New()
	n, err := io.CopyN(sum, from, size)
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}

	return compare(sum, seed, size)
}

// compare tells whether bytes that were summed up are those of the stream.
func compare(sum hash.Hash, seed byte, size int64) error {
	if string(sum.Sum(nil)) != string(digest(seed, size)) {
		return fmt.Errorf("%d bytes came out as others", size)
	}

	return nil
}

// connStats are what a leg says of its connections.
type connStats struct {
	accepted, resets uint64
	open, waiting    int
}

// waitConns waits until a leg says this of its connections.
func waitConns(tb testing.TB, s *Socket, leg Leg, want connStats) {
	tb.Helper()

	var got connStats
	require.Eventually(tb, func() bool {
		stats := legStats(s, leg)
		got = connStats{
			accepted: stats.Accepted,
			resets:   stats.Resets,
			open:     stats.Open,
			waiting:  stats.Waiting,
		}

		return got == want
	}, limit, tick, "%v: want %+v", leg, want)
	require.Equal(tb, want, got)
}

// waitClosed waits until no connection of the socket is open.
func waitClosed(tb testing.TB, s *Socket) {
	tb.Helper()

	require.Eventually(tb, func() bool {
		stats := s.Stats()

		return stats.Leg1.Open == 0 && stats.Leg2.Open == 0
	}, limit, tick)

	require.Zero(tb, s.Stats().Leg1.Waiting)
	require.Zero(tb, s.Stats().Leg2.Waiting)
}

// innocent talks over a pair of a socket of its own, all the while. The
// function that it returns ends that, and fails the test if the pair was
// disturbed or nothing passed.
func (w *world) innocent() func() {
	w.t.Helper()

	s := w.openTCP()
	c1, c2 := callBoth(w.t, s)

	var (
		stop   atomic.Bool
		rounds atomic.Int64
		done   = make(chan error, 1)
	)
	go func() {
		done <- talk(c1, c2, &stop, &rounds)
	}()

	return func() {
		w.t.Helper()

		before := rounds.Load()
		require.Eventually(w.t, func() bool {
			return rounds.Load() > before+10
		}, limit, tick)

		stop.Store(true)
		require.NoError(w.t, <-done)
		c1.halfClose()
		c2.hearEnd()
		c2.hangUp()
		c1.hearEnd()
		c1.hangUp()
		waitClosed(w.t, s)

		for _, leg := range []Leg{Leg1, Leg2} {
			requireDrops(w.t, s, leg, nil)
			require.Zero(w.t, legStats(s, leg).Resets)
		}
		require.NoError(w.t, s.Close())
	}
}

// talk sends words to and fro until it is to stop.
func talk(c1, c2 *caller, stop *atomic.Bool, rounds *atomic.Int64) error {
	words := make([]byte, 1000)
	got := make([]byte, len(words))

	for i := 0; !stop.Load(); i++ {
		from, to := c1, c2
		if i%2 == 1 {
			from, to = c2, c1
		}

		deadline := time.Now().Add(limit)
		err := errors.Join(
			from.SetDeadline(deadline), to.SetDeadline(deadline),
		)
		if err != nil {
			return err
		}

		words[i%len(words)]++
		if _, err := from.Write(words); err != nil {
			return err
		}

		if _, err := io.ReadFull(to, got); err != nil {
			return err
		}

		if string(got) != string(words) {
			return fmt.Errorf("round %d came out as another", i)
		}

		rounds.Add(1)
		time.Sleep(tick)
	}

	return nil
}
