//go:build !portable

package relay

import (
	"math"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestReplyAddress checks that a client that only listens to the address that
// it sends to hears the relay, on whichever address of the machine that is.
func TestReplyAddress(t *testing.T) {
	t.Parallel()

	for _, listen := range []string{"", "0.0.0.0", "::"} {
		t.Run("listen "+listen, func(t *testing.T) {
			t.Parallel()

			var ips []string
			if listen != "::" {
				ips = append(ips, "127.0.0.2", "127.3.2.1")
			}
			if listen != "0.0.0.0" {
				ips = append(ips, "::1")
			}

			w := newWorld(t, func(cfg *Config) {
				if listen != "" {
					cfg.Listen = netip.MustParseAddr(listen)
				}
			})

			for _, ip := range ips {
				replyFrom(t, w, netip.MustParseAddr(ip))
			}
		})
	}
}

// replyFrom lets two clients talk over the same address of the machine.
func replyFrom(t *testing.T, w *world, ip netip.Addr) {
	t.Helper()

	s := w.open()
	var conns [2]*net.UDPConn

	for i, leg := range []Leg{Leg1, Leg2} {
		at := netip.AddrPortFrom(ip, s.Port(leg))
		conn, err := net.DialUDP(
			"udp", nil, net.UDPAddrFromAddrPort(at),
		)
		require.NoError(t, err)
		defer func() {
			_ = conn.Close()
		}()

		_, err = conn.Write(nil)
		require.NoError(t, err)
		require.IsType(t, EventPinned{}, w.event())
		require.Equal(t, ip, s.leg(leg).pin.Load().local)

		conns[i] = conn
	}

	buffer := make([]byte, 100)
	deadline := time.Now().Add(limit)
	for i, conn := range conns {
		_, err := conns[1-i].Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(deadline))

		// Leg 1 got the empty packet that pinned leg 2 as well.
		n := 0
		for n == 0 {
			n, err = conn.Read(buffer)
			require.NoError(t, err)
		}
		require.Equal(t, "hello", string(buffer[:n]))
	}
}

// TestReplyAddressMoves checks that a client that goes on at another address
// of the machine is answered from there.
func TestReplyAddressMoves(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, c1, c2 := w.pair(loopback4, loopback4)

	for _, ip := range []string{"127.0.0.2", "127.0.0.1", "127.0.0.3"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(ip), s.Port(Leg1))
		_, err := c1.conn.WriteToUDPAddrPort([]byte("ping"), at)
		require.NoError(t, err)
		require.Equal(t, "ping", string(c2.receive()))

		c2.send(s.Port(Leg2), []byte("pong"))
		payload, from, err := c1.tryReceive()
		require.NoError(t, err)
		require.Equal(t, "pong", string(payload))
		require.Equal(t, ip, from.Addr().Unmap().String())
		require.Equal(t, s.Port(Leg1), from.Port())
	}

	w.noEvent()
}

// TestKernelDrops floods a leg that does not read. What the kernel dropped is
// counted.
func TestKernelDrops(t *testing.T) {
	t.Parallel()

	gate := make(chan struct{})
	relay, err := New(testConfig(t), func(event Event) {
		if _, ok := event.(EventPinned); ok {
			<-gate
		}
	})
	require.NoError(t, err)
	defer stopRelay(t, relay)

	s, err := relay.Open(Options{Protocol: UDP})
	require.NoError(t, err)
	defer func() {
		require.NoError(t, s.Close())
	}()
	require.NoError(t, unix.SetsockoptInt(
		s.leg(Leg1).port.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1,
	))

	c := newClient(t, loopback4)
	sent := uint64(0)
	for range 500 {
		c.send(s.Port(Leg1), make([]byte, 1000))
		sent++
	}
	close(gate)

	// The count comes with the next packet, which may be lost itself.
	require.Eventually(t, func() bool {
		leg1 := s.Stats().Leg1
		lost := leg1.Drops[DropKernel]
		if lost > 0 && leg1.PacketsIn+lost == sent {
			return true
		}

		c.send(s.Port(Leg1), nil)
		sent++

		return false
	}, limit, 10*time.Millisecond)
}

// TestICMP lets a client go away while packets are sent to it. What comes back
// by ICMP is counted as a failed send at most, and the leg lives.
func TestICMP(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.Listen = loopback4
	})

	// At an address of its own, so that nobody gets what is sent to it
	// while it is away.
	pid := os.Getpid()
	away := netip.AddrFrom4([4]byte{127, 77, byte(pid >> 8), byte(pid)})
	s, c1, c2 := w.pair(loopback4, away)

	// A socket that is not connected is not told of ICMP messages. Ask.
	l := s.leg(Leg2)
	require.NoError(t, unix.SetsockoptInt(
		l.port.fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1,
	))

	at := c2.addr()
	c2.close()

	// The answer to each packet that goes out fails a read of the leg, or
	// the next send.
	before := s.Stats().Leg2.PacketsOut
	require.Eventually(t, func() bool {
		c1.send(s.Port(Leg1), []byte("anybody?"))

		stats := s.Stats()
		answers := stats.Leg2.PacketsOut - before
		failed := stats.Leg1.Drops[DropSendError]

		return answers > failed+maxReadFailures+100
	}, limit, 100*time.Microsecond)

	c2 = newClientAt(t, at)
	require.Eventually(t, func() bool {
		c1.send(s.Port(Leg1), []byte("again"))
		err := c2.conn.SetReadDeadline(time.Now().Add(tick))
		require.NoError(t, err)
		_, _, err = c2.conn.ReadFromUDPAddrPort(c2.buffer[:])

		return err == nil
	}, limit, tick)

	c2.send(s.Port(Leg2), []byte("back"))
	require.Equal(t, "back", string(c1.receive()))
	require.Equal(t, 1, w.NumSockets())
	w.noEvent()
}

