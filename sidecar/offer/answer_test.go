package offer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestAnswers checks the answers of a host that does not keep to the rules.
func TestAnswers(t *testing.T) {
	answer := func(id, request ID) *wire.Offer {
		o := offerMsg(id)
		o.ReplyTo = request
		o.Admission = ByToken
		o.Legs = BothLegs
		o.Tokens = Tokens{{1}, {2}}

		return o
	}
	reject := func(id ID, code wire.RejectCode, text string) wire.Message {
		return &wire.Reject{ReplyTo: id, Code: code, Text: text}
	}

	inWorld(t, func(w *world) {
		t := w.t
		asker := w.add(bob)
		w.addStranger(alice)
		w.addStranger(carol)
		request := w.request(asker, inquiry(alice))
		w.inject(asker, alice, &wire.Ack{
			ID: newID(), ReplyTo: request.ID,
		})
		w.takeSent(bob)

		// To somebody else's request, or to none.
		w.inject(asker, carol, answer(testID(1), request.ID))
		w.requireAnswers(asker, carol,
			reject(testID(1), wire.CodeUnknown, ""))
		w.inject(asker, alice, answer(testID(2), testID(9)))
		w.requireAnswers(asker, alice,
			reject(testID(2), wire.CodeUnknown, ""))
		w.requireState(asker, request.ID, StatePending)

		// To an offer, which is no request.
		o := w.sendOffer(asker, proposal(alice))
		w.inject(asker, alice, &wire.Ack{ID: newID(), ReplyTo: o.ID})
		w.takeSent(bob)
		w.inject(asker, alice, answer(testID(3), o.ID))
		w.requireAnswers(asker, alice,
			reject(testID(3), wire.CodeUnknown, ""))

		// Twice, with different sockets.
		w.inject(asker, alice, answer(testID(4), request.ID))
		accepted := w.get(asker, testID(4))
		require.Equal(t, StateAccepted, accepted.State)
		w.inject(asker, alice, &wire.Ack{
			ID: newID(), ReplyTo: accepted.DecisionID,
		})
		w.takeSent(bob)
		second := answer(testID(5), request.ID)
		second.SocketID = testID(0x51)
		w.inject(asker, alice, second)
		w.requireAnswers(asker, alice,
			reject(testID(5), wire.CodeExpired, ""))

		// The same one again is acknowledged again.
		w.inject(asker, alice, answer(testID(4), request.ID))
		w.requireAnswers(asker, alice, ackOf(testID(4)))
		require.Len(t, w.list(asker), 3)
	})

	for name, spoil := range map[string]func(*wire.Offer){
		"other protocol": func(o *wire.Offer) { o.Protocol = TCP },
		"one leg": func(o *wire.Offer) {
			o.Legs, o.Tokens = Leg1, Tokens{{1}}
		},
		"open": func(o *wire.Offer) {
			o.Admission, o.Tokens = Open, Tokens{}
		},
		"another host": func(o *wire.Offer) {
			o.Host = carol
			o.Host[0] = 2
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				asker := w.add(bob)
				w.addStranger(alice)
				request := w.request(asker, inquiry(alice))
				w.takeSent(bob)
				o := answer(testID(1), request.ID)
				spoil(o)
				w.inject(asker, alice, o)
				w.requireAnswers(asker, alice, reject(
					o.ID, wire.CodePolicy, textMismatch,
				))
				w.requireState(asker, request.ID, StateRejected)
				require.Len(w.t, w.list(asker), 1)
			})
		})
	}
}

// TestAnswerTooLate checks that an answer that is over when it comes ends the
// request: the host will not answer again.
func TestAnswerTooLate(t *testing.T) {
	inWorld(t, func(w *world) {
		asker := w.add(bob)
		w.addStranger(alice)
		request := w.request(asker, inquiry(alice))
		w.takeSent(bob)
		o := offerMsg(testID(1))
		o.ReplyTo = request.ID
		o.Expiry = uint64(time.Now().Add(-Slack).Unix())
		w.inject(asker, alice, o)
		w.requireAnswers(
			asker, alice, rejectOf(o.ID, wire.CodeExpired),
		)
		request = w.get(asker, request.ID)
		require.Equal(w.t, StateRejected, request.State)
		require.Equal(w.t, "the host's answer: expired", request.Reason)
	})
}

// TestHostedGone checks a socket that is gone before its legs are granted.
func TestHostedGone(t *testing.T) {
	inWorld(t, func(w *world) {
		host, asker := w.add(alice), w.add(bob)
		host.doors.setStuck(2)
		request := w.request(asker, inquiry(alice))
		require.Equal(w.t, StateRejected, request.State)
		require.Equal(w.t, "limit: "+textNotOpened, request.Reason)
		require.Empty(w.t, host.doors.granted())
		require.Empty(w.t, host.host.sockets())
		require.Len(w.t, w.list(host), 1)
	})
}

// list returns the offers of a node.
func (w *world) list(n *node) []Offer {
	w.t.Helper()
	synctest.Wait()

	offers, err := n.List(w.t.Context())
	require.NoError(w.t, err)

	return offers
}

// TestAnswerRefused checks that the host ends the socket that it has opened for
// a request if its offer of it is turned down, in whichever way.
func TestAnswerRefused(t *testing.T) {
	for _, code := range []wire.RejectCode{
		wire.CodeUnknown, wire.CodeExpired, wire.CodePolicy,
		wire.CodeDeclined, wire.CodeLimit,
	} {
		t.Run(code.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				host := w.add(alice)
				w.addStranger(bob)
				w.inject(host, bob, requestMsg(testID(1)))
				o := w.answerTo(host, testID(1))
				require.Len(w.t, host.host.sockets(), 1)
				w.inject(host, bob, &wire.Reject{
					ID: newID(), ReplyTo: o.ID, Code: code,
				})
				w.requireState(host, o.ID, StateRejected)
				require.Empty(w.t, host.host.sockets())
				require.Empty(w.t, host.doors.granted())

				time.Sleep(48 * time.Hour)
				w.requireNone(host)
			})
		})
	}
}

// TestHostedNotEnded checks that a hosted socket that cannot be ended is ended
// later, and that nobody tries for ever when what it belonged to is forgotten.
func TestHostedNotEnded(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		host, asker := w.add(alice), w.add(bob)
		end := func() {
			t.Helper()
			request := w.request(asker, inquiry(alice))
			_, err := asker.EndRemote(
				t.Context(), request.SocketID, "",
			)
			require.NoError(t, err)
			synctest.Wait()
		}

		host.host.setCloseErr(errDoor)
		end()
		require.Len(t, host.host.sockets(), 1)
		host.host.setCloseErr(nil)
		time.Sleep(storeRetry)
		synctest.Wait()
		require.Empty(t, host.host.sockets())

		host.host.setCloseErr(errDoor)
		end()
		time.Sleep(2 * MaxLifetime)
		require.Empty(t, w.list(host))
		require.Len(t, host.host.sockets(), 1)
		host.host.stop(host.host.sockets()[0])
		w.requireNone(host)
	})
}
