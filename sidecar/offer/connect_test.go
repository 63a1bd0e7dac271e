package offer

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestConnectDelay checks how long a peer is left alone after an attempt.
func TestConnectDelay(t *testing.T) {
	for attempts, want := range map[int]time.Duration{
		1: time.Minute, 2: 2 * time.Minute, 3: 4 * time.Minute,
		4: 8 * time.Minute, 5: 10 * time.Minute, 1000: 10 * time.Minute,
	} {
		require.Equal(t, want, connectDelay(attempts), attempts)
	}
}

// TestOfflineExpires checks that an offer to a node that never appears waits,
// that its peer is looked for at the times that the specification has, and that
// it expires and leaves nothing behind.
func TestOfflineExpires(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		start := time.Now()
		o := w.sendOffer(a, tokenProposal(bob))
		require.Equal(t, StateQueued, o.State)
		require.Equal(t, 1, a.NumPending())
		w.requireGranted(a)
		require.Empty(t, a.takeEvents())

		time.Sleep(30 * time.Minute)
		var at []time.Duration
		for _, c := range a.takeConnects() {
			require.Equal(t, bob, c.peer)
			at = append(at, c.at.Sub(start))
		}
		require.Equal(t, []time.Duration{
			0, time.Minute, 3 * time.Minute, 7 * time.Minute,
			15 * time.Minute, 25 * time.Minute,
		}, at)
		w.requireState(a, o.ID, StateQueued)
		for _, p := range w.takeSent(alice) {
			require.Equal(t, wire.TypeOffer, p.typ)
		}

		time.Sleep(time.Hour)
		require.Equal(
			t, []EventKind{EventExpired}, kindsOf(a.takeEvents()),
		)
		w.requireNone(a)
	})
}

// TestOfflineConnects checks that what waits for a peer is sent as soon as it
// was connected to.
func TestOfflineConnects(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		var b *node
		a.reach = func(context.Context, PubKey) error {
			time.Sleep(20 * time.Second)
			b = w.add(bob)

			return nil
		}
		start := time.Now()
		o := w.sendOffer(a, proposal(bob))
		second := w.sendOffer(a, proposal(bob))

		time.Sleep(20 * time.Second)
		w.requireState(a, o.ID, StatePending)
		w.requireState(b, o.ID, StatePending)
		w.requireState(a, second.ID, StatePending)
		require.Equal(t, start.Add(20*time.Second), time.Now())
		require.Len(t, a.takeConnects(), 1)
		time.Sleep(10 * time.Minute)
		require.Empty(t, a.takeConnects())
	})
}

// TestPeerOnline checks that what waits for a peer is sent when the peer comes
// by itself, each message once, and that nothing else is.
func TestPeerOnline(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		o := w.sendOffer(a, proposal(bob))
		hers := w.sendOffer(a, proposal(carol))
		time.Sleep(5 * time.Minute)
		w.takeSent(alice)

		// What waits for Bob has 30 seconds to go by then.
		b := w.add(bob)
		before := time.Now()
		a.PeerOnline(bob)
		w.requireState(b, o.ID, StatePending)
		w.requireState(a, o.ID, StatePending)
		require.Equal(t, before, time.Now())
		require.Equal(
			t, []wire.MsgType{wire.TypeOffer},
			typesOf(w.takeSent(alice)),
		)
		w.requireState(a, hers.ID, StateQueued)

		// There is nothing for anybody to send.
		a.PeerOnline(bob)
		a.PeerOnline(testKey(9))
		require.Empty(t, w.takeSent(alice))
	})
}

// TestPeerOnlineEarly checks that a peer which is not quite there when it is
// told of is tried again soon, and not after the time that it had waited for.
func TestPeerOnlineEarly(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.add(alice)
		o := w.sendOffer(a, proposal(bob))
		time.Sleep(5 * time.Minute)
		a.PeerOnline(bob)
		synctest.Wait()

		b := w.add(bob)
		time.Sleep(retryMin)
		w.requireState(b, o.ID, StatePending)
	})
}

// TestPeerOnlineWhileSending checks that a peer which comes online while a
// message to it is on its way does not get it twice for that.
func TestPeerOnlineWhileSending(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		w.setFate(func(p packet) fate {
			if p.from == alice {
				time.Sleep(time.Second)
			}

			return fate{delays: []time.Duration{0}}
		})
		o := w.sendOffer(a, proposal(bob))
		a.PeerOnline(bob)
		time.Sleep(2 * time.Second)
		w.requireState(b, o.ID, StatePending)
		require.Equal(
			t, []wire.MsgType{wire.TypeOffer},
			typesOf(w.takeSent(alice)),
		)
	})
}

