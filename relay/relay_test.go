package relay

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// maxIPv4 is the longest payload of a datagram over IPv4.
const maxIPv4 = 65507

// TestSwap sends bursts of packets of all sizes both ways, between clients of
// both families, and checks every payload.
func TestSwap(t *testing.T) {
	t.Parallel()

	tests := map[string][2]netip.Addr{
		"IPv4 to IPv4": {loopback4, loopback4},
		"IPv6 to IPv6": {loopback6, loopback6},
		"IPv4 to IPv6": {loopback4, loopback6},
		"IPv6 to IPv4": {loopback6, loopback4},
	}
	for name, ips := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			w := newWorld(t, nil)
			s, c1, c2 := w.pair(ips[0], ips[1])
			rapid.Check(t, func(rt *rapid.T) {
				if rapid.Bool().Draw(rt, "back") {
					swapBurst(rt, s, Leg2, c2, c1)
				} else {
					swapBurst(rt, s, Leg1, c1, c2)
				}
			})

			for _, leg := range []Leg{Leg1, Leg2} {
				none := drops{}
				if leg == Leg1 {
					// The packet that pinned.
					none[DropNoClient] = 1
				}
				requireDrops(t, s, leg, none)
			}
			w.noEvent()
		})
	}
}

// swapBurst sends a burst from one client and checks that it is what the other
// gets, and that it is counted.
func swapBurst(rt *rapid.T, s *Socket, leg Leg, from, to *client) {
	sizes := rapid.SliceOfN(rapid.OneOf(
		rapid.SampledFrom([]int{0, 1, 1200, 1472, 1473, maxIPv4}),
		rapid.IntRange(0, maxIPv4),
	), 1, 12).Draw(rt, "sizes")

	in, out := legStats(s, leg), legStats(s, leg.Other())
	random := rand.NewChaCha8([32]byte{byte(leg)})
	payloads := make([][]byte, 0, len(sizes))
	for _, size := range sizes {
		payload := make([]byte, size)
		_, _ = random.Read(payload)
		payloads = append(payloads, payload)

		from.send(s.Port(leg), payload)

		in.PacketsIn++
		in.BytesIn += uint64(size)
		out.PacketsOut++
		out.BytesOut += uint64(size)
	}

	for _, payload := range payloads {
		got, source, err := to.tryReceive()
		require.NoError(rt, err)
		require.True(rt, bytes.Equal(payload, got), "payload of %d "+
			"bytes came out as %d others", len(payload), len(got))
		require.Equal(rt, s.Port(leg.Other()), source.Port())
	}

	gotIn := legStats(s, leg)
	require.Equal(rt, in.PacketsIn, gotIn.PacketsIn)
	require.Equal(rt, in.BytesIn, gotIn.BytesIn)

	// The last packet is counted after it was sent.
	require.Eventually(rt, func() bool {
		gotOut := legStats(s, leg.Other())

		return gotOut.PacketsOut == out.PacketsOut &&
			gotOut.BytesOut == out.BytesOut
	}, limit, tick)
}

// TestStrangers checks that nobody but the client gets anything through a leg,

// TestTakeover restarts a client on a new port. It gets back in when the leg

// TestNoLoop sends packets out of the relay's own ports into each other. No
// leg may take another as its client.
func TestNoLoop(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	a, b := w.open(), w.open()

	var legs []*leg
	for _, s := range []*Socket{a, b} {
		legs = append(legs, s.leg(Leg1), s.leg(Leg2))
	}

	for _, from := range legs {
		for _, to := range legs {
			for _, ip := range []netip.Addr{loopback4, loopback6} {
				addr := netip.AddrPortFrom(ip, to.port.num)
				require.NoError(t, sendTo(from.port, addr))
			}
		}
	}

	for _, s := range []*Socket{a, b} {
		for _, num := range []Leg{Leg1, Leg2} {
			waitDrops(t, s, num, DropStranger, 8)
			require.False(t, legStats(s, num).Client.IsValid())
		}
	}
	w.noEvent()
}

