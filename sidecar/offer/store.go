package offer

import "context"

// Store keeps the records of offers. Its owner is the manager, which makes one
// call at a time, and bounds how many records there are. What it returns must
// not share memory with what it keeps, except for Addrs.
type Store interface {
	// Put adds a record, or replaces the one of the same peer and id.
	Put(ctx context.Context, r Record) error

	// Delete removes a record. It is no error if there is none.
	Delete(ctx context.Context, peer PubKey, id ID) error

	// Get returns the record of a peer and id, or ErrNotFound.
	Get(ctx context.Context, peer PubKey, id ID) (Record, error)

	// Find returns the records of an id, whoever the peer is. There may be
	// none.
	Find(ctx context.Context, id ID) ([]Record, error)

	// List returns all records, in no order.
	List(ctx context.Context) ([]Record, error)
}

// Messenger sends messages to other nodes.
type Messenger interface {
	// Send sends a message to a peer. It returns when the message is on its
	// way or never will be, or when ctx is done. If the peer is not
	// connected the error wraps ErrNotConnected. It is called by several
	// goroutines, for each peer by one at a time.
	Send(ctx context.Context, peer PubKey, msgType uint16,
		body []byte) error
}
