package offer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestUnsolicited checks that answers about what is not known, and those of the
// wrong node, act on nothing.
func TestUnsolicited(t *testing.T) {
	about := func(name string, about func(*Offer) (PubKey, ID)) {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				a, _ := w.add(alice), w.addStranger(bob)
				w.addStranger(carol)
				o := w.sendOffer(a, proposal(bob))
				w.inject(a, bob, &wire.Ack{
					ID: testID(9), ReplyTo: o.ID,
				})
				in := offerMsg(testID(8))
				w.inject(a, bob, in)
				a.takeEvents()
				w.takeSent(alice)
				before, err := a.List(t.Context())
				require.NoError(t, err)

				from, id := about(&o)
				w.inject(a, from, &wire.Accept{
					ID: testID(1), ReplyTo: id,
				})
				w.requireAnswers(a, from, rejectOf(
					testID(1), wire.CodeUnknown,
				))
				for _, code := range []wire.RejectCode{
					wire.CodeDeclined, wire.CodeUnknown,
				} {
					w.inject(a, from, &wire.Reject{
						ID: testID(2), ReplyTo: id,
						Code: code,
					})
					w.requireAnswers(
						a, from, ackOf(testID(2)),
					)
				}

				// The peer of an incoming offer may close it.
				var closes uint64
				if id != in.ID || from != bob {
					w.inject(a, from, &wire.Close{
						ID: testID(3), ReplyTo: id,
					})
					w.requireAnswers(
						a, from, ackOf(testID(3)),
					)
					closes = 1
				}
				w.inject(a, from, &wire.Ack{
					ID: testID(4), ReplyTo: id,
				})
				w.requireAnswers(a, from)

				after, err := a.List(t.Context())
				require.NoError(t, err)
				require.Equal(t, before, after)
				require.Empty(t, a.takeEvents())
				w.requireCounts(a, map[string]uint64{
					"unsolicited": 3 + closes,
				})
			})
		})
	}

	about("unknown", func(*Offer) (PubKey, ID) { return bob, testID(7) })
	about("wrong node", func(o *Offer) (PubKey, ID) { return carol, o.ID })
	about("incoming", func(*Offer) (PubKey, ID) { return bob, testID(8) })
	about("incoming of another", func(*Offer) (PubKey, ID) {
		return carol, testID(8)
	})
}

// TestLateAccept checks that the far end is told if it accepts an offer that
// has ended, each time that it does.
func TestLateAccept(t *testing.T) {
	ends := map[string]func(*testing.T, *world, *node, Offer){
		"WITHDRAWN": func(t *testing.T, _ *world, a *node, _ Offer) {
			t.Helper()
			err := a.SocketClosed(t.Context(), testSocket, "")
			require.NoError(t, err)
		},
		"EXPIRED": func(_ *testing.T, _ *world, _ *node, o Offer) {
			time.Sleep(time.Until(o.ExpiresAt))
		},
		"REJECTED": func(_ *testing.T, w *world, a *node, o Offer) {
			w.inject(a, bob, &wire.Reject{
				ID: testID(5), ReplyTo: o.ID,
				Code: wire.CodeDeclined,
			})
		},
		"CLOSED": func(_ *testing.T, w *world, a *node, o Offer) {
			w.inject(a, bob, &wire.Close{
				ID: testID(5), ReplyTo: o.ID,
			})
		},
	}
	for state, end := range ends {
		t.Run(state, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				a, _ := w.add(alice), w.addStranger(bob)
				o := w.sendOffer(a, proposal(bob))
				w.inject(a, bob, &wire.Ack{
					ID: testID(4), ReplyTo: o.ID,
				})
				end(t, w, a, o)
				for _, p := range w.takeSent(alice) {
					if p.typ != wire.TypeClose {
						continue
					}
					w.inject(a, bob, &wire.Ack{
						ID: newID(),
						ReplyTo: p.msg(t).(*wire.Close).
							ID,
					})
				}
				a.takeEvents()

				for range 2 {
					w.inject(a, bob, &wire.Accept{
						ID: testID(6), ReplyTo: o.ID,
					})
					w.requireAnswers(a, bob, rejectOf(
						testID(6), wire.CodeExpired,
					))
				}
				require.Equal(
					t, state, w.get(a, o.ID).State.String(),
				)
				require.Empty(t, a.takeEvents())
				w.requireCounts(a, map[string]uint64{
					"unsolicited": 2,
				})
			})
		})
	}
}

// TestRepeatedAccept checks that an accept that comes again is acknowledged
// again, even after the offer was closed, and that there is but one.
func TestRepeatedAccept(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		o := w.sendOffer(a, proposal(bob))
		accept := &wire.Accept{ID: testID(1), ReplyTo: o.ID}
		w.inject(a, bob, accept)
		w.takeSent(alice)
		a.takeEvents()

		for _, id := range []byte{1, 2} {
			accept := *accept
			accept.ID = testID(id)
			w.inject(a, bob, &accept)
			w.requireAnswers(a, bob, ackOf(accept.ID))
		}
		require.Equal(t, testID(1), w.get(a, o.ID).DecisionID)

		require.NoError(t, a.SocketClosed(t.Context(), testSocket, ""))
		closing := w.takeSent(alice)[0].msg(t).(*wire.Close)
		w.inject(a, bob, &wire.Ack{ID: testID(3), ReplyTo: closing.ID})
		require.Len(t, a.takeEvents(), 1)

		w.inject(a, bob, accept)
		w.requireAnswers(a, bob, ackOf(accept.ID))
		w.requireState(a, o.ID, StateClosed)
		w.requireCounts(a, map[string]uint64{"duplicate": 3})
		require.Empty(t, a.takeEvents())
	})
}

