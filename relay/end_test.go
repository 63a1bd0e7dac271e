package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestIdle checks that a socket ends when nothing passed for its idle time, and
// only then.
func TestIdle(t *testing.T) {
	t.Parallel()

	const idle = 200 * time.Millisecond

	w := newWorld(t, nil)
	s := w.openWith(Options{Protocol: UDP, IdleTimeout: idle})
	c1, c2 := newClient(t, loopback4), newClient(t, loopback4)

	c1.send(s.Port(Leg1), nil)
	require.IsType(t, EventPinned{}, w.event())
	c2.send(s.Port(Leg2), nil)
	require.IsType(t, EventPinned{}, w.event())
	c1.receive()

	// Both directions count. On a machine that is too busy to keep the
	// socket alive it may end, but never before it was idle: a packet
	// passes after it was sent.
	var longest time.Duration
	sent, start := time.Now(), time.Now()
	for time.Since(start) < 4*idle && w.NumSockets() == 1 {
		from, to, leg := c1, c2, Leg1
		if time.Since(start) > 2*idle {
			from, to, leg = c2, c1, Leg2
		}

		before := sent
		sent = time.Now()
		from.send(s.Port(leg), nil)

		deadline := time.Now().Add(2 * idle)
		require.NoError(t, to.conn.SetReadDeadline(deadline))
		_, _, _ = to.conn.ReadFromUDPAddrPort(to.buffer[:])

		longest = max(longest, time.Since(before))
	}

	if w.NumSockets() == 0 {
		longest = max(longest, time.Since(sent))
		require.GreaterOrEqual(t, longest, idle)
	}

	require.Equal(t, EventClosed{
		SocketID: s.ID(), Reason: CloseIdle,
	}, w.event())
	require.GreaterOrEqual(t, time.Since(start), idle)
	require.True(t, isFree(s.Port(Leg1)))
	require.True(t, isFree(s.Port(Leg2)))
	w.noEvent()
}

// TestIdleDrops checks that packets that are dropped do not keep a socket, nor
// does a client that is alone.
func TestIdleDrops(t *testing.T) {
	t.Parallel()

	const idle = 200 * time.Millisecond

	w := newWorld(t, nil)
	start := time.Now()
	s := w.openWith(Options{Protocol: UDP, IdleTimeout: idle})
	c, stranger := newClient(t, loopback4), newClient(t, loopback4)

	c.send(s.Port(Leg1), nil)
	require.IsType(t, EventPinned{}, w.event())

	require.Eventually(t, func() bool {
		_ = c.trySend(s.Port(Leg1), []byte("anybody?"))
		_ = stranger.trySend(s.Port(Leg1), []byte("me"))

		return w.NumSockets() == 0
	}, limit, tick)

	require.Equal(t, EventClosed{
		SocketID: s.ID(), Reason: CloseIdle,
	}, w.event())
	require.GreaterOrEqual(t, time.Since(start), idle)
	require.Zero(t, s.Stats().Leg2.PacketsOut)
}

// TestLifetime checks that a socket ends at its time however busy it is.
func TestLifetime(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	expiry := time.Now().Add(300 * time.Millisecond)
	s := w.openWith(Options{
		Protocol: UDP, IdleTimeout: time.Hour, ExpiresAt: expiry,
	})
	c1, c2 := newClient(t, loopback4), newClient(t, loopback4)

	var event Event
	require.Eventually(t, func() bool {
		_ = c1.trySend(s.Port(Leg1), nil)
		_ = c2.trySend(s.Port(Leg2), nil)

		select {
		case event = <-w.events:
		default:
		}

		_, ended := event.(EventClosed)

		return ended
	}, limit, tick)

	require.Equal(t, EventClosed{
		SocketID: s.ID(), Reason: CloseLifetime,
	}, event)

	// Both clocks were read at the same moment, but are not the same.
	require.False(t, time.Now().Add(time.Millisecond).Before(expiry))
	require.True(t, isFree(s.Port(Leg1)))
}

// TestEndsInOrder opens many sockets with limits in a random order. Each ends
// at its time, and those without a limit stay.
func TestEndsInOrder(t *testing.T) {
	t.Parallel()

	const count = 300

	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = freePorts(t, 2*count+2)
	})

	stays := w.open()
	ends := make(map[ID]time.Time)
	order := make(map[ID]int)

	for i := range count {
		// 7 and 300 have no divisor in common, so that every delay
		// comes once.
		delay := time.Duration(i*7%count) * time.Millisecond
		delay += 100 * time.Millisecond

		at := time.Now().Add(delay)

		opts := Options{Protocol: UDP, IdleTimeout: delay}
		if i%2 == 0 {
			opts = Options{Protocol: UDP, ExpiresAt: at}
		}

		s := w.openWith(opts)
		ends[s.ID()] = at
		order[s.ID()] = i
	}

	for range count {
		event := w.event().(EventClosed)
		at, known := ends[event.SocketID]
		require.True(t, known)
		require.False(t, time.Now().Add(time.Millisecond).Before(at))

		want := CloseIdle
		if order[event.SocketID]%2 == 0 {
			want = CloseLifetime
		}
		require.Equal(t, want, event.Reason)
		delete(ends, event.SocketID)
	}

	w.noEvent()
	require.Equal(t, []*Socket{stays}, w.Sockets())
	require.Empty(t, w.queue)
}

// TestRunSleeps checks that Run does nothing while nothing is due.
func TestRunSleeps(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	require.Equal(t, maxWait, w.endDue(t.Context()))

	w.open()
	require.Equal(t, maxWait, w.endDue(t.Context()))

	w.openWith(Options{Protocol: UDP, IdleTimeout: time.Hour})
	s := w.openWith(Options{Protocol: UDP, IdleTimeout: time.Minute})
	wait := w.endDue(t.Context())
	require.LessOrEqual(t, wait, time.Minute)
	require.Greater(t, wait, time.Minute-limit)

	require.NoError(t, s.Close())
	require.Greater(t, w.endDue(t.Context()), time.Hour-limit)
	w.event()
	w.noEvent()
}
