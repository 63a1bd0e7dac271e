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
	"pgregory.net/rapid"
)

// TestGranted checks who can be granted a leg that is granted already.
func TestGranted(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		w.addStranger(carol)
		o := w.sendOffer(a, tokenProposal(bob))
		w.takeSent(alice)

		to := func(peer PubKey, legs Legs) Proposal {
			p := tokenProposal(peer)
			p.Legs = legs

			return p
		}

		// refused checks that a leg cannot be offered, and why.
		refused := func(p Proposal, by Offer, legs Legs, text string) {
			t.Helper()
			got, err := a.Manager.Send(t.Context(), p)
			require.Zero(t, got)
			require.ErrorIs(t, err, ErrGranted)

			var granted *GrantedError
			require.ErrorAs(t, err, &granted)
			require.Equal(t, GrantedError{
				Peer: by.Peer, ID: by.ID, Legs: legs,
			}, *granted)
			require.EqualError(t, err, text+" granted already, "+
				"to "+by.Peer.String()+" by offer "+
				by.ID.String())
			require.Empty(t, w.takeSent(alice))
			w.requireGranted(a)
		}
		refused(to(carol, Leg2), o, Leg2, "leg 2 is")
		refused(to(carol, Leg1|Leg2), o, Leg2, "leg 2 is")
		refused(to(bob, Leg1|Leg2), o, Leg2, "leg 2 is")

		// same checks that the same offer is returned, as it is.
		same := func() {
			t.Helper()
			p := to(bob, Leg2)
			p.Label, p.ExpiresAt = "x", time.Now().Add(time.Minute)
			got, err := a.Manager.Send(t.Context(), p)
			require.NoError(t, err)
			require.Equal(t, w.get(a, o.ID), got)
			require.Empty(t, w.takeSent(alice))
			require.Len(t, a.doors.granted(), 1)
		}
		same()
		w.inject(a, bob, &wire.Ack{ID: newID(), ReplyTo: o.ID})
		same()
		w.inject(a, bob, &wire.Accept{ID: newID(), ReplyTo: o.ID})
		w.takeSent(alice)
		same()
		time.Sleep(3 * time.Hour)
		same()
		refused(to(carol, Leg2), o, Leg2, "leg 2 is")

		// The other leg, and those of another socket, are free.
		other := w.sendOffer(a, to(carol, Leg1))
		p := to(carol, Leg1|Leg2)
		p.SocketID = testID(0x51)
		both := w.sendOffer(a, p)
		w.takeSent(alice)
		refused(to(bob, Leg1), other, Leg1, "leg 1 is")
		p.Peer = bob
		refused(p, both, Leg1|Leg2, "both legs are")

		// As soon as it has ended the leg is Carol's.
		w.inject(a, bob, &wire.Close{ID: newID(), ReplyTo: o.ID})
		hers := w.sendOffer(a, to(carol, Leg2))
		require.NotEqual(t, o.ID, hers.ID)
		w.takeSent(alice)
		refused(to(bob, Leg2), hers, Leg2, "leg 2 is")
	})
}

// TestGrantedAtExpiry checks that a leg is free at the very moment at which its
// offer expires, before the timer.
func TestGrantedAtExpiry(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		w.addStranger(carol)
		o := w.sendOffer(a, tokenProposal(bob))

		// Nobody runs that could fire a timer, or send.
		a.stop()
		time.Sleep(time.Until(o.ExpiresAt))
		_, err := a.Manager.Send(t.Context(), tokenProposal(carol))
		require.ErrorIs(t, err, ErrStopped)
		w.requireState(a, o.ID, StateExpired)
		require.Empty(t, a.doors.granted())
	})
}

// TestOpenToMany checks that an OPEN socket may be offered to several nodes,
// and to one several times.
func TestOpenToMany(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		w.addStranger(carol)
		ids := make(map[ID]bool)
		for _, peer := range []PubKey{bob, carol, bob} {
			ids[w.sendOffer(a, proposal(peer)).ID] = true
		}
		require.Len(t, ids, 3)
	})
}

// TestSameOffer checks that whoever asks for an offer that waits for its peer
// gets that one, however often and at the same time.
func TestSameOffer(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)

		var asking sync.WaitGroup
		ids := make(chan ID, 3)
		for range cap(ids) {
			asking.Go(func() {
				o, err := a.Manager.Send(
					t.Context(), tokenProposal(bob),
				)
				assert.NoError(t, err)
				ids <- o.ID
			})
		}
		asking.Wait()
		id := <-ids
		require.Equal(t, id, <-ids)
		require.Equal(t, id, <-ids)
		w.requireState(a, id, StateQueued)
		w.requireGranted(a)

		// While it waits the leg is nobody else's.
		_, err := a.Manager.Send(t.Context(), tokenProposal(carol))
		require.ErrorIs(t, err, ErrGranted)
	})
}

