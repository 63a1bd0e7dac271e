package store

import (
	"context"
	"fmt"
	"time"

	"github.com/socketd/socketd/sidecar/store/sqlc"
)

// Event is something that happened.
type Event struct {
	// Cursor is its place in the stream of events: the first one has 1, and
	// the next one after any the next number.
	Cursor uint64

	// At is when it was written, to the microsecond.
	At time.Time

	// Data is what its writer made of it.
	Data []byte
}

// Cursor returns the cursor of the latest event, 0 before the first one, and a
// channel that is closed when there is a later one.
func (d *DB) Cursor() (uint64, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()

	return d.last, d.changed
}

// FirstCursor returns the cursor of the oldest event that is kept, 0 before the
// first one.
func (d *DB) FirstCursor(ctx context.Context) (uint64, error) {
	first, err := d.queries.FirstCursor(ctx)
	if err != nil {
		return 0, fmt.Errorf("read cursor: %w", mapError(err))
	}

	return uint64(first), nil
}

// Events returns the events that follow a cursor, in order, as many as the
// limit says at most, and none if there are none yet. The error wraps ErrPruned
// if the next one is not kept any more.
func (d *DB) Events(ctx context.Context, after uint64,
	limit int) ([]Event, error) {

	rows, err := d.queries.EventsAfter(ctx, sqlc.EventsAfterParams{
		Cursor: int64(after),
		Limit:  int32(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", mapError(err))
	}
	if len(rows) > 0 && uint64(rows[0].Cursor) != after+1 {
		return nil, fmt.Errorf("%w: up to %d", ErrPruned,
			rows[0].Cursor-1)
	}

	events := make([]Event, 0, len(rows))
	for _, row := range rows {
		events = append(events, Event{
			Cursor: uint64(row.Cursor),
			At:     fromMicros(row.HappenedAt),
			Data:   row.Data,
		})
	}

	return events, nil
}
