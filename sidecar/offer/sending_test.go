package offer

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// frozen is a messenger whose sends to some peers take until they are given up.
type frozen struct {
	Messenger

	mu    sync.Mutex
	peers map[PubKey]bool

	// now and most are how many sends there are, by peer and in all, and
	// how many there were at most.
	now, most map[PubKey]int
	all       int
	mostAll   int
}

// freeze makes the sends of a node to some peers block.
func (w *world) freeze(n *node, peers ...PubKey) *frozen {
	f := &frozen{
		Messenger: n,
		peers:     make(map[PubKey]bool),
		now:       make(map[PubKey]int),
		most:      make(map[PubKey]int),
	}
	for _, peer := range peers {
		f.peers[peer] = true
	}
	n.deps.Messenger = f

	return f
}

// Send implements Messenger.
func (f *frozen) Send(ctx context.Context, peer PubKey, msgType uint16,
	body []byte) error {

	f.mu.Lock()
	f.now[peer]++
	f.all++
	f.most[peer] = max(f.most[peer], f.now[peer])
	f.mostAll = max(f.mostAll, f.all)
	blocks := f.peers[peer]
	f.mu.Unlock()

	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.now[peer]--
		f.all--
	}()

	if blocks {
		<-ctx.Done()

		return ctx.Err()
	}

	return f.Messenger.Send(ctx, peer, msgType, body)
}

// TestFrozenPeer checks that a peer whose connection takes nothing delays no
// other, and itself not for ever.
func TestFrozenPeer(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		w.addStranger(carol)
		f := w.freeze(a, carol)

		// What waits for Carol is more than there are sends in flight.
		var waiting sync.WaitGroup
		start := time.Now()
		for range 2 * maxInFlight {
			waiting.Go(func() {
				o, err := a.Manager.Send(
					t.Context(), proposal(carol),
				)
				if err != nil {
					t.Errorf("send: %v", err)
				}
				assert.Equal(t, StateQueued, o.State)
				assert.Equal(
					t, sendTimeout, time.Since(start),
				)
			})
		}
		synctest.Wait()

		o := w.sendOffer(a, proposal(bob))
		w.requireState(a, o.ID, StatePending)
		w.requireState(b, o.ID, StatePending)
		require.Equal(t, start, time.Now())

		_, _, err := b.Accept(t.Context(), o.ID)
		require.NoError(t, err)
		w.requireState(a, o.ID, StateAccepted)
		waiting.Wait()

		f.mu.Lock()
		defer f.mu.Unlock()
		require.Equal(t, 1, f.most[carol])
	})
}

// TestManyFrozenPeers checks that there are so many sends at a time and no
// more, and that all get their turn.
func TestManyFrozenPeers(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		var peers []PubKey
		for i := range maxInFlight {
			peers = append(peers, testKey(byte(i)))
			w.addStranger(peers[i])
		}
		f := w.freeze(a, peers...)

		var waiting sync.WaitGroup
		for _, peer := range peers {
			waiting.Go(func() {
				_, err := a.Manager.Send(
					t.Context(), proposal(peer),
				)
				if err != nil {
					t.Errorf("send: %v", err)
				}
			})
		}
		synctest.Wait()

		o, err := a.Manager.Send(t.Context(), proposal(bob))
		require.NoError(t, err)
		waiting.Wait()
		w.requireState(a, o.ID, StatePending)
		w.requireState(b, o.ID, StatePending)

		f.mu.Lock()
		defer f.mu.Unlock()
		require.Equal(t, maxInFlight, f.mostAll)
	})
}

// TestOrder checks that what is sent to a peer is sent in order, and one after
// the other.
func TestOrder(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		f := w.freeze(a, bob)

		// An ack is on its way, and more wait behind it.
		var want []ID
		for i := range 10 {
			want = append(want, testID(byte(i+1)))
			w.inject(a, bob, &wire.Close{
				ID: want[i], ReplyTo: testID(0xff),
			})
		}
		require.Empty(t, w.takeSent(alice))

		f.mu.Lock()
		f.peers = nil
		f.mu.Unlock()
		time.Sleep(sendTimeout)

		var got []ID
		for _, p := range w.takeSent(alice) {
			got = append(got, p.msg(t).(*wire.Ack).ReplyTo)
		}
		require.Equal(t, want[1:], got)

		f.mu.Lock()
		defer f.mu.Unlock()
		require.Equal(t, 1, f.most[bob])
	})
}

// TestImpatientCaller checks that the offer of a caller who does not wait goes
// on, and is not undone behind its back.
func TestImpatientCaller(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.addWith(alice, DefaultLimits(), newFailingStore())
		b := w.add(bob)
		w.setFate(func(packet) fate {
			time.Sleep(2 * time.Second)

			return fate{err: ErrNotConnected}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()

		start := time.Now()
		o, err := a.Manager.Send(ctx, proposal(bob))
		require.NoError(t, err)
		require.Equal(t, StateQueued, o.State)
		require.Equal(t, time.Second, time.Since(start))

		time.Sleep(time.Minute)
		w.requireState(a, o.ID, StateQueued)

		w.perfect()
		time.Sleep(time.Minute)
		w.requireState(a, o.ID, StatePending)
		w.requireState(b, o.ID, StatePending)
	})
}

