package offer

import (
	"context"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// Store keeps the records of offers, and the messages about them that are still
// to be delivered. Its owner is the manager, which makes one call at a time,
// and bounds how many records and messages there are. What it returns must not
// share memory with what it keeps, except for Addrs and Body.
type Store interface {
	// Write writes all of a batch, or nothing of it: then it returns an
	// error.
	Write(ctx context.Context, b Batch) error

	// Get returns the record of a peer and id, or ErrNotFound.
	Get(ctx context.Context, peer PubKey, id ID) (Record, error)

	// Find returns the records of an id, whoever the peer is. There may be
	// none.
	Find(ctx context.Context, id ID) ([]Record, error)

	// List returns all records, in no order.
	List(ctx context.Context) ([]Record, error)

	// Messages returns all messages that are to be delivered, in no order.
	Messages(ctx context.Context) ([]Message, error)
}

// Batch is what follows from one step of an offer: its record as it is now, the
// messages that are to be sent or not any more, and what is told of it. It is
// written together, so that whatever happens in between neither of them is
// there without the others. A store does the parts in the order in which they
// are here.
type Batch struct {
	// Put are records that are new, or that replace the one of the same
	// peer and id.
	Put []Record

	// Forget are offers whose records are not asked for any more: Get,
	// Find and List do not return them. A store may keep what it likes of
	// them to look back on, but not their tokens. The messages about them
	// go as well.
	Forget []Offer

	// Drop are offers that never came to be. Nothing of them is kept.
	Drop []Offer

	// Silence are offers about which nothing is to be delivered any more.
	Silence []Offer

	// Remove are messages that are not to be delivered any more. It is no
	// error if one is not there.
	Remove []Message

	// Add are messages that are to be delivered. There is one of each type
	// for an offer at most.
	Add []Message

	// Events are what is told, in order. A store need not return them.
	Events []Event
}

// empty tells whether there is nothing to write.
func (b *Batch) empty() bool {
	return len(b.Put) == 0 && len(b.Forget) == 0 && len(b.Drop) == 0 &&
		len(b.Silence) == 0 && len(b.Remove) == 0 && len(b.Add) == 0 &&
		len(b.Events) == 0
}

// MsgType is the type of a message.
type MsgType = wire.MsgType

// Message is a message about an offer that is sent until it is acknowledged.
// How often that was done is not kept: after a restart it is sent at once.
type Message struct {
	// Peer is the node that it is sent to, the offer's peer.
	Peer PubKey

	// OfferID is the id of the offer that it is about.
	OfferID ID

	// ID is its own id. That of the message that makes an offer is the
	// offer's.
	ID ID

	Type MsgType

	// Body is the message as it is sent. It has the tokens of an offer.
	Body []byte

	// Deadline is when it is given up.
	Deadline time.Time
}

// key returns the key of the offer that the message is about.
func (msg *Message) key() offerKey {
	return offerKey{peer: msg.Peer, id: msg.OfferID}
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
