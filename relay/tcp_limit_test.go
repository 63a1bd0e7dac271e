package relay

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTCPMaxWaiting checks how many connections may wait at a leg.
func TestTCPMaxWaiting(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxWaiting = 2
	})
	s := w.openTCP()

	first, second := call(t, s, Leg1), call(t, s, Leg1)
	callRefused(t, loopback4, s, Leg1)
	waitDrops(t, s, Leg1, DropLimit, 1)
	waitConns(t, s, Leg1, connStats{accepted: 2, open: 2, waiting: 2})

	// The other leg has its own limit, and a partner need not wait.
	partner := call(t, s, Leg2)
	partner.say("partner")
	first.hear("partner")
	requireDrops(t, s, Leg2, nil)

	// There is room for one.
	third := call(t, s, Leg1)
	callRefused(t, loopback4, s, Leg1)
	waitDrops(t, s, Leg1, DropLimit, 2)

	for _, c := range []*caller{second, third} {
		call(t, s, Leg2).say("next")
		c.hear("next")
	}
	waitConns(t, s, Leg1, connStats{accepted: 3, open: 3})
	waitConns(t, s, Leg2, connStats{accepted: 3, open: 3})
	require.EqualValues(t, 6, w.conns.Load())
}

// TestTCPWaitTimeout checks how long a connection may wait for its partner.
func TestTCPWaitTimeout(t *testing.T) {
	t.Parallel()

	const timeout = 300 * time.Millisecond

	w := newWorld(t, func(cfg *Config) {
		cfg.WaitTimeout = timeout
	})
	s := w.openTCP()

	// Those that have a partner have all the time.
	c1, c2 := callBoth(t, s)

	for count := uint64(1); count <= 3; count++ {
		// Also one that has said something, and one that said all.
		begin := time.Now()
		silent, early := call(t, s, Leg1), call(t, s, Leg1)
		early.say("hello")
		ended := call(t, s, Leg1)
		ended.say("hello")
		ended.halfClose()

		for _, c := range []*caller{silent, early, ended} {
			c.hearReset()
			require.GreaterOrEqual(t, time.Since(begin), timeout)
		}

		waitDrops(t, s, Leg1, DropNoClient, 3*count)
		waitConns(t, s, Leg1, connStats{
			accepted: 1 + 3*count, open: 1,
		})
	}

	// Nothing was read from them, and nobody else is disturbed.
	c1.say("still here")
	c2.hear("still here")
	require.EqualValues(t, 10, s.Stats().Leg1.BytesIn)
	require.EqualValues(t, 2, w.conns.Load())
}

// TestTCPHungUp lets connections that wait hang up. They are not joined with
// anybody.
func TestTCPHungUp(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxWaiting = 4
	})
	s := w.openTCP()

	dropped := uint64(0)
	for _, hangUp := range []func(*caller){
		(*caller).hangUp,
		(*caller).abort,
		func(c *caller) {
			// It hears that it has no partner.
			c.halfClose()
			c.hearReset()
		},
	} {
		gone, waits := call(t, s, Leg1), call(t, s, Leg1)
		hangUp(gone)
		dropped++
		waitDrops(t, s, Leg1, DropNoClient, dropped)
		require.Equal(t, 1, s.Stats().Leg1.Waiting)

		call(t, s, Leg2).say("you")
		waits.hear("you")
		require.Zero(t, s.Stats().Leg1.Waiting)
	}

	// However many they are, and however soon they go.
	for range 100 {
		conn, err := tryCall(loopback4, s.Port(Leg1))
		if err == nil {
			require.NoError(t, conn.SetLinger(0))
			require.NoError(t, conn.Close())
		}
	}
	c1, c2 := callBoth(t, s)
	c1.say("hello")
	c2.hear("hello")

	require.Zero(t, s.Stats().Leg1.Resets)
	requireDrops(t, s, Leg2, nil)
}

// TestTCPMaxPairs checks that connections beyond the allowed number of pairs
// wait until one ends, in order.
func TestTCPMaxPairs(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxPairs = 2
	})
	s := w.openTCP()

	var callers [6][2]*caller
	for i := range callers {
		callers[i][0], callers[i][1] = callBoth(t, s)
		callers[i][0].say("early")
	}

	for i, pair := range callers {
		for _, leg := range []Leg{Leg1, Leg2} {
			want := connStats{
				accepted: uint64(len(callers)),
				open:     len(callers) - i,
				waiting:  max(len(callers)-i-2, 0),
			}
			if leg == Leg2 {
				want.resets = uint64(i / 2)
			}
			waitConns(t, s, leg, want)
		}

		pair[1].hear("early")
		if i%2 == 0 {
			pair[0].hangUp()
			pair[1].hearEnd()
			pair[1].hangUp()
		} else {
			pair[1].abort()
			pair[0].hearReset()
		}
	}

	// One that hung up while it waited there takes nobody's place.
	a1, a2 := callBoth(t, s)
	callBoth(t, s)
	gone, waits := call(t, s, Leg1), call(t, s, Leg1)
	partner := call(t, s, Leg2)
	gone.hangUp()
	waitDrops(t, s, Leg1, DropNoClient, 1)
	a1.hangUp()
	a2.hearEnd()
	a2.hangUp()
	partner.say("you")
	waits.hear("you")
}

