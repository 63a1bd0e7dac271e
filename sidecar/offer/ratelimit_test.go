package offer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestRate checks how many messages of a peer are read, and that this concerns
// no other peer.
func TestRate(t *testing.T) {
	inWorld(t, func(w *world) {
		a, _ := w.add(alice), w.addStranger(bob)
		w.addStranger(carol)
		limits := DefaultLimits()
		flood := func(n int) {
			for range n {
				a.Receive(bob, uint32(wire.TypeRequest), nil)
			}
		}

		flood(limits.Burst)
		w.requireCounts(a, map[string]uint64{"malformed": 30})
		flood(5)
		w.requireCounts(a, map[string]uint64{
			"malformed": 30, "rate": 5,
		})
		a.Receive(carol, uint32(wire.TypeRequest), nil)

		// Large ones count as well.
		time.Sleep(time.Second)
		for range 10 {
			a.Receive(bob, uint32(wire.TypeOffer),
				make([]byte, wire.MaxSize+1))
		}
		flood(3)
		w.requireCounts(a, map[string]uint64{
			"malformed": 31, "rate": 8, "oversized": 10,
		})

		time.Sleep(time.Hour)
		flood(limits.Burst + 1)
		w.requireCounts(a, map[string]uint64{
			"malformed": 61, "rate": 9, "oversized": 10,
		})
	})
}

// TestTotalRate checks how many messages of all peers together are read, and
// that a peer which sends more than it may uses up nothing of that.
func TestTotalRate(t *testing.T) {
	inWorld(t, func(w *world) {
		limits := DefaultLimits()
		limits.TotalRate, limits.TotalBurst = 20, 65
		a := w.addWith(alice, limits, NewMemStore())
		flood := func(peer PubKey, n int) {
			for range n {
				a.Receive(peer, uint32(wire.TypeRequest), nil)
			}
		}

		// Bob gets 30 of them read, and not one more.
		flood(bob, 1000)
		w.requireCounts(a, map[string]uint64{
			"malformed": 30, "rate": 970,
		})
		flood(carol, 30)
		w.requireCounts(a, map[string]uint64{
			"malformed": 60, "rate": 970,
		})

		// Dave sends less than he may, but all of them have sent too
		// much.
		dave := testKey(0xd3)
		flood(dave, 5)
		w.requireCounts(a, map[string]uint64{
			"malformed": 65, "rate": 970,
		})
		flood(dave, 5)
		w.requireCounts(a, map[string]uint64{
			"malformed": 65, "rate": 975,
		})

		time.Sleep(time.Second)
		flood(dave, 10)
		flood(carol, 10)
		flood(bob, 10)
		w.requireCounts(a, map[string]uint64{
			"malformed": 85, "rate": 985,
		})
	})
}

// TestNoRate checks that a limit of zero lets nothing through.
func TestNoRate(t *testing.T) {
	for _, change := range []func(*Limits){
		func(l *Limits) { l.Rate, l.Burst = 0, 0 },
		func(l *Limits) { l.TotalRate, l.TotalBurst = 0, 0 },
	} {
		inWorld(t, func(w *world) {
			a := w.addWith(alice, limitsWith(change), NewMemStore())
			a.Receive(bob, uint32(wire.TypeRequest), nil)
			w.requireCounts(a, map[string]uint64{"rate": 1})
		})
	}
}

// TestRatedPeers checks that the rate limiter does not grow without bound, and
// whom it forgets.
func TestRatedPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRateLimiter(Limits{
			Rate: 1, Burst: 1, TotalRate: 1e9, TotalBurst: 1e9,
		})
		peer := func(n int) PubKey {
			return PubKey{0: 2, 1: byte(n), 2: byte(n >> 8)}
		}
		require.True(t, l.allow(bob))
		for i := range maxRatedPeers - 1 {
			require.True(t, l.allow(peer(i)))
			require.False(t, l.allow(peer(i)))
		}
		require.False(t, l.allow(bob))

		// The first of the others was silent for longest.
		require.True(t, l.allow(carol))
		require.Len(t, l.peers, maxRatedPeers)
		require.Equal(t, maxRatedPeers, l.order.Len())
		require.False(t, l.allow(bob))
		require.True(t, l.allow(peer(0)))
		require.Len(t, l.peers, maxRatedPeers)
	})
}
