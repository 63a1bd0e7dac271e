package offer

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// inquiry returns what asks a peer for both legs of a TOKEN socket, within an
// hour.
func inquiry(peer PubKey) Inquiry {
	return Inquiry{
		Peer:      peer,
		Protocol:  UDP,
		Admission: ByToken,
		Legs:      BothLegs,
		Label:     "asked",
		ExpiresAt: time.Now().Add(time.Hour),
	}
}

// requestMsg returns the message of a request that is good for an hour.
func requestMsg(id ID) *wire.Request {
	return &wire.Request{
		ID:        id,
		Protocol:  UDP,
		Admission: ByToken,
		Legs:      BothLegs,
		Expiry:    uint64(time.Now().Add(time.Hour).Unix()),
	}
}

// request makes a request, which must succeed, and returns it once everything
// has come to rest.
func (w *world) request(n *node, q Inquiry) Offer {
	w.t.Helper()

	o, err := n.Request(w.t.Context(), q)
	require.NoError(w.t, err)

	return w.get(n, o.ID)
}

// answerTo returns the offer that answers a request, as a node has it.
func (w *world) answerTo(n *node, request ID) Offer {
	w.t.Helper()
	synctest.Wait()

	offers, err := n.List(w.t.Context())
	require.NoError(w.t, err)
	for _, o := range offers {
		if o.ReplyTo == request {
			return o
		}
	}
	require.Fail(w.t, "no offer answers the request")

	return Offer{}
}

// TestRequestMet checks a request from the first message to the end of the
// socket that is hosted for it.
func TestRequestMet(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		host, asker := w.add(alice), w.add(bob)
		q := inquiry(alice)
		q.Limits = SocketLimits{Bandwidth: 1000, Lifetime: 600}

		request := w.request(asker, q)
		require.True(t, request.IsRequest)
		require.Equal(t, StateAccepted, request.State)
		require.Equal(t, alice, request.Host)
		require.Equal(t, q.Limits, request.Limits)

		// Both have the offer, and have agreed.
		ours, theirs := w.answerTo(asker, request.ID),
			w.answerTo(host, request.ID)
		require.Equal(t, ours.ID, theirs.ID)
		require.Equal(t, StateAccepted, ours.State)
		require.Equal(t, StateAccepted, theirs.State)
		require.Equal(t, reasonAnswer, ours.Reason)
		require.Equal(t, BothLegs, ours.Legs)
		require.Equal(t, "asked", ours.Label)
		require.Equal(t, request.SocketID, ours.SocketID)
		require.Equal(
			t, time.Now().Add(600*time.Second).Unix(),
			ours.ExpiresAt.Unix(),
		)
		require.Equal(t, []ID{ours.SocketID}, host.host.sockets())
		order := host.host.order(ours.SocketID)
		require.Equal(t, Order{
			SocketID: ours.SocketID, Peer: bob, Legs: BothLegs,
			Protocol: UDP, Admission: ByToken, Label: "asked",
			Limits: q.Limits, MaxLifetime: 24 * time.Hour,
		}, order)
		w.requireGranted(host)
		require.Len(t, host.doors.granted(), 2)
		require.Equal(t, 1, host.NumHosted())

		// The tokens are told to whoever accepts it.
		_, tokens, err := asker.Accept(t.Context(), ours.ID)
		require.NoError(t, err)
		require.False(t, tokens[0].IsZero() || tokens[1].IsZero())
		require.Equal(t, w.record(host, ours.ID).Tokens, tokens)

		require.Equal(t, []EventKind{EventDelivered, EventReceived},
			kindsOf(asker.takeEvents()))
		require.Equal(t, []EventKind{
			EventReceived, EventDelivered, EventAccepted,
		}, kindsOf(host.takeEvents()))

		// What the request was for is over, and the request before.
		_, _, err = asker.Withdraw(t.Context(), request.ID, "")
		require.ErrorIs(t, err, ErrState)
		_, err = asker.EndRemote(t.Context(), ours.SocketID, "enough")
		require.NoError(t, err)
		w.requireState(host, ours.ID, StateClosed)
		require.Equal(t, "enough", w.get(host, ours.ID).Reason)
		require.Empty(t, host.host.sockets())
		require.Empty(t, host.doors.granted())
		require.Zero(t, host.NumHosted())

		time.Sleep(2 * time.Hour)
		w.requireNone(host)
		w.requireNone(asker)
	})
}

