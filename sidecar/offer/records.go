package offer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// change is what happens to an offer.
type change struct {
	trigger trigger

	// cause is the id of the message that caused the change, or zero.
	cause ID

	// decision is the id of the message that decides about the offer, ours
	// or the peer's, or zero.
	decision ID

	// reason is why, or empty.
	reason string

	// code is that of a reject that is sent, if it is not a person's.
	code wire.RejectCode
}

// apply changes an offer: the record first, and then what follows from it. It
// returns the offer as it is now. The caller holds mu.
func (m *Manager) apply(ctx context.Context, r Record,
	c change) (Record, outcome, error) {

	out, err := r.transition(c.trigger)
	if err != nil {
		return r, out, err
	}

	var send *delivery
	if out.send != 0 {
		send, err = newDelivery(r.Offer, out.send, c)
		if err != nil {
			return r, out, err
		}
	}

	// A message of the same type that is being sent goes on.
	if send != nil && !out.silence && m.outbox.sends(r.key(), send.Type) {
		send = nil
	}

	before := r
	b := Batch{}
	if out.verdict == verdictMove {
		r = c.moved(r, out.next)
		b.Put = []Record{r}
	}
	if out.silence && (len(b.Put) > 0 || m.outbox.sendsAny(r.key())) {
		b.Silence = []Offer{r.Offer}
	}
	if send != nil {
		b.Add = []Message{send.Message}
	}
	for _, kind := range out.notify {
		b.Events = append(b.Events, Event{
			Kind:      kind,
			MessageID: c.cause,
			Offer:     r.Offer,
			Reason:    c.reason,
		})
	}
	if err := m.write(ctx, b); err != nil {
		return before, out, err
	}

	if out.silence {
		m.outbox.silence(r.key())
	}
	if send != nil {
		m.outbox.add(send)
	}
	if out.verdict == verdictMove {
		m.moved(ctx, before, r)
	}

	return r, out, nil
}

// moved has done what follows from another state of an offer, which is written.
// The caller holds mu.
func (m *Manager) moved(ctx context.Context, before, after Record) {
	m.tally.change(before.Offer, after.Offer)
	if !after.Ended() {
		return
	}
	m.setTimer(after.key(), after.forgetAt())
	m.revoke(before)
	m.follow(ctx, after.Offer)
}

// moved returns a record as it is after the change, in another state.
func (c change) moved(r Record, to State) Record {
	r.State = to
	if r.Ended() {
		r.EndedAt = time.Now()
		r.Reason = c.reason
		r.Tokens = Tokens{}
	}
	if r.DecisionID.IsZero() {
		r.DecisionID = c.decision
	}

	return r
}

// write writes a batch, and has its events passed to Notify if that succeeds.
// The caller holds mu.
func (m *Manager) write(ctx context.Context, b Batch) error {
	if b.empty() {
		return nil
	}
	if err := m.deps.Store.Write(ctx, b); err != nil {
		return fmt.Errorf("write offer: %w", err)
	}
	m.events = append(m.events, b.Events...)

	return nil
}

