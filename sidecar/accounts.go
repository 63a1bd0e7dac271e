package sidecar

import (
	"context"
	"slices"
	"sync"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
)

// accounts counts each of our sockets against the node that it was offered to
// first, until that offer ends; then against the next one that still has an
// offer of it. What all sockets of a node pass together is bounded by the
// relay, which knows a node as the name of an account.
type accounts struct {
	// What follows is immutable.
	relay  *relay.Relay
	offers *offer.Manager
	log    btclog.Logger

	// mu guards what follows. It is held from the look at the offers until
	// the socket is charged, so that whoever looks last has the last word.
	mu sync.Mutex

	// nodes has the node that an open socket is counted against. A socket
	// that is counted against none is not there.
	nodes map[relay.ID]offer.PubKey
}

// newAccounts returns accounts in which no socket is counted.
func newAccounts(r *relay.Relay, offers *offer.Manager,
	log btclog.Logger) *accounts {

	return &accounts{
		relay:  r,
		offers: offers,
		log:    log,
		nodes:  make(map[relay.ID]offer.PubKey),
	}
}

// offerEvent is called when something happened to an offer.
func (a *accounts) offerEvent(e offer.Event) {
	if !e.Offer.IsOwn() {
		return
	}

	// What happened has happened, whoever has given up waiting for it.
	a.update(
		context.Background(), relay.ID(e.Offer.SocketID), e.Offer.Peer,
	)
}

// charge counts a socket that is hosted for a node against it.
func (a *accounts) charge(socket *relay.Socket, node offer.PubKey) {
	a.mu.Lock()
	defer a.mu.Unlock()

	socket.Charge(node.String())
	a.nodes[socket.ID()] = node
}

// node returns the node that a socket is counted against, and false if there is
// none.
func (a *accounts) node(id relay.ID) (offer.PubKey, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	node, ok := a.nodes[id]

	return node, ok
}

// update is called when an offer of a socket to a node has begun or ended.
func (a *accounts) update(ctx context.Context, id relay.ID,
	peer offer.PubKey) {

	a.mu.Lock()
	defer a.mu.Unlock()

	// As long as it is counted against another node nothing changes.
	node, ok := a.nodes[id]
	if ok && node != peer {
		return
	}

	socket, ok := a.relay.Socket(id)
	if !ok {
		return
	}

	// OfSocket would pass on events, which come back to here.
	live, err := a.offers.Live(
		context.WithoutCancel(ctx), offer.ID(id),
	)
	switch {
	case err != nil:
		a.log.Warnf("Socket %v is counted as before: %v", id, err)

	case len(live) == 0:
		socket.Charge("")
		delete(a.nodes, id)

	default:
		// The oldest one comes first.
		first := live[0].Peer
		socket.Charge(first.String())
		a.nodes[id] = first
	}
}

// restore counts the sockets as they were counted before a restart. It has our
// offers that have not ended, by their socket.
func (a *accounts) restore(live map[offer.ID][]offer.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()

	for id, records := range live {
		socket, ok := a.relay.Socket(relay.ID(id))
		if !ok {
			continue
		}

		first := slices.MinFunc(records, func(x, y offer.Record) int {
			return x.CreatedAt.Compare(y.CreatedAt)
		})
		socket.Charge(first.Peer.String())
		a.nodes[relay.ID(id)] = first.Peer
	}
}

// forget drops what is known of a socket that was closed.
func (a *accounts) forget(id relay.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()

	delete(a.nodes, id)
}
