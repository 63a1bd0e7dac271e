package offer

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestAccept is the main path: an offer, its acceptance, its end.
func TestAccept(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)

		p := proposal(bob)
		sent := w.sendOffer(a, p)
		require.Equal(t, Offer{
			ID:        sent.ID,
			Peer:      bob,
			Direction: Outgoing,
			State:     sent.State,
			Host:      alice,
			Protocol:  UDP,
			Addrs:     p.Addrs,
			Port1:     21000,
			Port2:     21001,
			Legs:      Leg2,
			Label:     "test",
			SocketID:  testSocket,
			CreatedAt: sent.CreatedAt,
			ExpiresAt: time.Unix(p.ExpiresAt.Unix(), 0),
		}, sent)
		require.WithinDuration(t, time.Now(), sent.CreatedAt, 0)
		require.False(t, sent.ID.IsZero())

		w.requireState(a, sent.ID, StatePending)
		require.Equal(t, 1, a.NumPending())
		require.Equal(t, 1, b.NumPending())

		got := w.get(b, sent.ID)
		want := sent
		want.Peer, want.Direction = alice, Incoming
		want.State, want.CreatedAt = StatePending, got.CreatedAt
		require.Equal(t, want, got)

		events := b.takeEvents()
		require.Equal(t, []Event{{
			Kind: EventReceived, MessageID: sent.ID, Offer: got,
		}}, events)
		events = a.takeEvents()
		require.Equal(t, []EventKind{EventDelivered}, kindsOf(events))
		require.Equal(t, StatePending, events[0].Offer.State)
		require.False(t, events[0].MessageID.IsZero())

		// Bob accepts, twice.
		accepted, tokens, err := b.Accept(t.Context(), sent.ID)
		require.NoError(t, err)
		require.Equal(t, StateAccepted, accepted.State)
		require.False(t, accepted.DecisionID.IsZero())

		again, _, err := b.Accept(t.Context(), sent.ID)
		require.NoError(t, err)
		require.Equal(t, accepted, again)
		require.Zero(t, tokens)
		require.Empty(t, b.takeEvents())
		require.Zero(t, b.NumPending())
		require.Zero(t, a.NumPending())

		events = a.takeEvents()
		require.Equal(t, []Event{{
			Kind:      EventAccepted,
			MessageID: accepted.DecisionID,
			Offer:     w.get(a, sent.ID),
		}}, events)
		require.Equal(
			t, accepted.DecisionID, events[0].Offer.DecisionID,
		)

		// It cannot be rejected any more.
		_, err = b.Reject(t.Context(), sent.ID, "")
		require.ErrorIs(t, err, ErrState)
		require.ErrorContains(t, err, "ACCEPTED")

		// Its expiry passes without effect, and so does the time after
		// which others are forgotten.
		time.Sleep(2 * time.Hour)
		w.requireState(a, sent.ID, StateAccepted)
		w.requireState(b, sent.ID, StateAccepted)
		require.Empty(t, a.takeEvents())
		require.Empty(t, b.takeEvents())

		// The socket stops.
		err = a.SocketClosed(t.Context(), testSocket, "stopped")
		require.NoError(t, err)
		for _, n := range []*node{a, b} {
			o := w.get(n, sent.ID)
			require.Equal(t, StateClosed, o.State)
			require.Equal(t, "stopped", o.Reason)
			require.Equal(t, accepted.DecisionID, o.DecisionID)
			require.WithinDuration(t, time.Now(), o.EndedAt, 0)

			events := n.takeEvents()
			require.Equal(
				t, []EventKind{EventClosed}, kindsOf(events),
			)
			require.Equal(t, "stopped", events[0].Reason)
			require.Equal(t, o, events[0].Offer)

			// Only Bob was told by a message.
			require.Equal(
				t, n == a, events[0].MessageID.IsZero(),
			)
		}
		_, _, err = b.Accept(t.Context(), sent.ID)
		require.ErrorIs(t, err, ErrState)
		require.ErrorContains(t, err, "CLOSED")

		// It is remembered for a while, and then nothing is left.
		time.Sleep(Slack - time.Second)
		w.requireState(a, sent.ID, StateClosed)
		w.requireState(b, sent.ID, StateClosed)
		time.Sleep(time.Second)
		w.requireNone(a)
		w.requireNone(b)
		w.requireCounts(a, nil)
		w.requireCounts(b, nil)
	})
}

