package offer

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestStoreFailsCaller checks that a caller is told that the store has failed,
// and that nothing has happened then.
func TestStoreFailsCaller(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a := w.addWith(alice, DefaultLimits(), s)
		w.addStranger(bob)
		out := w.sendOffer(a, proposal(bob))
		w.inject(a, bob, &wire.Ack{ID: testID(9), ReplyTo: out.ID})
		in := offerMsg(testID(1))
		w.inject(a, bob, in)
		w.takeSent(alice)
		a.takeEvents()

		ctx := t.Context()
		calls := map[string]func() error{
			"send": func() error {
				_, err := a.Manager.Send(ctx, proposal(bob))

				return err
			},
			"send token": func() error {
				_, err := a.Manager.Send(
					ctx, tokenProposal(bob),
				)

				return err
			},
			"accept": func() error {
				_, _, err := a.Accept(ctx, in.ID)

				return err
			},
			"reject": func() error {
				_, err := a.Reject(ctx, in.ID, "")

				return err
			},
			"closed": func() error {
				return a.SocketClosed(ctx, testSocket, "")
			},
			"used": func() error {
				return a.LegUsed(ctx, testSocket, 2)
			},
			"list": func() error {
				_, err := a.List(ctx)

				return err
			},
		}
		fails := map[string][]string{
			"send":       {"Put"},
			"send token": {"Get"},
			"accept":     {"Find", "Put"},
			"reject":     {"Find", "Put"},
			"closed":     {"Get", "Put"},
			"used":       {"Get", "Put"},
			"list":       {"List"},
		}
		for name, call := range calls {
			for _, method := range fails[name] {
				s.set(method)
				require.ErrorIs(
					t, call(), errStore, "%s %s", name,
					method,
				)
			}
		}

		s.set()
		time.Sleep(time.Minute)
		require.Empty(t, w.takeSent(alice))
		require.Empty(t, a.takeEvents())
		w.requireState(a, out.ID, StatePending)
		w.requireState(a, in.ID, StatePending)
		require.Equal(t, 2, a.NumPending())
	})
}

// TestStoreFailsMessage checks that a message that could not be recorded is not
// acknowledged, has no effect, and has one when it comes again.
func TestStoreFailsMessage(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a := w.addWith(alice, limitsWith(func(*Limits) {}), s)
		w.addStranger(bob)
		outs := make(map[string]ID)
		for _, name := range []string{"ack", "accept", "reject"} {
			outs[name] = w.sendOffer(a, proposal(bob)).ID
		}
		for _, id := range []byte{3, 4} {
			w.inject(a, bob, offerMsg(testID(id)))
		}
		ours, _, err := a.Accept(t.Context(), testID(4))
		require.NoError(t, err)
		a.takeEvents()

		msgs := []struct {
			msg   wire.Message
			fails []string
			id    ID
			state State
		}{
			{
				msg:   offerMsg(testID(1)),
				fails: []string{"Find", "Put"},
				id:    testID(1), state: StatePending,
			},
			{
				msg: &wire.Ack{
					ID: testID(10), ReplyTo: outs["ack"],
				},
				fails: []string{"Get", "Put"},
				id:    outs["ack"], state: StatePending,
			},
			{
				msg: &wire.Accept{
					ID: testID(11), ReplyTo: outs["accept"],
				},
				fails: []string{"Get", "Put"},
				id:    outs["accept"], state: StateAccepted,
			},
			{
				msg: &wire.Reject{
					ID: testID(12), ReplyTo: outs["reject"],
					Code: wire.CodeDeclined,
				},
				fails: []string{"Get", "Put"},
				id:    outs["reject"], state: StateRejected,
			},
			{
				msg: &wire.Close{
					ID: testID(13), ReplyTo: testID(3),
				},
				fails: []string{"Get", "Put"},
				id:    testID(3), state: StateWithdrawn,
			},
			{
				msg: &wire.Reject{
					ID:      testID(14),
					ReplyTo: ours.DecisionID,
					Code:    wire.CodeUnknown,
				},
				fails: []string{"Get", "Put"},
				id:    testID(4), state: StateClosed,
			},
		}
		for _, m := range msgs {
			for _, method := range m.fails {
				w.takeSent(alice)
				before, err := a.List(t.Context())
				require.NoError(t, err)
				s.set(method)
				w.inject(a, bob, m.msg)
				s.set()

				for _, p := range w.takeSent(alice) {
					require.NotEqual(
						t, wire.TypeAck, p.typ, "%T",
						m.msg,
					)
				}
				after, err := a.List(t.Context())
				require.NoError(t, err)
				require.Equal(t, before, after)
				require.Empty(t, a.takeEvents())
			}
			w.inject(a, bob, m.msg)
			w.requireState(a, m.id, m.state)
			require.NotEmpty(t, a.takeEvents())
		}
	})
}

// TestStoreFailsLater checks the same where the record that is about our own
// accept cannot be read.
func TestStoreFailsLater(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		b := w.addWith(bob, DefaultLimits(), s)
		w.addStranger(alice)
		w.inject(b, alice, offerMsg(testID(1)))
		o, _, err := b.Accept(t.Context(), testID(1))
		require.NoError(t, err)
		synctest.Wait()
		w.takeSent(bob)

		reject := &wire.Reject{
			ID: testID(2), ReplyTo: o.DecisionID,
			Code: wire.CodeExpired,
		}
		s.setAfter("Get", 1)
		w.inject(b, alice, reject)
		require.Empty(t, w.takeSent(bob))
		s.set()
		w.requireState(b, o.ID, StateAccepted)
		w.inject(b, alice, reject)
		w.requireState(b, o.ID, StateClosed)
	})
}

