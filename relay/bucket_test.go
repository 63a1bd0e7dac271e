package relay

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// begin is when these tests begin: the relay's clock has run for a while.
const begin = instant(time.Hour)

// TestBucket checks what is in a bucket, to the unit and to the nanosecond.
func TestBucket(t *testing.T) {
	t.Parallel()

	const rate = 1000

	// It holds what fits, however long the silence.
	var b bucket
	for _, at := range []instant{0, 1, begin, instant(maxWait)} {
		require.EqualValues(t, 250, b.available(at, rate))
		require.Zero(t, b.wait(at))
	}

	b.take(begin, 100, rate, maxWait)
	require.EqualValues(t, 150, b.available(begin, rate))
	require.EqualValues(t, 151, b.available(begin+1, rate))
	require.EqualValues(t, 151, b.available(
		begin.add(time.Millisecond), rate,
	))
	require.EqualValues(t, 250, b.available(
		begin.add(100*time.Millisecond), rate,
	))

	// The clock of another loop may be a little behind.
	require.EqualValues(t, 149, b.available(
		begin.add(-time.Millisecond), rate,
	))

	b.take(begin, 150, rate, maxWait)
	require.Zero(t, b.available(begin, rate))
	require.EqualValues(t, 1, b.wait(begin))
	require.EqualValues(t, 1, b.available(begin+1, rate))

	// What is taken beyond has to be waited for.
	b.take(begin, 1000, rate, maxWait)
	end := begin.add(time.Second)
	require.Zero(t, b.available(end, rate))
	require.Equal(t, time.Second+1, b.wait(begin))
	require.EqualValues(t, 1, b.wait(end))
	require.EqualValues(t, 1, b.available(end+1, rate))
	require.Zero(t, b.wait(end+1))
	require.EqualValues(t, 250, b.available(end.add(burstTime), rate))

	// But not longer than is said.
	b = bucket{}
	b.take(begin, 1000, rate, burstTime)
	require.Zero(t, b.available(begin, rate))
	require.EqualValues(t, 1, b.wait(begin))
}

// TestBucketExtremes checks the slowest and the fastest buckets, and the
// longest waits.
func TestBucketExtremes(t *testing.T) {
	t.Parallel()

	const most = float64(math.MaxUint64)

	// Half a unit is one, and what is larger passes too.
	var slow bucket
	require.EqualValues(t, 1, slow.available(begin, 1))
	slow.take(begin, 1500, 1, maxWait)
	wait := slow.wait(begin)
	require.Equal(t, 1500*time.Second-burstTime+1, wait)
	require.Zero(t, slow.available(begin.add(wait)-1, 1))
	require.EqualValues(t, 1, slow.available(begin.add(wait), 1))

	// No rate overflows, and what was taken at once is missed at once.
	var fast bucket
	require.EqualValues(t, 1<<62, fast.available(begin, most))
	fast.take(begin, 1<<40, most, maxWait)
	require.Less(t, fast.available(begin, most), int64(1)<<62)
	fast.take(begin, noLimit, most, maxWait)
	require.Zero(t, fast.available(begin, most))
	require.Less(t, fast.wait(begin), time.Second)

	// A byte is never free.
	fast = bucket{}
	for range 1000 {
		fast.take(begin, 1, most, maxWait)
	}
	require.Less(t, fast.available(begin, most), int64(1)<<62)

	// However much is taken at however small a part of a rate.
	for _, rate := range []float64{1e-9, 1, most} {
		for _, at := range []instant{0, begin, instant(maxWait)} {
			var b bucket
			for range 100 {
				b.take(at, noLimit, rate, maxWait)
				require.LessOrEqual(t, b.wait(at), maxWait)
				require.GreaterOrEqual(t, b.fullAt.Load(),
					int64(at))
			}
			require.Zero(t, b.available(at, rate))
			require.LessOrEqual(t, at, at.add(b.wait(at)))
		}
	}
}

// drawRate draws a rate.
func drawRate(rt *rapid.T) float64 {
	return float64(rapid.OneOf(
		rapid.Uint64Range(1, 1000),
		rapid.Uint64Range(1, 1<<40),
		rapid.Uint64Min(1),
	).Draw(rt, "rate"))
}

// TestBucketRate lets anything pass a bucket. It is never more than the rate
// and one burst allow, and what comes last; and never less, of who always has
// something.
func TestBucketRate(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(rt *rapid.T) {
		rate := drawRate(rt)
		isGreedy := rapid.Bool().Draw(rt, "greedy")

		var b bucket
		now, passed := begin, 0.0
		for range rapid.IntRange(1, 100).Draw(rt, "steps") {
			now = now.add(time.Duration(rapid.Int64Range(
				0, int64(time.Second),
			).Draw(rt, "pause")))
			if isGreedy {
				now = max(now, begin.add(b.wait(begin)))
			}

			available := b.available(now, rate)
			require.Equal(rt, available > 0, b.wait(now) == 0)
			if available == 0 {
				continue
			}

			size := rapid.Int64Range(1, 1<<20).Draw(rt, "size")
			b.take(now, size, rate, maxWait)

			// What came before it passed within the limit.
			most := rate * (now.sub(begin) + burstTime).Seconds()
			require.LessOrEqual(rt, passed, most*(1+1e-9)+1)
			passed += float64(size)
		}

		// Each taking rounds by a nanosecond at most.
		owed := b.missing(now).Seconds() * rate
		elapsed := now.sub(begin).Seconds() * rate
		require.GreaterOrEqual(rt, owed+1e-9*(owed+elapsed)+1,
			passed-elapsed)
	})
}

// TestBucketWait checks that the bucket is empty for as long as it says.
func TestBucketWait(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(rt *rapid.T) {
		rate := drawRate(rt)

		var b bucket
		for range rapid.IntRange(1, 10).Draw(rt, "takes") {
			b.take(begin, rapid.Int64Min(0).Draw(rt, "size"), rate,
				maxWait)
		}

		wait := b.wait(begin)
		require.Positive(rt, b.available(begin.add(wait), rate))
		if wait > 0 {
			end := begin.add(wait) - 1
			require.Zero(rt, b.available(end, rate))
		}
	})
}
