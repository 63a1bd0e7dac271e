package offer

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// errLnd is a failure to send that says nothing about the peer.
var errLnd = errors.New("peer exiting")

// offsets returns when messages of a type were sent, since a start.
func offsets(start time.Time, sent []packet,
	typ wire.MsgType) []time.Duration {

	var at []time.Duration
	for _, p := range sent {
		if p.typ == typ {
			at = append(at, p.at.Sub(start))
		}
	}

	return at
}

// schedule returns when a message is sent that nobody acknowledges.
func schedule(until time.Duration) []time.Duration {
	var (
		at   time.Duration
		all  []time.Duration
		gaps = []float64{0, 0.5, 1, 2, 4, 8, 16, 30}
	)
	for i := 0; ; i++ {
		gap := gaps[min(i, len(gaps)-1)]
		at += time.Duration(gap * float64(time.Second))
		if at >= until {
			return all
		}
		all = append(all, at)
	}
}

// TestResendOffer checks when an offer is sent to a node without socketd.
func TestResendOffer(t *testing.T) {
	require.Equal(t, []time.Duration{
		0, 500 * time.Millisecond, 1500 * time.Millisecond,
		3500 * time.Millisecond, 7500 * time.Millisecond,
		15500 * time.Millisecond, 31500 * time.Millisecond,
		61500 * time.Millisecond, 91500 * time.Millisecond,
	}, schedule(2*time.Minute))

	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		start := time.Now()
		o := w.sendOffer(a, proposal(bob))
		require.Equal(t, StateSent, o.State)
		require.Empty(t, a.takeEvents())

		time.Sleep(2 * time.Hour)
		sent := w.takeSent(alice)
		require.Equal(
			t, schedule(time.Hour),
			offsets(start, sent, wire.TypeOffer),
		)

		// Always the same, and nothing else.
		for _, p := range sent {
			require.Equal(t, sent[0].body, p.body)
		}
		require.Equal(
			t, []EventKind{EventExpired}, kindsOf(a.takeEvents()),
		)
		w.requireNone(a)
	})
}

// TestResendDecision checks when an accept and a reject are sent whose acks are
// lost: until nobody remembers the offer.
func TestResendDecision(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		b := w.add(bob)
		w.addStranger(alice)
		start := time.Now()
		w.inject(b, alice, offerMsg(testID(1)))
		w.inject(b, alice, offerMsg(testID(2)))
		_, _, err := b.Accept(t.Context(), testID(1))
		require.NoError(t, err)
		_, err = b.Reject(t.Context(), testID(2), "no")
		require.NoError(t, err)

		time.Sleep(3 * time.Hour)
		sent := w.takeSent(bob)
		for _, typ := range []wire.MsgType{
			wire.TypeAccept, wire.TypeReject,
		} {
			require.Equal(
				t, schedule(time.Hour+Slack),
				offsets(start, sent, typ), typ,
			)
		}
		w.requireState(b, testID(1), StateAccepted)
	})
}

// TestResendClose checks when a close is sent whose acks are lost, of an offer
// that ends before its expiry, and of one that ends long after it.
func TestResendClose(t *testing.T) {
	for name, age := range map[string]time.Duration{
		"pending": time.Minute, "accepted": 10 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				a, _ := w.add(alice), w.addStranger(bob)
				o := w.sendOffer(a, proposal(bob))
				w.inject(a, bob, &wire.Ack{
					ID: testID(1), ReplyTo: o.ID,
				})
				if name == "accepted" {
					w.inject(a, bob, &wire.Accept{
						ID: testID(2), ReplyTo: o.ID,
					})
				}

				time.Sleep(age)
				w.takeSent(alice)
				start := time.Now()
				err := a.SocketClosed(
					t.Context(), testSocket, "",
				)
				require.NoError(t, err)

				until := Slack
				if o.ExpiresAt.After(start) {
					until += time.Until(o.ExpiresAt)
				}
				time.Sleep(until + time.Minute)
				sent := w.takeSent(alice)
				require.Equal(
					t, schedule(until),
					offsets(start, sent, wire.TypeClose),
				)
				require.Len(t, sent, len(schedule(until)))
				w.requireNone(a)
			})
		})
	}
}

