package relay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// udpPour is datagrams that one client sends to another through a socket, as
// fast as the leg takes them, so that no queue overflows.
type udpPour struct {
	s        *Socket
	leg      Leg
	from, to *client

	// sent is how many were sent, and passed how many of them came.
	sent, passed int
}

// pour opens a socket with limits and two clients that both legs know, the
// first of which is to send.
func (w *world) pour(limits Limits) *udpPour {
	w.t.Helper()

	s := w.openWith(Options{Protocol: UDP, Limits: limits})
	c1, c2 := w.join(s, loopback4, loopback4)

	return &udpPour{s: s, leg: Leg1, from: c1, to: c2}
}

// back returns the other direction. Its first packet was sent by join.
func (p *udpPour) back() *udpPour {
	return &udpPour{s: p.s, leg: p.leg.Other(), from: p.to, to: p.from}
}

// send sends so many datagrams, and waits until the leg has decided on each.
func (p *udpPour) send(count, size int) {
	p.from.t.Helper()

	payload := make([]byte, size)
	in := legStats(p.s, p.leg).PacketsIn
	for range count {
		if size >= 4 {
			binary.BigEndian.PutUint32(payload, uint32(p.sent))
		}
		p.from.send(p.s.Port(p.leg), payload)
		p.sent++
	}

	require.Eventually(p.from.t, func() bool {
		return legStats(p.s, p.leg).PacketsIn == in+uint64(count)
	}, limit, tick, "of %d: %+v", count, p.s.Stats())
}

// requirePassed waits until all that was sent came out or was dropped for the
// reason, and none for any other. What came out must be in order. It returns
// how many datagrams did.
func (p *udpPour) requirePassed(why DropReason) int {
	t := p.from.t
	t.Helper()

	// Those of the join.
	before := uint64(p.leg - Leg1)
	want := drops{DropNoClient: 1 - before}
	stats := func() (uint64, uint64) {
		out := legStats(p.s, p.leg.Other()).PacketsOut - before

		return out, legStats(p.s, p.leg).Drops[why]
	}

	require.Eventually(t, func() bool {
		passed, dropped := stats()

		return passed+dropped == uint64(p.sent)
	}, limit, tick, "of %d: %+v", p.sent, p.s.Stats())

	passed, dropped := stats()
	want[why] += dropped
	requireDrops(t, p.s, p.leg, want)

	last := -1
	for ; p.passed < int(passed); p.passed++ {
		payload := p.to.receive()
		if len(payload) < 4 {
			continue
		}

		number := int(binary.BigEndian.Uint32(payload))
		require.Greater(t, number, last)
		last = number
	}

	return p.passed
}

// limit returns the event that a limit bites.
func (p *udpPour) limit(why DropReason) EventLimit {
	return EventLimit{SocketID: p.s.ID(), Leg: p.leg, Reason: why}
}

// requireLimits checks that each of these events came, and no other, as often
// as may be in so long a time.
func (w *world) requireLimits(elapsed time.Duration, want ...EventLimit) {
	w.t.Helper()

	got := make(map[Event]int)
	for range want {
		got[w.event()]++
	}
	for len(w.events) > 0 {
		got[w.event()]++
	}

	require.Len(w.t, got, len(want))
	for _, event := range want {
		require.Contains(w.t, got, event)
		require.LessOrEqual(w.t, got[event],
			int(elapsed/limitInterval)+1)
	}
}

// TestBandwidthUDP sends far more than may pass in a second. What passes is
// what may, and the rest is counted. The other direction has a limit of its
// own.
func TestBandwidthUDP(t *testing.T) {
	t.Parallel()

	const rate, size = 100_000, 1000

	w := newWorld(t, nil)
	begin := time.Now()
	p := w.pour(Limits{Bandwidth: rate})
	for range 20 {
		p.send(50, size)
	}
	elapsed := time.Since(begin)

	// It may be a packet more than there is.
	passed := p.requirePassed(DropBandwidth)
	out := float64(passed * size)
	require.GreaterOrEqual(t, out, mostOf(rate, 0))
	require.LessOrEqual(t, out, mostOf(rate, elapsed)+size)
	w.requireLimits(elapsed, p.limit(DropBandwidth))

	back := p.back()
	back.send(rate/4/size, size)
	require.Equal(t, rate/4/size, back.requirePassed(DropBandwidth))
	w.noEvent()

	// It goes on as bandwidth allows.
	begin = time.Now()
	require.Eventually(t, func() bool {
		p.send(1, size)

		return p.requirePassed(DropBandwidth) >= passed+10
	}, limit, tick)
	require.GreaterOrEqual(t, time.Since(begin)+burstTime,
		10*time.Second*size/rate)
}

