package relay

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// limitedPair opens a TCP socket with limits, and a pair.
func (w *world) limitedPair(limits Limits) (*Socket, *caller, *caller) {
	w.t.Helper()

	s := w.openWith(Options{Protocol: TCP, Limits: limits})
	c1, c2 := callBoth(w.t, s)
	require.IsType(w.t, EventPinned{}, w.event())
	require.IsType(w.t, EventPinned{}, w.event())

	return s, c1, c2
}

// TestTCPBandwidth passes streams both ways at once, on several pairs of one
// socket. They come out as they were, and take as long as they have to: all
// that goes one way together passes no faster than one pair would.
func TestTCPBandwidth(t *testing.T) {
	t.Parallel()

	for _, pairs := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d pairs", pairs), func(t *testing.T) {
			t.Parallel()

			w := newWorld(t, nil)
			w.passPaced(pairs)
		})
	}
}

// passPaced is TestTCPBandwidth with so many pairs.
func (w *world) passPaced(pairs int) {
	w.t.Helper()

	// Each pair has pieces that do not fit one read, and small ones.
	const rate = 1_000_000
	writes := []int{
		1, 4095, 4097, 100_000, 3, 400_000, 10, 4096, 20_000, 200_000,
	}

	begin := time.Now()
	s, c1, c2 := w.limitedPair(Limits{Bandwidth: rate})
	callers := [][2]*caller{{c1, c2}}
	for range pairs - 1 {
		c1, c2 = callBoth(w.t, s)
		callers = append(callers, [2]*caller{c1, c2})
	}

	done := make(chan error, pairs)
	total := int64(0)
	for i, pair := range callers {
		speeches := [2]*speech{
			{seed: byte(2 * i), writes: writes, reads: 1 << 16},
			{seed: byte(2*i + 1), writes: writes, reads: 5000},
		}
		total += speeches[0].size()
		go func() {
			done <- tryConverse(pair, speeches)
		}()
	}
	for range pairs {
		require.NoError(w.t, <-done)
	}
	elapsed := time.Since(begin)

	// What is read at once is a little more than may be.
	over := float64(pairs * chunkMax * 2)
	require.LessOrEqual(w.t, float64(total), mostOf(rate, elapsed)+over)

	for _, pair := range callers {
		pair[0].hangUp()
		pair[1].hangUp()
	}
	waitClosed(w.t, s)
	for _, leg := range []Leg{Leg1, Leg2} {
		stats := legStats(s, leg)
		require.EqualValues(w.t, total, stats.BytesIn)
		require.EqualValues(w.t, total, stats.BytesOut)
		require.Zero(w.t, stats.Resets)
		require.NotZero(w.t, stats.Drops[DropBandwidth])
		requireDrops(w.t, s, leg, drops{
			DropBandwidth: stats.Drops[DropBandwidth],
		})
	}
	w.requireLimits(elapsed,
		EventLimit{s.ID(), Leg1, DropBandwidth},
		EventLimit{s.ID(), Leg2, DropBandwidth})
}

// TestTCPPacedEnd ends a stream that has to wait, at once after its last byte.
// All of it comes, and then the end, and the other direction goes on.
func TestTCPPacedEnd(t *testing.T) {
	t.Parallel()

	const rate, size = 100_000, 60_000

	begin := time.Now()
	w := newWorld(t, nil)
	s, c1, c2 := w.limitedPair(Limits{Bandwidth: rate})
	_, err := io.CopyN(c1, stream(1), size)
	require.NoError(t, err)
	c1.halfClose()

	c2.requireStream(1, size)
	c2.hearEnd()
	require.LessOrEqual(t, float64(size), mostOf(rate, time.Since(begin))+
		minRead)

	c2.say("thanks")
	c2.hangUp()
	c1.hear("thanks")
	c1.hearEnd()
	waitClosed(t, s)
	require.NotZero(t, s.Stats().Leg1.Drops[DropBandwidth])
	requireDrops(t, s, Leg2, nil)
	require.Zero(t, s.Stats().Leg1.Resets)
	require.Zero(t, s.Stats().Leg2.Resets)
}