// TestGrantFails checks that nothing is left of an offer whose legs cannot be
// granted, and that nothing of it is sent.
func TestGrantFails(t *testing.T) {
	for _, stuck := range [][]uint8{{1}, {2}, {1, 2}} {
		inWorld(t, func(w *world) {
			t := w.t
			a, _ := w.add(alice), w.addStranger(bob)
			a.doors.setStuck(stuck...)
			p := tokenProposal(bob)
			p.Legs = Leg1 | Leg2
			o, err := a.Manager.Send(t.Context(), p)
			require.ErrorIs(t, err, errDoor)
			require.ErrorContains(t, err, "grant leg")
			require.Zero(t, o)
			w.requireNone(a)
			require.Empty(t, w.takeSent(alice))
			require.Empty(t, a.takeEvents())

			// It can be tried again.
			a.doors.setStuck()
			w.sendOffer(a, p)
			w.requireGranted(a)
		})
	}
}

// TestGrantFailsImpatient checks the same for a caller who has given up by
// then.
func TestGrantFailsImpatient(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.addWith(alice, DefaultLimits(), newFailingStore())
		w.addStranger(bob)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a.doors.setStuck(2)
		a.doors.knocked = cancel
		_, err := a.Manager.Send(ctx, tokenProposal(bob))
		require.ErrorIs(t, err, errDoor)
		w.requireNone(a)
	})
}

// TestGrantFailsForGood checks that an offer whose legs cannot be granted, and
// whose record cannot be deleted, is not sent, and ends when the store works.
func TestGrantFailsForGood(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a := w.addWith(alice, DefaultLimits(), s)
		w.addStranger(bob)
		w.addStranger(carol)
		a.doors.setStuck(2)
		s.set("Delete")
		p := tokenProposal(bob)
		p.Legs = Leg1 | Leg2
		_, err := a.Manager.Send(t.Context(), p)
		require.ErrorIs(t, err, errDoor)
		require.ErrorIs(t, err, errStore)

		s.set()
		time.Sleep(storeRetry)
		synctest.Wait()
		require.Empty(t, a.doors.granted())
		a.doors.setStuck()
		p.Peer = carol
		w.sendOffer(a, p)
		w.requireGranted(a)
		for _, sent := range w.takeSent(alice) {
			require.Equal(t, carol, sent.to)
		}
	})
}

// TestGrantOrder checks that an offer is recorded before its leg is opened,
// opened before it is sent, and recorded as ended before its leg is closed.
func TestGrantOrder(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		s := newFailingStore()
		a := w.addWith(alice, DefaultLimits(), s)
		w.addStranger(bob)

		// What cannot be recorded is not opened.
		s.set("Put")
		_, err := a.Manager.Send(t.Context(), tokenProposal(bob))
		require.ErrorIs(t, err, errStore)
		require.Empty(t, a.doors.granted())
		s.set()

		var open int
		w.setFate(func(packet) fate {
			open = len(a.doors.granted())

			return fate{}
		})
		o := w.sendOffer(a, tokenProposal(bob))
		require.Equal(t, 1, open)

		// What cannot be recorded as ended is not closed.
		s.set("Put")
		err = a.SocketClosed(t.Context(), testSocket, "")
		require.ErrorIs(t, err, errStore)
		w.inject(a, bob, &wire.Close{ID: newID(), ReplyTo: o.ID})
		require.Len(t, a.doors.granted(), 1)
		require.False(t, w.record(a, o.ID).Tokens[1].IsZero())

		s.set()
		w.inject(a, bob, &wire.Close{ID: newID(), ReplyTo: o.ID})
		require.Empty(t, a.doors.granted())
		w.requireGranted(a)
	})
}

// move is something that happens to the offers of two TOKEN sockets.
type move struct {
	// What is what happens.
	What string

	// Socket, ToCarol and Legs tell whom which legs of which socket are
	// offered.
	Socket  int
	ToCarol bool
	Legs    Legs

	// Which is the offer that something happens to, of those that there
	// were.
	Which int
}

