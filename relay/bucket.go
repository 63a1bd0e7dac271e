package relay

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// burstTime is how much of its rate a bucket holds: so much may pass at
	// once after a silence.
	burstTime = 250 * time.Millisecond

	// shareTime is how often the members of a share are counted anew.
	shareTime = 250 * time.Millisecond

	// noLimit is more than can be available.
	noLimit = math.MaxInt64
)

// bucket is a token bucket that fills at a rate of units per second. It is kept
// as the time at which it will be full again (the virtual scheduling algorithm
// of ITU-T I.371), so that one atomic word is all there is to change.
//
// Something passes if the bucket is not empty, and may take more than there is:
// what comes after waits for as much longer. So nothing is too large to pass.
type bucket struct {
	fullAt atomic.Int64
}

// missing returns how long the bucket takes until it is full.
func (b *bucket) missing(now instant) time.Duration {
	return max(instant(b.fullAt.Load()).sub(now), 0)
}

// available returns how many units may pass, at a rate of units per second. It
// is not positive if none may.
func (b *bucket) available(now instant, rate float64) int64 {
	missing := b.missing(now)
	if missing >= burstTime {
		return 0
	}

	// A part of a unit is one: else a slow bucket would never have any.
	return int64(math.Ceil(
		float64(burstTime-missing) * rate / float64(time.Second),
	))
}

// take takes units out. The bucket will not take longer than the given time
// until it is full.
func (b *bucket) take(now instant, units int64, rate float64,
	longest time.Duration) {

	// It is rounded up, so that no more passes than the rate. The time is
	// an integer, because a float has no nanoseconds left after some
	// months; it cannot overflow, for maxWait bounds every term.
	cost := math.Ceil(float64(units) * float64(time.Second) / rate)
	wait := time.Duration(min(cost, float64(maxWait)))

	for {
		old := b.fullAt.Load()
		full := max(instant(old), now).add(wait)
		full = min(full, now.add(longest))

		if b.fullAt.CompareAndSwap(old, int64(full)) {
			return
		}
	}
}

// wait returns how long the bucket stays empty if nothing is taken; 0 if it is
// not.
func (b *bucket) wait(now instant) time.Duration {
	// When exactly the burst is missing it is empty still.
	return max(b.missing(now)-burstTime+1, 0)
}

// share is a rate that several members have in common: the directions of the
// sockets of an account, or of all sockets.
//
// No member can take from another what is due to it: each that is active may
// always pass an equal part of the rate, and what is left over goes to whoever
// comes first. So a flood through one socket costs the others nothing that is
// within their part.
type share struct {
	// rate is in bytes per second. It is immutable.
	rate float64

	// common is the bucket of all.
	common bucket

	// counted holds the number of the period in which members are counted
	// now, and in its lower half how many there are so far.
	counted atomic.Uint64

	// active is how many members are active, as far as is known from the
	// periods before. It rises at once and falls slowly: members that take
	// turns would else each get a part as if the others were not there, and
	// together more than the rate.
	active atomic.Uint64
}

// newShare returns a share of so many bytes per second; nil, which everything
// passes, for 0.
func newShare(rate uint64) *share {
	if rate == 0 {
		return nil
	}

	return &share{rate: float64(rate)}
}

// periodBits is where the number of the period begins in share.counted. Both
// halves are large enough: a period number of 32 bits lasts for 34 years.
const periodBits = 32

// count counts a member that is active in a period, if it is a new one, and
// returns how many are.
func (s *share) count(period uint64, isNew bool) uint64 {
	old := s.counted.Load()
	for old>>periodBits < period {
		if s.counted.CompareAndSwap(old, period<<periodBits) {
			s.fade(old&(1<<periodBits-1), period-old>>periodBits)

			break
		}
		old = s.counted.Load()
	}

	counted := s.counted.Load()
	if isNew {
		counted = s.counted.Add(1)
	}

	return max(counted&(1<<periodBits-1), s.active.Load(), 1)
}

// fade takes note of how many members were active in the period that was
// counted, so many periods ago.
func (s *share) fade(last, periods uint64) {
	const eighth, longest = 8, 100

	// After the longest time nothing is left of any number.
	active := s.active.Load()
	for i := range min(periods, longest) {
		active -= (active + eighth - 1) / eighth
		if i == 0 {
			active = max(active, last)
		}
	}
	s.active.Store(active)
}

// member is one direction of a socket in a share. Everything passes the nil
// member.
type member struct {
	// share is what the member belongs to. It is immutable.
	share *share

	// own is the bucket with the part that is due to the member.
	own bucket

	// period is the last period in which the member was counted.
	period atomic.Uint64
}

// part returns what is due to the member, in bytes per second.
func (m *member) part(now instant) float64 {
	// Periods begin with 1: nobody was counted in 0.
	period := uint64(now/instant(shareTime)) + 1

	last := m.period.Load()
	isNew := last < period && m.period.CompareAndSwap(last, period)

	return m.share.rate / float64(m.share.count(period, isNew))
}

// available returns how many bytes may pass.
func (m *member) available(now instant) int64 {
	if m == nil {
		return noLimit
	}

	return max(
		m.own.available(now, m.part(now)),
		m.share.common.available(now, m.share.rate),
	)
}

// take takes bytes that passed.
func (m *member) take(now instant, bytes int64) {
	if m == nil {
		return
	}

	// What there was for all is no debt of the member's. Beyond that it
	// passes what is due to it, and gets into debt for more.
	s, longest := m.share, maxWait
	if s.common.wait(now) == 0 {
		longest = burstTime
	}

	m.own.take(now, bytes, m.part(now), longest)
	s.common.take(now, bytes, s.rate, maxWait)
}

// wait returns how long nothing may pass; 0 if something may.
func (m *member) wait(now instant) time.Duration {
	if m == nil {
		return 0
	}

	return min(m.own.wait(now), m.share.common.wait(now))
}
