//go:build !portable

package relay

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestTCPBandwidthNoPipes is TestTCPBandwidth where no connection has a pipe,
// so that all is copied.
func TestTCPBandwidthNoPipes(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	w.plane.pipes.Store(maxPipes)
	w.passPaced(2)
	require.EqualValues(t, maxPipes, w.plane.pipes.Load())
}

// TestTCPPacedPipes checks that bytes which have to wait do so with their
// sender: a connection that waits has neither pipe nor buffer.
func TestTCPPacedPipes(t *testing.T) {
	t.Parallel()

	_, s, _, _ := slowest(t)
	c := carrierOf(s)

	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()

	pacer := &c.legs[0].pacer
	require.Equal(t, 1, pacer.waits.count)
	require.Equal(t, 1, c.joined.count)
	waits := pacer.waits.first
	require.True(t, waits.paced)
	require.Nil(t, waits.pipe)
	require.Nil(t, waits.rest)

	// It is woken together with others, and not too early.
	at := c.loop.timer.alarms[pacer]
	require.Zero(t, at%instant(pacePause))
	owed := s.leg(Leg1).noneFor(c.loop.at.now)
	require.GreaterOrEqual(t, at.sub(c.loop.at.now), owed)
	require.Less(t, at.sub(c.loop.at.now), owed+limit)
	require.Greater(t, owed, (minRead-1)*time.Second-limit)
}

// TestTCPResetBefore resets a connection before anything of it was read, with
// more in it than may be read at once. Nobody waits for the rest.
func TestTCPResetBefore(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, c1, c2 := w.limitedPair(Limits{Bandwidth: 1})
	c := carrierOf(s)

	func() {
		c.loop.mu.Lock()
		defer c.loop.mu.Unlock()

		first := c.joined.first
		if first.leg.num == Leg2 {
			first = first.next
		}

		_, err := io.CopyN(c1, stream(1), 3*minRead)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			n, err := unix.IoctlGetInt(first.fd, unix.SIOCINQ)

			return err == nil && n == 3*minRead
		}, limit, tick)
		c1.abort()
	}()

	_, err := io.Copy(io.Discard, c2)
	require.ErrorIs(t, err, unix.ECONNRESET)
	waitClosed(t, s)
	require.EqualValues(t, 1, s.Stats().Leg1.Resets)
	require.Zero(t, s.Stats().Leg2.Resets)
}

// TestTCPPacedGone lets a client send much, close for good, and refuse what its
// partner says then. The partner gets all of it, as bandwidth allows.
func TestTCPPacedGone(t *testing.T) {
	t.Parallel()

	const rate, size = 100_000, 60_000

	w := newWorld(t, nil)
	s, c1, c2 := w.limitedPair(Limits{Bandwidth: rate})
	_, err := io.CopyN(c1, stream(1), size)
	require.NoError(t, err)
	c1.hangUp()

	// What c2 says next finds nobody, and that after it is refused.
	require.Eventually(t, func() bool {
		c2.say("x")

		return legStats(s, Leg2).Drops[DropSendError] > 0
	}, limit, tick)
	c2.requireStream(1, size)
	waitClosed(t, s)
	require.Zero(t, s.Stats().Leg1.Resets)
	require.EqualValues(t, size, s.Stats().Leg2.BytesOut)
}

// waiting returns the ports of the clients of a leg that wait for bandwidth, in
// order. The loop's lock is held.
func (p *pacer) waiting() []uint16 {
	var ports []uint16
	for c := p.waits.first; c != nil; c = c.next {
		ports = append(ports, c.src.Port())
	}

	return ports
}

// TestTCPPacedOrder checks that connections get bandwidth in the order in which
// they came to wait for it, and that nobody else gets it before them.
func TestTCPPacedOrder(t *testing.T) {
	t.Parallel()

	const small = 10

	w, s, c1, _ := slowest(t)
	c := carrierOf(s)
	p := &c.legs[0].pacer

	ports := []uint16{c1.addr().Port()}
	var partners []*caller
	for i := range 3 {
		from, to := callBoth(t, s)
		partners = append(partners, to)
		ports = append(ports, from.addr().Port())

		// The last one comes when there is bandwidth.
		if i == 2 {
			c.loop.mu.Lock()
			defer c.loop.mu.Unlock()

			s.leg(Leg1).meter.bandwidth = bucket{}
		}
		_, err := io.CopyN(from, stream(byte(i)), small)
		require.NoError(t, err)
		if i < 2 {
			require.Eventually(t, func() bool {
				c.loop.mu.Lock()
				defer c.loop.mu.Unlock()

				return p.waits.count == i+2
			}, limit, tick)
		}
	}
	last := c.joined.first
	for last.src.Port() != ports[3] {
		last = last.next
	}
	last.readable = true
	last.pump()
	require.Equal(t, ports, p.waiting())

	// The first has more than it may have at once.
	c.loop.at = w.moment()
	for _, want := range [][]uint16{
		{ports[1], ports[2], ports[3], ports[0]},
		{ports[2], ports[3], ports[0]},
		{ports[3], ports[0]},
		{ports[0]},
	} {
		s.leg(Leg1).meter.bandwidth = bucket{}
		p.ready(0)
		require.Equal(t, want, p.waiting())
	}
	for i, to := range partners {
		to.requireStream(byte(i), small)
	}
}

// TestTCPManyPaced lets many pairs wait for bandwidth. Each gets its turn, and
// that keeps the loop from nothing else.
func TestTCPManyPaced(t *testing.T) {
	t.Parallel()

	const pairs, size = 100, 10_000

	w := newWorld(t, nil)
	checkInnocent := w.innocent()
	s := w.openWith(Options{
		Protocol: TCP, Limits: Limits{Bandwidth: 1_000_000},
	})

	var group sync.WaitGroup
	turns := make(chan error, pairs)
	for range pairs {
		c1, c2 := callBoth(t, s)
		group.Go(func() {
			_, _ = io.Copy(c1, stream(1))
		})
		group.Go(func() {
			turns <- checkStream(c2, 1, size)
			_, _ = io.Copy(io.Discard, c2)
		})
	}
	for range pairs {
		require.NoError(t, <-turns)
	}
	checkInnocent()

	require.NoError(t, s.Close())
	group.Wait()
}