// TestConnectAfterSend checks that a peer which was reached, and goes away, is
// not connected to more often than once a minute for that.
func TestConnectAfterSend(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		w.addStranger(bob)
		away := true
		w.setFate(func(packet) fate {
			away = !away
			if !away {
				return fate{err: ErrNotConnected}
			}

			return fate{}
		})
		w.sendOffer(a, proposal(bob))
		time.Sleep(time.Hour)

		connects := a.takeConnects()
		require.Greater(t, len(connects), 10)
		for i := range connects[1:] {
			gap := connects[i+1].at.Sub(connects[i].at)
			require.GreaterOrEqual(t, gap, connectMin)
		}
		time.Sleep(time.Hour)
		w.requireNone(a)
	})
}

// TestManyOffline checks that there are only so many attempts to connect at a
// time and in a second, one for a peer, that all have their turn, and that
// offers to others are not delayed.
func TestManyOffline(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)

		var (
			mu        sync.Mutex
			now, most int
			busy      = make(map[PubKey]bool)
		)
		a.reach = func(ctx context.Context, peer PubKey) error {
			mu.Lock()
			now++
			most = max(most, now)
			require.False(t, busy[peer])
			busy[peer] = true
			mu.Unlock()

			// It takes what there is of time.
			<-ctx.Done()

			mu.Lock()
			now--
			delete(busy, peer)
			mu.Unlock()

			return ctx.Err()
		}
		for i := range 20 {
			w.sendOffer(a, proposal(testKey(byte(i+1))))
			w.sendOffer(a, proposal(testKey(byte(i+1))))
		}
		o := w.sendOffer(a, proposal(bob))
		w.requireState(b, o.ID, StatePending)

		time.Sleep(20 / maxConnects * (connectTimeout + time.Second))
		connects := a.takeConnects()
		peers := make(map[PubKey]int)
		for i, c := range connects {
			peers[c.peer]++
			if i > 0 {
				require.GreaterOrEqual(
					t, c.at.Sub(connects[i-1].at),
					connectGap,
				)
			}
		}
		require.Len(t, peers, 20)
		mu.Lock()
		require.Equal(t, maxConnects, most)
		mu.Unlock()

		time.Sleep(2 * time.Hour)
		require.NoError(t, a.SocketClosed(t.Context(), testSocket, ""))
		time.Sleep(time.Hour)
		b.stop()
		w.requireNone(a)
	})
}

// TestOfflineStops checks that Run returns while it has peers connected.
func TestOfflineStops(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		a.reach = func(ctx context.Context, _ PubKey) error {
			<-ctx.Done()

			return ctx.Err()
		}
		for i := range 2 * maxConnects {
			w.sendOffer(a, proposal(testKey(byte(i+1))))
		}
		time.Sleep(10 * time.Second)
		start := time.Now()
		a.stop()
		require.Equal(t, start, time.Now())
	})
}

// TestDecisionConnects checks that a decision, too, has its peer connected.
func TestDecisionConnects(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		o := w.sendOffer(a, proposal(bob))
		w.failing(ErrNotConnected)
		_, _, err := b.Accept(t.Context(), o.ID)
		require.NoError(t, err)

		connects := b.takeConnects()
		require.Len(t, connects, 1)
		require.Equal(t, alice, connects[0].peer)

		w.perfect()
		b.PeerOnline(alice)
		w.requireState(a, o.ID, StateAccepted)
	})
}

// TestOutlook checks what is told of what is being done about an offer.
func TestOutlook(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		f := w.freeze(a)
		o := w.sendOffer(a, proposal(bob))
		outlook := func() Outlook {
			synctest.Wait()

			return a.Outlooks([]Offer{o})[0]
		}
		require.Equal(t, Outlook{
			Sends: wire.TypeOffer, At: time.Now().Add(retryMin),
			Offline: true,
		}, outlook())

		f.mu.Lock()
		f.peers[bob] = true
		f.mu.Unlock()
		time.Sleep(retryMin)
		require.Equal(t, Outlook{
			Sends: wire.TypeOffer, Offline: true,
		}, outlook())
		a.stop()
	})

	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		w.addStranger(bob)
		o := w.sendOffer(a, proposal(bob))
		require.Equal(t, []Outlook{
			{Sends: wire.TypeOffer, At: time.Now().Add(retryMin)},
			{},
		}, a.Outlooks([]Offer{o, {ID: testID(9), Peer: bob}}))

		w.inject(a, bob, &wire.Ack{ID: newID(), ReplyTo: o.ID})
		require.Equal(t, []Outlook{{}}, a.Outlooks([]Offer{o}))

		_, _, err := a.Withdraw(t.Context(), o.ID, "")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(
			t, wire.TypeClose, a.Outlooks([]Offer{o})[0].Sends,
		)
	})
}
