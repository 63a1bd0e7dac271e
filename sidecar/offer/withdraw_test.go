package offer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestWithdrawByHost checks that a host ends an offer in whichever state it is
// before its end, that the far end learns it and why, and that the legs are
// closed.
func TestWithdrawByHost(t *testing.T) {
	for _, before := range []State{
		StateQueued, StateSent, StatePending, StateAccepted,
	} {
		t.Run(before.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.withdrawAt(before)
			})
		})
	}
}

// withdrawAt checks the withdrawal of an offer in a state.
func (w *world) withdrawAt(before State) {
	t, ctx := w.t, w.t.Context()
	a, b := w.add(alice), w.add(bob)
	if before == StateQueued {
		w.failing(ErrNotConnected)
	}
	if before == StateSent {
		w.dead()
	}
	o := w.sendOffer(a, tokenProposal(bob))
	if before == StateAccepted {
		_, _, err := b.Accept(ctx, o.ID)
		require.NoError(t, err)
	}
	w.requireState(a, o.ID, before)
	w.requireGranted(a)
	a.takeEvents()
	b.takeEvents()

	ended, closeID, err := a.Withdraw(ctx, o.ID, "enough")
	require.NoError(t, err)
	require.NotZero(t, closeID)
	require.Equal(t, "enough", ended.Reason)
	want := StateWithdrawn
	if before == StateAccepted {
		want = StateClosed
	}
	require.Equal(t, want, ended.State)
	require.Empty(t, a.doors.granted())

	// Twice is once.
	again, sameID, err := a.Withdraw(ctx, o.ID, "again")
	require.NoError(t, err)
	require.Equal(t, ended, again)
	require.Equal(t, closeID, sameID)
	events := a.takeEvents()
	require.Equal(t, []EventKind{EventClosed}, kindsOf(events))
	require.Equal(t, want, events[0].Offer.State)
	require.Equal(t, "enough", events[0].Reason)

	// The far end learns it as soon as it can be reached.
	w.perfect()
	a.PeerOnline(bob)
	synctest.Wait()
	if before >= StatePending {
		require.Equal(t, want, w.get(b, o.ID).State)
		require.Equal(t, "enough", w.get(b, o.ID).Reason)
		events = b.takeEvents()
		require.Equal(t, []EventKind{EventClosed}, kindsOf(events))
		require.Equal(t, closeID, events[0].MessageID)
	}
	_, closeID, err = a.Withdraw(ctx, o.ID, "")
	require.NoError(t, err)
	require.Zero(t, closeID, "the far end has it")

	// Its legs are free for the next one.
	next := w.sendOffer(a, tokenProposal(bob))
	require.NotEqual(t, o.ID, next.ID)
}

// TestWithdrawByFarEnd checks that a far end ends what it has accepted, that
// the host learns it, and that it does not end what it has not accepted so.
func TestWithdrawByFarEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		t, ctx := w.t, w.t.Context()
		a, b := w.add(alice), w.add(bob)
		o := w.sendOffer(a, tokenProposal(bob))
		_, _, err := b.Withdraw(ctx, o.ID, "")
		require.ErrorIs(t, err, ErrState)
		require.ErrorContains(t, err, "PENDING")

		_, _, err = b.Accept(ctx, o.ID)
		require.NoError(t, err)
		w.requireState(a, o.ID, StateAccepted)
		a.takeEvents()
		ended, closeID, err := b.Withdraw(ctx, o.ID, "done")
		require.NoError(t, err)
		require.Equal(t, StateClosed, ended.State)
		require.NotZero(t, closeID)

		closed := w.get(a, o.ID)
		require.Equal(t, StateClosed, closed.State)
		require.Equal(t, "done", closed.Reason)
		events := a.takeEvents()
		require.Equal(t, []EventKind{EventClosed}, kindsOf(events))
		require.Equal(t, closeID, events[0].MessageID)
		require.Empty(t, a.doors.granted())
		require.Zero(t, w.record(b, o.ID).Tokens)
	})
}

// TestWithdrawRefused checks what cannot be withdrawn.
func TestWithdrawRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		t, ctx := w.t, w.t.Context()
		a, b := w.add(alice), w.add(bob)

		_, _, err := a.Withdraw(ctx, testID(9), "")
		require.ErrorIs(t, err, ErrNotFound)

		rejected := w.sendOffer(a, proposal(bob))
		_, err = b.Reject(ctx, rejected.ID, "no")
		require.NoError(t, err)
		w.requireState(a, rejected.ID, StateRejected)

		expired := w.sendOffer(a, proposal(bob))
		time.Sleep(time.Hour)
		w.requireState(a, expired.ID, StateExpired)
		for _, n := range []*node{a, b} {
			for id, state := range map[ID]string{
				rejected.ID: "REJECTED", expired.ID: "EXPIRED",
			} {
				_, _, err := n.Withdraw(ctx, id, "")
				require.ErrorIs(t, err, ErrState)
				require.ErrorContains(t, err, state)
			}
		}

		// Nothing happens for a bad text.
		o := w.sendOffer(a, proposal(bob))
		_, _, err = a.Withdraw(ctx, o.ID, "a\nb")
		require.ErrorIs(t, err, ErrInvalid)
		w.requireState(a, o.ID, StatePending)
	})
}

// TestWithdrawBeforeStart checks that the withdrawal of an offer that is being
// delivered goes on after a restart.
func TestWithdrawBeforeStart(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		o := w.sendOffer(a, tokenProposal(bob))
		w.dead()
		_, closeID, err := a.Withdraw(t.Context(), o.ID, "")
		require.NoError(t, err)
		a.stop()

		w.perfect()
		a = w.addWith(alice, DefaultLimits(), a.store)
		w.requireState(b, o.ID, StateWithdrawn)
		w.requireState(a, o.ID, StateWithdrawn)
		var closes int
		for _, p := range w.takeSent(alice) {
			if p.typ == wire.TypeClose {
				require.Equal(
					t, closeID, p.msg(t).(*wire.Close).ID,
				)
				closes++
			}
		}
		require.GreaterOrEqual(t, closes, 2)
	})
}
