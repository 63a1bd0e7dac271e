package relay

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPin checks how a leg comes to its client, and what it counts meanwhile.
func TestPin(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	before := time.Now().Add(-time.Second)
	s := w.open()

	// A new socket knows nobody.
	stats := s.Stats()
	for num, leg := range map[Leg]LegStats{
		Leg1: stats.Leg1, Leg2: stats.Leg2,
	} {
		require.Equal(t, s.Port(num), leg.Port)
		require.False(t, leg.Client.IsValid())
		require.True(t, leg.LastSeen.IsZero())
		requireDrops(t, s, num, nil)
	}
	require.NotEqual(t, s.Port(Leg1), s.Port(Leg2))

	// An empty packet pins. There is nobody to send it to.
	c1 := newClient(t, loopback4)
	c1.send(s.Port(Leg1), nil)
	require.Equal(t, EventPinned{
		SocketID: s.ID(), Leg: Leg1, New: c1.addr(),
	}, w.event())
	waitDrops(t, s, Leg1, DropNoClient, 1)

	c1.send(s.Port(Leg1), []byte("lost"))
	waitDrops(t, s, Leg1, DropNoClient, 2)

	leg1 := s.Stats().Leg1
	require.Equal(t, c1.addr(), leg1.Client)
	require.True(t, leg1.LastSeen.After(before))
	require.False(t, leg1.LastSeen.After(time.Now().Add(time.Second)))
	require.EqualValues(t, 2, leg1.PacketsIn)
	require.EqualValues(t, 4, leg1.BytesIn)

	// Dropped packets were not sent.
	require.Zero(t, s.Stats().Leg2.PacketsOut)
	require.Zero(t, s.Stats().Leg2.BytesOut)

	// The other leg learns its client, and an empty packet is relayed.
	c2 := newClient(t, loopback6)
	c2.send(s.Port(Leg2), nil)
	require.Equal(t, EventPinned{
		SocketID: s.ID(), Leg: Leg2, New: c2.addr(),
	}, w.event())
	require.Empty(t, c1.receive())

	c1.send(s.Port(Leg1), []byte("found"))
	require.Equal(t, "found", string(c2.receive()))
	requireDrops(t, s, Leg1, drops{DropNoClient: 2})
	requireDrops(t, s, Leg2, nil)
	w.noEvent()
}

// TestStrangers checks that nothing of anybody but the client passes a leg,
// before and after the other leg has its client.
func TestStrangers(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.open()
	c1, c2 := newClient(t, loopback4), newClient(t, loopback4)

	// The same address at another port, another address, another family,
	// and the client of the other leg.
	strangers := []*client{
		newClient(t, loopback4), newClient(t, loopback6), c2,
	}
	inject := func() {
		for _, stranger := range strangers {
			stranger.send(s.Port(Leg1), []byte("injected"))
			stranger.send(s.Port(Leg1), nil)
		}
	}

	c1.send(s.Port(Leg1), nil)
	require.Equal(t, c1.addr(), w.event().(EventPinned).New)
	waitDrops(t, s, Leg1, DropNoClient, 1)

	inject()
	require.Eventually(t, func() bool {
		return s.Stats().Leg1.Drops[DropStranger] == 6
	}, limit, tick)

	c2.send(s.Port(Leg2), nil)
	require.Equal(t, c2.addr(), w.event().(EventPinned).New)
	require.Empty(t, c1.receive())

	inject()
	c1.send(s.Port(Leg1), []byte("genuine"))
	require.Equal(t, "genuine", string(c2.receive()))
	requireDrops(t, s, Leg1, drops{
		DropNoClient: 1, DropStranger: 12,
	})

	leg1 := s.Stats().Leg1
	require.Equal(t, c1.addr(), leg1.Client)
	require.EqualValues(t, 2, leg1.PacketsIn)
	require.EqualValues(t, 7, leg1.BytesIn)
	requireDrops(t, s, Leg2, nil)
	w.noEvent()
}

// TestTakeover checks that a leg takes a client that was restarted once it has
// heard nothing from the old port for long enough, and not before.
func TestTakeover(t *testing.T) {
	t.Parallel()

	const pinTimeout = 200 * time.Millisecond

	w := newWorld(t, func(cfg *Config) {
		cfg.PinTimeout = pinTimeout
	})
	s := w.open()

	c1, c2 := newClient(t, loopback4), newClient(t, loopback6)
	old, silent := c1.addr(), time.Now()
	c1.send(s.Port(Leg1), nil)
	require.Equal(t, old, w.event().(EventPinned).New)
	waitDrops(t, s, Leg1, DropNoClient, 1)

	// What is sent to the leg does not keep its client.
	c2.send(s.Port(Leg2), nil)
	require.Equal(t, c2.addr(), w.event().(EventPinned).New)

	c1 = newClient(t, loopback4)
	var event Event
	require.Eventually(t, func() bool {
		c1.send(s.Port(Leg1), []byte("back"))
		c2.send(s.Port(Leg2), []byte("there?"))

		select {
		case event = <-w.events:
			return true

		default:
			return false
		}
	}, limit, tick)

	require.Equal(t, EventPinned{
		SocketID: s.ID(), Leg: Leg1, Old: old, New: c1.addr(),
	}, event)
	require.GreaterOrEqual(t, time.Since(silent), pinTimeout)

	require.Equal(t, "back", string(c2.receive()))
	c2.send(s.Port(Leg2), []byte("there?"))
	require.Equal(t, "there?", string(c1.receive()))
	require.Equal(t, c1.addr(), s.Stats().Leg1.Client)
	require.NotZero(t, s.Stats().Leg1.Drops[DropStranger])
}