// slowest returns a pair of which the first side waits for an hour until it may
// say more.
func slowest(t *testing.T) (*world, *Socket, *caller, *caller) {
	t.Helper()

	w := newWorld(t, nil)
	s, c1, c2 := w.limitedPair(Limits{Bandwidth: 1})

	// As much passes as may be read at once.
	_, err := io.CopyN(c1, stream(1), 2*minRead)
	require.NoError(t, err)
	c2.requireStream(1, minRead)
	require.Eventually(t, func() bool {
		return s.Stats().Leg1.Drops[DropBandwidth] > 0
	}, limit, tick)
	require.Equal(t, EventLimit{s.ID(), Leg1, DropBandwidth}, w.event())
	require.EqualValues(t, minRead, s.Stats().Leg1.BytesIn)

	return w, s, c1, c2
}

// TestTCPPacedReset ends pairs of which one side waits for long. Whatever ends
// them, nobody waits.
func TestTCPPacedReset(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		end func(t *testing.T, s *Socket, c1, c2 *caller)

		// resets are what each leg counts.
		resets [2]uint64

		// atOnce tells that it is noticed at once on Linux only.
		atOnce bool
	}{
		"socket": {
			end: func(t *testing.T, s *Socket, c1, c2 *caller) {
				t.Helper()

				require.NoError(t, s.Close())
				c1.hearReset()
				c2.hearReset()
			},
		},
		"partner": {
			end: func(_ *testing.T, _ *Socket, c1, c2 *caller) {
				c2.abort()
				c1.hearReset()
			},
			resets: [2]uint64{0, 1},
		},
		"partner that waits too": {
			end: func(_ *testing.T, _ *Socket, c1, c2 *caller) {
				c2.say("hello")
				c1.hear("hello")
				c2.abort()
				c1.hearReset()
			},
			resets: [2]uint64{0, 1},
			atOnce: true,
		},
		"itself": {
			end: func(_ *testing.T, _ *Socket, c1, c2 *caller) {
				c1.abort()
				c2.hearReset()
			},
			resets: [2]uint64{1, 0},
			atOnce: true,
		},
		"itself after its partner's end": {
			end: func(_ *testing.T, _ *Socket, c1, c2 *caller) {
				c2.hangUp()
				c1.hearEnd()
				c1.abort()
			},
			resets: [2]uint64{1, 0},
			atOnce: true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if test.atOnce && !noticesResets {
				t.Skip("a reset is noticed late on this plane")
			}

			w, s, c1, c2 := slowest(t)
			test.end(t, s, c1, c2)
			waitClosed(t, s)

			for i, leg := range []Leg{Leg1, Leg2} {
				require.Equal(t, test.resets[i],
					legStats(s, leg).Resets)
			}
			require.EqualValues(t, minRead,
				s.Stats().Leg1.BytesIn)
			require.Zero(t, w.conns.Load())
		})
	}
}

// TestTCPTotalBytes passes just as many bytes as a socket may. They end as they
// should, and the next byte ends the socket.
func TestTCPTotalBytes(t *testing.T) {
	t.Parallel()

	const size1, size2 = 300_000, 200_000

	w := newWorld(t, nil)
	s, c1, c2 := w.limitedPair(Limits{TotalBytes: size1 + size2})
	converse(t, [2]*caller{c1, c2}, [2]*speech{
		{seed: 1, writes: []int{size1}, reads: 1 << 16},
		{seed: 2, writes: []int{1, size2 - 1}, reads: 1 << 16},
	})
	c1.hangUp()
	c2.hangUp()
	waitClosed(t, s)
	for _, leg := range []Leg{Leg1, Leg2} {
		requireDrops(t, s, leg, nil)
		require.Zero(t, legStats(s, leg).Resets)
	}
	w.noEvent()

	// A connection that says nothing does no harm.
	c1, c2 = callBoth(t, s)
	c1.hangUp()
	c2.hearEnd()
	c2.hangUp()
	waitClosed(t, s)
	w.noEvent()

	c1, c2 = callBoth(t, s)
	c2.say("x")
	c1.hearReset()
	c2.hearReset()
	require.Equal(t, EventLimit{s.ID(), Leg2, DropBytes}, w.event())
	require.Equal(t, EventClosed{s.ID(), CloseBytes}, w.event())
	w.noEvent()

	requireDrops(t, s, Leg1, nil)
	requireDrops(t, s, Leg2, drops{DropBytes: 1})
	require.EqualValues(t, size1, s.Stats().Leg1.BytesIn)
	require.EqualValues(t, size2, s.Stats().Leg2.BytesIn)
}

