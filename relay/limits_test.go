package relay

import (
	"math"
	"sync"
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

// TestShareCount checks how many members of a share count as active.
func TestShareCount(t *testing.T) {
	t.Parallel()

	s := newShare(1)
	require.Nil(t, newShare(0))

	// Those who come first do not know of those who come later.
	for i := range 16 {
		require.EqualValues(t, i+1, s.count(10, true))
	}
	require.EqualValues(t, 16, s.count(10, false))

	// Then they do.
	require.EqualValues(t, 16, s.count(11, true))
	require.EqualValues(t, 16, s.count(11, false))

	// Those who are gone are forgotten one eighth at a time.
	for i, want := range []uint64{14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1, 1} {
		period := uint64(12 + i)
		require.Equal(t, want, s.count(period, false), period)
		require.Equal(t, want, s.count(period, true), period)
	}

	// Also if nobody looks for a while, and for a long one.
	for range 16 {
		s.count(30, true)
	}
	require.EqualValues(t, 14, s.count(32, true))
	require.EqualValues(t, 1, s.count(1000, true))

	// A clock that is behind counts for now.
	require.EqualValues(t, 2, s.count(999, true))
}

// newMembers returns a share of a rate, and members.
func newMembers(rate uint64, count int) (*share, []*member) {
	s := newShare(rate)

	members := make([]*member, count)
	for i := range members {
		members[i] = &member{share: s}
	}

	return s, members
}

// TestMemberFree checks that everything passes where there is no share.
func TestMemberFree(t *testing.T) {
	t.Parallel()

	for _, m := range []*member{nil, {}} {
		require.True(t, m.isFree())
		m.take(begin, noLimit)
		require.EqualValues(t, noLimit, m.available(begin))
		require.Zero(t, m.wait(begin))
	}
}

// turns lets members pass something in turns of a millisecond: each may pass
// one piece at a time, as often as there is something for it. wants tells how
// many bytes it wants to pass in this turn. It returns how many each passed,
// and was refused.
func turns(members []*member,
	wants func(i int, now instant) int64) (passed, refused []int64) {

	passed = make([]int64, len(members))
	refused = make([]int64, len(members))
	for now := begin; now < shareEnd; now = now.add(time.Millisecond) {
		for i, m := range members {
			want := wants(i, now)
			for want > 0 && m.available(now) > 0 {
				size := min(want, piece)
				m.take(now, size)
				passed[i] += size
				want -= size
			}
			refused[i] += want
		}
	}

	return passed, refused
}

// sumOf adds up bytes.
func sumOf(sizes []int64) float64 {
	total := int64(0)
	for _, size := range sizes {
		total += size
	}

	return float64(total)
}

const (
	// shareRate is the rate of shares in these tests, in bytes per second,
	// and piece is how many bytes pass at once.
	shareRate, piece = 1_000_000, 1000

	// shareSeconds is how many seconds the members use it.
	shareSeconds = 20

	// wantsAll is more than may pass in one turn.
	wantsAll = shareRate
)

// shareEnd is when the members are done with it.
var shareEnd = begin.add(shareSeconds * time.Second)

// TestShareAlone checks that a member that is alone has all of the rate.
func TestShareAlone(t *testing.T) {
	t.Parallel()

	_, members := newMembers(shareRate, 2)
	passed, refused := turns(
		members,
		func(i int, _ instant) int64 { return int64(1-i) * wantsAll },
	)

	// The burst twice: of the share, and of the part.
	const whole = shareRate * shareSeconds
	require.InDelta(t, whole+shareRate/4, passed[0], shareRate/2)
	require.Positive(t, refused[0])
	require.Zero(t, passed[1])
}

// TestShareEqual checks that members that all want all of the rate have the
// same of it, and together no more than it.
func TestShareEqual(t *testing.T) {
	t.Parallel()

	for _, count := range []int{2, 3, 7, 50} {
		_, members := newMembers(shareRate, count)
		passed, _ := turns(
			members,
			func(int, instant) int64 { return wantsAll },
		)

		// Who came first had more of the first burst.
		part := float64(shareRate*shareSeconds) / float64(count)
		for i := range passed {
			require.GreaterOrEqual(t, float64(passed[i]),
				part-piece)
			require.LessOrEqual(t, float64(passed[i]),
				part+shareRate/2+2*piece)
		}

		require.LessOrEqual(t, sumOf(passed), firstBurst(count)+
			shareRate*shareSeconds)
	}
}

// firstBurst returns how many bytes so many members may pass at once after a
// silence, when none knows of those that come after it.
func firstBurst(count int) float64 {
	parts := 1.0
	for i := range count {
		parts += 1 / float64(i+1)
	}

	return parts*shareRate*burstTime.Seconds() + float64(count+1)*piece
}

// TestShareLeftover checks that what some members do not want is the others'.
func TestShareLeftover(t *testing.T) {
	t.Parallel()

	// Four that want a twentieth each, and one that wants all.
	const want = shareRate / 20 / 1000

	_, members := newMembers(shareRate, 5)
	passed, refused := turns(
		members,
		func(i int, _ instant) int64 {
			if i == 0 {
				return wantsAll
			}

			return want
		},
	)

	for i := range passed[1:] {
		require.Zero(t, refused[i+1])
		require.EqualValues(t, want*1000*shareSeconds, passed[i+1])
	}
	require.InDelta(t, shareRate*shareSeconds*0.8, passed[0], shareRate)
}

// TestShareDue lets a member pass what is due to it, while others do whatever
// they like. It is never refused.
func TestShareDue(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(rt *rapid.T) {
		rate := rapid.Uint64Range(1000, 1<<40).Draw(rt, "rate")
		count := rapid.IntRange(1, 20).Draw(rt, "members")
		_, members := newMembers(rate, count)
		victim, others := members[0], members[1:]

		// Its pieces are as large as may be with their pauses.
		now, next := begin, begin
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			if now >= next {
				require.Positive(rt, victim.available(now))

				size := rapid.Int64Range(
					0, int64(rate),
				).Draw(rt, "size")
				victim.take(now, size)
				next = now.add(time.Duration(math.Ceil(
					float64(size)*float64(count)/
						float64(rate)*1e9,
				)) + 1)
			}

			for _, m := range others {
				most := rapid.Int64Range(
					0, int64(rate),
				).Draw(rt, "other")
				if most > 0 && m.available(now) > 0 {
					m.take(now, most)
				}
			}

			now = now.add(time.Duration(rapid.Int64Range(
				0, int64(time.Second),
			).Draw(rt, "pause")))
			if rapid.Bool().Draw(rt, "at once") {
				now = max(now, next)
			}
		}
	})
}