// TestDeadPort takes a port away behind the relay's back. The socket ends, and
// both its ports are given back.
func TestDeadPort(t *testing.T) {
	t.Parallel()

	for _, leg := range []Leg{Leg1, Leg2} {
		gate := make(chan struct{})
		events := make(chan Event, 10)
		relay, err := New(testConfig(t), func(event Event) {
			events <- event
			if _, ok := event.(EventPinned); ok {
				<-gate
			}
		})
		require.NoError(t, err)
		defer stopRelay(t, relay)

		s, err := relay.Open(Options{Protocol: UDP})
		require.NoError(t, err)

		// While the leg is busy with a packet its port becomes one
		// that no packet can be read from.
		newClient(t, loopback4).send(s.Port(leg), nil)
		require.IsType(t, EventPinned{}, <-events)
		kill(t, s.leg(leg).port)
		close(gate)

		// Run ends the socket, whenever it comes.
		require.Eventually(t, func() bool {
			relay.mu.Lock()
			defer relay.mu.Unlock()

			return len(relay.doomed) == 1
		}, limit, tick)
		require.Equal(t, 1, relay.NumSockets())

		require.Equal(t, maxWait, relay.endDue(t.Context()))
		require.Equal(t, EventClosed{
			SocketID: s.ID(), Reason: CloseError,
		}, <-events)
		require.Empty(t, events)
		require.Zero(t, relay.NumSockets())
		require.True(t, isFree(s.Port(Leg1)))
		require.True(t, isFree(s.Port(Leg2)))
		require.NoError(t, s.Close())
	}
}

// kill shuts a port down behind the relay's back. The system says that it has
// no connection, and does it all the same.
func kill(t *testing.T, p *port) {
	t.Helper()

	err := unix.Shutdown(p.fd, unix.SHUT_RDWR)
	require.ErrorIs(t, err, unix.ENOTCONN)
}

// TestDeadPorts takes a port of one socket after the other away. The relay,
// which runs, ends them.
func TestDeadPorts(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)

	// Run sleeps when the later ones fail.
	for i := range 6 {
		s := w.open()
		kill(t, s.leg(Leg1+Leg(i%2)).port)

		require.Equal(t, EventClosed{
			SocketID: s.ID(), Reason: CloseError,
		}, w.event())
		require.NoError(t, s.Close())
		require.Zero(t, w.NumSockets())
	}

	w.stop()
	w.noEvent()
}

// TestBadMessages checks what the receiver makes of messages that the kernel
// does not send.
func TestBadMessages(t *testing.T) {
	t.Parallel()

	names := map[string][]byte{
		"empty":  {},
		"short":  make([]byte, unix.SizeofSockaddrInet4-1),
		"family": make([]byte, unix.SizeofSockaddrInet6),
		"cut":    name6(netip.AddrPortFrom(loopback6, 1))[:27],
	}
	for name, bytes := range names {
		_, err := parseName(bytes)
		require.Error(t, err, name)
	}

	var in arrival
	require.Error(t, in.readControl(make([]byte, 5)))

	// A local address that nothing can be sent from is not kept.
	for _, addr := range []string{"224.0.0.1", "255.255.255.255"} {
		control := control4(netip.MustParseAddr(addr))
		require.NoError(t, in.readControl(control))
		require.False(t, in.local().IsValid())
	}
	require.Nil(t, control4(netip.Addr{}))
	require.Nil(t, control6(netip.Addr{}))
}

// TestNames checks that addresses survive being told to the kernel and back.
func TestNames(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip")
		index := rapid.Uint32().Draw(t, "index")
		port := rapid.Uint16().Draw(t, "port")

		var addr netip.Addr
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			addr = netip.AddrFrom4([4]byte(bytes))

		case 1:
			addr = netip.AddrFrom16([16]byte(bytes)).Unmap()

		default:
			bytes[0], bytes[1] = 0xfe, 0x80
			addr = netip.AddrFrom16([16]byte(bytes))
		}
		addr = withIndex(addr, index)

		src := netip.AddrPortFrom(addr, port)
		got, err := parseName(name6(src))
		require.NoError(t, err)
		require.Equal(t, src, got)

		var in arrival
		require.NoError(t, in.readControl(control6(addr)))
		if isUnicast(addr) {
			require.Equal(t, addr, in.local())
		}

		if !addr.Is4() {
			return
		}

		got, err = parseName(name4(src))
		require.NoError(t, err)
		require.Equal(t, src, got)

		require.NoError(t, in.readControl(control4(addr)))
		if isUnicast(addr) {
			require.Equal(t, addr, in.local())
		}
	})
}

// TestNoBroadcast checks that a port does not send to a whole network, should
// a forged source of that kind ever be pinned.
func TestNoBroadcast(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	l := w.open().leg(Leg1)

	everybody := netip.MustParseAddrPort("127.255.255.255:9")
	require.ErrorIs(t, sendTo(l.port, everybody), unix.EACCES)

	nobody := netip.AddrPortFrom(loopback4, 9)
	require.NoError(t, sendTo(l.port, nobody))
}

// sendTo sends a packet from a port.
func sendTo(p *port, to netip.AddrPort) error {
	e := newEngine()
	e.add([]byte("hello"), 5, math.MaxInt)

	route := p.route(source{addr: to})
	e.prepare(0, &route)
	_, err := mmsg(unix.SYS_SENDMMSG, p.fd, e.out[:1])

	return err
}
