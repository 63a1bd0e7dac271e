package relay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAllowList checks which addresses are in which networks.
func TestAllowList(t *testing.T) {
	t.Parallel()

	tests := []struct {
		list    []netip.Prefix
		in, out []string
	}{{
		in: []string{"192.0.2.1", "2001:db8::1", "fe80::1%1"},
	}, {
		list: prefixes("192.0.2.0/24"),
		in:   []string{"192.0.2.0", "192.0.2.1", "192.0.2.255"},
		out: []string{
			"192.0.1.255", "192.0.3.0", "2001:db8::1",
			"::192.0.2.1",
		},
	}, {
		list: prefixes("192.0.2.1/32", "198.51.100.128/25"),
		in:   []string{"192.0.2.1", "198.51.100.128"},
		out:  []string{"192.0.2.2", "198.51.100.127"},
	}, {
		list: prefixes("2001:db8::/32"),
		in: []string{
			"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
		},
		out: []string{"2001:db9::", "2001:db7::1", "192.0.2.1"},
	}, {
		// Neither family stands for the other.
		list: prefixes("0.0.0.0/0"),
		in:   []string{"192.0.2.1", "127.0.0.1"},
		out:  []string{"2001:db8::1", "::1", "fe80::1%1"},
	}, {
		list: prefixes("::/0"),
		in:   []string{"2001:db8::1", "::1"},
		out:  []string{"192.0.2.1"},
	}, {
		// A network is on every link.
		list: prefixes("fe80::/64"),
		in:   []string{"fe80::1", "fe80::1%1", "fe80::1%eth0"},
		out:  []string{"fe80:0:0:1::1%1", "fec0::1%1"},
	}}
	for _, test := range tests {
		list := allowList(test.list)
		require.NoError(t, list.validate())

		for _, addr := range test.in {
			require.True(t, list.allows(netip.MustParseAddr(addr)),
				"%v in %v", addr, list)
		}
		for _, addr := range test.out {
			require.False(t, list.allows(netip.MustParseAddr(addr)),
				"%v in %v", addr, list)
		}
	}
}

// TestAllowLink checks that the zone of an address on a link does not matter.
func TestAllowLink(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	l := w.openWith(Options{
		Protocol: UDP,
		Allow:    [2][]netip.Prefix{prefixes("fe80::/64")},
	}).leg(Leg1)

	for addr, want := range map[string]bool{
		"[fe80::1%1]:1000":     true,
		"[fe80:0:1::1%1]:1000": false,
	} {
		src := sourceOf(addr)
		for _, check := range []func() (DropReason, bool){
			func() (DropReason, bool) {
				return l.mayAdmit(nil, src, begin)
			},
			func() (DropReason, bool) { return l.mayBind(src) },
			func() (DropReason, bool) {
				return l.mayCome(src.addr)
			},
		} {
			why, ok := check()
			require.Equal(t, want, ok)
			if !ok {
				require.Equal(t, DropNotAllowed, why)
			}
		}
	}
}

