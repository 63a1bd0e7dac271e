package offer

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestNotifyMayCall checks that an event's receiver may use the manager, and
// that the events that this causes come after.
func TestNotifyMayCall(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)

		// Bob accepts whatever he gets, at once.
		b.deps.Notify = func(e Event) {
			b.notified(e)
			if e.Kind == EventReceived {
				_, _, err := b.Accept(t.Context(), e.Offer.ID)
				require.NoError(t, err)
				offers, err := b.List(t.Context())
				require.NoError(t, err)
				require.Len(t, offers, 1)
			}
		}

		// Alice stops whatever is accepted, at once.
		a.deps.Notify = func(e Event) {
			a.notified(e)
			if e.Kind == EventAccepted {
				require.NoError(t, a.SocketClosed(
					t.Context(), e.Offer.SocketID, "",
				))
			}
		}

		o := w.sendOffer(a, proposal(bob))
		w.requireState(a, o.ID, StateClosed)
		w.requireState(b, o.ID, StateClosed)
		require.Equal(t, []EventKind{
			EventDelivered, EventAccepted, EventClosed,
		}, kindsOf(a.takeEvents()))
		require.Equal(t, []EventKind{
			EventReceived, EventClosed,
		}, kindsOf(b.takeEvents()))
	})
}

// TestNotifyOneAtATime checks that a slow receiver of events gets them in
// order, and never two at once.
func TestNotifyOneAtATime(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.add(bob)
		var calls, most atomic.Int32
		a.deps.Notify = func(e Event) {
			most.Store(max(most.Load(), calls.Add(1)))
			time.Sleep(time.Minute)
			a.notified(e)
			calls.Add(-1)
		}

		w.sendOffer(a, proposal(bob))
		require.NoError(t, a.SocketClosed(t.Context(), testSocket, ""))
		require.Empty(t, a.takeEvents())

		time.Sleep(time.Hour)
		require.Equal(t, []EventKind{
			EventDelivered, EventClosed,
		}, kindsOf(a.takeEvents()))
		require.Equal(t, int32(1), most.Load())
	})
}
