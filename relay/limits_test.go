package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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
	s.Charge("somebody")
	l := s.leg(Leg1)

	now := begin
	waits := map[string]func() time.Duration{
		"socket": func() time.Duration {
			l.meter.bandwidth.take(now, 4000, 1000, maxWait)

			return 4*time.Second - burstTime + 1
		},
		"account": func() time.Duration {
			l.shares().account.take(now, 1000)
			l.shares().account.take(now, 10_000)

			// The part of who is alone is all of it.
			return 5*time.Second - burstTime + 1
		},
		"relay": func() time.Duration {
			l.shares().relay.take(now, 1000)
			l.shares().relay.take(now, 18_000)

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