// newDelivery returns the message about an offer that a change calls for. An
// accept or reject has the id of the decision.
func newDelivery(o Offer, msgType wire.MsgType, c change) (*delivery, error) {
	d := &delivery{Message: Message{
		Peer:    o.Peer,
		OfferID: o.ID,
		ID:      c.decision,
		Type:    msgType,

		// The other node may learn of it as long as it remembers the
		// offer.
		Deadline: later(o.ExpiresAt, time.Now()).Add(Slack),
	}}

	var msg wire.Message
	switch msgType {
	case wire.TypeAccept:
		msg = &wire.Accept{ID: d.ID, ReplyTo: o.ID}

	case wire.TypeReject:
		msg = &wire.Reject{
			ID:      d.ID,
			ReplyTo: o.ID,
			Code:    cmp.Or(c.code, wire.CodeDeclined),
			Text:    c.reason,
		}

	default:
		d.ID = newID()
		msg = &wire.Close{ID: d.ID, ReplyTo: o.ID, Text: c.reason}
	}

	var err error
	d.Body, err = wire.Encode(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	return d, nil
}

// newOpening returns the message that makes an offer or request. The error
// wraps ErrInvalid.
func newOpening(r Record) (*delivery, error) {
	msg := r.message()
	body, err := wire.Encode(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	return &delivery{Message: Message{
		Peer:     r.Peer,
		OfferID:  r.ID,
		ID:       r.ID,
		Type:     msg.Type(),
		Body:     body,
		Deadline: r.ExpiresAt,
	}}, nil
}

// create makes the record of an offer, and writes what comes with it. The
// caller holds mu, and has checked that there is room.
func (m *Manager) create(ctx context.Context, r Record, with Batch) error {
	with.Put = append(with.Put, r)
	if err := m.write(ctx, with); err != nil {
		return err
	}
	m.tally.add(r.Offer)
	m.setTimer(r.key(), r.ExpiresAt)

	return nil
}

// forget gives up the record of an offer, and ends whatever is done about it.
// The caller holds mu.
func (m *Manager) forget(ctx context.Context, r Record) error {
	if err := m.write(ctx, Batch{Forget: []Offer{r.Offer}}); err != nil {
		return err
	}
	m.gone(r)

	// Of one that has ended that was done when it did.
	if !r.Ended() {
		m.follow(ctx, r.Offer)
	}

	return nil
}

// drop deletes the record of an offer that is to be as if it had never been
// made, and ends whatever is done about it. The caller holds mu.
func (m *Manager) drop(ctx context.Context, r Record) error {
	if err := m.write(ctx, Batch{Drop: []Offer{r.Offer}}); err != nil {
		return err
	}
	m.gone(r)

	return nil
}

// gone ends whatever is done about an offer whose record is gone. The caller
// holds mu.
func (m *Manager) gone(r Record) {
	m.tally.remove(r.Offer)
	m.timers.remove(timerKey{kind: timerOffer, offerKey: r.key()})
	m.outbox.silence(r.key())
	m.revoke(r)
}

// delivered ends the sending of a message, unless that was done. The caller
// holds mu.
func (m *Manager) delivered(ctx context.Context, d *delivery) error {
	if d.gone {
		return nil
	}
	err := m.write(ctx, Batch{Remove: []Message{d.Message}})
	if err != nil {
		return err
	}
	m.outbox.remove(d)

	return nil
}

// resendDue sends a message again, or gives it up, when its timer has fired.
// The caller holds mu.
func (m *Manager) resendDue(ctx context.Context, key offerKey,
	now time.Time) error {

	d := m.outbox.find(key.peer, key.id)
	if now.Before(d.Deadline) {
		m.outbox.enqueueDelivery(d)

		return nil
	}

	return m.delivered(ctx, d)
}

// get returns the record of an offer, and false if there is none in this
// direction. The caller holds mu.
func (m *Manager) get(ctx context.Context, key offerKey,
	dir Direction) (Record, bool, error) {

	r, err := m.deps.Store.Get(ctx, key.peer, key.id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Record{}, false, nil

	case err != nil:
		return Record{}, false, fmt.Errorf("get offer: %w", err)
	}

	return r, r.Direction == dir, nil
}

// setTimer sets the time at which offerDue is called. The caller holds mu.
func (m *Manager) setTimer(key offerKey, at time.Time) {
	m.timers.set(timerKey{kind: timerOffer, offerKey: key}, at)
}

// offerDue does what is due for an offer when its timer has fired: it ends one
// that nobody used, and forgets one that has ended. The caller holds mu.
func (m *Manager) offerDue(ctx context.Context, key offerKey) error {
	r, err := m.deps.Store.Get(ctx, key.peer, key.id)
	switch {
	// Its socket was to be ended once more when it was forgotten.
	case errors.Is(err, ErrNotFound):
		return nil

	case err != nil:
		return fmt.Errorf("get offer: %w", err)
	}

	now := time.Now()
	switch {
	// What follows from its end may be left to do.
	case r.Ended() && now.Before(r.forgetAt()):
		m.setTimer(key, r.forgetAt())
		m.follow(ctx, r.Offer)

		return nil

	case r.Ended():
		return m.forget(ctx, r)

	// Its socket could not be opened for want of the store.
	case r.isAsked() && now.Before(r.ExpiresAt):
		m.setTimer(key, r.ExpiresAt)
		m.hosting.add(hostJob{key: key})

		return nil

	// An accepted offer is kept until it is closed. Once nothing late can
	// hurt it gives way if there is no room for others.
	case r.State == StateAccepted && now.Before(r.ExpiresAt.Add(Slack)):
		m.setTimer(key, r.ExpiresAt.Add(Slack))

		return nil

	case r.State == StateAccepted:
		m.tally.setIdle(r.Offer)

		return nil
	}
	_, _, err = m.apply(ctx, r, change{trigger: triggerExpire})

	return err
}

// expire ends a pending offer whose time has run out, if its timer did not do
// so yet. It returns the offer as it is now. The caller holds mu.
func (m *Manager) expire(ctx context.Context, r Record) (Record, error) {
	if !r.State.Pending() || time.Now().Before(r.ExpiresAt) {
		return r, nil
	}
	r, _, err := m.apply(ctx, r, change{trigger: triggerExpire})

	return r, err
}

// sent notes that an offer was sent. The caller holds mu.
func (m *Manager) sent(ctx context.Context, key offerKey) error {
	r, ok, err := m.get(ctx, key, Outgoing)
	if err != nil || !ok {
		return err
	}
	_, _, err = m.apply(ctx, r, change{trigger: triggerSent})

	return err
}

// makeRoom returns an error that wraps ErrLimit unless another offer can be
// remembered. The caller holds mu.
func (m *Manager) makeRoom(ctx context.Context, o Offer) error {
	if err := m.checkLimits(o); err != nil {
		return err
	}

	limits, counts, dir := m.cfg.Limits, m.tally.peer(o.Peer), o.Direction
	full := m.tally.records[dir] >= limits.Records
	if dir == Incoming && counts.records[dir] >= limits.RecordsPerPeer {
		full = true
	}
	if !full {
		return nil
	}

	id, ok := m.tally.firstIdle(o.Peer, dir)
	if !ok {
		return fmt.Errorf("%w: no more can be remembered", ErrLimit)
	}
	r, err := m.deps.Store.Get(ctx, o.Peer, id)
	if err != nil {
		return fmt.Errorf("get offer: %w", err)
	}

	return m.forget(ctx, r)
}

// checkLimits returns an error that wraps ErrLimit if there are too many offers
// that have not ended to make another one. The caller holds mu.
func (m *Manager) checkLimits(o Offer) error {
	limits, counts := m.cfg.Limits, m.tally.peer(o.Peer)
	_, known := counts.live[o.SocketID]
	sockets := len(counts.live) + counts.requests
	switch {
	case m.tally.pending >= limits.Pending:
		return fmt.Errorf("%w: %d are pending", ErrLimit,
			m.tally.pending)

	case o.Direction == Incoming &&
		counts.pending >= limits.PendingPerPeer:

		return fmt.Errorf("%w: %d of this peer are pending", ErrLimit,
			counts.pending)

	// A peer may have any number of offers of the same socket. One that is
	// hosted for it was counted when it was asked for.
	case o.IsOwn() && o.ReplyTo.IsZero() && !known &&
		sockets >= m.requests.MaxPerNode:

		return fmt.Errorf("%w: this peer has %d sockets of ours "+
			"already, at most %d are allowed", ErrLimit, sockets,
			m.requests.MaxPerNode)
	}

	return nil
}
