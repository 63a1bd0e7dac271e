package sidecar

import (
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// testHub returns a hub over a database of the test's own.
func testHub(t *testing.T) *hub {
	t.Helper()

	db, err := store.Open(t.Context(), store.Config{
		Path: filepath.Join(t.TempDir(), "socketd.db"),
	}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	return newHub(db)
}

// publishN writes n events whose reasons are their cursors.
func publishN(t *testing.T, h *hub, n int) {
	t.Helper()

	var batch store.Batch
	for i := range n {
		data, err := encodeEvent(&socketrpc.Event{
			Reason: strconv.FormatUint(h.cursor()+uint64(i)+1, 10),
		})
		require.NoError(t, err)
		batch.Events = append(batch.Events, data)
	}
	require.NoError(t, h.db.Write(t.Context(), batch))
}

// readAll reads all that follows a cursor, and checks that nothing is missing.
func readAll(t *testing.T, h *hub, after uint64) uint64 {
	t.Helper()

	for {
		events, changed, err := h.next(t.Context(), after)
		require.NoError(t, err)
		if len(events) == 0 {
			require.NotNil(t, changed)

			return after
		}
		require.LessOrEqual(t, len(events), hubPage)
		for _, event := range events {
			after++
			require.Equal(t, after, event.Cursor)
			require.Equal(t, strconv.FormatUint(after, 10),
				event.Reason)
			require.Equal(t, serviceType, event.ServiceType)
			require.NotZero(t, event.Timestamp)
		}
	}
}

// TestHubReplay checks that a reader gets every event after its cursor, once
// and in order, however far behind it starts, and what is kept in memory for
// that.
func TestHubReplay(t *testing.T) {
	t.Parallel()

	h := testHub(t)
	publishN(t, h, 5*hubTail)
	last := uint64(5 * hubTail)

	for _, start := range []uint64{
		0, 1, last - hubTail - 1, last - hubTail, last - 1, 7, last,
		last - 5, last - hubTail + 5,
	} {
		require.Equal(t, last, readAll(t, h, start))
		require.LessOrEqual(t, len(h.tail), hubTail)
		require.LessOrEqual(t, cap(h.tail), 4*hubTail)
	}

	// Readers that keep up, and one that is behind.
	for range 50 {
		publishN(t, h, hubTail/10)
		next := last + hubTail/10
		require.Equal(t, next, readAll(t, h, last))
		require.Equal(t, next, readAll(t, h, last-hubTail/2))
		require.LessOrEqual(t, len(h.tail), hubTail)
		require.LessOrEqual(t, cap(h.tail), 4*hubTail)
		last = next
	}
	require.Equal(t, last, h.cursor())

	// Another one that begins there has the same.
	require.Equal(t, last, readAll(t, newHub(h.db), last-3))
}

// TestHubWake checks that a reader that waits is woken by the next event.
func TestHubWake(t *testing.T) {
	t.Parallel()

	h := testHub(t)
	events, changed, err := h.next(t.Context(), 0)
	require.NoError(t, err)
	require.Empty(t, events)

	publishN(t, h, 1)
	<-changed
	require.EqualValues(t, 1, readAll(t, h, 0))
}

// TestHubBounds checks that a reader is told when what it asks for is gone or
// not there yet.
func TestHubBounds(t *testing.T) {
	t.Parallel()

	h := testHub(t)
	publishN(t, h, 100)
	for more := true; more; {
		var err error
		more, err = h.db.Prune(t.Context(), store.Keep{Events: 10})
		require.NoError(t, err)
	}

	_, _, err := h.next(t.Context(), 89)
	require.ErrorIs(t, err, errCursor)
	require.ErrorContains(t, err, "no longer kept: up to 90")
	require.EqualValues(t, 100, readAll(t, h, 90))

	_, _, err = h.next(t.Context(), 101)
	require.ErrorIs(t, err, errCursor)
	require.ErrorContains(t, err, "the latest is 100")
}

// TestHubSince checks where the events since a time begin.
func TestHubSince(t *testing.T) {
	t.Parallel()

	h := testHub(t)
	at := func(want uint64, when time.Time) {
		t.Helper()

		after, err := h.since(t.Context(), when)
		require.NoError(t, err)
		require.Equal(t, want, after)
	}
	before := time.Now().Add(-time.Second)
	at(0, before)

	var times []time.Time
	for range 20 {
		publishN(t, h, 1)
		events, err := h.db.Events(t.Context(), h.cursor()-1, 1)
		require.NoError(t, err)
		times = append(times, events[0].At)

		// The clock of the database goes by microseconds.
		time.Sleep(10 * time.Microsecond)
	}
	at(0, before)
	for i, when := range times {
		at(uint64(i), when)
		at(uint64(i+1), when.Add(time.Microsecond))
	}
	at(20, time.Now().Add(time.Hour))

	_, err := h.db.Prune(t.Context(), store.Keep{Events: 5})
	require.NoError(t, err)
	at(15, before)
}
