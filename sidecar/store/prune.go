package store

import (
	"context"
	"fmt"
	"time"

	"github.com/socketd/socketd/sidecar/store/sqlc"
)

// pruneStep is how many events, and how many offers, one call removes about.
const pruneStep = 500

// Keep says what is kept of what is over.
type Keep struct {
	// Since is when the oldest of it happened. The zero value is no limit.
	Since time.Time

	// Events is how many events are kept at most, and Offers how many
	// offers that were forgotten. 0 is no limit.
	Events int
	Offers int
}

// Prune removes events, and offers that were forgotten, that are not to be
// kept. It removes the oldest ones first, and a few at a time, so that nobody
// waits for long; it tells whether there are more. The latest event always
// stays.
func (d *DB) Prune(ctx context.Context, keep Keep) (bool, error) {
	var more bool
	err := d.write(ctx, nil, func(ctx context.Context,
		q *sqlc.Queries) error {

		moreEvents, err := d.pruneEvents(ctx, q, keep)
		if err != nil {
			return fmt.Errorf("events: %w", err)
		}
		moreOffers, err := pruneOffers(ctx, q, keep)
		if err != nil {
			return fmt.Errorf("offers: %w", err)
		}
		more = moreEvents || moreOffers

		return nil
	})
	if err == nil && !more {
		err = mapError(d.shrink(ctx))
	}
	if err != nil {
		return false, fmt.Errorf("prune: %w", err)
	}

	return more, nil
}

// shrink gives a part of what is not used back to the system.
func (d *DB) shrink(ctx context.Context) error {
	d.writing.Lock()
	defer d.writing.Unlock()

	return d.backend.shrink(context.WithoutCancel(ctx))
}

// pruneEvents removes the oldest events, and tells whether there are more to be
// removed.
func (d *DB) pruneEvents(ctx context.Context, q *sqlc.Queries,
	keep Keep) (bool, error) {

	oldest, err := q.OldestEvents(ctx, pruneStep)
	if err != nil {
		return false, err
	}

	last, _ := d.Cursor()
	since := toMicros(keep.Since)
	var end uint64
	for _, e := range oldest {
		cursor := uint64(e.Cursor)
		tooMany := keep.Events > 0 && last-cursor >= uint64(keep.Events)
		if cursor == last || (!tooMany && e.HappenedAt >= since) {
			break
		}
		end = cursor
	}
	if end == 0 {
		return false, nil
	}

	more := len(oldest) == pruneStep &&
		end == uint64(oldest[pruneStep-1].Cursor)

	return more, q.DeleteEvents(ctx, int64(end))
}

// pruneOffers removes the offers that were forgotten first, and tells whether
// there are more to be removed.
func pruneOffers(ctx context.Context, q *sqlc.Queries,
	keep Keep) (bool, error) {

	oldest, err := q.OldestForgottenOffers(ctx, pruneStep)
	if err != nil {
		return false, err
	}
	var tooMany int64
	if keep.Offers > 0 {
		count, err := q.CountForgottenOffers(ctx)
		if err != nil {
			return false, err
		}
		tooMany = count - int64(keep.Offers)
	}

	since := toMicros(keep.Since)
	var end int64
	for i, at := range oldest {
		if int64(i) >= tooMany && at >= since {
			break
		}
		end = at
	}
	if end == 0 {
		return false, nil
	}

	more := len(oldest) == pruneStep && end == oldest[pruneStep-1]

	return more, q.DeleteForgottenOffers(ctx, end)
}
