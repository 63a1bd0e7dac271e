package relay

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

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

	var m *member
	m.take(begin, noLimit)
	require.EqualValues(t, noLimit, m.available(begin))
	require.Zero(t, m.wait(begin))
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