// TestShareTurns lets one member and many others take turns, so that those who
// are active now were not before. Together they pass little more than the rate.
func TestShareTurns(t *testing.T) {
	t.Parallel()

	const count = 100

	for _, length := range []time.Duration{
		shareTime / 2, shareTime, 2 * shareTime, 3*shareTime + 1,
	} {
		_, members := newMembers(shareRate, count)
		passed, _ := turns(
			members,
			func(i int, now instant) int64 {
				isFirst := now.sub(begin)/length%2 == 0
				if isFirst == (i == 0) {
					return wantsAll
				}

				return 0
			},
		)

		require.LessOrEqual(t, sumOf(passed), firstBurst(count)+
			1.3*shareRate*shareSeconds, length)
	}
}

// TestMemberWait checks that nothing may pass for as long as a member says.
func TestMemberWait(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(rt *rapid.T) {
		_, members := newMembers(
			rapid.Uint64Min(1).Draw(rt, "rate"), 3,
		)

		now := begin
		for range rapid.IntRange(1, 50).Draw(rt, "steps") {
			m := members[rapid.IntRange(0, 2).Draw(rt, "who")]
			m.take(now, rapid.Int64Range(0, 1<<30).Draw(rt, ""))
			now = now.add(time.Duration(rapid.Int64Range(
				0, int64(time.Second),
			).Draw(rt, "pause")))
		}

		for _, m := range members {
			wait := m.wait(now)
			require.Equal(rt, wait == 0, m.available(now) > 0)
			require.Positive(rt, m.available(now.add(wait)))
			if wait > 0 {
				require.Zero(rt, m.available(now.add(wait)-1))
			}
		}
	})
}

// TestShareRace uses a share from many goroutines at once. Every member is
// counted once a period, and every byte that passes is taken.
func TestShareRace(t *testing.T) {
	t.Parallel()

	const count, rounds, size = 16, 1000, 100

	s, members := newMembers(shareRate, count)
	var group sync.WaitGroup
	for _, m := range members {
		group.Go(func() {
			for i := range rounds {
				// Some clocks are behind.
				now := begin.add(time.Duration(i%7) *
					time.Microsecond)
				m.available(now)
				m.take(now, size)
			}
		})
	}
	group.Wait()

	period := uint64(begin/instant(shareTime)) + 1
	require.EqualValues(t, count, s.count(period, false))
	require.Equal(t, count*rounds*size*time.Second/shareRate,
		s.common.missing(begin).Round(10*time.Microsecond))
}

