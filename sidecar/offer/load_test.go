package offer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// restart stops a node, lets some time pass, and starts it on the same store.
// Its sockets are there, and nobody is let into them.
func (w *world) restart(n *node, limits Limits, down time.Duration) *node {
	w.t.Helper()

	n.stop()
	time.Sleep(down)

	return w.addWith(n.key, limits, n.store)
}

// TestLoadQueued checks that an offer that nobody has acknowledged is sent
// again at once, as it was.
func TestLoadQueued(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.dead()
		a := w.add(alice)
		w.addStranger(bob)
		o := w.sendOffer(a, tokenProposal(bob))
		first := w.takeSent(alice)[0]

		start := time.Now().Add(time.Minute)
		a = w.restart(a, DefaultLimits(), time.Minute)
		again := w.takeSent(alice)
		require.Equal(t, first.body, again[len(again)-1].body)
		require.Equal(t, start, again[len(again)-1].at)
		w.requireState(a, o.ID, StateSent)
		w.requireGranted(a)
		require.Empty(t, a.takeEvents())

		w.inject(a, bob, &wire.Ack{ID: testID(1), ReplyTo: o.ID})
		w.requireState(a, o.ID, StatePending)
		time.Sleep(5 * time.Minute)
		require.Empty(t, w.takeSent(alice))
	})
}

// TestLoadReplies checks that decisions and closes that nobody has acknowledged
// are sent again, and what was acknowledged is not.
func TestLoadReplies(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		w.addStranger(bob)
		for id := byte(1); id <= 3; id++ {
			w.inject(a, bob, offerMsg(testID(id)))
		}
		accepted, _, err := a.Accept(t.Context(), testID(1))
		require.NoError(t, err)
		rejected, err := a.Reject(t.Context(), testID(2), "no")
		require.NoError(t, err)
		acked, _, err := a.Accept(t.Context(), testID(3))
		require.NoError(t, err)
		w.inject(a, bob, &wire.Ack{
			ID: testID(9), ReplyTo: acked.DecisionID,
		})
		out := w.sendOffer(a, proposal(bob))
		require.NoError(t, a.SocketClosed(t.Context(), testSocket, "x"))

		w.takeSent(alice)
		a = w.restart(a, DefaultLimits(), 0)
		var ids []ID
		for _, p := range w.takeSent(alice) {
			switch msg := p.msg(t).(type) {
			case *wire.Accept:
				ids = append(ids, msg.ID)

			case *wire.Reject:
				ids = append(ids, msg.ID)

			case *wire.Close:
				ids = append(ids, msg.ReplyTo)
			}
		}
		require.ElementsMatch(t, []ID{
			accepted.DecisionID, rejected.DecisionID, out.ID,
		}, ids)

		// Deciding once more returns the same as before.
		again, _, err := a.Accept(t.Context(), testID(1))
		require.NoError(t, err)
		require.Equal(t, accepted.DecisionID, again.DecisionID)
	})
}

// TestLoadPast checks that what was due while nothing ran is done at once:
// offers expire, are forgotten, and messages are given up.
func TestLoadPast(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.dead()
		a := w.add(alice)
		w.addStranger(bob)
		pending := w.sendOffer(a, tokenProposal(bob))
		w.inject(a, bob, offerMsg(testID(1)))
		w.inject(a, bob, offerMsg(testID(2)))
		_, _, err := a.Accept(t.Context(), testID(1))
		require.NoError(t, err)
		w.takeSent(alice)

		a = w.restart(a, DefaultLimits(), time.Hour)
		w.takeSent(alice)
		w.requireState(a, pending.ID, StateExpired)
		w.requireState(a, testID(2), StateExpired)
		w.requireState(a, testID(1), StateAccepted)
		require.Equal(
			t, []EventKind{EventExpired, EventExpired},
			kindsOf(a.takeEvents()),
		)
		require.Empty(t, a.doors.granted())

		// Only the accept is still to be told.
		msgs, err := a.store.Messages(t.Context())
		require.NoError(t, err)
		require.Len(t, msgs, 1)

		a = w.restart(a, DefaultLimits(), Slack)
		require.Empty(t, w.takeSent(alice))
		offers, err := a.List(t.Context())
		require.NoError(t, err)
		require.Len(t, offers, 1)
		require.Equal(t, testID(1), offers[0].ID)
		msgs, err = a.store.Messages(t.Context())
		require.NoError(t, err)
		require.Empty(t, msgs)

		// It can be used by its host until that ends it.
		w.inject(a, bob, &wire.Close{
			ID: testID(3), ReplyTo: testID(1),
		})
		w.requireState(a, testID(1), StateClosed)
		time.Sleep(2 * Slack)
		w.requireNone(a)
	})
}

// TestLoadLimits checks that what is remembered counts after a restart as it
// did before.
func TestLoadLimits(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		limits := limitsWith(func(l *Limits) {
			l.PendingPerPeer = 2
			l.RecordsPerPeer = 3
		})
		a := w.addWith(alice, limits, NewMemStore())
		w.addStranger(bob)
		w.sendOffer(a, proposal(bob))
		for id := byte(1); id <= 3; id++ {
			w.inject(a, bob, offerMsg(testID(id)))
			if id == 1 {
				_, _, err := a.Accept(t.Context(), testID(1))
				require.NoError(t, err)
			}
		}
		require.Equal(t, 3, a.NumPending())

		a = w.restart(a, limits, 0)
		synctest.Wait()
		require.Equal(t, 3, a.NumPending())
		a.setMaxPerNode(1)
		p := proposal(bob)
		p.SocketID = testID(0x51)
		_, err := a.Manager.Send(t.Context(), p)
		require.ErrorIs(t, err, ErrLimit)
		w.takeSent(alice)
		w.inject(a, bob, offerMsg(testID(4)))
		w.requireCounts(a, map[string]uint64{"limit": 1})

		// What is kept only because it was accepted gives way.
		time.Sleep(2 * time.Hour)
		w.requireState(a, testID(1), StateAccepted)
		for id := byte(5); id <= 7; id++ {
			if id == 7 {
				_, err := a.Reject(t.Context(), testID(5), "")
				require.NoError(t, err)
			}
			w.inject(a, bob, offerMsg(testID(id)))
		}
		offers, err := a.List(t.Context())
		require.NoError(t, err)
		require.Len(t, offers, 3)
	})
}