// TestRequestRefused checks that a request that the policy does not allow is
// refused in words, counted, and nothing kept, however often it comes.
func TestRequestRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		host, asker := w.add(alice), w.add(bob)
		host.SetRequestPolicy(RequestPolicy{
			Channel: true, MaxHosted: 50, MaxPerNode: 5,
			MaxLifetime: time.Hour,
		})

		const text = "policy channel: we have no channel with you"
		request := w.request(asker, inquiry(alice))
		require.Equal(t, StateRejected, request.State)
		require.Equal(t, text, request.Reason)
		events := asker.takeEvents()
		require.Equal(t, []EventKind{EventRejected}, kindsOf(events))
		require.Equal(t, text, events[0].Reason)
		w.requireNone(host)
		w.requireCounts(host, map[string]uint64{"policy": 1})
		require.EqualValues(t, 1, host.RequestsRefused()["channel"])

		// A thousand times.
		for i := range 1000 {
			w.inject(host, bob, requestMsg(numID(i)))
			time.Sleep(time.Second)
		}
		w.requireNone(host)
		require.EqualValues(t, 1001, host.RequestsRefused()["channel"])
		require.Empty(t, host.takeEvents())

		// With a channel it is met, at once.
		host.mu.Lock()
		host.channels = map[PubKey]bool{bob: true}
		host.mu.Unlock()
		request = w.request(asker, inquiry(alice))
		require.Equal(t, StateAccepted, request.State)
	})
}

// TestCannotHost checks that a node that cannot host refuses every request.
func TestCannotHost(t *testing.T) {
	inWorld(t, func(w *world) {
		host, asker := w.add(alice), w.add(bob)
		host.cfg.CannotHost = true
		request := w.request(asker, inquiry(alice))
		require.Equal(w.t, "policy none: this node cannot host sockets",
			request.Reason)
		w.requireNone(host)
	})
}

// TestRequestNotMet checks a request that is allowed, and whose socket cannot
// be opened.
func TestRequestNotMet(t *testing.T) {
	for text, openErr := range map[string]error{
		textNoRoom:    fmt.Errorf("%w: 100 are open", ErrNoRoom),
		textNotOpened: errors.New("no descriptor"),
	} {
		t.Run(text, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				host, asker := w.add(alice), w.add(bob)
				host.host.setErr(openErr)
				request := w.request(asker, inquiry(alice))
				require.Equal(t, StateRejected, request.State)
				require.Equal(t, "limit: "+text, request.Reason)
				w.requireState(host, request.ID, StateRejected)
				require.EqualValues(
					t, 1, host.RequestsRefused()["limit"],
				)
				require.Empty(t, host.doors.granted())
				require.Zero(t, host.NumHosted())

				time.Sleep(2 * time.Hour)
				w.requireNone(host)
				w.requireNone(asker)
			})
		})
	}
}

// TestRequestUnanswered checks a host that never answers: the request expires,
// whether the host has acknowledged it or not.
func TestRequestUnanswered(t *testing.T) {
	for _, acked := range []bool{false, true} {
		t.Run(strconv.FormatBool(acked), func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				asker := w.add(bob)
				w.addStranger(alice)
				request := w.request(asker, inquiry(alice))
				want := []EventKind{EventExpired}
				if acked {
					w.inject(asker, alice, &wire.Ack{
						ID:      newID(),
						ReplyTo: request.ID,
					})
					w.requireState(
						asker, request.ID, StatePending,
					)
					want = []EventKind{
						EventDelivered, EventExpired,
					}
				}
				time.Sleep(time.Hour)
				w.requireState(asker, request.ID, StateExpired)
				require.Equal(t, want,
					kindsOf(asker.takeEvents()))

				time.Sleep(time.Hour)
				w.requireNone(asker)
			})
		})
	}
}

