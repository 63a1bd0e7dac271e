package offer

import (
	"context"
	"time"
)

const (
	// maxConnects is how many attempts to have a peer connected there are
	// at a time, one for a peer.
	maxConnects = 4

	// connectTimeout is how long one of them may take.
	connectTimeout = time.Minute

	// connectGap is the time between the starts of two of them, whichever
	// peers they are for.
	connectGap = 250 * time.Millisecond

	// connectMin and connectMax are the shortest and the longest time
	// between the starts of two of them for the same peer. It doubles with
	// every one, until a message reaches the peer.
	connectMin = time.Minute
	connectMax = 10 * time.Minute
)

// Connector has lnd connect to nodes.
type Connector interface {
	// Connect looks up how a node is reached and connects to it, once. It
	// returns nil when the node is connected, or about to be. It is called
	// by several goroutines, for each peer by one at a time.
	Connect(ctx context.Context, peer PubKey) error
}

// connectDelay returns how long after the start of an attempt to connect to a
// peer the next one may start, if the peer could not be reached some times.
func connectDelay(attempts int) time.Duration {
	return backoff(attempts, connectMin, connectMax)
}

// dial is what is known of the attempts to have a peer connected.
type dial struct {
	// attempts is how many there were since a message reached the peer.
	attempts int

	// next is when there may be another one.
	next time.Time

	// wanted tells that a message was not sent since the last one.
	wanted bool

	// busy tells that one is under way, or waits for its turn.
	busy bool
}

// dials are the attempts to have peers connected for which something waits. A
// peer is in them until it may be tried again and nothing waits for it, so that
// there are as many as there are peers with messages, and a few of those that
// had some. It does no I/O and is not safe for concurrent use.
type dials struct {
	timers *timers

	peers map[PubKey]*dial

	// ready has the peers whose turn is to come. The next one is first.
	ready []PubKey

	inFlight int

	// next is when the next attempt may start, for any peer.
	next time.Time
}

// newDials returns dials that keep their timers among others.
func newDials(timers *timers) *dials {
	return &dials{timers: timers, peers: make(map[PubKey]*dial)}
}

// timer returns the key of the timer at which a peer may be tried again.
func (d *dials) timer(peer PubKey) timerKey {
	return timerKey{kind: timerConnect, offerKey: offerKey{peer: peer}}
}

// want notes that a peer was not connected when a message was to be sent.
func (d *dials) want(peer PubKey, now time.Time) {
	p := d.peers[peer]
	if p == nil {
		p = &dial{}
		d.peers[peer] = p
	}
	p.wanted = true

	// Otherwise it has a timer, or will have.
	if !p.busy && !now.Before(p.next) {
		d.timers.remove(d.timer(peer))
		d.enqueue(peer, p)
	}
}

// reached notes that a message was handed to a peer's connection.
func (d *dials) reached(peer PubKey) {
	if p := d.peers[peer]; p != nil {
		p.attempts = 0
		p.wanted = false
	}
}

// due is called when a peer may be tried again, and tells whether something
// waits for it.
func (d *dials) due(peer PubKey, waits bool) {
	// The timer may be the one of the gap, which is no peer's.
	p := d.peers[peer]
	if p == nil {
		return
	}

	// If the peer was reached it is tried at once when it is not any more.
	if !waits || !p.wanted {
		delete(d.peers, peer)

		return
	}
	d.enqueue(peer, p)
}

// enqueue puts a peer at the end of those whose turn is to come.
func (d *dials) enqueue(peer PubKey, p *dial) {
	p.busy = true
	d.ready = append(d.ready, peer)
}

// take returns the peers to connect to now. done must be called for each when
// that was tried.
func (d *dials) take(now time.Time) []PubKey {
	var peers []PubKey
	for len(d.ready) > 0 && d.inFlight < maxConnects {
		if now.Before(d.next) {
			// No peer has this key.
			d.timers.set(d.timer(PubKey{}), d.next)

			break
		}
		peer := d.ready[0]
		d.ready = d.ready[1:]

		p := d.peers[peer]
		p.attempts++
		p.wanted = false
		p.next = now.Add(connectDelay(p.attempts))
		d.next = now.Add(connectGap)
		d.inFlight++
		peers = append(peers, peer)
	}

	return peers
}

// done ends an attempt to connect to a peer. It is tried again if it has to be.
func (d *dials) done(peer PubKey, err error) {
	d.inFlight--

	p := d.peers[peer]
	p.busy = false
	if err != nil {
		p.wanted = true
	}
	d.timers.set(d.timer(peer), p.next)
}

// connect has a peer connected, and sends what waits for it.
func (m *Manager) connect(ctx context.Context, peer PubKey) {
	connectCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	err := m.deps.Connector.Connect(connectCtx, peer)
	cancel()

	if err != nil {
		m.deps.Logger.Debug("Peer not connected", "peer", peer, "err",
			err)
	}

	m.mu.Lock()
	m.dials.done(peer, err)
	m.mu.Unlock()

	if err == nil {
		m.PeerOnline(peer)

		return
	}
	m.wakeUp()
}

// PeerOnline tells that a peer is connected. What waits for it is sent at once.
func (m *Manager) PeerOnline(peer PubKey) {
	m.mu.Lock()
	m.outbox.online(peer, time.Now())
	m.mu.Unlock()

	m.wakeUp()
}

// wakeUp has Run look for what is to be done.
func (m *Manager) wakeUp() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