// TestTCPMaxConns checks how many connections all sockets may have together.
func TestTCPMaxConns(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxConns = 3
	})
	a, b := w.openTCP(), w.openTCP()

	a1, a2 := callBoth(t, a)
	call(t, b, Leg1)
	callRefused(t, loopback4, b, Leg2)
	waitDrops(t, b, Leg2, DropLimit, 1)

	// Whoever is refused is not the client, and nobody was told.
	require.False(t, b.Stats().Leg2.Client.IsValid())
	require.Zero(t, b.Stats().Leg2.Accepted)

	a1.say("hello")
	a2.hear("hello")
	a1.hangUp()
	a2.hearEnd()
	a2.hangUp()
	waitClosed(t, a)

	callBoth(t, a)
	require.NoError(t, b.Close())
	call(t, a, Leg1)
	require.EqualValues(t, 3, w.conns.Load())
}

// TestTCPStop ends a socket. Who has not got everything is reset, and nobody
// can connect any more.
func TestTCPStop(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openTCP()
	port1, port2 := s.Port(Leg1), s.Port(Leg2)

	idle1, idle2 := callBoth(t, s)
	full1, full2 := callBoth(t, s)
	require.Positive(t, full1.fill(stream(1)))
	half1, half2 := callBoth(t, s)
	half1.halfClose()
	half2.hearEnd()
	waits := call(t, s, Leg1)
	waits.say("hello")

	require.NoError(t, s.Close())
	for _, c := range []*caller{idle1, idle2, full1, half1, waits} {
		c.hearReset()
	}
	_, err := io.Copy(io.Discard, full2)
	require.Error(t, err)
	_, err = half2.Write(make([]byte, 1))
	require.Error(t, err)

	for _, leg := range []Leg{Leg1, Leg2} {
		stats := legStats(s, leg)
		require.Zero(t, stats.Open)
		require.Zero(t, stats.Waiting)
		require.Zero(t, stats.Resets)
	}
	require.Zero(t, w.conns.Load())

	for _, port := range []uint16{port1, port2} {
		at := netip.AddrPortFrom(loopback4, port)
		_, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(at))
		require.Error(t, err)
	}
}

// TestTCPIdleTimeout checks that a socket ends when no bytes passed for its
// idle time, whatever connections are open.
func TestTCPIdleTimeout(t *testing.T) {
	t.Parallel()

	const idle = 600 * time.Millisecond

	w := newWorld(t, nil)
	s := w.openWith(Options{Protocol: TCP, IdleTimeout: idle})
	c1, c2 := callBoth(t, s)
	waits := call(t, s, Leg1)
	require.IsType(t, EventPinned{}, w.event())
	require.IsType(t, EventPinned{}, w.event())

	// On a machine that is too busy it may end earlier, though not much
	// before it was idle.
	last := time.Now()
	for begin := last; time.Since(begin) < 3*idle; {
		now := time.Now()
		_, err := c1.Write([]byte("x"))
		if err == nil {
			_, err = c2.Read(make([]byte, 1))
		}
		if err != nil {
			break
		}
		last = now
	}

	require.Equal(t, EventClosed{
		SocketID: s.ID(), Reason: CloseIdle,
	}, w.event())
	require.GreaterOrEqual(t, time.Since(last), idle/2)
	waits.hearReset()
	_, err := c1.Read(make([]byte, 1))
	require.Error(t, err)
}

// TestTCPForeignPorts checks that ports where other programs listen are
// skipped.
func TestTCPForeignPorts(t *testing.T) {
	t.Parallel()

	ports := freePorts(t, 8)
	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = ports
	})
	checkInnocent := w.innocent()

	// One of the ports is that by which the test holds the range; the
	// innocent socket has two.
	var listeners []net.Listener
	for port := ports.Low; port <= ports.High; port++ {
		at := netip.AddrPortFrom(loopback4, port)
		if port%2 == 1 {
			at = netip.AddrPortFrom(loopback6, port)
		}

		listener, err := net.ListenTCP(
			"tcp", net.TCPAddrFromAddrPort(at),
		)
		if err != nil {
			require.True(t, isAddrInUse(err))

			continue
		}
		listeners = append(listeners, listener)
		defer func() {
			_ = listener.Close()
		}()
	}

	_, err := w.Open(Options{Protocol: TCP})
	require.ErrorIs(t, err, ErrNoFreePort)
	require.ErrorContains(t, err, "the relay uses 2, other programs use "+
		"6, and 0 are free")
	require.Equal(t, 1, w.NumSockets())

	for _, listener := range listeners {
		require.NoError(t, listener.Close())
	}
	c1, c2 := callBoth(t, w.openTCP())
	c1.say("hello")
	c2.hear("hello")
	checkInnocent()
}
