package offer

import (
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

const (
	// maxInFlight is how many sends there are at a time, one to a peer.
	maxInFlight = 16

	// maxReplies is how many replies may wait to be sent, and
	// maxRepliesPerPeer how many to one peer. Only these are counted: what
	// is sent until it is acknowledged belongs to an offer.
	maxReplies        = 1024
	maxRepliesPerPeer = 64

	// retryMin and retryMax are the shortest and the longest time before a
	// message is sent again. It doubles with every time.
	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second
)

// retryDelay returns how long to wait after a message was sent some times.
func retryDelay(attempts int) time.Duration {
	return backoff(attempts, retryMin, retryMax)
}

// backoff returns how long to wait after some attempts: the shortest time after
// the first one, twice as long after every other, up to the longest.
func backoff(attempts int, shortest, longest time.Duration) time.Duration {
	delay := shortest
	for range attempts - 1 {
		delay *= 2
		if delay >= longest {
			return longest
		}
	}

	return delay
}

// delivery is a message that is sent until it is acknowledged, on its way.
type delivery struct {
	Message

	// attempts is how often the message was sent since we started.
	attempts int

	// gone is set when the message is not to be sent any more.
	gone bool

	// offline tells that the peer was not connected when it was tried last.
	offline bool
}

// timer returns the key of the timer that sends the message again.
func (d *delivery) timer() timerKey {
	return timerKey{
		kind:     timerResend,
		offerKey: offerKey{peer: d.Peer, id: d.ID},
	}
}

// job is a message whose turn is to come.
type job struct {
	peer    PubKey
	msgType wire.MsgType
	body    []byte

	// delivery is nil for a reply, which is sent once.
	delivery *delivery
}

// peerQueue is what is to be sent to one peer, in order.
type peerQueue struct {
	jobs []job

	// replies is how many of the jobs are replies.
	replies int

	// busy tells that a send is in flight.
	busy bool
}

// outbox has the messages that are to be sent: those that are sent until they
// are acknowledged, and a queue for every peer. It does no I/O and is not safe
// for concurrent use.
type outbox struct {
	timers *timers

	// byID has the deliveries by the id of their message.
	byID map[ID]*delivery

	// byOffer has the deliveries of an offer by type. There is one of each
	// type at most.
	byOffer map[offerKey]map[wire.MsgType]*delivery

	// byPeer has the deliveries by their peer, and then by the id of their
	// message.
	byPeer map[PubKey]map[ID]*delivery

	peers map[PubKey]*peerQueue

	// ready has the peers that have a job and no send in flight. The next
	// one is first.
	ready []PubKey

	inFlight int
	replies  int
}

// newOutbox returns an empty outbox that keeps its timers among others.
func newOutbox(timers *timers) *outbox {
	return &outbox{
		timers:  timers,
		byID:    make(map[ID]*delivery),
		byOffer: make(map[offerKey]map[wire.MsgType]*delivery),
		byPeer:  make(map[PubKey]map[ID]*delivery),
		peers:   make(map[PubKey]*peerQueue),
	}
}

// add adds a message that is sent until it is acknowledged. The offer has none
// of its type yet.
func (b *outbox) add(d *delivery) {
	b.register(d)
	b.enqueueDelivery(d)
}

// restore adds a message that was to be delivered when we were stopped. It is
// due at once.
func (b *outbox) restore(d *delivery, now time.Time) {
	b.register(d)
	b.timers.set(d.timer(), now)
}

// register makes a message known that is sent until it is acknowledged.
func (b *outbox) register(d *delivery) {
	key := d.key()
	if b.byOffer[key] == nil {
		b.byOffer[key] = make(map[wire.MsgType]*delivery)
	}
	if b.byPeer[d.Peer] == nil {
		b.byPeer[d.Peer] = make(map[ID]*delivery)
	}
	b.byOffer[key][d.Type] = d
	b.byPeer[d.Peer][d.ID] = d
	b.byID[d.ID] = d
}

// sendsAny tells whether any message is being sent about an offer.
func (b *outbox) sendsAny(key offerKey) bool {
	return len(b.byOffer[key]) > 0
}

// sends tells whether a message of a type is being sent about an offer.
func (b *outbox) sends(key offerKey, msgType wire.MsgType) bool {
	return b.byOffer[key][msgType] != nil
}

// find returns the message with an id that was sent to a peer, nil if there is
// none.
func (b *outbox) find(peer PubKey, id ID) *delivery {
	d := b.byID[id]
	if d == nil || d.Peer != peer {
		return nil
	}

	return d
}

// asked tells whether a message with this id is being sent to anybody.
func (b *outbox) asked(id ID) bool {
	return b.byID[id] != nil
}

// remove ends the sending of a message.
func (b *outbox) remove(d *delivery) {
	d.gone = true
	b.timers.remove(d.timer())

	key := d.key()
	delete(b.byID, d.ID)
	delete(b.byOffer[key], d.Type)
	if len(b.byOffer[key]) == 0 {
		delete(b.byOffer, key)
	}
	delete(b.byPeer[d.Peer], d.ID)
	if len(b.byPeer[d.Peer]) == 0 {
		delete(b.byPeer, d.Peer)
	}
}

// waits tells whether any message is to be delivered to a peer.
func (b *outbox) waits(peer PubKey) bool {
	return len(b.byPeer[peer]) > 0
}

// online has everything that is to be delivered to a peer sent at once. What is
// on its way anyway is left alone.
func (b *outbox) online(peer PubKey, now time.Time) {
	for _, d := range b.byPeer[peer] {
		d.attempts = 0
		d.offline = false
		b.timers.advance(d.timer(), now)
	}
}

// silence ends the sending of whatever is about an offer.
func (b *outbox) silence(key offerKey) {
	for _, d := range b.byOffer[key] {
		b.remove(d)
	}
}

// reply adds a message that is sent once. It returns false if too many wait.
func (b *outbox) reply(peer PubKey, msgType wire.MsgType, body []byte) bool {
	if b.replies >= maxReplies {
		return false
	}
	if q := b.peers[peer]; q != nil && q.replies >= maxRepliesPerPeer {
		return false
	}
	b.enqueue(job{peer: peer, msgType: msgType, body: body})

	return true
}

// retry plans the next attempt of a message that was sent.
func (b *outbox) retry(d *delivery, now time.Time) {
	b.timers.set(d.timer(), now.Add(retryDelay(d.attempts)))
}

// enqueueDelivery puts a delivery at the end of its peer's queue.
func (b *outbox) enqueueDelivery(d *delivery) {
	b.enqueue(job{
		peer:     d.Peer,
		msgType:  d.Type,
		body:     d.Body,
		delivery: d,
	})
}

// enqueue puts a job at the end of its peer's queue.
func (b *outbox) enqueue(j job) {
	q := b.peers[j.peer]
	if q == nil {
		q = &peerQueue{}
		b.peers[j.peer] = q
	}
	if len(q.jobs) == 0 && !q.busy {
		b.ready = append(b.ready, j.peer)
	}

	q.jobs = append(q.jobs, j)
	if j.delivery == nil {
		q.replies++
		b.replies++
	}
}

// dequeue takes the next job from the queue of a peer.
func (b *outbox) dequeue(q *peerQueue) job {
	j := q.jobs[0]
	q.jobs[0] = job{}
	q.jobs = q.jobs[1:]

	if j.delivery == nil {
		q.replies--
		b.replies--
	}

	return j
}

// take returns the jobs that are to be sent now. done must be called for each
// when it was.
func (b *outbox) take(now time.Time) []job {
	var jobs []job
	for len(b.ready) > 0 && b.inFlight < maxInFlight {
		peer := b.ready[0]
		b.ready = b.ready[1:]

		j, ok := b.takeFrom(peer, now)
		if !ok {
			delete(b.peers, peer)

			continue
		}
		b.peers[peer].busy = true
		b.inFlight++
		jobs = append(jobs, j)
	}

	return jobs
}

// takeFrom returns the next job of a peer, and false if none is left.
func (b *outbox) takeFrom(peer PubKey, now time.Time) (job, bool) {
	q := b.peers[peer]
	for len(q.jobs) > 0 {
		j := b.dequeue(q)

		d := j.delivery
		switch {
		case d == nil:
			return j, true

		case d.gone:

		// It waited for too long behind others. Its timer gives it up.
		case !now.Before(d.Deadline):
			b.timers.set(d.timer(), now)

		default:
			d.attempts++

			return j, true
		}
	}

	return job{}, false
}

// done ends a send to a peer.
func (b *outbox) done(peer PubKey) {
	b.inFlight--

	q := b.peers[peer]
	q.busy = false
	if len(q.jobs) > 0 {
		b.ready = append(b.ready, peer)
	} else {
		delete(b.peers, peer)
	}
}
