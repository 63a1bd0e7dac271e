package offer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestPolicy checks whose offers each policy accepts.
func TestPolicy(t *testing.T) {
	list := []PubKey{alice, bob}
	for _, c := range []struct {
		policy  AutoAccept
		peer    PubKey
		channel bool
		accepts bool
	}{
		{AutoAcceptNone, bob, true, false},
		{AutoAcceptChannel, bob, true, true},
		{AutoAcceptChannel, bob, false, false},
		{AutoAcceptList, bob, false, true},
		{AutoAcceptList, carol, true, false},
		{AutoAcceptList + 1, bob, true, false},
	} {
		p := Policy{AutoAccept: c.policy, List: list}
		reason, ok := p.accepts(c.peer, Facts{HasChannel: c.channel})
		require.Equal(t, c.accepts, ok, "%+v", c)
		require.NoError(t, wire.CheckText(reason))
		if ok {
			require.NotEmpty(t, reason)
		}
	}
}

// setPolicy sets the policy of a node before anything is sent to it.
func (n *node) setPolicy(p Policy) {
	n.Manager.mu.Lock()
	defer n.Manager.mu.Unlock()

	n.cfg.Policy = p
}

// TestAutoAccept checks that an offer which the policy accepts is accepted when
// it comes, that both sides learn it, and that the tokens are told to whoever
// accepts it again.
func TestAutoAccept(t *testing.T) {
	inWorld(t, func(w *world) {
		t, ctx := w.t, w.t.Context()
		a, b := w.add(alice), w.add(bob)
		b.setPolicy(Policy{AutoAccept: AutoAcceptChannel})
		b.channels = map[PubKey]bool{alice: true}

		o := w.sendOffer(a, tokenProposal(bob))
		w.requireState(a, o.ID, StateAccepted)
		require.Equal(
			t, []EventKind{EventDelivered, EventAccepted},
			kindsOf(a.takeEvents()),
		)

		got := w.get(b, o.ID)
		require.Equal(t, StateAccepted, got.State)
		require.Equal(t, reasonChannel, got.Reason)
		require.Equal(t, got.DecisionID, w.get(a, o.ID).DecisionID)
		require.Zero(t, b.NumPending())
		events := b.takeEvents()
		require.Equal(t, []EventKind{EventReceived}, kindsOf(events))
		require.Equal(t, reasonChannel, events[0].Reason)
		require.Equal(t, got, events[0].Offer)

		again, tokens, err := b.Accept(ctx, o.ID)
		require.NoError(t, err)
		require.Equal(t, got, again)
		require.Equal(t, w.record(a, o.ID).Tokens, tokens)
		_, err = b.Reject(ctx, o.ID, "")
		require.ErrorIs(t, err, ErrState)

		// It ends as any other.
		_, _, err = b.Withdraw(ctx, o.ID, "enough")
		require.NoError(t, err)
		require.Equal(t, "enough", w.get(b, o.ID).Reason)
		w.requireState(a, o.ID, StateClosed)
	})
}

// TestNoAutoAccept checks that whoever is not meant by the policy is not
// accepted.
func TestNoAutoAccept(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		b.setPolicy(Policy{
			AutoAccept: AutoAcceptList, List: []PubKey{carol},
		})
		o := w.sendOffer(a, proposal(bob))
		w.requireState(a, o.ID, StatePending)
		require.Empty(t, w.get(b, o.ID).Reason)
		require.Empty(t, b.takeEvents()[0].Reason)
		require.Len(t, b.takeSent(w), 1, "the ack")
	})
}

// takeSent returns what the node sent since it was called last.
func (n *node) takeSent(w *world) []packet {
	return w.takeSent(n.key)
}

// TestAutoAcceptBounded checks that the limits hold for what is accepted by
// itself, and that a copy of an offer is not accepted again.
func TestAutoAcceptBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		b := w.addWith(bob, limitsWith(func(l *Limits) {
			l.RecordsPerPeer = 3
		}), NewMemStore())
		b.setPolicy(Policy{
			AutoAccept: AutoAcceptList, List: []PubKey{alice},
		})
		w.addStranger(alice)
		for i := range 5 {
			w.inject(b, alice, offerMsg(testID(byte(i+1))))
		}
		w.inject(b, alice, offerMsg(testID(1)))
		w.requireCounts(b, map[string]uint64{
			"limit": 2, "duplicate": 1,
		})
		require.Len(t, b.takeEvents(), 3)
	})
}

// TestAutoAcceptStore checks that an offer which cannot be recorded is neither
// accepted nor acknowledged, and is accepted when it comes again.
func TestAutoAcceptStore(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a, b := w.add(alice), w.addWith(bob, DefaultLimits(), s)
		b.setPolicy(Policy{
			AutoAccept: AutoAcceptList, List: []PubKey{alice},
		})
		s.set("Put")
		o := w.sendOffer(a, proposal(bob))
		require.Equal(t, StateSent, o.State)
		require.Empty(t, w.takeSent(bob))
		require.Empty(t, b.takeEvents())

		s.set()
		time.Sleep(time.Second)
		synctest.Wait()
		w.requireState(a, o.ID, StateAccepted)
		require.Len(t, b.takeEvents(), 1)
	})
}
