package offer

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
)

// errDoor is what a leg fails with that cannot be granted.
var errDoor = errors.New("no such socket")

// door is a token that admits clients to a leg.
type door struct {
	socketID ID
	leg      uint8
	token    Token
}

// doors are the legs of a host's sockets, as they are open to far ends. They
// check that no leg is open to two of them, and that each door is opened and
// closed once.
type doors struct {
	t *testing.T

	mu   sync.Mutex
	open map[door]bool

	// stuck has the legs that cannot be granted.
	stuck map[uint8]bool

	// knocked is called when a leg is to be granted, if it is set.
	knocked func()

	// gone tells whether a socket is not there any more, if it is set.
	gone func(ID) bool
}

// newDoors returns doors that are closed.
func newDoors(t *testing.T) *doors {
	t.Helper()

	return &doors{
		t:     t,
		open:  make(map[door]bool),
		stuck: make(map[uint8]bool),
	}
}

// setStuck sets which legs cannot be granted.
func (d *doors) setStuck(legs ...uint8) {
	d.mu.Lock()
	defer d.mu.Unlock()

	clear(d.stuck)
	for _, leg := range legs {
		d.stuck[leg] = true
	}
}

// Grant implements Opener.
func (d *doors) Grant(socketID ID, leg uint8, token Token) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.knocked != nil {
		d.knocked()
	}
	if d.stuck[leg] || d.isGone(socketID) {
		return errDoor
	}
	for other := range d.open {
		if other.socketID == socketID && other.leg == leg {
			d.t.Errorf("leg %d is open to two", leg)
		}
	}
	if leg < 1 || leg > 2 || token.IsZero() {
		d.t.Errorf("leg %d, no token %v", leg, token.IsZero())
	}
	d.open[door{socketID, leg, token}] = true

	return nil
}

// Revoke implements Opener.
func (d *doors) Revoke(socketID ID, leg uint8, token Token) {
	d.mu.Lock()
	defer d.mu.Unlock()

	// If a leg was stuck, the other one may not have been tried.
	closing := door{socketID, leg, token}
	if !d.open[closing] && len(d.stuck) == 0 && !d.isGone(socketID) {
		d.t.Errorf("leg %d is closed and was not open", leg)
	}
	delete(d.open, closing)
}

// isGone tells whether a socket is not there any more. The lock is held.
func (d *doors) isGone(socketID ID) bool {
	return d.gone != nil && d.gone(socketID)
}

// granted returns what is open.
func (d *doors) granted() []door {
	d.mu.Lock()
	defer d.mu.Unlock()

	return slices.Collect(maps.Keys(d.open))
}