// drawMove draws a move.
func drawMove(t *rapid.T) move {
	return move{
		What: rapid.SampledFrom([]string{
			"send", "send", "send", "ack", "accept", "decline",
			"refuse", "close", "stop", "use", "hour", "no peer",
			"stuck", "withdraw",
		}).Draw(t, "what"),
		Socket:  rapid.IntRange(0, 1).Draw(t, "socket"),
		ToCarol: rapid.Bool().Draw(t, "to carol"),
		Legs:    Legs(rapid.IntRange(1, 3).Draw(t, "legs")),
		Which:   rapid.IntRange(0, 9).Draw(t, "which"),
	}
}

// proposal returns the proposal of a move.
func (mo move) proposal() Proposal {
	p := tokenProposal(bob)
	if mo.ToCarol {
		p.Peer = carol
	}
	p.SocketID, p.Legs = numID(mo.Socket), mo.Legs

	return p
}

// send makes the offer of a move, and checks that it is made, refused, or that
// of before, as the live offers of before have it.
func (mo move) send(w *world, a *node, made *[]Offer) {
	t, p := w.t, mo.proposal()
	before, err := a.List(t.Context())
	require.NoError(t, err)
	o, err := a.Manager.Send(t.Context(), p)

	for _, other := range before {
		if other.State.Ended() || other.SocketID != p.SocketID ||
			other.Legs&p.Legs == 0 {

			continue
		}
		if other.Peer == p.Peer && other.Legs == p.Legs {
			require.NoError(t, err)
			require.Equal(t, other.ID, o.ID)

			return
		}
		require.ErrorIs(t, err, ErrGranted)

		return
	}
	require.NoError(t, err)
	*made = append(*made, o)
}

// use tells that the clients of a leg came, whatever they showed.
func (mo move) use(w *world, a *node) {
	t, ctx := w.t, w.t.Context()
	socket, leg := numID(mo.Socket), 1+uint8(mo.Which%2)

	require.NoError(t, a.LegUsed(ctx, socket, leg))
	offers, err := a.List(ctx)
	require.NoError(t, err)
	for _, o := range offers {
		token := w.record(a, o.ID).Tokens[leg-1]
		require.NoError(t, a.TokenUsed(ctx, socket, leg, token))
	}
}

// make does what a move says.
func (mo move) make(w *world, a *node, made *[]Offer) {
	t, ctx := w.t, w.t.Context()
	switch mo.What {
	case "send":
		mo.send(w, a, made)

	case "stop":
		require.NoError(t, a.SocketClosed(ctx, numID(mo.Socket), ""))

	case "use":
		mo.use(w, a)

	case "hour":
		time.Sleep(time.Hour)

	// The offer waits for its peer, and has its legs.
	case "no peer":
		w.failing(ErrNotConnected)
		mo.send(w, a, made)
		synctest.Wait()
		w.dead()

	// Nothing new may be there afterwards, whether the leg was free or not.
	case "stuck":
		a.doors.setStuck(1, 2)
		_, _ = a.Manager.Send(ctx, mo.proposal())
		a.doors.setStuck()

	default:
		if len(*made) == 0 {
			return
		}
		o := (*made)[mo.Which%len(*made)]
		if mo.What == "withdraw" {
			// It may be over, or forgotten.
			_, _, _ = a.Withdraw(ctx, o.ID, "")

			return
		}
		w.inject(a, o.Peer, map[string]wire.Message{
			"ack":    &wire.Ack{ID: newID(), ReplyTo: o.ID},
			"accept": &wire.Accept{ID: newID(), ReplyTo: o.ID},
			"decline": &wire.Reject{
				ID: newID(), ReplyTo: o.ID,
				Code: wire.CodeDeclined,
			},
			"refuse": &wire.Reject{
				ID: newID(), ReplyTo: o.ID,
				Code: wire.CodeLimit,
			},
			"close": &wire.Close{ID: newID(), ReplyTo: o.ID},
		}[mo.What])
	}
}

// TestGrantsFollowOffers checks that after whatever happens the legs are open
// to those whom a live offer grants them, each to one, and to nobody else.
func TestGrantsFollowOffers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		moves := rapid.SliceOfN(
			rapid.Custom(drawMove), 1, 30,
		).Draw(rt, "moves")

		inWorld(t, func(w *world) {
			a := w.addWith(
				alice, limitsWith(func(*Limits) {}),
				NewMemStore(),
			)
			w.addStranger(bob)
			w.addStranger(carol)
			w.dead()

			var made []Offer
			for _, mo := range moves {
				mo.make(w, a, &made)
				w.requireGranted(a)
			}
			for socket := range 2 {
				err := a.SocketClosed(
					w.t.Context(), numID(socket), "",
				)
				require.NoError(w.t, err)
			}
			require.Empty(w.t, a.doors.granted())
			time.Sleep(3 * time.Hour)
			w.requireNone(a)
		})
	})
}
