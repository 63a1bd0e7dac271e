package sidecar

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/socketd/socketd/socketrpc"
)

const (
	// serviceType is the service_type of every event.
	serviceType = "socket"

	// maxEvents is how many events are kept for replay.
	maxEvents = 10_000
)

// errCursor is wrapped when a stream asks for events from a place that is not
// there.
var errCursor = errors.New("after")

// hub keeps the latest events, in order, for every stream to read at its own
// pace. A publisher never waits for a reader.
type hub struct {
	// keep is how many events are kept. Immutable.
	keep int

	// mu guards what follows.
	mu sync.Mutex

	// events holds the kept events; the last one has the cursor last. An
	// event is never changed once it is here.
	events []*socketrpc.Event
	last   uint64

	// changed is closed, and replaced, when an event is published.
	changed chan struct{}
}

// newHub returns a hub that keeps the given number of events.
func newHub(keep int) *hub {
	return &hub{keep: keep, changed: make(chan struct{})}
}

// publish gives an event its cursor and time, and shows it to every reader.
// The event must not be changed afterwards.
func (h *hub) publish(event *socketrpc.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.last++
	event.Cursor = h.last
	event.Timestamp = time.Now().Unix()
	event.ServiceType = serviceType

	if len(h.events) == h.keep {
		// The append below moves what is left when it needs room, so
		// that the array does not grow for ever.
		h.events = h.events[1:]
	}
	h.events = append(h.events, event)

	close(h.changed)
	h.changed = make(chan struct{})
}

// cursor returns the cursor of the latest event.
func (h *hub) cursor() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()

	return h.last
}

// next returns the event that follows a cursor, or else a channel that is
// closed when there may be one.
func (h *hub) next(after uint64) (*socketrpc.Event, <-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()

	first := h.last - uint64(len(h.events)) + 1
	switch {
	case after == h.last:
		return nil, h.changed, nil

	case after > h.last:
		return nil, nil, fmt.Errorf("%w: there is no cursor %d yet, "+
			"the latest is %d", errCursor, after, h.last)

	case after+1 < first:
		return nil, nil, fmt.Errorf("%w: events up to %d are no "+
			"longer kept", errCursor, first-1)
	}

	return h.events[after+1-first], nil, nil
}
