package offer

import "slices"

// AutoAccept is whose offers are accepted without anybody being asked.
type AutoAccept uint8

const (
	// AutoAcceptNone is nobody's.
	AutoAcceptNone AutoAccept = iota

	// AutoAcceptChannel is those of nodes that we have an open channel
	// with.
	AutoAcceptChannel

	// AutoAcceptList is those of the nodes of a list.
	AutoAcceptList
)

// The reasons of offers that were accepted without anybody being asked.
const (
	reasonChannel = "accepted automatically: open channel"
	reasonList    = "accepted automatically: on the list"
)

// Policy tells which offers are accepted without anybody being asked. The zero
// Policy accepts none. It is not changed once it is used.
type Policy struct {
	AutoAccept AutoAccept

	// List are the nodes of AutoAcceptList.
	List []PubKey
}

// Facts are what a policy goes by.
type Facts struct {
	// HasChannel tells that we have an open channel with the node that
	// makes the offer.
	HasChannel bool
}

// Channels knows the peers that we have channels with.
type Channels interface {
	// HasChannel tells whether we have an open channel with a peer, as far
	// as is known. The manager calls it with its lock held: it must return
	// at once.
	HasChannel(peer PubKey) bool
}

// accepts tells whether an offer of a peer is accepted, and why. It has no
// other inputs and no effects.
func (p Policy) accepts(peer PubKey, facts Facts) (string, bool) {
	switch p.AutoAccept {
	case AutoAcceptChannel:
		return reasonChannel, facts.HasChannel

	case AutoAcceptList:
		return reasonList, slices.Contains(p.List, peer)

	default:
		return "", false
	}
}
