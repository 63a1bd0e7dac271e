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

	// live has the outgoing offers that have not ended, by their socket.
	live map[ID]map[offerKey]struct{}
}

// peerTally counts the records of one peer.
type peerTally struct {
	// pending is how many incoming offers are undecided.
	pending int

	// records is how many offers are remembered, by direction.
	records [2]int

	// idle has the offers that are remembered only because they were
	// accepted and never closed, by direction. They give way, the first one
	// first, when there is no room for others.
	idle [2][]ID

	// live is how many outgoing offers have not ended, by their socket.
	live map[ID]int
}

// newTally returns an empty tally.
func newTally() *tally {
	return &tally{
		peers: make(map[PubKey]*peerTally),
		live:  make(map[ID]map[offerKey]struct{}),
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
	t.addLive(o)
}

// change counts that a record was replaced.
func (t *tally) change(before, after Offer) {
	t.addPending(before, -1)
	t.addPending(after, 1)
	if after.State.Ended() {
		t.dropIdle(after)
		t.dropLive(before)
	}
}

// remove counts that a record was deleted.
func (t *tally) remove(o Offer) {
	p := t.peers[o.Peer]
	t.addPending(o, -1)
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

// addLive counts an offer among those of its socket, if it is one of ours that
// has not ended.
func (t *tally) addLive(o Offer) {
	if o.Direction != Outgoing || o.State.Ended() {
		return
	}

	if t.live[o.SocketID] == nil {
		t.live[o.SocketID] = make(map[offerKey]struct{})
	}
	t.live[o.SocketID][o.key()] = struct{}{}
	t.peers[o.Peer].live[o.SocketID]++
}

// dropLive undoes addLive. The offer is as it was before it ended.
func (t *tally) dropLive(o Offer) {
	if o.Direction != Outgoing || o.State.Ended() {
		return
	}

	delete(t.live[o.SocketID], o.key())
	if len(t.live[o.SocketID]) == 0 {
		delete(t.live, o.SocketID)
	}

	live := t.peers[o.Peer].live
	live[o.SocketID]--
	if live[o.SocketID] == 0 {
		delete(live, o.SocketID)
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
