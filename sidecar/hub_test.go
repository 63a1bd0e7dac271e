package sidecar

import (
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// publishN publishes n events with the ids "1", "2" and so on.
func publishN(h *hub, n int) {
	for range n {
		h.publish(&socketrpc.Event{})
	}
}

// TestHubReplay checks that a reader gets every event after its cursor, once
// and in order, however far behind it starts.
func TestHubReplay(t *testing.T) {
	t.Parallel()

	h := newHub(100)
	publishN(h, 50)

	for _, start := range []uint64{0, 1, 49} {
		after := start
		for {
			event, changed, err := h.next(after)
			require.NoError(t, err)
			if event == nil {
				require.NotNil(t, changed)

				break
			}
			require.Equal(t, after+1, event.Cursor)
			require.Equal(t, serviceType, event.ServiceType)
			require.NotZero(t, event.Timestamp)
			after = event.Cursor
		}
		require.Equal(t, uint64(50), after)
		require.Equal(t, after, h.cursor())
	}
}

// TestHubWake checks that a reader that waits is woken by the next event.
func TestHubWake(t *testing.T) {
	t.Parallel()

	h := newHub(10)
	event, changed, err := h.next(0)
	require.NoError(t, err)
	require.Nil(t, event)

	go publishN(h, 1)
	<-changed

	event, _, err = h.next(0)
	require.NoError(t, err)
	require.Equal(t, uint64(1), event.Cursor)
}

// TestHubBounds checks that only so many events are kept, and that a reader
// is told when what it asks for is gone or not there yet.
func TestHubBounds(t *testing.T) {
	t.Parallel()

	h := newHub(10)
	publishN(h, 1000)
	require.Len(t, h.events, 10)
	require.LessOrEqual(t, cap(h.events), 40)

	_, _, err := h.next(989)
	require.ErrorIs(t, err, errCursor)
	require.ErrorContains(t, err, "no longer kept")

	event, _, err := h.next(990)
	require.NoError(t, err)
	require.Equal(t, uint64(991), event.Cursor)

	_, _, err = h.next(1001)
	require.ErrorIs(t, err, errCursor)
	require.ErrorContains(t, err, "the latest is 1000")
}
