package relay

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAccounts checks which sockets are charged to which account.
func TestAccounts(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	a, b, c := w.open(), w.open(), w.openTCP()

	a.Charge("alice")
	b.Charge("alice")
	c.Charge("bob")
	w.requireAccounts(t, map[string]int{"alice": 2, "bob": 1})

	// To be charged again changes nothing.
	a.Charge("alice")
	w.requireAccounts(t, map[string]int{"alice": 2, "bob": 1})

	// Who moves is charged to nobody else any more.
	a.Charge("bob")
	c.Charge("alice")
	w.requireAccounts(t, map[string]int{"alice": 2, "bob": 1})
	a.Charge("")
	a.Charge("")
	w.requireAccounts(t, map[string]int{"alice": 2})
	w.open().Charge("")
	w.requireAccounts(t, map[string]int{"alice": 2})

	// Neither is who ends, nor to anybody after that.
	require.NoError(t, c.Close())
	c.Charge("bob")
	w.requireAccounts(t, map[string]int{"alice": 1})
	a.Charge("alice")
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	w.requireAccounts(t, map[string]int{})

	a = w.open()
	a.Charge("alice")
	w.stop()
	require.Empty(t, w.accounts)
}

// requireAccounts checks how many sockets are charged to whom.
func (w *world) requireAccounts(t *testing.T, want map[string]int) {
	t.Helper()

	w.mu.Lock()
	defer w.mu.Unlock()

	got := make(map[string]int)
	for name, a := range w.accounts {
		got[name] = a.sockets
	}
	require.Equal(t, want, got)
}

// TestAccountsAtOnce charges and closes many sockets at once, while bandwidths
// change. Each socket is counted where it was charged last.
func TestAccountsAtOnce(t *testing.T) {
	t.Parallel()

	const count, rounds = 30, 200

	w := newWorld(t, func(cfg *Config) {
		cfg.AccountBandwidth = 1000
	})

	var (
		group   sync.WaitGroup
		sockets []*Socket
		names   = []string{"alice", "bob", ""}
	)
	for range count {
		sockets = append(sockets, w.open())
	}
	for i, s := range sockets {
		group.Go(func() {
			for round := range rounds {
				s.Charge(names[(i+round)%3])
				if i == 1 {
					w.SetBandwidth(
						uint64(round), uint64(round),
					)
				}
			}

			if i%2 == 0 {
				_ = s.Close()
			}
		})
	}
	group.Wait()

	w.mu.Lock()
	charged := make(map[string]int)
	for _, s := range w.sockets {
		require.Same(t, w.share, s.seated.Load().in())
		if s.account == "" {
			require.Nil(t, s.charged.Load())

			continue
		}

		charged[s.account]++
		require.Same(t, w.accounts[s.account].share,
			s.charged.Load().in())
	}
	require.Len(t, w.sockets, count/2)
	w.mu.Unlock()
	w.requireAccounts(t, charged)

	w.stop()
	require.Empty(t, w.accounts)
}

// TestAccountShare checks that the sockets of an account, and their legs, are
// members of one share, and that a socket takes no debt from one account to
// another.
func TestAccountShare(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.AccountBandwidth = 1000
	})
	a, b := w.open(), w.open()
	require.True(t, a.leg(Leg1).isFree())
	a.Charge("alice")
	b.Charge("alice")
	require.False(t, a.leg(Leg1).isFree())

	alice := a.leg(Leg1).shares().account.share
	require.Same(t, alice, a.leg(Leg2).shares().account.share)
	require.Same(t, alice, b.leg(Leg1).shares().account.share)

	// One takes all there is, and far beyond what is due to it.
	one, later := a.leg(Leg1), begin.add(time.Millisecond)
	for _, now := range []instant{begin, later} {
		used := one.budget(now)
		require.True(t, used.take(1, maxIPv4))
		one.spend(&used, now)
	}
	require.Zero(t, one.budget(later).bandwidth)
	require.Greater(t, one.shares().account.wait(later), time.Minute)
	require.Positive(t, a.leg(Leg2).budget(later).bandwidth)
	require.Positive(t, b.leg(Leg1).budget(later).bandwidth)
	w.noEvent()

	a.Charge("bob")
	require.NotSame(t, alice, one.shares().account.share)
	require.EqualValues(t, 250, one.budget(later).bandwidth)
	a.Charge("")
	require.True(t, one.isFree())
	require.EqualValues(t, noLimit, one.budget(later).bandwidth)

	// The account's debt stays with the account.
	a.Charge("alice")
	require.Same(t, alice, one.shares().account.share)
	require.Zero(t, alice.common.available(later, alice.rate))
}

// TestAccountBandwidth lets two sockets of one account send more than it may
// pass. What passes is no more than that, and a socket of another account loses
// nothing.
func TestAccountBandwidth(t *testing.T) {
	t.Parallel()

	const rate, count, size = 100_000, 500, 1000

	w := newWorld(t, func(cfg *Config) {
		cfg.AccountBandwidth = rate
	})
	begin := time.Now()

	var pours []*udpPour
	for _, name := range []string{"alice", "alice", "bob"} {
		p := w.pour(Limits{})
		p.s.Charge(name)
		pours = append(pours, p)
	}
	a, b, bob := pours[0], pours[1], pours[2]

	// Less than the burst.
	bob.send(20, size)
	for range count / 10 {
		a.send(10, size)
		b.send(10, size)
	}
	elapsed := time.Since(begin)

	passed := a.requirePassed(DropBandwidth) +
		b.requirePassed(DropBandwidth)
	out := float64(passed * size)
	require.GreaterOrEqual(t, out, mostOf(rate, 0)-size)
	require.LessOrEqual(t, out, mostOf(rate, elapsed)+
		firstBurst(2)/shareRate*rate+2*size)
	require.Equal(t, 20, bob.requirePassed(DropBandwidth))

	for _, s := range []*Socket{a.s, b.s} {
		require.NotZero(t, legStats(s, Leg1).Drops[DropBandwidth])
	}
	w.requireLimits(elapsed, a.limit(DropBandwidth), b.limit(DropBandwidth))
}

// mostOf returns how much may pass a bucket of the rate in so long a time.
func mostOf(rate float64, elapsed time.Duration) float64 {
	return rate * (elapsed + burstTime).Seconds()
}
