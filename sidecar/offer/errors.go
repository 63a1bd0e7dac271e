package offer

import "errors"

var (
	// ErrNotConnected is what a Messenger returns if the peer is not
	// connected, so that nothing was sent.
	ErrNotConnected = errors.New("peer is not connected")

	// ErrNotFound is returned for an offer that is not known.
	ErrNotFound = errors.New("offer not found")

	// ErrState is returned if the state of an offer does not allow what is
	// asked. The error names the state.
	ErrState = errors.New("offer does not allow this")

	// ErrLimit is returned if there is no room for another offer.
	ErrLimit = errors.New("too many offers")

	// ErrInvalid is returned for a value that no offer or message may have.
	ErrInvalid = errors.New("invalid offer")

	// ErrStopped is returned for an offer that is not made because the
	// manager has stopped, and if it has before it has read the store.
	ErrStopped = errors.New("offers have stopped")

	// errImpossible is returned for a trigger that cannot meet an offer in
	// its direction and state.
	errImpossible = errors.New("no such transition")
)
