package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// unacked returns how many bytes of the caller, its end among them, have not
// arrived at the relay's machine.
func (c *caller) unacked() int {
	c.t.Helper()

	raw, err := c.SyscallConn()
	require.NoError(c.t, err)

	left := 0
	require.NoError(c.t, raw.Control(func(fd uintptr) {
		left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	}))
	require.NoError(c.t, err)

	return left
}

// TestTCPOneSideGone lets one side send so many bytes and close for good, while
// the other goes on sending and reads slowly. The other gets all of it.
func TestTCPOneSideGone(t *testing.T) {
	t.Parallel()

	for _, size := range []int64{0, 1, 1000, 300_000, 2 << 20, 8 << 20} {
		t.Run(strconv.FormatInt(size, 10), func(t *testing.T) {
			t.Parallel()

			w := newWorld(t, nil)
			s := w.openTCP()
			for _, leg := range []Leg{Leg1, Leg2} {
				a := call(t, s, leg)
				b := call(t, s, leg.Other())
				oneSideGone(t, a, b, size, func() {
					// Bytes of b found nobody.
					waitDrops(t, s, leg.Other(),
						DropSendError, 1)
				})
				b.hangUp()
				waitClosed(t, s)
				requireDrops(t, s, leg, nil)
				require.Zero(t, legStats(s, leg).Resets)

				require.NoError(t, s.Close())
				s = w.openTCP()
			}
		})
	}
}

// oneSideGone lets a send so many bytes and go, while b sends until somebody
// ends it. known waits until the relay knows that a is gone.
func oneSideGone(t *testing.T, a, b *caller, size int64, known func()) {
	t.Helper()

	done := make(chan error, 1)
	go func() {
		_, _ = io.Copy(b, stream(2))
	}()
	go func() {
		_, err := io.CopyN(a, stream(1), size)
		if err == nil {
			err = a.CloseWrite()
		}
		done <- err
	}()

	// Some of what b sends has come, so that there is something that a
	// never reads.
	a.requireStream(2, 100)

	// b reads just enough for a to get rid of everything.
	sum, got := sha256.New(), int64(0)
	read := func() bool {
		n, err := io.CopyN(sum, b, 10_000)
		got += n

		return err == nil
	}
	for got < size-10_000 && (a.unacked() > 0 || len(done) == 0) {
		require.True(t, read())
	}
	require.NoError(t, <-done)
	require.Eventually(t, func() bool {
		return a.unacked() == 0
	}, limit, tick)
	a.hangUp()
	known()

	// The rest waits for b. Then comes an end or a reset.
	for read() {
		// There is more.
	}
	require.Equal(t, size, got)
	require.NoError(t, compare(sum, 1, size))
}

// TestTCPStopAlone ends a socket while one side of a pair is gone, and the
// other has not got everything.
func TestTCPStopAlone(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	for _, leg := range []Leg{Leg1, Leg2} {
		s := w.openTCP()
		a, b := call(t, s, leg), call(t, s, leg.Other())
		leaveAlone(t, s, a, b, 100_000)

		require.NoError(t, s.Close())
		_, err := io.Copy(io.Discard, b)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Zero(t, s.Stats().Leg1.Open)
		require.Zero(t, s.Stats().Leg2.Open)
		require.Zero(t, w.conns.Load())
	}
}

// leaveAlone lets a send so many bytes, none of which b reads, and go. It
// returns when the relay knows that a is gone and has passed on all it sent.
func leaveAlone(t *testing.T, s *Socket, a, b *caller, size int64) {
	t.Helper()

	require.NoError(t, b.SetReadBuffer(1))
	_, err := io.CopyN(a, stream(1), size)
	require.NoError(t, err)
	b.say("unread")
	require.Eventually(t, func() bool {
		in, out := s.Stats().Leg1, s.Stats().Leg2
		if in.BytesIn == 6 {
			in, out = out, in
		}

		return in.BytesIn == uint64(size) &&
			out.BytesOut == uint64(size) && in.BytesOut == 6
	}, limit, tick)

	a.halfClose()
	require.Eventually(t, func() bool {
		return a.unacked() == 0
	}, limit, tick)
	a.hangUp()

	// The relay hears of it when it passes on more.
	require.Eventually(t, func() bool {
		_, err := b.Write([]byte("x"))
		stats := s.Stats()

		return err != nil || stats.Leg1.Drops[DropSendError]+
			stats.Leg2.Drops[DropSendError] > 0
	}, limit, tick)
}

// TestTCPVanish lets one side of a pair vanish while the relay holds bytes for
// the other. What the other gets is what was sent, up to a reset, and what was
// held does not come out anywhere else.
func TestTCPVanish(t *testing.T) {
	w := newWorld(t, nil)
	require.NoError(t, w.openTCP().Close())
	files := openFiles()
	checkInnocent := w.innocent()
	s := w.openTCP()

	for i, leg := range []Leg{Leg1, Leg2, Leg1, Leg2} {
		a, b := call(t, s, leg), call(t, s, leg.Other())
		size := a.fill(stream(1))
		b.fill(stream(2))

		gone, left := a, b
		if i >= 2 {
			gone, left = b, a
		}
		gone.abort()

		got, err := io.ReadAll(left)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		if i < 2 {
			require.Less(t, int64(len(got)), size)
			sum := sha256.New()
			_, _ = io.Copy(sum, bytes.NewReader(got))
			err := compare(sum, 1, int64(len(got)))
			require.NoError(t, err)
		}
		left.hangUp()
		waitClosed(t, s)

		// The next have their own bytes only.
		a, b = call(t, s, leg), call(t, s, leg.Other())
		speeches := [2]*speech{
			{seed: 3, writes: []int{1, 4 << 20}, reads: 1 << 16},
			{seed: 4, writes: []int{4 << 20, 1}, reads: 1 << 16},
		}
		converse(t, [2]*caller{a, b}, speeches)
		a.hangUp()
		b.hangUp()
		waitClosed(t, s)
	}

	require.EqualValues(t, 4, s.Stats().Leg1.Resets+s.Stats().Leg2.Resets)
	require.NoError(t, s.Close())
	checkInnocent()
	require.Equal(t, files, openFiles())
}

// TestTCPCloseBusy closes sockets while all their pairs flow and others
// connect. When Close returns nothing of them is left.
func TestTCPCloseBusy(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	checkInnocent := w.innocent()
	before := w.conns.Load()

	for range 4 {
		s := w.openTCP()
		var flows []*current
		for range 3 {
			a, b := callBoth(t, s)
			flows = append(flows, pour(a, b, 1), pour(b, a, 2))
		}

		knocks := make(chan struct{})
		go func() {
			defer close(knocks)

			for {
				conn, err := tryCall(loopback4, s.Port(Leg1))
				if err != nil {
					return
				}
				_ = conn.Close()
			}
		}()
		for _, current := range flows {
			current.requirePasses(t, 1<<20)
		}

		require.NoError(t, s.Close())
		require.Equal(t, before, w.conns.Load())
		stats := s.Stats()
		require.Zero(t, stats.Leg1.Open+stats.Leg2.Open)
		require.Zero(t, stats.Leg1.Waiting+stats.Leg2.Waiting)

		<-knocks
		for _, current := range flows {
			failed := errors.Join(<-current.done, <-current.done)
			require.Error(t, failed)
			require.NotErrorIs(t, failed, errOtherBytes)
		}
		require.Equal(t, stats, s.Stats())
	}
	checkInnocent()
}
