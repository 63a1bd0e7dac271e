package relay

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTCPPin checks that a leg takes every connection from its client's
// address, and none from elsewhere.
func TestTCPPin(t *testing.T) {
	t.Parallel()

	client, other := local4(0, 2), local4(0, 3)
	w := newWorld(t, nil)
	s := w.openTCP()
	require.False(t, s.Stats().Leg1.Client.IsValid())
	require.True(t, s.Stats().Leg1.LastSeen.IsZero())

	s.Watch(Leg1)
	c1 := callAdmitted(t, client, s, Leg1)
	pinned := EventPinned{SocketID: s.ID(), Leg: Leg1, New: c1.addr()}
	require.Equal(t, pinned, w.event())
	require.Equal(t, EventUsed{SocketID: s.ID(), Leg: Leg1}, w.event())

	// Another port of the same address is the same client, and the pin is
	// about the first.
	s.Watch(Leg1)
	second := callAdmitted(t, client, s, Leg1)
	require.Equal(t, EventUsed{SocketID: s.ID(), Leg: Leg1}, w.event())
	require.Equal(t, c1.addr(), s.Stats().Leg1.Client)

	strangers := []netip.Addr{other, loopback4, loopback6}
	for i, from := range strangers {
		callRefused(t, from, s, Leg1)
		waitDrops(t, s, Leg1, DropStranger, uint64(i+1))
	}

	// The other leg has a client of its own.
	c2 := callAdmitted(t, other, s, Leg2)
	pinned = EventPinned{SocketID: s.ID(), Leg: Leg2, New: c2.addr()}
	require.Equal(t, pinned, w.event())
	c2.say("hello")
	c1.hear("hello")

	waitConns(t, s, Leg1, connStats{accepted: 2, open: 2, waiting: 1})
	second.hangUp()
	waitConns(t, s, Leg1, connStats{accepted: 2, open: 1})
	require.Equal(t, pinned.New, s.Stats().Leg2.Client)

	require.NoError(t, s.Close())
	require.Equal(t, EventClosed{
		SocketID: s.ID(), Reason: CloseStopped,
	}, w.event())
	w.noEvent()
}

// TestTCPTakeover checks that a leg takes a new client when the old one was
// silent for long enough and has no connection open, and not before.
func TestTCPTakeover(t *testing.T) {
	t.Parallel()

	const pinTimeout = 200 * time.Millisecond

	client, next := local4(0, 2), local4(0, 3)
	w := newWorld(t, func(cfg *Config) {
		cfg.PinTimeout = pinTimeout
	})
	s := w.openTCP()

	c1 := callAdmitted(t, client, s, Leg1)
	old := c1.addr()
	require.Equal(t, old, w.event().(EventPinned).New)
	c2 := callAdmitted(t, loopback4, s, Leg2)
	require.Equal(t, c2.addr(), w.event().(EventPinned).New)

	// A client that says nothing is there while it has a connection.
	for begin := time.Now(); time.Since(begin) < 3*pinTimeout; {
		callRefused(t, next, s, Leg1)
	}
	refused := legStats(s, Leg1).Drops[DropStranger]
	require.NotZero(t, refused)

	silent := time.Now()
	c1.hangUp()
	c2.hearEnd()
	c2.hangUp()
	waitClosed(t, s)

	// Whoever is not refused is the new client.
	var event Event
	require.Eventually(t, func() bool {
		conn, err := tryCall(next, s.Port(Leg1))
		if err != nil {
			return false
		}
		defer func() {
			_ = conn.Close()
		}()
		done := reads(conn)

		select {
		case event = <-w.events:
			_ = conn.Close()
			<-done

			return true

		case <-done:
			return false
		}
	}, limit, tick)
	require.GreaterOrEqual(t, time.Since(silent), pinTimeout)

	pinned := event.(EventPinned)
	require.Equal(t, old, pinned.Old)
	require.Equal(t, next, pinned.New.Addr())
	require.Equal(t, pinned.New, s.Stats().Leg1.Client)

	// The old one is a stranger now.
	before := legStats(s, Leg1).Drops[DropStranger]
	callRefused(t, client, s, Leg1)
	require.Equal(t, before+1, legStats(s, Leg1).Drops[DropStranger])
	w.noEvent()
}

// reads returns a channel that is closed when a read from the connection ends.
func reads(conn net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		_, _ = conn.Read(make([]byte, 1))
		close(done)
	}()

	return done
}

// local4 returns an address of this machine.
func local4(c, d byte) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, c, d})
}

// TestClientNet checks what counts as one TCP client.
func TestClientNet(t *testing.T) {
	t.Parallel()

	tests := []struct {
		a, b string
		same bool
	}{
		{"192.0.2.7:1", "192.0.2.7:2", true},
		{"192.0.2.7:1", "192.0.2.6:1", false},
		{"[2001:db8::1]:1", "[2001:db8::2]:2", true},
		{"[2001:db8::1]:1", "[2001:db8::ffff:ffff:ffff:ffff]:1", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[fe80::1%1]:1", "[fe80::2%1]:1", true},
		{"192.0.2.7:1", "[2001:db8::1]:1", false},
		{"0.0.0.1:1", "[::1]:1", false},
	}
	for _, test := range tests {
		a := netip.MustParseAddrPort(test.a)
		b := netip.MustParseAddrPort(test.b)
		require.Equal(t, test.same, clientNet(a) == clientNet(b),
			"%v and %v", a, b)
	}
}

// TestTCPNeverJoins checks the sources that no leg takes as its client.
func TestTCPNeverJoins(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	l := w.openTCP().leg(Leg1)
	for addr, want := range map[string]bool{
		"192.0.2.7:1":       true,
		"[2001:db8::1]:1":   true,
		"192.0.2.7:0":       false,
		"0.0.0.0:1":         false,
		"255.255.255.255:1": false,
		"224.0.0.1:1":       false,
		"[::]:1":            false,
		"[ff02::1]:1":       false,
	} {
		src := netip.MustParseAddrPort(addr)
		_, ok := l.mayJoin(src, w.moment().now)
		require.Equal(t, want, ok, addr)
	}
}
