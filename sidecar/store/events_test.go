package store

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// writeEvents writes events, one at a time.
func writeEvents(t *testing.T, d *DB, texts ...string) {
	t.Helper()

	for _, text := range texts {
		writeBatch(t, d, Batch{Events: [][]byte{[]byte(text)}})
	}
}

// TestEvents checks that events are read from any cursor, in order, and that
// their cursors go on after a restart.
func TestEvents(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		last, changed := d.Cursor()
		require.Zero(t, last)
		first, err := d.FirstCursor(t.Context())
		require.NoError(t, err)
		require.Zero(t, first)
		require.Empty(t, texts(t, d, 0))

		before := time.Now().Truncate(time.Microsecond)
		writeEvents(t, d, "a", "b")
		<-changed
		last, changed = d.Cursor()
		require.EqualValues(t, 2, last)
		writeBatch(t, d, Batch{})
		select {
		case <-changed:
			require.Fail(t, "there is no event")

		default:
		}
		writeEvents(t, d, "c")
		<-changed

		require.Equal(t, []string{"a", "b", "c"}, texts(t, d, 0))
		require.Equal(t, []string{"c"}, texts(t, d, 2))
		require.Empty(t, texts(t, d, 3))
		require.Empty(t, texts(t, d, 99))
		events, err := d.Events(t.Context(), 0, 2)
		require.NoError(t, err)
		require.Len(t, events, 2)
		require.WithinRange(t, events[0].At, before, time.Now())

		require.NoError(t, d.Close())
		d = db.open()
		last, _ = d.Cursor()
		require.EqualValues(t, 3, last)
		writeEvents(t, d, "d")
		require.Equal(t, []string{"c", "d"}, texts(t, d, 2))
	})
}

// TestEventsTogether checks that events of many writers at once get a cursor
// each, and that a reader who follows them misses none.
func TestEventsTogether(t *testing.T) {
	const writers, each = 8, 20

	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		offers := d.Offers(encodeEvent)

		var (
			want    []string
			running sync.WaitGroup
		)
		for w := range writers {
			var records []offer.Record
			for i := range each {
				r := plainRecord(
					testID(byte(i+1)), testKey(byte(w)),
				)
				records = append(records, r)
				want = append(want, fmt.Sprintf(
					"received of %v", r.ID,
				))
			}
			running.Go(func() {
				for _, r := range records {
					err := offers.Write(t.Context(),
						receivedBatch(r))
					if err != nil {
						t.Errorf("write: %v", err)
					}
				}
			})
		}

		var got []string
		for len(got) < writers*each {
			last, changed := d.Cursor()
			if last == uint64(len(got)) {
				<-changed

				continue
			}
			got = append(got, texts(t, d, uint64(len(got)))...)
		}
		running.Wait()
		slices.Sort(want)
		slices.Sort(got)
		require.Equal(t, want, got)
	})
}

// receivedBatch returns what is written when an offer is received.
func receivedBatch(r offer.Record) offer.Batch {
	return offer.Batch{
		Put:    []offer.Record{r},
		Events: eventsOf(offer.EventReceived, r),
	}
}

// TestUnsure checks that the cursors are right again after a write of which
// nobody knows whether it was done.
func TestUnsure(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		writeEvents(t, d, "a", "b")

		// It was: another connection sees it.
		_, err := d.backend.base().ExecContext(
			t.Context(), "INSERT INTO events (cursor, "+
				"happened_at, data) VALUES (3, 1, 'c')",
		)
		require.NoError(t, err)
		_, changed := d.Cursor()
		err = d.Write(t.Context(), Batch{Events: [][]byte{{1}}})
		require.Error(t, err)

		writeEvents(t, d, "d")
		<-changed
		require.Equal(t, []string{"a", "b", "c", "d"}, texts(t, d, 0))
	})
}