// TestRepeatedRejectAndClose checks that these act once, and are acknowledged
// each time.
func TestRepeatedRejectAndClose(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		o := w.sendOffer(a, proposal(bob))
		in := offerMsg(testID(1))
		w.inject(a, bob, in)
		a.takeEvents()
		w.takeSent(alice)

		for range 3 {
			w.inject(a, bob, &wire.Reject{
				ID: testID(2), ReplyTo: o.ID,
				Code: wire.CodeDeclined,
			})
			w.requireAnswers(a, bob, ackOf(testID(2)))
			w.inject(a, bob, &wire.Close{
				ID: testID(3), ReplyTo: in.ID,
			})
			w.requireAnswers(a, bob, ackOf(testID(3)))
		}
		w.requireState(a, o.ID, StateRejected)
		w.requireState(a, in.ID, StateWithdrawn)
		require.Len(t, a.takeEvents(), 3)
		w.requireCounts(a, map[string]uint64{"duplicate": 4})
	})
}

// TestAcceptRefused checks what a reject of our own accept does.
func TestAcceptRefused(t *testing.T) {
	for code := wire.CodeDeclined; code <= wire.CodeUnsupported; code++ {
		t.Run(code.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				b, _ := w.add(bob), w.addStranger(alice)
				w.addStranger(carol)
				msg := offerMsg(testID(1))
				w.inject(b, alice, msg)
				o, _, err := b.Accept(t.Context(), msg.ID)
				require.NoError(t, err)
				b.takeEvents()
				w.takeSent(bob)

				reject := &wire.Reject{
					ID:      testID(2),
					ReplyTo: o.DecisionID,
					Code:    code,
					Text:    "text",
				}
				w.inject(b, carol, reject)
				w.requireState(b, msg.ID, StateAccepted)
				require.NotEmpty(t, w.takeSent(bob))

				w.inject(b, alice, reject)
				want, reason := StateAccepted, ""
				switch code {
				case wire.CodeUnknown, wire.CodeExpired:
					want = StateClosed
					reason = code.String() + ": text"

				default:
				}
				o = w.get(b, msg.ID)
				require.Equal(t, want, o.State)
				require.Equal(t, reason, o.Reason)
				require.Equal(
					t, want == StateClosed,
					len(b.takeEvents()) == 1,
				)

				// Either way it has arrived.
				w.takeSent(bob)
				time.Sleep(time.Minute)
				require.Empty(t, w.takeSent(bob))
				w.requireCounts(b, map[string]uint64{
					"unsolicited": 1,
				})
			})
		})
	}
}

// TestRefusalReason checks what the reason of an offer says that the other
// socketd has refused.
func TestRefusalReason(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		for text, want := range map[string]string{
			"": "limit", "full": "limit: full",
		} {
			o := w.sendOffer(a, proposal(bob))
			w.inject(a, bob, &wire.Reject{
				ID: newID(), ReplyTo: o.ID,
				Code: wire.CodeLimit, Text: text,
			})
			require.Equal(t, want, w.get(a, o.ID).Reason)
			w.requireState(a, o.ID, StateRejected)
		}
	})
}

// TestRefusedInUse checks that a refusal does not end an offer that is used: it
// is about a copy that came late.
func TestRefusedInUse(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		o := w.sendOffer(a, proposal(bob))
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 2))
		w.takeSent(alice)
		w.inject(a, bob, &wire.Reject{
			ID: testID(1), ReplyTo: o.ID, Code: wire.CodeLimit,
		})
		w.requireState(a, o.ID, StateAccepted)
		w.requireAnswers(a, bob, ackOf(testID(1)))
		w.requireCounts(a, map[string]uint64{"duplicate": 1})
	})
}

// TestOvertaken checks that a close which comes before its offer still ends it,
// for a while.
func TestOvertaken(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		b, _ := w.add(bob), w.addStranger(alice)
		w.addStranger(carol)
		msg := offerMsg(testID(1))
		closing := &wire.Close{ID: testID(2), ReplyTo: msg.ID}
		w.inject(b, alice, closing)
		w.requireAnswers(b, alice, ackOf(closing.ID))

		for range 2 {
			w.inject(b, alice, msg)
			w.requireAnswers(b, alice, ackOf(msg.ID))
		}
		w.requireCounts(b, map[string]uint64{
			"unsolicited": 1, "duplicate": 2,
		})
		require.Empty(t, b.takeEvents())
		offers, err := b.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, offers)

		// It was Alice's close, not Carol's.
		w.inject(b, carol, msg)
		w.requireState(b, msg.ID, StatePending)
		w.inject(b, carol, closing)
		w.requireState(b, msg.ID, StateWithdrawn)

		time.Sleep(time.Hour + Slack)
		w.requireNone(b)
	})
}

// TestDeliveredAfterEnd checks that the host says again that an offer has ended
// when its ack comes: the far end may have taken it in since.
func TestDeliveredAfterEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		w.dead()
		o := w.sendOffer(a, proposal(bob))
		offer := w.takeSent(alice)[0]

		// Bob's socketd had no room for the first copy.
		w.perfect()
		w.inject(a, bob, &wire.Reject{
			ID: testID(1), ReplyTo: o.ID, Code: wire.CodeLimit,
		})
		w.requireState(a, o.ID, StateRejected)

		// It has for another one, which was on its way meanwhile.
		b.Receive(alice, uint32(offer.typ), offer.body)
		synctest.Wait()
		w.requireState(a, o.ID, StateRejected)
		w.requireState(b, o.ID, StateWithdrawn)
		require.Equal(t, []EventKind{EventReceived, EventClosed},
			kindsOf(b.takeEvents()))
		require.Equal(
			t, []EventKind{EventRejected}, kindsOf(a.takeEvents()),
		)
	})
}