// TestRequestTakenBack checks that a request that is taken back leaves nothing
// at the host, before its socket is opened, while that goes on, and after.
func TestRequestTakenBack(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		inWorld(t, func(w *world) {
			host, asker := w.add(alice), w.add(bob)
			w.dead()
			request := w.request(asker, inquiry(alice))
			_, closeID, err := asker.Withdraw(
				w.t.Context(), request.ID, "",
			)
			require.NoError(w.t, err)
			require.NotZero(w.t, closeID)
			w.requireState(asker, request.ID, StateWithdrawn)
			w.perfect()

			// The request itself comes after that.
			time.Sleep(time.Minute)
			w.inject(host, bob, requestMsg(request.ID))
			require.Empty(w.t, host.host.sockets())
			time.Sleep(2 * time.Hour)
			w.requireNone(host)
			w.requireNone(asker)
		})
	})

	t.Run("while", func(t *testing.T) {
		inWorld(t, func(w *world) {
			host, asker := w.add(alice), w.add(bob)
			hold := make(chan struct{})
			host.host.setHold(hold)
			request := w.request(asker, inquiry(alice))
			w.requireState(asker, request.ID, StatePending)
			_, _, err := asker.Withdraw(
				w.t.Context(), request.ID, "no more",
			)
			require.NoError(w.t, err)
			w.requireState(host, request.ID, StateWithdrawn)
			close(hold)
			synctest.Wait()
			require.Empty(w.t, host.host.sockets())
			require.Empty(w.t, host.doors.granted())
			require.Len(w.t, w.list(host), 1)
		})
	})

	t.Run("crossing", func(t *testing.T) {
		inWorld(t, func(w *world) {
			host, asker := w.add(alice), w.add(bob)
			w.setFate(func(packet) fate {
				return fate{delays: []time.Duration{
					time.Second,
				}}
			})
			request := w.request(asker, inquiry(alice))

			// The offer is on its way.
			time.Sleep(1500 * time.Millisecond)
			require.Len(w.t, host.host.sockets(), 1)
			_, _, err := asker.Withdraw(
				w.t.Context(), request.ID, "",
			)
			require.NoError(w.t, err)
			time.Sleep(time.Minute)
			require.Empty(w.t, host.host.sockets())
			w.requireState(
				host, w.answerTo(host, request.ID).ID,
				StateRejected,
			)
			require.Len(w.t, w.list(asker), 1)
		})
	})
}

// TestRequestRestart checks that a host that is stopped while it opens a socket
// opens the same one when it starts again.
func TestRequestRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		host, asker := w.add(alice), w.add(bob)
		host.host.setHold(make(chan struct{}))
		request := w.request(asker, inquiry(alice))
		w.requireState(host, request.ID, StatePending)
		socketID := w.get(host, request.ID).SocketID
		require.NotZero(t, socketID)

		host.host.setHold(nil)
		host = w.restart(host, DefaultLimits(), time.Minute)
		w.requireState(asker, request.ID, StateAccepted)
		require.Equal(t, []ID{socketID}, host.host.sockets())
		require.Equal(
			t, socketID, w.answerTo(asker, request.ID).SocketID,
		)
		w.requireGranted(host)
	})
}

// TestRequestDuplicate checks that a request that comes again, or under an id
// that is taken, opens nothing.
func TestRequestDuplicate(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		host := w.add(alice)
		w.addStranger(bob)
		w.addStranger(carol)
		for range 3 {
			w.inject(host, bob, requestMsg(testID(1)))
		}
		require.Len(t, host.host.sockets(), 1)
		require.Len(t, w.list(host), 2)

		// Somebody else has the id, and an offer is no request.
		w.inject(host, bob, &wire.Ack{
			ID: newID(), ReplyTo: w.answerTo(host, testID(1)).ID,
		})
		w.takeSent(alice)
		w.inject(host, carol, requestMsg(testID(1)))
		w.inject(host, bob, offerMsg(testID(1)))
		require.Empty(t, w.takeSent(alice))
		w.inject(host, bob, offerMsg(testID(2)))
		w.requireAnswers(host, bob, ackOf(testID(2)))
		w.inject(host, bob, requestMsg(testID(2)))
		require.Empty(t, w.takeSent(alice))
		require.Len(t, host.host.sockets(), 1)

		// Nobody decides about a request but the policy.
		_, _, err := host.Accept(t.Context(), testID(1))
		require.ErrorIs(t, err, ErrState)
		_, err = host.Reject(t.Context(), testID(1), "")
		require.ErrorIs(t, err, ErrState)
	})
}

// TestRequestInvalid checks what no request may say.
func TestRequestInvalid(t *testing.T) {
	inWorld(t, func(w *world) {
		asker := w.add(bob)
		for name, spoil := range map[string]func(*Inquiry){
			"self": func(q *Inquiry) { q.Peer = bob },
			"past": func(q *Inquiry) { q.ExpiresAt = time.Now() },
			"far": func(q *Inquiry) {
				q.ExpiresAt = time.Now().Add(
					MaxLifetime + time.Minute,
				)
			},
			"label":    func(q *Inquiry) { q.Label = "\n" },
			"legs":     func(q *Inquiry) { q.Legs = 0 },
			"protocol": func(q *Inquiry) { q.Protocol = 3 },
			"pairs":    func(q *Inquiry) { q.Limits.Pairs = 1 },
		} {
			q := inquiry(alice)
			spoil(&q)
			_, err := asker.Request(w.t.Context(), q)
			require.ErrorIs(w.t, err, ErrInvalid, name)
		}
		w.requireNone(asker)
	})
}
