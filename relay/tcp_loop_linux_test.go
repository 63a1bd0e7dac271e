//go:build !portable

package relay

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// carrierOf returns what carries the connections of a socket.
func carrierOf(s *Socket) *tcpCarrier {
	return s.carrier.(*tcpCarrier)
}

// TestTCPTimerUnderLoad lets connections wait for too long while the loop is
// never done.
func TestTCPTimerUnderLoad(t *testing.T) {
	t.Parallel()

	const timeout = 200 * time.Millisecond

	w := newWorld(t, func(cfg *Config) {
		cfg.WaitTimeout = timeout
	})
	s := w.openTCP()

	var flows []*current
	for range 2 {
		a, b := callBoth(t, s)
		flows = append(flows, pour(a, b, 1), pour(b, a, 2))
	}

	for range 3 {
		passed := flows[0].passed.Load()
		begin := time.Now()
		call(t, s, Leg1).hearReset()
		waited := time.Since(begin)

		require.GreaterOrEqual(t, waited, timeout)
		require.Less(t, waited, 25*timeout)
		require.Greater(t, flows[0].passed.Load(), passed)
	}

	requireEnd(t, flows...)
	requireDrops(t, s, Leg1, drops{DropNoClient: 3})
}

// TestTCPFair lets two pairs of one loop flow, and a third say words. The words
// do not wait for the flow to end, and the flow goes on.
func TestTCPFair(t *testing.T) {
	t.Parallel()

	const rounds = 200

	w := newWorld(t, nil)
	s := w.openTCP()

	var flows []*current
	for range 2 {
		a, b := callBoth(t, s)
		flows = append(flows, pour(a, b, 1))
	}

	a, b := callBoth(t, s)
	before := flows[0].passed.Load()
	times := make([]time.Duration, 0, rounds)
	for range rounds {
		begin := time.Now()
		a.say("ping")
		b.hear("ping")
		b.say("pong")
		a.hear("pong")
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	require.Less(t, times[rounds/2], 200*time.Millisecond)
	require.Greater(t, flows[0].passed.Load(), before)

	requireEnd(t, flows...)
}

// TestTCPTurn checks that a connection with more bytes than it may pass in one
// turn comes to an end of it, and has the next.
func TestTCPTurn(t *testing.T) {
	t.Parallel()

	const size, small = 100_000, 4096

	w := newWorld(t, nil)
	s := w.openTCP()
	a, b := callBoth(t, s)
	a.say("x")
	b.hear("x")

	c := carrierOf(s)
	var conn *conn

	func() {
		c.loop.mu.Lock()
		defer c.loop.mu.Unlock()

		conn = c.joined.first
		if conn.leg.num == Leg2 {
			conn = conn.next
		}

		_, err := io.CopyN(a, stream(1), size)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			n, err := unix.IoctlGetInt(conn.fd, unix.SIOCINQ)

			return err == nil && n == size
		}, limit, tick)

		// A pipe that takes little, so that a turn does.
		conn.bulk, conn.readable = true, true
		require.True(t, conn.takePipe())
		_, err = unix.FcntlInt(
			uintptr(conn.pipe.in), unix.F_SETPIPE_SZ, small,
		)
		require.NoError(t, err)

		for turn := 1; turn <= 2; turn++ {
			before := s.Stats().Leg1.BytesIn
			conn.pump()
			passed := s.Stats().Leg1.BytesIn - before
			require.Positive(t, passed)
			require.Less(t, passed, uint64(size/2))

			// It is in the list for the next turn, once.
			require.True(t, conn.queued)
			require.Equal(t, []watcher{conn}, c.loop.again)
		}
	}()

	b.requireStream(1, size)
	require.Eventually(t, func() bool {
		c.loop.mu.Lock()
		defer c.loop.mu.Unlock()

		return len(c.loop.again) == 0 && !conn.queued &&
			conn.pipe == nil
	}, limit, tick)
}

