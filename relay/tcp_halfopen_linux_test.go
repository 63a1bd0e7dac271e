package relay

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// callIn connects to a leg from a client's machine and waits until it is
// admitted.
func (n *network) callIn(t *testing.T, client int, s *Socket, leg Leg) *caller {
	t.Helper()

	var (
		conn   *net.TCPConn
		before = legStats(s, leg).Accepted
		from   = n.place(client, false)
		to     = netip.AddrPortFrom(from.relay, s.Port(leg))
	)
	require.NoError(t, from.space.do(func() (err error) {
		conn, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))

		return err
	}))
	t.Cleanup(func() {
		_ = conn.Close()
	})

	require.NoError(t, conn.SetDeadline(time.Now().Add(limit)))
	require.Eventually(t, func() bool {
		return legStats(s, leg).Accepted > before
	}, limit, tick)

	return &caller{TCPConn: conn, t: t}
}

// TestTCPHalfOpen takes the wire away from a client: its connections end
// without a word. The relay finds out, also about one that waits, and tells the
// other side.
func TestTCPHalfOpen(t *testing.T) {
	t.Parallel()

	if !inNetwork(t) {
		return
	}

	n := newNetwork(t, 1500, 1500)
	w := newWorld(t, func(cfg *Config) {
		cfg.KeepAlive = time.Second
	})
	checkInnocent := w.innocent()
	s := w.openTCP()

	c1, c2 := n.callIn(t, 0, s, Leg1), n.callIn(t, 1, s, Leg2)
	n.callIn(t, 0, s, Leg1)
	c1.say("hello")
	c2.hear("hello")
	c2.say("hello")
	c1.hear("hello")
	waitConns(t, s, Leg1, connStats{accepted: 2, open: 2, waiting: 1})

	require.NoError(t, n.spaces[0].do(func() error {
		link, err := netlink.LinkByName(clientDevice)
		if err != nil {
			return err
		}

		return netlink.LinkSetDown(link)
	}))

	// Whoever answers is alive however long it says nothing.
	begin := time.Now()
	c2.hearReset()
	require.GreaterOrEqual(t, time.Since(begin), time.Second)
	waitDrops(t, s, Leg1, DropNoClient, 1)
	waitConns(t, s, Leg1, connStats{accepted: 2, resets: 1})
	waitConns(t, s, Leg2, connStats{accepted: 1})
	requireDrops(t, s, Leg2, nil)

	// The other client is not blamed, and finds its next partner.
	n.callIn(t, 1, s, Leg2)
	waitConns(t, s, Leg2, connStats{accepted: 2, open: 1, waiting: 1})
	checkInnocent()
}