// TestApplyNothing checks that a change that cannot be, and one that cannot be
// told to the peer, change nothing.
func TestApplyNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		w.addStranger(bob)
		o := w.sendOffer(a, proposal(bob))
		a.takeEvents()

		r := Record{Offer: o}
		err := a.locked(func() error {
			_, _, err := a.apply(t.Context(), r, change{
				trigger: triggerLocalAccept,
			})

			return err
		})
		require.ErrorIs(t, err, errImpossible)

		err = a.locked(func() error {
			_, _, err := a.apply(t.Context(), r, change{
				trigger: triggerStop, reason: "\n",
			})

			return err
		})
		require.ErrorIs(t, err, ErrInvalid)

		require.Equal(t, o, w.get(a, o.ID))
		require.Empty(t, a.takeEvents())
	})
}

// TestStoreFailsAcceptOfUsed checks that the accept of an offer that was used
// is not acknowledged before it is recorded.
func TestStoreFailsAcceptOfUsed(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a := w.addWith(alice, DefaultLimits(), s)
		w.addStranger(bob)
		o := w.sendOffer(a, proposal(bob))
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 2))
		w.takeSent(alice)

		accept := &wire.Accept{ID: testID(1), ReplyTo: o.ID}
		s.set("Put")
		w.inject(a, bob, accept)
		require.Empty(t, w.takeSent(alice))
		s.set()
		w.inject(a, bob, accept)
		require.Equal(t, accept.ID, w.get(a, o.ID).DecisionID)
		w.requireAnswers(a, bob, ackOf(accept.ID))
	})
}

// TestStoreFailsExpiry checks that a late accept is not answered before the
// expiry is recorded.
func TestStoreFailsExpiry(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a := w.addWith(alice, DefaultLimits(), s)
		w.addStranger(bob)
		o := w.sendOffer(a, proposal(bob))
		in := offerMsg(testID(1))
		w.inject(a, bob, in)
		w.inject(a, bob, &wire.Ack{ID: testID(9), ReplyTo: o.ID})
		w.takeSent(alice)
		a.takeEvents()

		s.set("Put")
		time.Sleep(time.Hour)
		accept := &wire.Accept{ID: testID(2), ReplyTo: o.ID}
		w.inject(a, bob, accept)
		require.Empty(t, w.takeSent(alice))
		_, _, err := a.Accept(t.Context(), in.ID)
		require.ErrorIs(t, err, errStore)
		err = a.LegUsed(t.Context(), testSocket, 2)
		require.ErrorIs(t, err, errStore)
		require.Empty(t, a.takeEvents())

		// It is tried again until it succeeds, and so is forgetting.
		s.set("Delete", "Get")
		time.Sleep(storeRetry)
		w.requireState(a, o.ID, StatePending)
		s.set("Delete")
		time.Sleep(storeRetry)
		w.requireState(a, o.ID, StateExpired)
		w.requireState(a, in.ID, StateExpired)
		require.Len(t, a.takeEvents(), 2)
		time.Sleep(Slack)
		w.requireState(a, o.ID, StateExpired)
		s.set()
		time.Sleep(storeRetry)
		w.requireNone(a)
	})
}

// TestStoreFailsSend checks that a failure of the store after an offer was sent
// does not lose the offer.
func TestStoreFailsSend(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a := w.addWith(alice, DefaultLimits(), s)
		w.addStranger(bob)

		// The attempt cannot be noted.
		w.setFate(func(packet) fate {
			s.set("Get")

			return fate{}
		})
		o, err := a.Manager.Send(t.Context(), proposal(bob))
		require.NoError(t, err)
		synctest.Wait()
		s.set()
		w.requireState(a, o.ID, StateQueued)
		w.dead()
		time.Sleep(time.Minute)
		w.requireState(a, o.ID, StateSent)
	})
}

// TestStoreFailsRoom checks that a failure to make room is no limit.
func TestStoreFailsRoom(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a := w.addWith(alice, limitsWith(func(l *Limits) {
			l.RecordsPerPeer = 1
		}), s)
		w.addStranger(bob)
		w.inject(a, bob, offerMsg(testID(1)))
		_, _, err := a.Accept(t.Context(), testID(1))
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		w.takeSent(alice)

		for _, method := range []string{"Get", "Delete"} {
			s.set(method)
			w.inject(a, bob, offerMsg(testID(2)))
			require.Empty(t, w.takeSent(alice))
			w.requireCounts(a, nil)
		}

		s.set()
		w.inject(a, bob, offerMsg(testID(2)))
		w.requireState(a, testID(2), StatePending)
	})
}

// TestStoreFailsLog checks that the owner learns that the store has failed, but
// not once for every message of a peer.
func TestStoreFailsLog(t *testing.T) {
	var log bytes.Buffer

	inWorld(t, func(w *world) {
		s := newFailingStore()
		a := w.addWith(alice, DefaultLimits(), s)
		w.addStranger(bob)
		a.deps.Logger = slog.New(
			slog.NewTextHandler(&log, nil),
		)
		s.set("Find")
		for i := range 120 {
			w.inject(a, bob, offerMsg(testID(byte(i+1))))
			time.Sleep(time.Second)
		}
		a.stop()
	})
	require.Equal(t, 2, strings.Count(log.String(), "level=ERROR"))
	require.Equal(t, 2, strings.Count(log.String(), "disk is full"))
	require.Equal(t, 2, strings.Count(log.String(), "\n"))
}