// TestAckStops checks that the ack of each message ends its sending, if it is
// the peer's.
func TestAckStops(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		w.setFate(func(p packet) fate {
			if p.typ == wire.TypeAck {
				return fate{}
			}

			return fate{delays: []time.Duration{0}}
		})

		// step does something, and checks that a message is sent until
		// its ack comes.
		step := func(from *node, typ wire.MsgType, do func()) {
			t.Helper()
			time.Sleep(time.Minute)
			w.takeSent(from.key)

			do()
			time.Sleep(time.Minute)
			sent := slices.DeleteFunc(
				w.takeSent(from.key), func(p packet) bool {
					return p.typ != typ
				},
			)
			require.Len(t, sent, len(schedule(time.Minute)))
			header, err := wire.DecodeHeader(sent[0].body)
			require.NoError(t, err)

			w.inject(from, carol, &wire.Ack{
				ID: newID(), ReplyTo: header.ID,
			})
			time.Sleep(time.Minute)
			require.NotEmpty(t, w.takeSent(from.key))

			w.inject(from, sent[0].to, &wire.Ack{
				ID: newID(), ReplyTo: header.ID,
			})
			time.Sleep(time.Minute)
			require.Empty(t, w.takeSent(from.key))
		}

		var o Offer
		step(a, wire.TypeOffer, func() {
			o = w.sendOffer(a, proposal(bob))
		})
		step(b, wire.TypeAccept, func() {
			_, _, err := b.Accept(t.Context(), o.ID)
			require.NoError(t, err)
		})
		step(a, wire.TypeClose, func() {
			err := a.SocketClosed(t.Context(), testSocket, "")
			require.NoError(t, err)
		})

		o = w.sendOffer(a, proposal(bob))
		w.inject(a, bob, &wire.Ack{ID: newID(), ReplyTo: o.ID})
		step(b, wire.TypeReject, func() {
			_, err := b.Reject(t.Context(), o.ID, "")
			require.NoError(t, err)
		})

		// Carol's acks were of what was sent to others.
		require.Equal(t, uint64(2), a.Counters()["unsolicited"])
		require.Equal(t, uint64(2), b.Counters()["unsolicited"])
	})
}

// TestDeliveredBySomethingElse checks that an offer is not sent again after an
// answer that implies the ack, and that the event says so.
func TestDeliveredBySomethingElse(t *testing.T) {
	answers := map[string]struct {
		msg  func(ID) wire.Message
		want []EventKind
	}{
		"accept": {
			msg: func(id ID) wire.Message {
				return &wire.Accept{ID: testID(1), ReplyTo: id}
			},
			want: []EventKind{EventDelivered, EventAccepted},
		},
		"decline": {
			msg: func(id ID) wire.Message {
				return &wire.Reject{
					ID: testID(1), ReplyTo: id,
					Code: wire.CodeDeclined,
				}
			},
			want: []EventKind{EventDelivered, EventRejected},
		},
		"refuse": {
			msg: func(id ID) wire.Message {
				return &wire.Reject{
					ID: testID(1), ReplyTo: id,
					Code: wire.CodeLimit,
				}
			},
			want: []EventKind{EventRejected},
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				a, _ := w.add(alice), w.addStranger(bob)
				o := w.sendOffer(a, proposal(bob))
				w.takeSent(alice)

				w.inject(a, bob, answer.msg(o.ID))
				time.Sleep(time.Minute)
				require.Equal(
					t, []wire.MsgType{wire.TypeAck},
					typesOf(w.takeSent(alice)),
				)
				events := a.takeEvents()
				require.Equal(t, answer.want, kindsOf(events))
				for _, e := range events {
					require.Equal(t, testID(1), e.MessageID)
				}
			})
		})
	}
}

// TestGoesAway checks that a peer which goes away is no reason to give up.
func TestGoesAway(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		w.dead()
		o := w.sendOffer(a, proposal(bob))
		require.Equal(t, StateSent, o.State)

		w.failing(ErrNotConnected)
		time.Sleep(time.Minute)
		w.requireState(a, o.ID, StateSent)
		w.perfect()
		time.Sleep(retryMax)
		w.requireState(a, o.ID, StatePending)
		w.requireState(b, o.ID, StatePending)
	})
}

// TestNotSent checks that an offer whose first attempt fails for another reason
// is kept, and sent again.
func TestNotSent(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		w.failing(errLnd)
		start := time.Now()
		o := w.sendOffer(a, proposal(bob))
		require.Equal(t, StateQueued, o.State)
		require.Equal(t, 1, a.NumPending())

		time.Sleep(time.Second)
		w.requireState(a, o.ID, StateQueued)
		w.perfect()
		time.Sleep(time.Second)
		w.requireState(a, o.ID, StatePending)
		w.requireState(b, o.ID, StatePending)
		require.Equal(
			t, schedule(2*time.Second),
			offsets(start, w.takeSent(alice), wire.TypeOffer),
		)
	})
}

// TestSentDespiteError checks that an ack counts even if the messenger says
// that the offer was not sent.
func TestSentDespiteError(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		w.addStranger(bob)
		w.setFate(func(p packet) fate {
			if p.typ != wire.TypeOffer {
				return fate{}
			}

			// The ack is there before the send returns.
			o := p.msg(t).(*wire.Offer)
			ack, err := wire.Encode(&wire.Ack{
				ID: testID(1), ReplyTo: o.ID,
			})
			require.NoError(t, err)
			a.Receive(bob, uint32(wire.TypeAck), ack)
			time.Sleep(time.Millisecond)

			return fate{err: ErrNotConnected}
		})
		o := w.sendOffer(a, proposal(bob))
		time.Sleep(time.Millisecond)
		w.requireState(a, o.ID, StatePending)
		require.Equal(
			t, []EventKind{EventDelivered}, kindsOf(a.takeEvents()),
		)
	})
}

// TestUsedDespiteError checks that an offer which is used while its first
// attempt fails is kept.
func TestUsedDespiteError(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		w.addStranger(bob)
		w.setFate(func(packet) fate {
			err := a.LegUsed(context.Background(), testSocket, 2)
			require.NoError(t, err)

			return fate{err: ErrNotConnected}
		})
		o := w.sendOffer(a, proposal(bob))
		require.Equal(t, StateAccepted, o.State)
	})
}