// TestMessages checks what is on the wire, and that nothing is superfluous.
func TestMessages(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)

		o := w.sendOffer(a, proposal(bob))
		_, _, err := b.Accept(t.Context(), o.ID)
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, a.SocketClosed(t.Context(), testSocket, "x"))
		time.Sleep(time.Minute)

		fromA, fromB := w.takeSent(alice), w.takeSent(bob)
		require.Equal(t, []wire.MsgType{
			wire.TypeOffer, wire.TypeAck, wire.TypeClose,
		}, typesOf(fromA))
		require.Equal(t, []wire.MsgType{
			wire.TypeAck, wire.TypeAccept, wire.TypeAck,
		}, typesOf(fromB))

		require.Equal(t, Record{Offer: o}.message(), fromA[0].msg(t))
		accept := fromB[1].msg(t).(*wire.Accept)
		closing := fromA[2].msg(t).(*wire.Close)
		require.Equal(t, o.ID, fromB[0].msg(t).(*wire.Ack).ReplyTo)
		require.Equal(t, o.ID, accept.ReplyTo)
		require.Equal(t, accept.ID, fromA[1].msg(t).(*wire.Ack).ReplyTo)
		require.Equal(t, o.ID, closing.ReplyTo)
		require.Equal(t, "x", closing.Text)
		require.Equal(
			t, closing.ID, fromB[2].msg(t).(*wire.Ack).ReplyTo,
		)
	})
}

// TestReject checks that a person's no reaches the host.
func TestReject(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		o := w.sendOffer(a, proposal(bob))
		a.takeEvents()
		b.takeEvents()

		_, err := b.Reject(t.Context(), o.ID, "line\nfeed")
		require.ErrorIs(t, err, ErrInvalid)
		w.requireState(b, o.ID, StatePending)

		rejected, err := b.Reject(t.Context(), o.ID, "not now")
		require.NoError(t, err)
		require.Equal(t, StateRejected, rejected.State)
		require.Equal(t, "not now", rejected.Reason)

		again, err := b.Reject(t.Context(), o.ID, "never")
		require.NoError(t, err)
		require.Equal(t, rejected, again)
		require.Empty(t, b.takeEvents())

		events := a.takeEvents()
		require.Equal(t, []Event{{
			Kind:      EventRejected,
			MessageID: rejected.DecisionID,
			Offer:     w.get(a, o.ID),
			Reason:    "not now",
		}}, events)
		require.Equal(t, StateRejected, events[0].Offer.State)
		require.Equal(t, "not now", events[0].Offer.Reason)

		_, _, err = b.Accept(t.Context(), o.ID)
		require.ErrorIs(t, err, ErrState)
		require.ErrorContains(t, err, "REJECTED")

		// A socket that stops says nothing about what has ended.
		require.NoError(t, a.SocketClosed(t.Context(), testSocket, ""))
		require.Empty(t, a.takeEvents())
		w.requireState(a, o.ID, StateRejected)

		time.Sleep(time.Hour + Slack)
		w.requireNone(a)
		w.requireNone(b)
	})
}

// TestWithdraw checks that a socket that stops before the acceptance takes its
// offers back, but not those of other sockets.
func TestWithdraw(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		o := w.sendOffer(a, proposal(bob))
		p := proposal(bob)
		p.SocketID = testID(0x51)
		other := w.sendOffer(a, p)

		// Bob has a socket of the same id. He is not asked.
		theirs := w.sendOffer(b, proposal(alice))
		a.takeEvents()
		b.takeEvents()

		err := a.SocketClosed(
			t.Context(), testSocket, strings.Repeat("a", 65),
		)
		require.ErrorIs(t, err, ErrInvalid)
		w.requireState(a, o.ID, StatePending)

		require.NoError(t, a.SocketClosed(t.Context(), testSocket, "s"))
		for _, n := range []*node{a, b} {
			w.requireState(n, o.ID, StateWithdrawn)
			w.requireState(n, other.ID, StatePending)
			w.requireState(n, theirs.ID, StatePending)
			require.Equal(
				t, []EventKind{EventClosed},
				kindsOf(n.takeEvents()),
			)
		}

		_, _, err = b.Accept(t.Context(), o.ID)
		require.ErrorIs(t, err, ErrState)
		require.ErrorContains(t, err, "WITHDRAWN")
	})
}

