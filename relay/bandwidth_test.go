package relay

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSetBandwidth checks in which shares the sockets are counted when
// bandwidths change, and that what is owed is forgotten then and only then.
func TestSetBandwidth(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	a, b := w.open(), w.openTCP()
	a.Charge("alice")
	leg := a.leg(Leg1)
	require.True(t, leg.isFree())
	require.Equal(t, shares{}, leg.shares())

	// spend takes a thousand bytes out at once.
	spend := func() {
		t.Helper()

		for range 2 {
			used := leg.budget(begin)
			used.used.add(1, 1000)
			leg.spend(&used, begin)
		}
		require.Zero(t, leg.budget(begin).bandwidth)
		require.Positive(t, leg.noneFor(begin))
	}

	w.SetBandwidth(1000, 0)
	require.False(t, leg.isFree())
	require.False(t, b.leg(Leg2).isFree())
	require.Nil(t, leg.shares().account)
	require.Same(t, w.share, leg.shares().relay.share)
	require.Same(t, w.share, a.leg(Leg2).shares().relay.share)
	require.Same(t, w.share, b.leg(Leg2).shares().relay.share)
	require.Same(t, w.share, w.open().leg(Leg1).shares().relay.share)
	require.EqualValues(t, 250, leg.budget(begin).bandwidth)
	spend()

	// The same again changes nothing.
	was := leg.shares()
	w.SetBandwidth(1000, 0)
	require.Same(t, was.relay, leg.shares().relay)
	require.Zero(t, leg.budget(begin).bandwidth)

	// The one limit does not touch the other.
	w.SetBandwidth(1000, 4000)
	require.Same(t, was.relay, leg.shares().relay)
	require.Same(t, w.accounts["alice"].share, leg.shares().account.share)
	require.Nil(t, b.leg(Leg1).shares().account)

	w.SetBandwidth(8000, 4000)
	require.NotSame(t, was.relay, leg.shares().relay)
	require.EqualValues(t, 1000, leg.budget(begin).bandwidth)
	spend()
	was = leg.shares()
	w.SetBandwidth(8000, 6000)
	require.Same(t, was.relay, leg.shares().relay)
	require.NotSame(t, was.account, leg.shares().account)

	// Who is charged later is charged at the rate of now.
	b.Charge("bob")
	bob := b.leg(Leg1).shares().account
	require.EqualValues(t, 1500, bob.available(begin))
	b.Charge("alice")
	require.Same(t, leg.shares().account.share,
		b.leg(Leg1).shares().account.share)

	w.SetBandwidth(0, 6000)
	require.Nil(t, leg.shares().relay)
	require.Same(t, w.accounts["alice"].share, leg.shares().account.share)
	require.EqualValues(t, 1500, leg.budget(begin).bandwidth)
	w.SetBandwidth(0, 0)
	require.True(t, leg.isFree())
	require.True(t, b.leg(Leg1).isFree())
	require.True(t, w.open().leg(Leg1).isFree())
	w.requireAccounts(t, map[string]int{"alice": 2})
}

// TestSetBandwidthOpening changes the bandwidth while a socket is being opened.
// The socket is counted as it should be when it is open.
func TestSetBandwidthOpening(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	id := newID()
	require.NoError(t, w.reserve(id))
	ports, err := w.listen(UDP)
	require.NoError(t, err)
	s := w.newSocket(Options{ID: id, Protocol: UDP}, ports)
	require.NoError(t, s.carrier.start())

	w.SetBandwidth(1000, 0)
	require.True(t, s.leg(Leg1).isFree())
	require.True(t, w.register(s))
	w.opening.Done()
	require.Same(t, w.share, s.leg(Leg1).shares().relay.share)
}

// setBandwidth holds the two ways to bound what a socket passes that is charged
// to an account.
var setBandwidth = map[string]func(w *world, rate uint64){
	"all": func(w *world, rate uint64) {
		w.SetBandwidth(rate, 0)
	},
	"account": func(w *world, rate uint64) {
		w.SetBandwidth(0, rate)
	},
}

// The bandwidths of these tests: next to nothing, which makes whoever passes
// something wait for longer than a test may take, and more than anybody needs.
const slowRate, fastRate = 1, 1 << 50

// TestSetBandwidthUDP changes a bandwidth while datagrams pass. A limit holds
// as soon as it is set, and no longer than that.
func TestSetBandwidthUDP(t *testing.T) {
	t.Parallel()

	for name, set := range setBandwidth {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			const count, size = 20, 1000

			w := newWorld(t, nil)
			p := w.pour(Limits{})
			p.s.Charge("somebody")

			// What there is for all passes, and what is due to the
			// direction.
			const most = 2

			want := 0
			for _, rate := range []uint64{0, fastRate, 0} {
				p.send(count, size)
				want += count
				passed := p.requirePassed(DropBandwidth)
				require.Equal(t, want, passed)

				set(w, slowRate)
				p.send(count, size)
				passed = p.requirePassed(DropBandwidth)
				require.Greater(t, passed, want)
				require.LessOrEqual(t, passed, want+most)
				want = passed

				set(w, rate)
			}

			p.send(count, size)
			want += count
			require.Equal(t, want, p.requirePassed(DropBandwidth))
			require.Equal(t, p.limit(DropBandwidth), w.event())
			w.noEvent()
		})
	}
}

// TestSetBandwidthTCP changes a bandwidth while streams pass. A limit holds as
// soon as it is set, and who waits because of it goes on when it is raised or
// taken away. Nothing is lost.
func TestSetBandwidthTCP(t *testing.T) {
	t.Parallel()

	for name, set := range setBandwidth {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			const size = 50_000

			w := newWorld(t, nil)
			s, c1, c2 := w.limitedPair(Limits{})
			s.Charge("somebody")
			dropped := func() uint64 {
				return s.Stats().Leg1.Drops[DropBandwidth]
			}

			for i, rate := range []uint64{0, fastRate, 0} {
				_, err := io.CopyN(c1, stream(1), size)
				require.NoError(t, err)
				c2.requireStream(1, size)

				set(w, slowRate)
				before := dropped()
				_, err = io.CopyN(c1, stream(2), size)
				require.NoError(t, err)

				// It waits for more than an hour.
				require.Eventually(t, func() bool {
					now := w.moment().now

					return dropped() > before && s.leg(
						Leg1,
					).noneFor(now) > time.Hour
				}, limit, tick)

				// A read that was under way is done before it.
				most := (2*i+1)*size + 2*(minRead+chunkMax)
				require.LessOrEqual(t, s.Stats().Leg1.BytesIn,
					uint64(most))

				// The other direction waits for nobody.
				c2.say("hello")
				c1.hear("hello")

				set(w, rate)
				c2.requireStream(2, size)
			}

			require.Equal(t, EventLimit{
				s.ID(), Leg1, DropBandwidth,
			}, w.event())
			c1.hangUp()
			c2.hearEnd()
			c2.hangUp()
			waitClosed(t, s)
			require.EqualValues(t, 6*size, s.Stats().Leg2.BytesOut)
		})
	}
}
