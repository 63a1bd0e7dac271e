package sidecar

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/protobuf/proto"
)

const (
	// serviceType is the service_type of every event.
	serviceType = "socket"

	// hubTail is how many of the latest events are kept in memory, so that
	// streams that keep up do not read each of them from the database.
	hubTail = 1024

	// hubPage is how many events a stream reads at once.
	hubPage = 128
)

// errCursor is wrapped when a stream asks for events from a place that is not
// there.
var errCursor = errors.New("after")

// hub shows the events of the database, in order, to every stream at its own
// pace. Whoever writes an event never waits for a reader.
type hub struct {
	// db has the events. Immutable.
	db *store.DB

	// mu guards what follows. It is held while the latest events are read,
	// which then all streams have.
	mu sync.Mutex

	// tail holds the latest events that were read, without a gap. An event
	// is never changed once it is here.
	tail []*socketrpc.Event
}

// newHub returns a hub that shows the events of a database.
func newHub(db *store.DB) *hub {
	return &hub{db: db}
}

// encodeEvent returns an event as it is kept. It gets its cursor, its time and
// its service type when it is read.
func encodeEvent(event *socketrpc.Event) ([]byte, error) {
	return proto.Marshal(event)
}

// decodeEvent returns an event that was kept.
func decodeEvent(kept *store.Event) (*socketrpc.Event, error) {
	event := &socketrpc.Event{}
	if err := proto.Unmarshal(kept.Data, event); err != nil {
		return nil, fmt.Errorf("event %d: %w", kept.Cursor, err)
	}
	event.Cursor = kept.Cursor
	event.Timestamp = kept.At.Unix()
	event.ServiceType = serviceType

	return event, nil
}

// cursor returns the cursor of the latest event.
func (h *hub) cursor() uint64 {
	last, _ := h.db.Cursor()

	return last
}

// next returns events that follow a cursor, one at least, or else a channel
// that is closed when there may be one. The error wraps errCursor if the next
// event is not kept any more, or the cursor was never given. The events must
// not be changed.
func (h *hub) next(ctx context.Context, after uint64) ([]*socketrpc.Event,
	<-chan struct{}, error) {

	last, changed := h.db.Cursor()
	switch {
	case after == last:
		return nil, changed, nil

	case after > last:
		return nil, nil, fmt.Errorf("%w: there is no cursor %d yet, "+
			"the latest is %d", errCursor, after, last)
	}

	events, err := h.fromTail(ctx, after, last)
	if err == nil && events == nil {
		events, err = h.read(ctx, after, hubPage)
	}
	switch {
	case errors.Is(err, store.ErrPruned):
		return nil, nil, fmt.Errorf("%w: %w", errCursor, err)

	case err != nil:
		return nil, nil, err

	case len(events) == 0:
		return nil, nil, fmt.Errorf("%w: no event follows %d, and the "+
			"latest is %d", store.ErrDamaged, after, last)
	}

	return events, nil, nil
}

// since returns the cursor of the last event before a time, so that those that
// follow it are those since then that are kept.
func (h *hub) since(ctx context.Context, t time.Time) (uint64, error) {
	first, err := h.db.FirstCursor(ctx)
	if err != nil {
		return 0, err
	}
	last := h.cursor()
	if first == 0 || last < first {
		return last, nil
	}

	var failed error
	n := sort.Search(int(last-first)+1, func(i int) bool {
		events, err := h.db.Events(ctx, first+uint64(i)-1, 1)
		if err != nil || len(events) == 0 {
			failed = errors.Join(failed, err)

			return true
		}

		return !events[0].At.Before(t)
	})

	return first + uint64(n) - 1, failed
}

// fromTail returns events that follow a cursor if they are among the latest,
// and nil if they are not.
func (h *hub) fromTail(ctx context.Context, after,
	last uint64) ([]*socketrpc.Event, error) {

	if after+hubTail < last {
		return nil, nil
	}

	h.mu.Lock()
	defer h.mu.Unlock()

	end := after
	if len(h.tail) > 0 {
		end = h.tail[len(h.tail)-1].Cursor
	}
	switch {
	case len(h.tail) == 0 || end < after:
		// There is a gap, or nothing was read before.
		h.tail, end = nil, after

	case h.tail[0].Cursor > after+1:
		return nil, nil
	}

	for end < last {
		events, err := h.read(ctx, end, hubPage)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			break
		}
		h.tail = append(h.tail, events...)
		end = h.tail[len(h.tail)-1].Cursor
	}
	if len(h.tail) == 0 {
		return nil, nil
	}

	from := h.tail[after+1-h.tail[0].Cursor:]
	n := min(len(from), hubPage)
	page := from[:n:n]

	// The append above moves what is left when it needs room, so that the
	// array does not grow for ever.
	h.tail = h.tail[max(0, len(h.tail)-hubTail):]

	return page, nil
}

// read reads events that follow a cursor from the database.
func (h *hub) read(ctx context.Context, after uint64,
	limit int) ([]*socketrpc.Event, error) {

	kept, err := h.db.Events(ctx, after, limit)
	if err != nil {
		return nil, err
	}

	events := make([]*socketrpc.Event, 0, len(kept))
	for i := range kept {
		event, err := decodeEvent(&kept[i])
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}

	return events, nil
}
