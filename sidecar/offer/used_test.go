package offer

import (
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestLegUsed checks when the use of a leg counts as acceptance.
func TestLegUsed(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.add(bob)
		w.add(carol)
		o := w.sendOffer(a, proposal(bob))
		a.takeEvents()

		require.ErrorIs(
			t, a.LegUsed(t.Context(), testSocket, 0), ErrInvalid,
		)
		require.ErrorIs(
			t, a.LegUsed(t.Context(), testSocket, 3), ErrInvalid,
		)

		// The host's own leg, and another socket.
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 1))
		require.NoError(t, a.LegUsed(t.Context(), testID(1), 2))
		w.requireState(a, o.ID, StatePending)

		// Who of two came?
		p := proposal(carol)
		p.Legs = Leg1 | Leg2
		both := w.sendOffer(a, p)
		a.takeEvents()
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 2))
		w.requireState(a, o.ID, StatePending)
		w.requireState(a, both.ID, StatePending)

		// Only one of them grants leg 1.
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 1))
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 1))
		w.requireState(a, o.ID, StatePending)
		w.requireState(a, both.ID, StateAccepted)
		events := a.takeEvents()
		require.Equal(t, []EventKind{EventAccepted}, kindsOf(events))
		require.Zero(t, events[0].MessageID)
		require.Equal(t, both.ID, events[0].Offer.ID)

		// An accepted offer is as good a guess as a pending one.
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 2))
		w.requireState(a, o.ID, StatePending)
		require.Empty(t, a.takeEvents())
	})
}

// TestUsedThenAccepted checks that an offer that was used and is accepted later
// happens once, and that the offer is sent for as long as nobody has it.
func TestUsedThenAccepted(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		w.dead()
		o := w.sendOffer(a, proposal(bob))
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 2))
		w.requireState(a, o.ID, StateAccepted)
		require.Equal(
			t, []EventKind{EventDelivered, EventAccepted},
			kindsOf(a.takeEvents()),
		)

		time.Sleep(time.Minute)
		w.perfect()
		time.Sleep(time.Minute)
		w.requireState(b, o.ID, StatePending)
		w.takeSent(alice)
		time.Sleep(time.Minute)
		require.Empty(t, w.takeSent(alice))

		accepted, _, err := b.Accept(t.Context(), o.ID)
		require.NoError(t, err)
		require.Equal(
			t, accepted.DecisionID, w.get(a, o.ID).DecisionID,
		)
		require.Empty(t, a.takeEvents())
		w.requireCounts(a, nil)

		// The ack is lost and the accept comes again.
		w.inject(a, bob, &wire.Accept{
			ID: accepted.DecisionID, ReplyTo: o.ID,
		})
		w.requireCounts(a, map[string]uint64{"duplicate": 1})
		require.Empty(t, a.takeEvents())
	})
}

// TestUsedThenDeclined checks that a person's no ends an offer that was used.
func TestUsedThenDeclined(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		o := w.sendOffer(a, proposal(bob))
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 2))
		a.takeEvents()

		_, err := b.Reject(t.Context(), o.ID, "who?")
		require.NoError(t, err)
		w.requireState(a, o.ID, StateClosed)
		w.requireState(b, o.ID, StateRejected)
		events := a.takeEvents()
		require.Equal(t, []EventKind{EventClosed}, kindsOf(events))
		require.Equal(t, "who?", events[0].Reason)
	})
}