// TestTCPTooManyBytes lets several pairs send more than the socket may pass,
// both ways. Never more passes, and it ends when it has.
func TestTCPTooManyBytes(t *testing.T) {
	t.Parallel()

	const total, pairs = 3_000_001, 4

	w := newWorld(t, nil)
	s := w.openWith(Options{
		Protocol: TCP, Limits: Limits{TotalBytes: total},
	})

	var ways [][2]*caller
	for range pairs {
		c1, c2 := callBoth(t, s)
		ways = append(ways, [2]*caller{c1, c2}, [2]*caller{c2, c1})
	}

	var group sync.WaitGroup
	for _, way := range ways {
		group.Go(func() {
			_, _ = io.Copy(way[0], stream(1))
		})
		group.Go(func() {
			_, _ = io.Copy(io.Discard, way[1])
		})
	}
	group.Wait()

	ends := 0
	for ends == 0 {
		switch event := w.event().(type) {
		case EventClosed:
			require.Equal(t, CloseBytes, event.Reason)
			ends++

		case EventLimit:
			require.Equal(t, DropBytes, event.Reason)

		default:
			require.IsType(t, EventPinned{}, event)
		}
	}

	stats := s.Stats()
	in := stats.Leg1.BytesIn + stats.Leg2.BytesIn
	require.LessOrEqual(t, in, uint64(total))
	require.GreaterOrEqual(t, in, uint64(total-2*pairs*mostShort))
	require.LessOrEqual(t, stats.Leg1.BytesOut+stats.Leg2.BytesOut, in)
	require.NotZero(t, stats.Leg1.Drops[DropBytes]+
		stats.Leg2.Drops[DropBytes])
	w.noEvent()
}

// TestTCPPairs checks that a socket has no more pairs than its own limit and
// the relay's allow.
func TestTCPPairs(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxPairs = 3
	})
	for limit, want := range map[int]int{0: 3, 1: 1, 2: 2, 3: 3, 100: 3} {
		s := w.openWith(Options{
			Protocol: TCP, Limits: Limits{Pairs: limit},
		})

		var pairs [][2]*caller
		for range want + 1 {
			c1, c2 := callBoth(t, s)
			c1.say("early")
			pairs = append(pairs, [2]*caller{c1, c2})
		}
		require.Equal(t, 1, s.Stats().Leg1.Waiting)
		require.Equal(t, 1, s.Stats().Leg2.Waiting)

		for i, pair := range pairs[:want] {
			pair[1].hear("early")
			if i == 0 {
				pair[1].hangUp()
				pair[0].hearEnd()
				pair[0].hangUp()
			}
		}
		pairs[want][1].hear("early")
		require.Zero(t, s.Stats().Leg1.Waiting)
		requireDrops(t, s, Leg1, nil)
		requireDrops(t, s, Leg2, nil)
		require.NoError(t, s.Close())
	}
}

// TestTCPBesideBulk lets one socket pass as much as it may, held back by a
// limit of its own or by that of the whole relay. Others beside it say little,
// and never wait for bandwidth.
func TestTCPBesideBulk(t *testing.T) {
	// Each of the others says up to 1,000 bytes in a millisecond, in turns
	// one way and the other.
	const own = 600_000

	// One of them at least is on the same loop.
	others := 2 * runtime.GOMAXPROCS(0)
	relay := uint64(1+2*others) * own

	for name, test := range map[string]struct {
		limits    Limits
		bandwidth uint64
	}{
		"own limit":     {limits: Limits{Bandwidth: own}},
		"relay's limit": {bandwidth: relay},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(cfg *Config) {
				cfg.Bandwidth = test.bandwidth
			})
			s, c1, c2 := w.limitedPair(test.limits)

			besides := false
			var checks []func()
			for range others {
				checks = append(checks, w.innocent())
			}
			for _, other := range w.Sockets() {
				besides = besides || other != s &&
					sharesLoop(s, other)
			}
			require.True(t, besides)

			var group sync.WaitGroup
			group.Go(func() {
				_, _ = io.Copy(c1, stream(1))
			})
			group.Go(func() {
				_, _ = io.Copy(io.Discard, c2)
			})

			// Far more than one burst.
			enough := max(test.limits.Bandwidth, test.bandwidth)
			require.Eventually(t, func() bool {
				leg1 := s.Stats().Leg1

				return leg1.BytesIn > enough &&
					leg1.Drops[DropBandwidth] > 10
			}, limit, tick)
			for _, check := range checks {
				check()
			}

			require.NoError(t, s.Close())
			group.Wait()
		})
	}
}
