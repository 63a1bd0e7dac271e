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
	delay := retryMin
	for range attempts - 1 {
		delay *= 2
		if delay >= retryMax {
			return retryMax
		}
	}

	return delay
}

// delivery is a message that is sent until it is acknowledged.
type delivery struct {
	// offer is the offer that the message is about.
	offer offerKey

	// id is the id of the message.
	id      ID
	msgType wire.MsgType
	body    []byte

	// deadline is when the message is given up.
	deadline time.Time

	// attempts is how often the message was sent.
	attempts int

	// gone is set when the message is not to be sent any more.
	gone bool

	// first is the first attempt of an offer, until it was made or is not
	// needed any more. It is nil for any other message.
	first *attempt
}

// attempt is the first attempt to send an offer, which those wait for who want
// to send it.
type attempt struct {
	// kept tells that somebody has waited for long enough and has been told
	// of the offer, so that it must not be undone.
	kept bool

	// done is closed when the attempt was made, or was not needed.
	done chan struct{}

	// err is why there is no offer, or nil if there is. It does not change
	// once done is closed.
	err error
}

// newAttempt returns an attempt that is to be made.
func newAttempt() *attempt {
	return &attempt{done: make(chan struct{})}
}

// finish tells whoever waits why there is no offer, or nil if there is. It is
// called once.
func (a *attempt) finish(err error) {
	a.err = err
	close(a.done)
}

// timer returns the key of the timer that sends the message again.
func (d *delivery) timer() timerKey {
	return timerKey{
		kind:     timerResend,
		offerKey: offerKey{peer: d.offer.peer, id: d.id},
	}
}

// undoable tells whether an offer may be undone: its first attempt is not over,
// and nobody has been told of it.
func (d *delivery) undoable() bool {
	return d.first != nil && !d.first.kept
}

// attempted tells whoever waits for the first attempt that there is an offer.
func (d *delivery) attempted() {
	if d.first != nil {
		d.first.finish(nil)
		d.first = nil
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
		peers:   make(map[PubKey]*peerQueue),
	}
}

// add adds a message that is sent until it is acknowledged. If the offer has
// one of its type already, that one goes on and the new one is dropped.
func (b *outbox) add(d *delivery) {
	if _, ok := b.byOffer[d.offer][d.msgType]; ok {
		return
	}

	if b.byOffer[d.offer] == nil {
		b.byOffer[d.offer] = make(map[wire.MsgType]*delivery)
	}
	b.byOffer[d.offer][d.msgType] = d
	b.byID[d.id] = d
	b.enqueueDelivery(d)
}

// find returns the message with an id that was sent to a peer, nil if there is
// none.
func (b *outbox) find(peer PubKey, id ID) *delivery {
	d := b.byID[id]
	if d == nil || d.offer.peer != peer {
		return nil
	}

	return d
}

// firstAttempt returns the message that makes an offer and the first attempt to
// send it, both nil unless that is still to be made.
func (b *outbox) firstAttempt(key offerKey) (*delivery, *attempt) {
	d := b.byOffer[key][wire.TypeOffer]
	if d == nil || d.first == nil {
		return nil, nil
	}

	return d, d.first
}

// asked tells whether a message with this id is being sent to anybody.
func (b *outbox) asked(id ID) bool {
	return b.byID[id] != nil
}

// remove ends the sending of a message.
func (b *outbox) remove(d *delivery) {
	d.gone = true
	d.attempted()
	b.timers.remove(d.timer())

	delete(b.byID, d.id)
	delete(b.byOffer[d.offer], d.msgType)
	if len(b.byOffer[d.offer]) == 0 {
		delete(b.byOffer, d.offer)
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

// due is called when the timer of a message has fired.
func (b *outbox) due(key timerKey, now time.Time) {
	d := b.find(key.peer, key.id)
	if now.Before(d.deadline) {
		b.enqueueDelivery(d)
	} else {
		b.remove(d)
	}
}

// enqueueDelivery puts a delivery at the end of its peer's queue.
func (b *outbox) enqueueDelivery(d *delivery) {
	b.enqueue(job{
		peer:     d.offer.peer,
		msgType:  d.msgType,
		body:     d.body,
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

		// It waited for too long behind others.
		case !now.Before(d.deadline):
			b.remove(d)

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