// TestLoadNoSocket checks that the offers of a socket that is not there any
// more end, that the far end is told, and that others are not touched.
func TestLoadNoSocket(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		p := tokenProposal(bob)
		p.Legs = Leg1 | Leg2
		o := w.sendOffer(a, p)
		p = tokenProposal(bob)
		p.SocketID = testID(0x51)
		other := w.sendOffer(a, p)
		_, _, err := b.Accept(t.Context(), o.ID)
		require.NoError(t, err)
		w.requireState(a, o.ID, StateAccepted)
		b.takeEvents()

		a.stop()
		doors := newDoors(t)
		doors.gone = func(id ID) bool { return id == testSocket }
		a = w.addBehind(alice, DefaultLimits(), a.store, doors)
		w.requireState(a, o.ID, StateClosed)
		require.Equal(t, reasonNoSocket, w.get(a, o.ID).Reason)
		require.Equal(
			t, []EventKind{EventClosed}, kindsOf(a.takeEvents()),
		)
		w.requireState(b, o.ID, StateClosed)
		require.Equal(
			t, []EventKind{EventClosed}, kindsOf(b.takeEvents()),
		)

		w.requireState(a, other.ID, StatePending)
		w.requireGranted(a)
	})
}

// TestLoadFails checks that a manager that cannot read its store ends with an
// error, and does nothing.
func TestLoadFails(t *testing.T) {
	for _, method := range []string{"List", "Messages"} {
		inWorld(t, func(w *world) {
			t := w.t
			s := newFailingStore()
			n := w.addStranger(alice)
			m := New(Config{
				Self: alice, Limits: DefaultLimits(),
			}, Deps{
				Messenger: n,
				Connector: n,
				Channels:  n,
				Store:     s,
				Opener:    newDoors(t),
				Host:      newTestHost(t),
				Notify:    func(Event) {},
				Logger:    slog.New(slog.DiscardHandler),
			})
			s.set(method)

			var running sync.WaitGroup
			running.Go(func() {
				_, err := m.List(t.Context())
				if !errors.Is(err, ErrStopped) {
					t.Errorf("list: %v", err)
				}
			})
			synctest.Wait()
			require.ErrorIs(t, m.Run(t.Context()), errStore)
			running.Wait()
		})
	}
}

// TestReady checks that whoever asks before the store was read waits for that,
// but not for longer than he wants.
func TestReady(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		w.addStranger(bob)
		w.inject(a, bob, offerMsg(testID(1)))
		w.inject(a, bob, offerMsg(testID(2)))
		a.stop()

		m := New(Config{
			Self:     alice,
			Limits:   DefaultLimits(),
			Requests: testRequests(),
		}, Deps{
			Messenger: a,
			Store:     a.store,
			Opener:    newDoors(t),
			Host:      newTestHost(t),
			Notify:    func(Event) {},
			Logger:    slog.New(slog.DiscardHandler),
		})
		calls := map[string]func(ctx context.Context) error{
			"list": func(ctx context.Context) error {
				_, err := m.List(ctx)

				return err
			},
			"of socket": func(ctx context.Context) error {
				_, err := m.OfSocket(ctx, testSocket)

				return err
			},
			"send": func(ctx context.Context) error {
				_, err := m.Send(ctx, proposal(bob))

				return err
			},
			"accept": func(ctx context.Context) error {
				_, _, err := m.Accept(ctx, testID(1))

				return err
			},
			"reject": func(ctx context.Context) error {
				_, err := m.Reject(ctx, testID(2), "")

				return err
			},
			"closed": func(ctx context.Context) error {
				return m.SocketClosed(ctx, testID(9), "")
			},
			"used": func(ctx context.Context) error {
				return m.LegUsed(ctx, testID(9), 1)
			},
		}

		require.Zero(t, m.NumPending())
		for name, call := range calls {
			ctx, cancel := context.WithTimeout(
				t.Context(), time.Second,
			)
			require.ErrorIs(
				t, call(ctx), context.DeadlineExceeded, name,
			)
			cancel()
		}

		var running sync.WaitGroup
		for name, call := range calls {
			running.Go(func() {
				if err := call(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var ran sync.WaitGroup
		ran.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
		running.Wait()
		cancel()
		ran.Wait()
	})
}

// TestGivenUp checks that a message that is given up is not kept, and that this
// is done again if the store fails.
func TestGivenUp(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a := w.addWith(alice, DefaultLimits(), s)
		w.addStranger(bob)
		w.inject(a, bob, offerMsg(testID(1)))
		_, _, err := a.Accept(t.Context(), testID(1))
		require.NoError(t, err)
		time.Sleep(time.Hour)

		s.set("Remove")
		time.Sleep(2 * Slack)
		w.takeSent(alice)
		time.Sleep(2 * Slack)
		require.Empty(t, w.takeSent(alice))
		msgs, err := a.store.Messages(t.Context())
		require.NoError(t, err)
		require.Len(t, msgs, 1)

		s.set()
		time.Sleep(storeRetry)
		synctest.Wait()
		msgs, err = a.store.Messages(t.Context())
		require.NoError(t, err)
		require.Empty(t, msgs)
	})
}
