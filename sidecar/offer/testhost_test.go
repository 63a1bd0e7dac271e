package offer

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// testRequests is a policy that meets all requests.
func testRequests() RequestPolicy {
	return RequestPolicy{
		Any:         true,
		MaxHosted:   50,
		MaxPerNode:  1000,
		MaxLifetime: 24 * time.Hour,
	}
}

// testHost opens sockets in memory, as the relay of a daemon would. It checks
// that no socket is opened again that has ended.
type testHost struct {
	t *testing.T

	mu sync.Mutex

	// open has what the open sockets were ordered with, and ended those
	// that are over.
	open  map[ID]Order
	ended map[ID]bool

	// err is what opening fails with, closeErr what closing does, and hold
	// is waited for before a socket is opened, if they are set.
	err      error
	closeErr error
	hold     chan struct{}

	// closed is called with each socket that ends, if it is set.
	closed func(ID)
}

// A compile-time check that testHost is a Host.
var _ Host = (*testHost)(nil)

// newTestHost returns a host without sockets.
func newTestHost(t *testing.T) *testHost {
	t.Helper()

	return &testHost{
		t:     t,
		open:  make(map[ID]Order),
		ended: make(map[ID]bool),
	}
}

// hostOf returns the host of a node, whose sockets outlive its manager.
func (w *world) hostOf(key PubKey) *testHost {
	w.t.Helper()

	w.mu.Lock()
	defer w.mu.Unlock()

	if w.hosts == nil {
		w.hosts = make(map[PubKey]*testHost)
	}
	if w.hosts[key] == nil {
		w.hosts[key] = newTestHost(w.t)
	}

	return w.hosts[key]
}

// setHold sets what opening waits for, nil for nothing.
func (h *testHost) setHold(hold chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.hold = hold
}

// Open opens a socket.
func (h *testHost) Open(ctx context.Context, order Order) (Hosted, error) {
	h.mu.Lock()
	hold := h.hold
	h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return Hosted{}, ctx.Err()
		}
	}

	h.mu.Lock()
	defer h.mu.Unlock()

	if h.err != nil {
		return Hosted{}, h.err
	}
	if h.ended[order.SocketID] {
		h.t.Errorf("socket %v is opened again", order.SocketID)
	}
	h.open[order.SocketID] = order

	lifetime := order.MaxLifetime
	if order.Limits.Lifetime > 0 {
		lifetime = time.Duration(order.Limits.Lifetime) * time.Second
	}

	return Hosted{
		Addrs:     []netip.Addr{netip.MustParseAddr("203.0.113.7")},
		Port1:     21000,
		Port2:     21001,
		ExpiresAt: time.Now().Add(lifetime),
	}, nil
}

// Close ends a socket.
func (h *testHost) Close(_ context.Context, socketID ID) error {
	h.mu.Lock()
	err := h.closeErr
	h.mu.Unlock()
	if err != nil {
		return err
	}

	if h.stop(socketID) {
		h.mu.Lock()
		h.ended[socketID] = true
		h.mu.Unlock()
	}

	return nil
}

// stop ends a socket as the host's owner does, or the relay by itself. It tells
// whether it was open. If the request was not answered yet, the socket may be
// opened again.
func (h *testHost) stop(socketID ID) bool {
	h.mu.Lock()
	_, isOpen := h.open[socketID]
	delete(h.open, socketID)
	closed := h.closed
	h.mu.Unlock()

	if isOpen && closed != nil {
		closed(socketID)
	}

	return isOpen
}

// setCloseErr sets what closing fails with.
func (h *testHost) setCloseErr(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.closeErr = err
}

// setErr sets what opening fails with.
func (h *testHost) setErr(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.err = err
}

// sockets returns the ids of the open sockets.
func (h *testHost) sockets() []ID {
	h.mu.Lock()
	defer h.mu.Unlock()

	return slices.Collect(maps.Keys(h.open))
}

// order returns what a socket was opened with.
func (h *testHost) order(id ID) Order {
	h.mu.Lock()
	defer h.mu.Unlock()

	return h.open[id]
}