// TestBudget checks which limit refuses what, and that what is refused is
// counted under it and takes nothing of the others.
func TestBudget(t *testing.T) {
	t.Parallel()

	b := budget{bandwidth: 2500, packets: 4, bytes: noLimit}
	for range 3 {
		require.True(t, b.take(1, 1000))
	}
	require.False(t, b.take(2, 1000))
	require.False(t, b.take(1, 0))
	require.Equal(t, tally{packets: 3, bytes: 3000}, b.used)
	require.Equal(t, [3]uint64{3}, b.over)
	require.EqualValues(t, 1, b.packets)

	// What comes as one passes as one.
	b = budget{bandwidth: noLimit, packets: 4, bytes: noLimit}
	require.True(t, b.take(3, 0))
	require.True(t, b.take(64, 64))
	require.False(t, b.take(1, 0))
	require.False(t, b.take(10, 10))
	require.Equal(t, tally{packets: 67, bytes: 64}, b.used)
	require.Equal(t, [3]uint64{1: 11}, b.over)

	// Not so with the total: there is nothing to wait for.
	b = budget{bandwidth: noLimit, packets: noLimit, bytes: 1000}
	require.True(t, b.take(1, 0))
	require.True(t, b.take(1, 999))
	require.True(t, b.take(1, 0))
	require.False(t, b.take(1, 2))
	require.Zero(t, b.bytes)
	require.False(t, b.take(1, 1))
	require.False(t, b.take(1, 0))
	require.Equal(t, tally{packets: 3, bytes: 999}, b.used)
	require.Equal(t, [3]uint64{2: 3}, b.over)

	// Nothing is ever used up where there is no limit.
	b = budget{bandwidth: noLimit, packets: noLimit, bytes: noLimit}
	for range 1000 {
		require.True(t, b.take(64, maxIPv4))
	}
	require.Empty(t, b.over[0]+b.over[1]+b.over[2])
}

// TestLimitTold checks how often it is told that a limit bites.
func TestLimitTold(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.open()

	told := func(leg Leg, why DropReason, now instant) {
		s.leg(leg).tellLimit(why, now)
		require.Equal(t, EventLimit{
			SocketID: s.ID(), Leg: leg, Reason: why,
		}, w.event())
	}

	// The clock begins with 0.
	told(Leg1, DropBandwidth, 0)
	told(Leg1, DropPackets, 1)
	told(Leg2, DropBandwidth, 2)

	for _, now := range []instant{0, 1, 2, instant(limitInterval)} {
		for _, why := range overReasons[:2] {
			s.leg(Leg1).tellLimit(why, now)
		}
	}
	w.noEvent()

	told(Leg1, DropBandwidth, 1+instant(limitInterval))
	w.noEvent()
	told(Leg1, DropBandwidth, begin)
	told(Leg2, DropBytes, begin)
	w.noEvent()
}

// TestNoneFor checks how long a connection has to wait for bandwidth, whichever
// limit it is that bites, and that it may go on then and not before.
func TestNoneFor(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.Bandwidth, cfg.AccountBandwidth = 3000, 2000
	})
	s := w.openWith(Options{Protocol: TCP, Limits: Limits{Bandwidth: 1000}})
	require.NoError(t, s.Charge("somebody"))
	l := s.leg(Leg1)

	now := begin
	waits := map[string]func() time.Duration{
		"socket": func() time.Duration {
			l.meter.bandwidth.take(now, 4000, 1000, maxWait)

			return 4*time.Second - burstTime + 1
		},
		"account": func() time.Duration {
			l.inAccount().take(now, 1000)
			l.inAccount().take(now, 10_000)

			// The part of who is alone is all of it.
			return 5*time.Second - burstTime + 1
		},
		"relay": func() time.Duration {
			l.meter.inRelay.take(now, 1000)
			l.meter.inRelay.take(now, 18_000)

			return 6*time.Second - burstTime + 1
		},
	}
	for name, empty := range waits {
		require.Zero(t, l.noneFor(now), name)
		allowed, wait := l.allowance(now)
		require.EqualValues(t, minRead, allowed)
		require.Zero(t, wait)

		want := empty()
		require.GreaterOrEqual(t, l.noneFor(now), want, name)
		require.LessOrEqual(t, l.noneFor(now), want+time.Second, name)
		allowed, wait = l.allowance(now)
		require.Zero(t, allowed)
		require.Equal(t, l.noneFor(now), wait)

		end := now.add(wait)
		allowed, soon := l.allowance(end - 1)
		require.Zero(t, allowed)
		require.Equal(t, pacePause, soon)
		allowed, _ = l.allowance(end)
		require.EqualValues(t, minRead, allowed)

		now = now.add(time.Minute)
	}

	require.EqualValues(t, 2*len(waits),
		legStats(s, Leg1).Drops[DropBandwidth])
}