// TestPruneEvents checks that the oldest events are removed by their age and by
// their number, a few at a time, and that the latest one stays.
func TestPruneEvents(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		more, err := d.Prune(t.Context(), Keep{Since: time.Now()})
		require.NoError(t, err)
		require.False(t, more)

		const all = 2*pruneStep + 10
		var b Batch
		for i := range all {
			b.Events = append(b.Events, fmt.Appendf(nil, "%d", i+1))
		}
		writeBatch(t, d, b)

		prune := func(keep Keep, wantMore bool, wantFirst uint64) {
			t.Helper()
			more, err := d.Prune(t.Context(), keep)
			require.NoError(t, err)
			require.Equal(t, wantMore, more)
			first, err := d.FirstCursor(t.Context())
			require.NoError(t, err)
			require.Equal(t, wantFirst, first)
		}
		prune(Keep{}, false, 1)
		prune(Keep{Events: all}, false, 1)
		prune(Keep{Since: time.Now().Add(-time.Hour)}, false, 1)
		prune(Keep{Events: all - 3}, false, 4)
		prune(Keep{Events: 5}, true, 4+pruneStep)

		_, err = d.Events(t.Context(), 7, 10)
		require.ErrorIs(t, err, ErrPruned)
		require.ErrorContains(t, err, fmt.Sprintf("up to %d",
			3+pruneStep))
		require.Len(t, texts(t, d, 3+pruneStep), all-3-pruneStep)

		prune(Keep{Events: 5}, true, 4+2*pruneStep)
		prune(Keep{Events: 5}, false, all-4)
		time.Sleep(time.Millisecond)
		writeEvents(t, d, "new")
		events, err := d.Events(t.Context(), all, 1)
		require.NoError(t, err)
		prune(Keep{Since: events[0].At}, false, all+1)

		// The last one stays, for its cursor, also after a restart.
		prune(Keep{Since: time.Now().Add(time.Hour)}, false, all+1)
		require.NoError(t, d.Close())
		d = db.open()
		writeEvents(t, d, "next")
		require.Equal(t, []string{"new", "next"}, texts(t, d, all))
	})
}

// TestPruneOffers checks that forgotten offers are removed by their age and by
// their number, a few at a time, and known ones never.
func TestPruneOffers(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		s := d.Offers(encodeEvent)
		known := plainRecord(testID(1), testKey(1))
		write(t, s, offer.Batch{Put: []offer.Record{known}})

		const all = pruneStep + 20
		var b offer.Batch
		for i := range all {
			id := testID(2)
			id[0], id[1] = byte(i), byte(i>>8)
			r := plainRecord(id, testKey(1))
			r.CreatedAt = testTime(i)
			b.Put = append(b.Put, r)
			b.Forget = append(b.Forget, r.Offer)
		}
		write(t, s, b)

		// One was forgotten after the other.
		_, err := d.backend.base().ExecContext(
			t.Context(), "UPDATE offers SET forgotten_at = "+
				"created_at WHERE forgotten_at > 0",
		)
		require.NoError(t, err)

		prune := func(keep Keep, wantMore bool, wantLeft int) {
			t.Helper()
			more, err := d.Prune(t.Context(), keep)
			require.NoError(t, err)
			require.Equal(t, wantMore, more)
			left, err := s.Forgotten(t.Context(), 2*all)
			require.NoError(t, err)
			require.Len(t, left, wantLeft)
			for i := range left {
				require.Equal(t, b.Put[all-1-i].Offer, left[i])
			}
		}
		prune(Keep{}, false, all)
		prune(Keep{Offers: all}, false, all)
		prune(Keep{Since: testTime(0)}, false, all)
		prune(Keep{Since: testTime(1)}, false, all-1)
		prune(Keep{Offers: all - 3}, false, all-3)
		prune(Keep{Offers: 2}, true, all-3-pruneStep)
		prune(Keep{Offers: 2}, false, 2)
		prune(Keep{Since: testTime(all)}, false, 0)
		requireRecords(t, s, known)
	})
}

// TestNode checks that a database belongs to one node for good.
func TestNode(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		_, ok, err := d.Node(t.Context())
		require.NoError(t, err)
		require.False(t, ok)

		require.NoError(t, d.Claim(t.Context(), testKey(1)))
		require.NoError(t, d.Claim(t.Context(), testKey(1)))
		require.NoError(t, d.Close())
		d = db.open()
		node, ok, err := d.Node(t.Context())
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, testKey(1), node)

		err = d.Claim(t.Context(), testKey(2))
		require.ErrorIs(t, err, ErrOtherNode)
		require.ErrorContains(t, err, testKey(1).String())
		require.ErrorContains(t, err, testKey(2).String())

		_, err = d.backend.base().ExecContext(
			t.Context(), "UPDATE meta SET node = 'x'",
		)
		require.NoError(t, err)
		_, _, err = d.Node(t.Context())
		require.ErrorIs(t, err, ErrDamaged)
	})
}