// TestPacketsUDP is the same with the number of packets, however small they
// are.
func TestPacketsUDP(t *testing.T) {
	t.Parallel()

	const rate = 200

	w := newWorld(t, nil)
	begin := time.Now()
	p := w.pour(Limits{Packets: rate, Bandwidth: 1_000_000})
	for i := range 20 {
		p.send(50, i%10)
	}
	elapsed := time.Since(begin)

	passed := float64(p.requirePassed(DropPackets))
	require.GreaterOrEqual(t, passed, mostOf(rate, 0))
	require.LessOrEqual(t, passed, mostOf(rate, elapsed)+1)
	w.requireLimits(elapsed, p.limit(DropPackets))

	// The other direction has passed one.
	back := p.back()
	back.send(rate/4-1, 0)
	require.Equal(t, rate/4-1, back.requirePassed(DropPackets))
	w.noEvent()
}

// TestSlowestUDP passes one packet and then no more for a long time, which ends
// the socket when it is idle for so long: what is dropped does not keep it.
func TestSlowestUDP(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openWith(Options{
		Protocol: UDP, IdleTimeout: 300 * time.Millisecond,
		Limits: Limits{Bandwidth: 1},
	})
	c1, c2 := w.join(s, loopback4, loopback4)

	c1.send(s.Port(Leg1), make([]byte, maxIPv4))
	require.Len(t, c2.receive(), maxIPv4)

	require.Eventually(t, func() bool {
		_ = c1.trySend(s.Port(Leg1), []byte("x"))

		return w.NumSockets() == 0
	}, limit, tick)
	require.Equal(t, EventLimit{
		SocketID: s.ID(), Leg: Leg1, Reason: DropBandwidth,
	}, w.event())
	require.Equal(t, EventClosed{
		SocketID: s.ID(), Reason: CloseIdle,
	}, w.event())
	require.EqualValues(t, maxIPv4, s.Stats().Leg2.BytesOut)
	require.NotZero(t, s.Stats().Leg1.Drops[DropBandwidth])
}

// TestTotalBytesUDP checks that a socket ends when it has passed all that it
// may in both directions together, to the byte.
func TestTotalBytesUDP(t *testing.T) {
	t.Parallel()

	const count, size = 10, 1000

	w := newWorld(t, nil)
	p := w.pour(Limits{TotalBytes: 2*count*size + 1})
	back := p.back()
	for range count {
		p.send(1, size)
		back.send(1, size)
		p.send(1, 0)
		back.send(1, 0)
	}
	require.Equal(t, 2*count, p.requirePassed(DropBytes))
	require.Equal(t, 2*count, back.requirePassed(DropBytes))
	require.Equal(t, 1, w.NumSockets())
	w.noEvent()

	back.from.send(p.s.Port(Leg2), []byte("x"))
	require.Equal(t, EventClosed{
		SocketID: p.s.ID(), Reason: CloseBytes,
	}, w.event())
	require.Equal(t, "x", string(p.from.receive()))
	requireDrops(t, p.s, Leg1, drops{DropNoClient: 1})
	requireDrops(t, p.s, Leg2, nil)

	stats := p.s.Stats()
	require.EqualValues(t, count*size, stats.Leg2.BytesOut)
	require.EqualValues(t, count*size+1, stats.Leg1.BytesOut)
	require.True(t, isFree(p.s.Port(Leg1)))
	require.True(t, isFree(p.s.Port(Leg2)))
	w.noEvent()
}