// TestExpire checks that an unused offer ends on both sides at its expiry.
func TestExpire(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		o := w.sendOffer(a, proposal(bob))
		a.takeEvents()
		b.takeEvents()

		time.Sleep(time.Until(o.ExpiresAt) - time.Nanosecond)
		w.requireState(a, o.ID, StatePending)
		w.requireState(b, o.ID, StatePending)

		time.Sleep(time.Nanosecond)
		for _, n := range []*node{a, b} {
			w.requireState(n, o.ID, StateExpired)
			events := n.takeEvents()
			require.Equal(
				t, []EventKind{EventExpired}, kindsOf(events),
			)
			require.Zero(t, events[0].MessageID)
			require.Equal(t, StateExpired, events[0].Offer.State)
			require.Zero(t, n.NumPending())
		}

		_, _, err := b.Accept(t.Context(), o.ID)
		require.ErrorIs(t, err, ErrState)
		require.ErrorContains(t, err, "EXPIRED")
		_, err = b.Reject(t.Context(), o.ID, "")
		require.ErrorIs(t, err, ErrState)

		time.Sleep(Slack - time.Nanosecond)
		w.requireState(a, o.ID, StateExpired)
		w.requireState(b, o.ID, StateExpired)
		time.Sleep(time.Nanosecond)
		w.requireNone(a)
		w.requireNone(b)

		_, _, err = b.Accept(t.Context(), o.ID)
		require.ErrorIs(t, err, ErrNotFound)
	})
}

// TestExpireAtOnce checks that a decision that comes at the very moment of the
// expiry, before its timer, is too late.
func TestExpireAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		o := w.sendOffer(a, proposal(bob))
		a.takeEvents()

		// Nobody runs that could fire a timer.
		a.stop()
		b.stop()
		time.Sleep(time.Until(o.ExpiresAt))

		_, _, err := b.Accept(t.Context(), o.ID)
		require.ErrorIs(t, err, ErrState)
		body, err := wire.Encode(&wire.Accept{
			ID: testID(1), ReplyTo: o.ID,
		})
		require.NoError(t, err)
		a.handle(t.Context(), inbound{
			peer: bob, msgType: wire.TypeAccept, body: body,
		})
		w.requireState(a, o.ID, StateExpired)
		w.requireState(b, o.ID, StateExpired)
		require.Equal(
			t, []EventKind{EventExpired}, kindsOf(a.takeEvents()),
		)
	})

	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.add(bob)
		o := w.sendOffer(a, proposal(bob))
		a.stop()
		time.Sleep(time.Until(o.ExpiresAt))

		require.NoError(t, a.LegUsed(t.Context(), testSocket, 2))
		w.requireState(a, o.ID, StateExpired)
	})
}

// TestDecideUnknown checks that only incoming offers can be decided about.
func TestDecideUnknown(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.add(bob)
		o := w.sendOffer(a, proposal(bob))

		for _, id := range []ID{o.ID, testID(9)} {
			_, _, err := a.Accept(t.Context(), id)
			require.ErrorIs(t, err, ErrNotFound)
			_, err = a.Reject(t.Context(), id, "")
			require.ErrorIs(t, err, ErrNotFound)
		}
		w.requireState(a, o.ID, StatePending)
	})
}

// TestFarEndCloses checks that the far end may end an offer, too.
func TestFarEndCloses(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)

		// Before the ack, after it, and after the acceptance.
		for i, before := range []State{
			StateSent, StatePending, StateAccepted,
		} {
			o := w.sendOffer(a, proposal(bob))
			if before >= StatePending {
				w.inject(a, bob, &wire.Ack{
					ID: newID(), ReplyTo: o.ID,
				})
			}
			if before == StateAccepted {
				w.inject(a, bob, &wire.Accept{
					ID: newID(), ReplyTo: o.ID,
				})
			}
			w.requireState(a, o.ID, before)
			seen := a.takeEvents()
			require.Len(t, seen, i)
			w.takeSent(alice)

			w.inject(a, bob, &wire.Close{
				ID: testID(byte(i + 1)), ReplyTo: o.ID,
				Text: "enough",
			})
			closed := w.get(a, o.ID)
			require.Equal(t, StateClosed, closed.State)
			require.Equal(t, "enough", closed.Reason)

			want := []EventKind{EventClosed}
			if before == StateSent {
				want = []EventKind{EventDelivered, EventClosed}
			}
			events := a.takeEvents()
			require.Equal(t, want, kindsOf(events))
			require.Equal(
				t, testID(byte(i+1)), events[0].MessageID,
			)

			// The close is acknowledged, and nothing is sent again.
			time.Sleep(time.Minute)
			require.Equal(
				t, []wire.MsgType{wire.TypeAck},
				typesOf(w.takeSent(alice)),
			)
		}
	})
}

// TestProposalIsCopied checks that the caller may use the addresses again.
func TestProposalIsCopied(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.add(bob)
		p := proposal(bob)
		o := w.sendOffer(a, p)
		want := p.Addrs[0]
		clear(p.Addrs)
		require.Equal(t, want, w.get(a, o.ID).Addrs[0])
	})
}