// TestNoLoopLater lets a leg take a client at a port that becomes the relay's
// own afterwards. What is then sent to the client ends at that port.
func TestNoLoopLater(t *testing.T) {
	t.Parallel()

	ports := freePorts(t, 4)
	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = ports
	})
	s := w.open()

	// Some free port of the range is where the client is.
	at := ports.Low
	for w.ports.isTaken(at) {
		at++
	}

	c1 := newClientAt(t, netip.AddrPortFrom(loopback4, at))
	c1.send(s.Port(Leg1), nil)
	require.Equal(t, c1.addr(), w.event().(EventPinned).New)
	c1.close()

	later := w.open()
	leg := Leg1
	if later.Port(leg) != at {
		leg = leg.Other()
	}
	require.Equal(t, at, later.Port(leg))

	c2 := newClient(t, loopback4)
	c2.send(s.Port(Leg2), nil)
	require.Equal(t, c2.addr(), w.event().(EventPinned).New)

	waitDrops(t, later, leg, DropStranger, 1)
	require.False(t, legStats(later, leg).Client.IsValid())
	w.noEvent()
}

// TestWatch checks that a watched leg tells once that it was used.
func TestWatch(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, c1, c2 := w.pair(loopback4, loopback4)
	used := EventUsed{SocketID: s.ID(), Leg: Leg2}

	for range 2 {
		s.Watch(Leg2)
		s.Watch(Leg2)

		// Neither a stranger nor the other leg's client is meant.
		newClient(t, loopback4).send(s.Port(Leg2), nil)
		c1.send(s.Port(Leg1), nil)
		require.Empty(t, c2.receive())
		w.noEvent()

		for range 3 {
			c2.send(s.Port(Leg2), nil)
			require.Empty(t, c1.receive())
		}
		require.Equal(t, used, w.event())
		w.noEvent()
	}

	// The packet that pins is a use too, and is told after the pin.
	fresh := w.open()
	fresh.Watch(Leg1)
	c1.send(fresh.Port(Leg1), nil)
	require.IsType(t, EventPinned{}, w.event())
	require.Equal(t, EventUsed{
		SocketID: fresh.ID(), Leg: Leg1,
	}, w.event())
}

// TestSendError sends what cannot be sent on. It is counted, and the leg lives.
func TestSendError(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, c1, c2 := w.pair(loopback6, loopback4)

	// IPv6 carries 20 bytes more than IPv4.
	before := s.Stats().Leg2
	c1.send(s.Port(Leg1), make([]byte, maxIPv4+20))
	require.Eventually(t, func() bool {
		return s.Stats().Leg1.Drops[DropSendError] == 1
	}, limit, tick)
	require.Equal(t, before.PacketsOut, s.Stats().Leg2.PacketsOut)

	c1.send(s.Port(Leg1), []byte("next"))
	require.Equal(t, "next", string(c2.receive()))
}

// TestLostCount checks that the kernel's count of lost packets is followed,
// also when it wraps around.
func TestLostCount(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.open()
	l := s.leg(Leg1)

	steps := []struct {
		lost uint32
		want uint64
	}{
		{0, 0},
		{7, 7},
		{7, 7},
		{1 << 30, 1 << 30},
		{1 << 31, 1 << 31},
		{3 << 30, 3 << 30},
		{5, 1<<32 + 5},
		{3, 1<<32 + 5},
		{6, 1<<32 + 6},
	}
	for _, step := range steps {
		l.lose(step.lost)
		require.Equal(t, step.want,
			s.Stats().Leg1.Drops[DropKernel], step)
	}
}

// TestBusy sends both ways at once, many sockets at a time. Every packet that
// was counted as sent carries what its sender wrote.
func TestBusy(t *testing.T) {
	t.Parallel()

	const (
		sockets = 8
		rounds  = 200
	)

	w := newWorld(t, nil)
	done := make(chan struct{}, 2*sockets)

	lockstep := func(c *client, port uint16) {
		defer func() {
			done <- struct{}{}
		}()

		for i := range uint64(rounds) {
			packet := binary.BigEndian.AppendUint64(nil, i)

			got, err := c.exchange(port, packet)
			if err != nil || !bytes.Equal(packet, got) {
				t.Errorf("round %d: got %x, %v", i, got, err)

				return
			}
		}
	}

	for range sockets {
		s, c1, c2 := w.pair(loopback4, loopback6)
		go lockstep(c1, s.Port(Leg1))
		go lockstep(c2, s.Port(Leg2))
	}

	for range 2 * sockets {
		select {
		case <-done:
		case <-time.After(limit):
			require.FailNow(t, "a client is stuck")
		}
	}
}