// TestEndsWhileWaiting checks that a caller who waits for an offer behind
// others is told when the offer ends before its turn.
func TestEndsWhileWaiting(t *testing.T) {
	ends := map[string]func(*testing.T, *node, Offer){
		"withdrawn": func(t *testing.T, a *node, _ Offer) {
			t.Helper()
			err := a.SocketClosed(t.Context(), testSocket, "")
			require.NoError(t, err)
		},
		"expired": func(_ *testing.T, _ *node, o Offer) {
			time.Sleep(time.Until(o.ExpiresAt))
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				a, _ := w.add(alice), w.addStranger(bob)
				w.freeze(a, bob)
				p := proposal(bob)
				p.ExpiresAt = time.Now().Add(2 * time.Second)

				var waiting sync.WaitGroup
				send := func() {
					o, err := a.Manager.Send(t.Context(), p)
					if err != nil {
						t.Errorf("send: %v", err)
					}
					assert.True(t, o.State.Ended())
				}
				waiting.Go(send)
				waiting.Go(send)
				synctest.Wait()

				start := time.Now()
				end(t, a, Offer{ExpiresAt: p.ExpiresAt})
				waiting.Wait()
				require.Less(
					t, time.Since(start), sendTimeout,
				)
			})
		})
	}
}

// TestTooLateToSend checks that a message whose time runs out behind others is
// not sent.
func TestTooLateToSend(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		timers := newTimers()
		b := newOutbox(timers)
		first := newAttempt()
		now := time.Now()
		b.add(&delivery{
			offer:    offerKey{peer: bob, id: testID(1)},
			id:       testID(1),
			msgType:  wire.TypeOffer,
			deadline: now,
			first:    first,
		})
		require.Empty(t, b.take(now))
		<-first.done
		require.NoError(t, first.err)
		require.Empty(t, b.byID)
		require.Empty(t, b.byOffer)
		require.Empty(t, b.peers)
	})
}

// TestStop checks that Run returns while a peer is frozen, tells who waits, and
// leaves nothing behind. What is asked for afterwards is refused.
func TestStop(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		w.addStranger(carol)
		f := w.freeze(a, bob)

		var waiting sync.WaitGroup
		errs := make(chan error, 2)
		for range 2 {
			waiting.Go(func() {
				_, err := a.Manager.Send(
					t.Context(), proposal(bob),
				)
				errs <- err
			})
		}
		synctest.Wait()

		start := time.Now()
		a.stop()
		require.Equal(t, start, time.Now())
		waiting.Wait()

		// One was on its way, the other was not.
		var stopped int
		for range 2 {
			if err := <-errs; err != nil {
				require.ErrorIs(t, err, ErrStopped)
				stopped++
			}
		}
		require.Equal(t, 1, stopped)
		f.mu.Lock()
		require.Zero(t, f.all)
		f.mu.Unlock()

		_, err := a.Manager.Send(t.Context(), proposal(carol))
		require.ErrorIs(t, err, ErrStopped)
		offers, err := a.List(t.Context())
		require.NoError(t, err)
		require.Len(t, offers, 1)

		// Receive does not block, whatever comes.
		for range maxInbound + 10 {
			a.Receive(bob, uint32(wire.TypeAck), nil)
		}
	})
}

// TestStopRecords checks that what was sent is recorded even if we stop
// meanwhile.
func TestStopRecords(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.addWith(alice, DefaultLimits(), newFailingStore())
		w.addStranger(bob)
		w.setFate(func(packet) fate {
			time.Sleep(time.Second)

			return fate{}
		})

		errs := make(chan error)
		go func() {
			_, err := a.Manager.Send(t.Context(), proposal(bob))
			errs <- err
		}()
		synctest.Wait()
		a.stop()
		require.NoError(t, <-errs)

		offers, err := a.List(t.Context())
		require.NoError(t, err)
		require.Len(t, offers, 1)
		require.Equal(t, StateSent, offers[0].State)
	})
}

// TestStopAfterAttempt checks that the offer of a caller who learns at the same
// time that it was tried and that we stop is kept.
func TestStopAfterAttempt(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		a.stop()
		o := Offer{ID: testID(1), Peer: bob, Direction: Outgoing}
		require.NoError(t, a.store.Put(t.Context(), Record{Offer: o}))
		d := &delivery{offer: o.key()}

		// Which of the two it sees first is left to chance.
		for range 64 {
			first := newAttempt()
			first.finish(nil)
			got, err := a.wait(t.Context(), d, first)
			require.NoError(t, err)
			require.Equal(t, o, got)

			first = newAttempt()
			first.finish(ErrNotConnected)
			_, err = a.wait(t.Context(), d, first)
			require.ErrorIs(t, err, ErrNotConnected)
		}
	})
}

// TestNotSentAfterEnd checks that an offer which ends while it waits behind
// others is not sent when its turn comes.
func TestNotSentAfterEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		f := w.freeze(a, bob)
		w.inject(a, bob, &wire.Close{ID: testID(1), ReplyTo: testID(2)})

		ended := make(chan State)
		go func() {
			o, err := a.Manager.Send(t.Context(), proposal(bob))
			if err != nil {
				t.Errorf("send: %v", err)
			}
			ended <- o.State
		}()
		synctest.Wait()
		require.NoError(t, a.SocketClosed(t.Context(), testSocket, ""))
		require.Equal(t, StateWithdrawn, <-ended)

		f.mu.Lock()
		f.peers = nil
		f.mu.Unlock()
		time.Sleep(sendTimeout)
		require.Equal(
			t, []wire.MsgType{wire.TypeClose},
			typesOf(w.takeSent(alice)),
		)
	})
}