// TestAllowUDP checks that an OPEN leg takes clients from where it allows them
// only, and counts the packets of others.
func TestAllowUDP(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.PinTimeout = 1
	})
	s := w.openWith(Options{Protocol: UDP, Allow: [2][]netip.Prefix{
		prefixes("127.1.0.0/16", "::1/128"), prefixes("127.0.0.1/32"),
	}})
	s.Watch(Leg1)

	// The port is one of both families, where IPv4 comes as IPv6.
	isolated := newClient(t, loopback4)
	outside := newClient(t, netip.MustParseAddr("127.2.0.1"))
	for i, c := range []*client{isolated, outside, isolated} {
		c.send(s.Port(Leg1), []byte("let me in"))
		waitDrops(t, s, Leg1, DropNotAllowed, uint64(i+1))
	}
	require.False(t, s.Stats().Leg1.Client.IsValid())
	require.Zero(t, s.Stats().Leg1.PacketsIn)
	w.noEvent()

	c1 := newClient(t, netip.MustParseAddr("127.1.2.3"))
	c1.send(s.Port(Leg1), nil)
	require.Equal(t, EventPinned{
		SocketID: s.ID(), Leg: Leg1, New: c1.addr(),
	}, w.event())
	require.Equal(t, EventUsed{SocketID: s.ID(), Leg: Leg1}, w.event())

	// The other leg has a list of its own.
	c1.send(s.Port(Leg2), nil)
	waitDrops(t, s, Leg2, DropNotAllowed, 1)
	c2 := isolated
	c2.send(s.Port(Leg2), []byte("hello"))
	require.Equal(t, "hello", string(c1.receive()))
	require.Equal(t, c2.addr(), w.event().(EventPinned).New)

	// However long the client is silent, only who is allowed is the next.
	require.Greater(t, time.Duration(w.moment().now), w.cfg.PinTimeout)
	c2.send(s.Port(Leg1), []byte("me"))
	require.Eventually(t, func() bool {
		return legStats(s, Leg1).Drops[DropNotAllowed] == 4
	}, limit, tick)
	require.Equal(t, c1.addr(), s.Stats().Leg1.Client)

	c3 := newClient(t, loopback6)
	c3.send(s.Port(Leg1), []byte("IPv6"))
	require.Equal(t, "IPv6", string(c2.receive()))
	require.Equal(t, EventPinned{
		SocketID: s.ID(), Leg: Leg1, Old: c1.addr(), New: c3.addr(),
	}, w.event())
	requireDrops(t, s, Leg1, drops{DropNotAllowed: 4, DropNoClient: 1})
	w.noEvent()
}

// TestAllowStranger checks that who is allowed is a stranger all the same when
// the leg has a client, and is counted as one.
func TestAllowStranger(t *testing.T) {
	t.Parallel()

	list := prefixes("127.0.0.0/8")
	w := newWorld(t, nil)
	s := w.openWith(Options{
		Protocol: UDP, Allow: [2][]netip.Prefix{list, list},
	})
	c1, c2 := w.join(s, loopback4, loopback4)

	newClient(t, loopback4).send(s.Port(Leg1), nil)
	newClient(t, loopback6).send(s.Port(Leg1), nil)
	want := drops{DropNoClient: 1, DropStranger: 1, DropNotAllowed: 1}
	require.Eventually(t, func() bool {
		got := legStats(s, Leg1).Drops

		return got[DropStranger] > 0 && got[DropNotAllowed] > 0
	}, limit, tick)
	requireDrops(t, s, Leg1, want)

	c1.send(s.Port(Leg1), []byte("hello"))
	require.Equal(t, "hello", string(c2.receive()))
	w.noEvent()
}

// TestAllowTCP checks that an OPEN leg takes connections from where it allows
// them only, and counts others.
func TestAllowTCP(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxConns = 2
	})
	s := w.openWith(Options{Protocol: TCP, Allow: [2][]netip.Prefix{
		prefixes("127.0.1.0/24"), prefixes("::1/128"),
	}})

	refused := []netip.Addr{loopback4, local4(2, 1), loopback6}
	for i, from := range refused {
		callRefused(t, from, s, Leg1)
		waitDrops(t, s, Leg1, DropNotAllowed, uint64(i+1))
	}
	callRefused(t, local4(1, 1), s, Leg2)
	waitDrops(t, s, Leg2, DropNotAllowed, 1)
	w.noEvent()

	c1 := callAdmitted(t, local4(1, 1), s, Leg1)
	require.Equal(t, c1.addr(), w.event().(EventPinned).New)
	c2 := callAdmitted(t, loopback6, s, Leg2)
	require.Equal(t, c2.addr(), w.event().(EventPinned).New)
	c1.say("hello")
	c2.hear("hello")

	// Who is allowed is a stranger now, and who is not does not learn that
	// there is no room.
	callRefused(t, local4(1, 2), s, Leg1)
	callRefused(t, loopback4, s, Leg1)
	requireDrops(t, s, Leg1, drops{DropNotAllowed: 4, DropStranger: 1})
	callRefused(t, loopback6, s, Leg2)
	requireDrops(t, s, Leg2, drops{DropNotAllowed: 1, DropLimit: 1})
	require.Equal(t, DropLimit, w.event().(EventLimit).Reason)

	require.EqualValues(t, 1, s.Stats().Leg1.Accepted)
	require.EqualValues(t, 2, w.conns.Load())
	w.noEvent()
}
