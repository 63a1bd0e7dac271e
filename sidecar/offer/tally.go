package offer

import "slices"

// tally counts the records of offers, so that the limits can be judged without
// reading the store. It is not safe for concurrent use.
type tally struct {
	// pending is how many offers are undecided, in both directions.
	pending int

	// records is how many offers are remembered, by direction.
	records [2]int

	peers map[PubKey]*peerTally

	// live has the outgoing offers of our own sockets that have not ended,
	// by their socket.
	live map[ID]map[offerKey]struct{}

	// remote has the incoming offers that have not ended, by the socket
	// that they say they are of.
	remote map[ID]map[offerKey]struct{}

	// children has the offers that pass on a leg and have not ended, by the
	// one that they pass on.
	children map[offerKey]map[offerKey]struct{}

	// hosted is how many sockets are hosted on requests: there is a request
	// that is to be answered, or an offer that answers one and has not
	// ended.
	hosted int
}

// peerTally counts the records of one peer.
type peerTally struct {
	// requests is how many requests of the peer we are to answer.
	requests int

	// pending is how many incoming offers are undecided.
	pending int

	// records is how many offers are remembered, by direction.
	records [2]int

	// idle has the offers that are remembered only because they were
	// accepted and never closed, by direction. They give way, the first one
	// first, when there is no room for others.
	idle [2][]ID

	// live is how many offers of our own sockets have not ended, by their
	// socket.
	live map[ID]int
}

// newTally returns an empty tally.
func newTally() *tally {
	return &tally{
		peers:    make(map[PubKey]*peerTally),
		live:     make(map[ID]map[offerKey]struct{}),
		remote:   make(map[ID]map[offerKey]struct{}),
		children: make(map[offerKey]map[offerKey]struct{}),
	}
}

// peer returns the counts of a peer, zero if it has none.
func (t *tally) peer(peer PubKey) peerTally {
	if p := t.peers[peer]; p != nil {
		return *p
	}

	return peerTally{}
}

// add counts a record that was made.
func (t *tally) add(o Offer) {
	p := t.peers[o.Peer]
	if p == nil {
		p = &peerTally{live: make(map[ID]int)}
		t.peers[o.Peer] = p
	}
	t.records[o.Direction]++
	p.records[o.Direction]++
	t.addPending(o, 1)
	t.addHosted(o, 1)
	t.addLive(o)
}

// change counts that a record was replaced.
func (t *tally) change(before, after Offer) {
	t.addPending(before, -1)
	t.addPending(after, 1)
	t.addHosted(before, -1)
	t.addHosted(after, 1)
	if after.Ended() {
		t.dropIdle(after)
		t.dropLive(before)
	}
}

// remove counts that a record was deleted.
func (t *tally) remove(o Offer) {
	p := t.peers[o.Peer]
	t.addPending(o, -1)
	t.addHosted(o, -1)
	t.dropIdle(o)
	t.dropLive(o)
	t.records[o.Direction]--
	p.records[o.Direction]--
	if p.records == [2]int{} {
		delete(t.peers, o.Peer)
	}
}

// addPending adds to the counts of undecided offers, if the offer is one.
func (t *tally) addPending(o Offer, n int) {
	if !o.State.Pending() {
		return
	}
	t.pending += n
	if o.Direction == Incoming {
		t.peers[o.Peer].pending += n
	}
}

// addHosted adds to the counts of what is hosted on requests, if the offer is
// about such a socket.
func (t *tally) addHosted(o Offer, n int) {
	switch {
	case o.isAsked() && !o.Ended():
		t.peers[o.Peer].requests += n
		t.hosted += n

	case o.isHosted() && !o.Ended():
		t.hosted += n
	}
}

// setIdle notes that an accepted offer is past its time.
func (t *tally) setIdle(o Offer) {
	p := t.peers[o.Peer]
	p.idle[o.Direction] = append(p.idle[o.Direction], o.ID)
}

// dropIdle undoes setIdle, if it was called for the offer.
func (t *tally) dropIdle(o Offer) {
	p := t.peers[o.Peer]
	p.idle[o.Direction] = slices.DeleteFunc(
		p.idle[o.Direction], func(id ID) bool { return id == o.ID },
	)
}

// addLive counts an offer that has not ended where it is looked for: among
// those of its socket, and of the offer that it passes on.
func (t *tally) addLive(o Offer) {
	if o.Ended() || o.IsRequest {
		return
	}

	switch {
	case o.Direction == Incoming:
		insert(t.remote, o.SocketID, o.key())

	case !o.Parent.IsZero():
		insert(t.children, o.parentKey(), o.key())

	default:
		insert(t.live, o.SocketID, o.key())
		t.peers[o.Peer].live[o.SocketID]++
	}
}

// dropLive undoes addLive. The offer is as it was before it ended.
func (t *tally) dropLive(o Offer) {
	if o.Ended() || o.IsRequest {
		return
	}

	switch {
	case o.Direction == Incoming:
		drop(t.remote, o.SocketID, o.key())

	case !o.Parent.IsZero():
		drop(t.children, o.parentKey(), o.key())

	default:
		drop(t.live, o.SocketID, o.key())

		live := t.peers[o.Peer].live
		live[o.SocketID]--
		if live[o.SocketID] == 0 {
			delete(live, o.SocketID)
		}
	}
}

// passes tells whether an offer that has not ended passes on a leg of a socket
// of a host. There are few of them.
func (t *tally) passes(host PubKey, socketID ID) bool {
	for parent := range t.children {
		if parent.peer != host {
			continue
		}
		if _, ok := t.remote[socketID][parent]; ok {
			return true
		}
	}

	return false
}

// insert adds a key to one of many sets.
func insert[K comparable](sets map[K]map[offerKey]struct{}, of K,
	key offerKey) {

	if sets[of] == nil {
		sets[of] = make(map[offerKey]struct{})
	}
	sets[of][key] = struct{}{}
}

// drop removes a key from one of many sets.
func drop[K comparable](sets map[K]map[offerKey]struct{}, of K, key offerKey) {
	delete(sets[of], key)
	if len(sets[of]) == 0 {
		delete(sets, of)
	}
}

// firstIdle returns the first of a peer's offers that may give way.
func (t *tally) firstIdle(peer PubKey, dir Direction) (ID, bool) {
	p := t.peers[peer]
	if p == nil || len(p.idle[dir]) == 0 {
		return ID{}, false
	}

	return p.idle[dir][0], true
}
