package relay

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestPortPool checks the pool against a plain model of it.
func TestPortPool(t *testing.T) {
	t.Parallel()

	rapid.Check(t, checkPortPool)
}

// checkPortPool does what a relay does with ports, at random.
func checkPortPool(t *rapid.T) {
	const rest = 10 * time.Second

	var (
		low   = rapid.Uint16Range(1, 65000).Draw(t, "low")
		ports = PortRange{
			Low:  low,
			High: low + rapid.Uint16Range(1, 130).Draw(t, "more"),
		}
		pool  = newPortPool(ports, rest)
		now   = time.Now()
		taken []uint16
		over  = make(map[uint16]time.Time)
	)

	// pick removes one of the taken ports.
	pick := func(t *rapid.T) uint16 {
		if len(taken) == 0 {
			t.Skip("none is taken")
		}

		i := rapid.IntRange(0, len(taken)-1).Draw(t, "index")
		port := taken[i]
		taken = append(taken[:i], taken[i+1:]...)

		return port
	}

	t.Repeat(map[string]func(*rapid.T){
		"take": func(t *rapid.T) {
			free := ports.size() - len(taken)
			for _, until := range over {
				if until.After(now) {
					free--
				}
			}

			port, ok := pool.take(now)
			require.Equal(t, free > 0, ok)
			if !ok {
				return
			}

			require.True(t, ports.contains(port))
			require.NotContains(t, taken, port)
			require.False(t, over[port].After(now))

			delete(over, port)
			taken = append(taken, port)
		},
		"give back": func(t *rapid.T) {
			pool.giveBack(pick(t))
		},
		"retire": func(t *rapid.T) {
			port := pick(t)
			pool.retire(now, port)
			over[port] = now.Add(rest)
		},
		"wait": func(t *rapid.T) {
			ms := rapid.Int64Range(0, 12_000).Draw(t, "ms")
			now = now.Add(time.Duration(ms) * time.Millisecond)
		},
		"": func(t *rapid.T) {
			for i := range ports.size() {
				port := ports.Low + uint16(i)
				require.Equal(t, slices.Contains(taken, port),
					pool.isTaken(port))
			}
		},
	})
}

// TestPortPoolRandom checks that ports do not come in an order that can be
// foreseen, and that a freed one is not given out at once.
func TestPortPoolRandom(t *testing.T) {
	t.Parallel()

	all := PortRange{Low: 1, High: math.MaxUint16}
	now := time.Now()

	draw := func() []uint16 {
		pool := newPortPool(all, time.Minute)

		ports := make([]uint16, 0, 8)
		for range cap(ports) {
			port, ok := pool.take(now)
			require.True(t, ok)

			ports = append(ports, port)
		}

		return ports
	}

	first, second := draw(), draw()
	require.NotEqual(t, first, second)
}

// TestPortPoolOutside checks that ports outside the range are nobody's.
func TestPortPoolOutside(t *testing.T) {
	t.Parallel()

	pool := newPortPool(PortRange{Low: 100, High: 163}, 0)
	for range 64 {
		_, ok := pool.take(time.Now())
		require.True(t, ok)
	}

	for _, port := range []uint16{0, 1, 99, 164, 65535} {
		require.False(t, pool.isTaken(port), port)
	}
	require.True(t, pool.isTaken(100))
	require.True(t, pool.isTaken(163))
}

// TestPortPoolDescribe checks the words for a pool that has nothing to give.
func TestPortPoolDescribe(t *testing.T) {
	t.Parallel()

	pool := newPortPool(PortRange{Low: 100, High: 103}, time.Minute)
	now := time.Now()

	var ports []uint16
	for range 3 {
		port, ok := pool.take(now)
		require.True(t, ok)

		ports = append(ports, port)
	}

	require.Equal(t, "a socket needs two of 100-103, where the relay "+
		"uses 2, other programs use 1, and 1 are free",
		pool.describe(now, 1))

	pool.retire(now, ports[0])
	later := now.Add(18 * time.Second)
	require.Equal(t, "a socket needs two of 100-103, where the relay "+
		"uses 1, other programs use 1, and 1 are free; 1 rest after "+
		"use, the next for 42s", pool.describe(later, 1))
}

// BenchmarkPortPool takes and gives back the last ports of the largest range.
func BenchmarkPortPool(b *testing.B) {
	pool := newPortPool(PortRange{Low: 1, High: math.MaxUint16}, 0)
	now := time.Now()

	for range math.MaxUint16 - 2 {
		pool.take(now)
	}

	b.ReportAllocs()
	for b.Loop() {
		first, _ := pool.take(now)
		second, _ := pool.take(now)
		pool.retire(now, first, second)
	}
}