// TestTCPIdle checks what pairs hold after much has passed: two descriptors
// each, and neither pipe nor bytes.
func TestTCPIdle(t *testing.T) {
	const pairs = 8

	w := newWorld(t, nil)
	require.NoError(t, w.openTCP().Close())
	files := openFiles()
	s := w.openTCP()
	empty := openFiles()

	var callers []*caller
	for range pairs {
		a, b := callBoth(t, s)
		callers = append(callers, a, b)
	}

	var flows []*current
	for i := range pairs {
		a, b := callers[2*i], callers[2*i+1]
		flows = append(flows, pour(a, b, 1), pour(b, a, 2))
	}
	for _, current := range flows {
		current.requirePasses(t, 2<<20)
	}
	requireEnd(t, flows...)
	waitClosed(t, s)
	for _, c := range callers {
		c.hangUp()
	}

	// And pairs that stay.
	callers = nil
	for range pairs {
		a, b := callBoth(t, s)
		_, err := io.CopyN(a, stream(1), 200_000)
		require.NoError(t, err)
		b.requireStream(1, 200_000)
		callers = append(callers, a, b)
	}

	c := carrierOf(s)
	spare := 0
	require.Eventually(t, func() bool {
		c.loop.mu.Lock()
		defer c.loop.mu.Unlock()

		spare = len(c.loop.pipes.spare)
		for conn := c.joined.first; conn != nil; conn = conn.next {
			if conn.pipe != nil || conn.rest != nil {
				return false
			}
		}

		return c.joined.count == 2*pairs
	}, limit, tick)
	require.LessOrEqual(t, spare, sparePipes)
	require.Equal(t, empty+2*pairs+2*pairs+2*spare, openFiles())

	for _, c := range callers {
		c.hangUp()
	}
	waitClosed(t, s)
	require.NoError(t, s.Close())
	require.Empty(t, c.loop.pipes.spare)
	require.Zero(t, c.loop.conns)
	require.Equal(t, files, openFiles())
}

// TestTCPLinger checks for how long a connection outlives its partner: until
// its client has got everything, or has taken nothing for too long.
func TestTCPLinger(t *testing.T) {
	t.Parallel()

	const size = 40_000

	w := newWorld(t, nil)
	for _, slow := range []bool{true, false} {
		s := w.openTCP()
		a, b := callBoth(t, s)
		leaveAlone(t, s, a, b, size)

		c := carrierOf(s)
		var conn *conn
		require.Eventually(t, func() bool {
			c.loop.mu.Lock()
			defer c.loop.mu.Unlock()

			conn = c.joined.first

			return conn != nil && conn.state == connLingers
		}, limit, tick)

		if slow {
			// It takes something just before its time is over.
			lingerOn(t, c, conn, b)
			_, err := io.Copy(io.Discard, b)
			require.ErrorIs(t, err, unix.ECONNRESET)
		} else {
			b.requireStream(1, size)
			b.hearEnd()
		}
		waitClosed(t, s)
	}
}

// lingerOn looks at a connection that lingers at times to come, until it does
// no longer.
func lingerOn(t *testing.T, c *tcpCarrier, conn *conn, b *caller) {
	t.Helper()

	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()

	const soon = lingerTime - time.Millisecond

	now := c.loop.at.now
	for range 2 {
		require.Equal(t, connLingers, conn.state)
		now = conn.since.add(soon)
		require.Equal(t, now.add(lingerTick), conn.ring(now))

		before := conn.left
		require.Eventually(t, func() bool {
			_, err := io.CopyN(io.Discard, b, 1000)
			left, _ := unix.IoctlGetInt(conn.fd, unix.SIOCOUTQ)

			return err == nil && left < int(before)
		}, limit, tick)
		now = now.add(2 * time.Millisecond)
		require.Equal(t, now.add(lingerTick), conn.ring(now))
		require.Equal(t, now, conn.since)
	}

	require.Zero(t, conn.ring(now.add(lingerTime)))
	require.Equal(t, connClosed, conn.state)
}

// TestTCPDeadPort takes a port away behind the relay's back. The socket ends.
func TestTCPDeadPort(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	for _, leg := range []Leg{Leg1, Leg2} {
		s := w.openTCP()
		waits := call(t, s, leg)
		require.IsType(t, EventPinned{}, w.event())

		require.NoError(t, unix.Shutdown(
			s.leg(leg).port.fd, unix.SHUT_RDWR,
		))
		require.Equal(t, EventClosed{
			SocketID: s.ID(), Reason: CloseError,
		}, w.event())
		waits.hearReset()
		require.NoError(t, s.Close())
		require.Zero(t, w.NumSockets())
	}

	w.stop()
	w.noEvent()
}