// TestPinTimeout checks to the nanosecond when a leg takes the next source.
func TestPinTimeout(t *testing.T) {
	t.Parallel()

	const pinTimeout = 30 * time.Second

	// A pin tells nobody: there is no carrier.
	cfg := testConfig(t)
	cfg.PinTimeout = pinTimeout
	w, err := New(cfg, nil)
	require.NoError(t, err)
	s := w.newSocket(Options{Protocol: UDP}, [2]*port{{}, {}})
	l := s.leg(Leg1)

	client, next := sourceOf("192.0.2.7:1000"), sourceOf("192.0.2.8:1000")
	const start = instant(time.Hour)

	require.NotNil(t, l.admit(client, 1, 0, moment{now: start}))

	for silence, taken := range map[time.Duration]bool{
		0:              false,
		pinTimeout - 1: false,
		pinTimeout:     true,
		time.Hour:      true,
	} {
		now := start.add(silence)
		_, ok := l.mayAdmit(l.pin.Load(), client, now)
		require.True(t, ok)
		_, ok = l.mayAdmit(l.pin.Load(), next, now)
		require.Equal(t, taken, ok)

		// However long the silence, not every source will do.
		_, ok = l.mayAdmit(
			l.pin.Load(), sourceOf("224.0.0.1:1000"), now,
		)
		require.False(t, ok)
	}
}

// sourceOf returns a source at an address.
func sourceOf(addr string) source {
	return source{addr: netip.MustParseAddrPort(addr)}
}

// TestNeverPinned checks the sources that no leg takes as its client.
func TestNeverPinned(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.SelfAddrs = []netip.Addr{
			netip.MustParseAddr("198.51.100.1"),
			netip.MustParseAddr("::ffff:198.51.100.2"),
			netip.MustParseAddr("2001:db8::1"),
		}
	})
	s := w.open()
	own := s.Port(Leg2)

	refused := []netip.AddrPort{
		{},
		netip.MustParseAddrPort("192.0.2.7:0"),
		netip.MustParseAddrPort("0.0.0.0:1000"),
		netip.MustParseAddrPort("255.255.255.255:1000"),
		netip.MustParseAddrPort("224.0.0.1:1000"),
		netip.MustParseAddrPort("239.255.255.255:1000"),
		netip.MustParseAddrPort("[::]:1000"),
		netip.MustParseAddrPort("[ff02::1]:1000"),
		netip.MustParseAddrPort("[ff02::1%2]:1000"),
	}
	for _, addr := range ownAddrs(t, w) {
		refused = append(refused, netip.AddrPortFrom(addr, own))
	}

	// The address that a packet was sent to is ours as well.
	local := netip.MustParseAddr("203.0.113.1")
	refused = append(refused, netip.AddrPortFrom(local, own))

	l := s.leg(Leg1)
	for i, src := range refused {
		from := source{addr: src, local: local}
		require.Nil(t, l.admit(from, 1, 0, w.moment()))
		require.Nil(t, l.pin.Load(), src)
		requireDrops(t, s, Leg1, drops{
			DropStranger: uint64(i + 1),
		})
	}

	// Somebody else's address is fine with the same port, and ours with a
	// port that the relay does not have.
	for _, src := range []netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr("192.0.2.99"), own),
		netip.AddrPortFrom(loopback4, w.cfg.Ports.High+1),
		netip.AddrPortFrom(local, 1000),
	} {
		require.True(t, w.mayPin(source{src, local}), src)
	}
	w.noEvent()
}

// ownAddrs returns addresses of every kind that lead to the relay.
func ownAddrs(t *testing.T, w *world) []netip.Addr {
	t.Helper()

	own := []netip.Addr{
		loopback4, loopback6, netip.MustParseAddr("127.9.9.9"),
	}
	for _, addr := range w.cfg.SelfAddrs {
		own = append(own, addr.Unmap())
	}

	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)

	for _, addr := range addrs {
		ip, ok := netip.AddrFromSlice(addr.(*net.IPNet).IP)
		require.True(t, ok)

		ip = ip.Unmap()
		if ip.IsLinkLocalUnicast() && ip.Is6() {
			ip = ip.WithZone("2")
		}
		own = append(own, ip)
	}

	return own
}

// TestSelfAddrsAge checks that the list of interface addresses is kept for a
// while, and then read again.
func TestSelfAddrsAge(t *testing.T) {
	t.Parallel()

	foreign := netip.MustParseAddr("192.0.2.99")
	now := time.Now()

	self := newSelfAddrs()
	require.False(t, self.contains(foreign, now))

	// An address that goes shows whether the list was read again.
	self.machine[foreign] = struct{}{}
	almost := now.Add(selfMaxAge - 1)
	require.True(t, self.contains(foreign, almost))
	require.False(t, self.contains(foreign, now.Add(selfMaxAge)))
}
