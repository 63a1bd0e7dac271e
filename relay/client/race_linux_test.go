package client_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/relay/client"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// blackHole makes the machine lose whatever is sent to an address. Nothing
// comes back, not even an error.
func (m *machine) blackHole(ip netip.Addr) {
	m.t.Helper()

	// It comes back in as what is for somebody else, and this machine is no
	// router.
	require.NoError(m.t, netlink.RouteAdd(&netlink.Route{
		LinkIndex: m.link.Attrs().Index, Dst: hostAddr(ip).IPNet,
	}))
}

// served is what a race over an address that is a black hole, and one that is
// not, has to come to.
type served struct {
	t    *testing.T
	good netip.AddrPort

	// addrs has the black hole first.
	addrs []netip.AddrPort
}

// within checks that a connection goes to the address that answers, and that
// the black hole was waited for: there was no error.
func (s *served) within(began time.Time, conn net.Conn) {
	s.t.Helper()

	require.GreaterOrEqual(s.t, time.Since(began), 250*time.Millisecond)
	require.Equal(s.t, s.good.String(), conn.RemoteAddr().String())
}

// TestBlackHole dials legs of all kinds whose preferred address is one that
// nothing comes back from. It is left for the one of the other family.
func TestBlackHole(t *testing.T) {
	t.Parallel()

	if !inNetwork(t) {
		return
	}

	hole := netip.MustParseAddr("10.78.1.1")
	m := newMachine(t, netip.MustParseAddr("10.78.0.1"))
	m.blackHole(hole)

	to := func(good netip.AddrPort) *served {
		return &served{t: t, good: good, addrs: []netip.AddrPort{
			netip.AddrPortFrom(hole, good.Port()),

			// The other family is first, whatever comes first.
			netip.AddrPortFrom(
				netip.MustParseAddr("10.78.0.1"), good.Port(),
			),
			good,
		}}
	}

	// UDP.
	l := newLeg(t, loopback6)
	s := to(l.addr())
	cfg := l.config()
	cfg.Addrs = s.addrs
	began := time.Now()
	conn := dial(t, cfg)
	s.within(began, conn)
	exchange(t, l, conn)

	// TCP.
	leg := newTCPLeg(t, loopback6)
	s = to(leg.addr())
	wait := leg.serve(func(conn *tcpConn) {
		m := conn.challenge()
		conn.say(m, bind.Size)
		conn.receive()
		m.Type = bind.Bound
		conn.say(m, bind.Size)
	})
	cfg = leg.config()
	cfg.Addrs = s.addrs
	began = time.Now()
	stream, err := client.DialTCP(testContext(t), cfg)
	require.NoError(t, err)
	s.within(began, stream)
	wait()
	require.NoError(t, stream.Close())

	// TCP, OPEN.
	wait = leg.serve(func(*tcpConn) {})
	began = time.Now()
	stream, err = client.DialOpenTCP(testContext(t), s.addrs)
	require.NoError(t, err)
	s.within(began, stream)
	wait()
	_, err = io.ReadAll(stream)
	require.NoError(t, err)
	require.NoError(t, stream.Close())
}

// TestNoWay dials a leg whose preferred address this machine has no way to,
// which shows at once: nothing is waited for.
func TestNoWay(t *testing.T) {
	t.Parallel()

	if !inNetwork(t) {
		return
	}

	newMachine(t, netip.MustParseAddr("10.78.0.1"))
	l := newLeg(t, loopback4)
	cfg := l.config()
	cfg.Addrs = []netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr("2a00::1"), 1),
		netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), 1),
		l.addr(),
	}
	began := time.Now()
	conn := dial(t, cfg)
	require.Less(t, time.Since(began), 250*time.Millisecond)
	exchange(t, l, conn)
}