// TestTooManyBytesUDP checks that a packet that is too large for what is left
// ends the socket, and does not pass. A socket that ends passes no more.
func TestTooManyBytesUDP(t *testing.T) {
	t.Parallel()

	const count, size = 10, 1000

	w := newWorld(t, nil)
	p := w.pour(Limits{TotalBytes: count*size - 1})
	p.send(count-1, size)
	require.Equal(t, count-1, p.requirePassed(DropBytes))
	w.noEvent()

	// The relay may be done with the socket before it comes to all.
	p.from.send(p.s.Port(Leg1), make([]byte, size))
	_ = p.from.trySend(p.s.Port(Leg1), make([]byte, size))
	require.Equal(t, p.limit(DropBytes), w.event())
	require.Equal(t, EventClosed{
		SocketID: p.s.ID(), Reason: CloseBytes,
	}, w.event())
	w.noEvent()

	stats := p.s.Stats()
	require.EqualValues(t, (count-1)*size, stats.Leg2.BytesOut)
	dropped := stats.Leg1.Drops[DropBytes]
	require.Contains(t, []uint64{1, 2}, dropped)
	requireDrops(t, p.s, Leg1, drops{DropNoClient: 1, DropBytes: dropped})
}

// TestRelayBandwidthUDP lets two sockets use up what the whole relay may pass.
// Together they pass no more, neither of them takes it all, and a third one
// that sends little loses nothing.
func TestRelayBandwidthUDP(t *testing.T) {
	t.Parallel()

	const rate, size, little, enough = 200_000, 1000, 100, 100

	w := newWorld(t, func(cfg *Config) {
		cfg.Bandwidth = rate
	})
	begin := time.Now()
	a, b, c := w.pour(Limits{}), w.pour(Limits{}), w.pour(Limits{})
	back := c.back()

	// A fourth of the rate is due to each direction.
	const pause = time.Second * little * 4 / rate
	last, isEnough := begin, func(p *udpPour) bool {
		return legStats(p.s, Leg2).PacketsOut >= enough
	}
	for !isEnough(a) || !isEnough(b) {
		require.Less(t, time.Since(begin), limit)
		a.send(10, size)
		b.send(10, size)

		if now := time.Now(); now.Sub(last) >= pause {
			c.send(1, little/2)
			back.send(1, little/2)
			last = now
		}
	}
	elapsed := time.Since(begin)

	passed := a.requirePassed(DropBandwidth) +
		b.requirePassed(DropBandwidth)
	require.LessOrEqual(t, float64(passed*size), mostOf(rate, elapsed)+
		firstBurst(4)/shareRate*rate)
	require.NotZero(t, c.sent)
	require.Equal(t, c.sent, c.requirePassed(DropBandwidth))
	require.Equal(t, back.sent, back.requirePassed(DropBandwidth))
	w.requireLimits(elapsed, a.limit(DropBandwidth), b.limit(DropBandwidth))
}

// newLimitedFlow returns a flow through a socket that has every limit, of which
// none bites.
func newLimitedFlow(tb testing.TB, size int) *flow {
	tb.Helper()

	const much = 1 << 50

	w := newWorld(tb, func(cfg *Config) {
		cfg.Bandwidth, cfg.AccountBandwidth = much, much
	})
	p := w.pour(Limits{Bandwidth: much, Packets: much, TotalBytes: much})
	p.s.Charge("somebody")
	require.NoError(tb, p.to.conn.SetReadDeadline(time.Time{}))

	return &flow{
		from:    p.from,
		to:      p.to,
		port:    netip.AddrPortFrom(loopback4, p.s.Port(Leg1)),
		payload: make([]byte, size),
	}
}

// TestNoAllocationLimits checks that limits allocate nothing either.
func TestNoAllocationLimits(t *testing.T) {
	for _, size := range []int{0, 1200} {
		f := newLimitedFlow(t, size)
		f.pass(t, 10)

		count := testing.AllocsPerRun(1000, func() {
			f.pass(t, 1)
		})
		if raceDetector {
			require.LessOrEqual(t, count, 1.0)
		} else {
			require.Zero(t, count)
		}
	}
}
