package offer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// The texts with which an offer is rejected for what it is.
const (
	textOwnSocket = "this node hosts the socket"
	textCircle    = "this node has passed the socket on"
	textMismatch  = "not what was asked for"
)

// reasonAnswer is why an offer is accepted that answers a request of ours.
const reasonAnswer = "answers our request"

// onOffer takes an offer in. The caller holds mu.
func (m *Manager) onOffer(ctx context.Context, in inbound,
	msg *wire.Offer) error {

	known, err := m.isKnown(ctx, in, msg.ID, false)
	if err != nil || known {
		return err
	}

	now := time.Now()
	expiresAt, code := judgeExpiry(msg.Expiry, now)
	if code != 0 {
		return m.turnDown(ctx, in, msg, refusedMalformed, code, "")
	}
	if text := m.judgeHost(in, msg); text != "" {
		return m.turnDown(
			ctx, in, msg, refusedPolicy, wire.CodePolicy, text,
		)
	}

	r := in.record(msg, now, expiresAt)
	if !msg.ReplyTo.IsZero() {
		return m.onAnswer(ctx, in, msg, r)
	}

	reason, accept := m.accepts(r.Peer)

	return m.admit(ctx, in, msg, r, acceptance{
		accept: accept,
		reason: reason,
	})
}

// admit records an offer of a peer and acknowledges it, or turns it down if
// there is no room. The caller holds mu.
func (m *Manager) admit(ctx context.Context, in inbound, msg *wire.Offer,
	r Record, a acceptance) error {

	err := m.makeRoom(ctx, r.Offer)
	switch {
	case errors.Is(err, ErrLimit):
		return m.turnDown(
			ctx, in, msg, refusedLimit, wire.CodeLimit, "",
		)

	case err != nil:
		return err
	}
	if err := m.takeIn(ctx, r, a); err != nil {
		return err
	}
	m.ack(in, msg.ID)

	return nil
}

// isKnown tells whether a message that opens an offer or request came before,
// under whatever id, and answers it then. The caller holds mu.
func (m *Manager) isKnown(ctx context.Context, in inbound, id ID,
	isRequest bool) (bool, error) {

	known, err := m.deps.Store.Find(ctx, id)
	if err != nil {
		return false, fmt.Errorf("find offer: %w", err)
	}

	// The offer had ended before it came.
	_, ended := m.early[in.about(id)]
	if len(known) == 0 && !ended {
		return false, nil
	}
	m.refused(in, refusedDuplicate, nil)

	// An id counts for whoever used it first. From anybody else it is no
	// accident, and gets no answer.
	if ended || slices.ContainsFunc(known, func(r Record) bool {
		return r.Peer == in.peer && r.Direction == Incoming &&
			r.IsRequest == isRequest
	}) {

		m.ack(in, id)
	}

	return true, nil
}

// judgeHost returns with which text an offer is rejected for the host that it
// names, or nothing. The caller holds mu.
func (m *Manager) judgeHost(in inbound, msg *wire.Offer) string {
	switch {
	case msg.Host.IsZero(), msg.Host == in.peer:
		return ""

	case msg.Host == m.cfg.Self:
		return textOwnSocket

	// What we pass on must not come back to us.
	case m.tally.passes(msg.Host, msg.SocketID):
		return textCircle
	}

	return ""
}

// accepts tells whether the policy accepts an offer of a peer, and why. The
// caller holds mu.
func (m *Manager) accepts(peer PubKey) (string, bool) {
	var facts Facts
	if m.cfg.Policy.AutoAccept == AutoAcceptChannel {
		facts.HasChannel = m.deps.Channels.HasChannel(peer)
	}

	return m.cfg.Policy.accepts(peer, facts)
}

// acceptance tells whether an offer is accepted as it comes.
type acceptance struct {
	accept bool
	reason string

	// request is the request that it answers, nil for none.
	request *Record
}

// takeIn records an offer of a peer. If it is accepted without anybody being
// asked, it is recorded as accepted, together with the message that says so and
// the request that it answers: a restart can come before all of that or after
// all of it. The caller holds mu, and has checked that there is room.
func (m *Manager) takeIn(ctx context.Context, r Record, a acceptance) error {
	event := Event{Kind: EventReceived, MessageID: r.ID, Reason: a.reason}

	var (
		accept *delivery
		with   Batch
	)
	if a.accept {
		c := change{trigger: triggerLocalAccept, decision: newID()}
		out, err := r.transition(c.trigger)
		if err != nil {
			return err
		}
		accept, err = newDelivery(r.Offer, out.send, c)
		if err != nil {
			return err
		}
		r = c.moved(r, out.next)
		r.Reason = a.reason
		with.Add = []Message{accept.Message}
	} else {
		event.Reason = ""
	}

	var met Record
	if a.request != nil {
		out, err := a.request.transition(triggerAnswer)
		if err != nil {
			return err
		}
		met = change{}.moved(*a.request, out.next)
		met.SocketID = r.SocketID
		with.Put = []Record{met}
		with.Silence = []Offer{met.Offer}
	}

	event.Offer = r.Offer
	with.Events = []Event{event}
	if err := m.create(ctx, r, with); err != nil {
		return err
	}
	if a.request != nil {
		m.outbox.silence(met.key())
		m.moved(ctx, *a.request, met)
	}
	if accept != nil {
		m.outbox.add(accept)
	}

	return nil
}

// turnDown refuses an offer. The request of ours that it answers is over then:
// there will not be another answer. The caller holds mu.
func (m *Manager) turnDown(ctx context.Context, in inbound, msg *wire.Offer,
	why refusal, code wire.RejectCode, text string) error {

	request, ok, err := m.answered(ctx, in, msg.ReplyTo)
	if err != nil {
		return err
	}
	if ok && !request.Ended() {
		reason := "the host's answer: " + cmp.Or(text, code.String())
		_, _, err := m.apply(ctx, request, change{
			trigger: triggerRefuse,
			reason:  wire.CleanText(reason),
		})
		if err != nil {
			return err
		}
	}

	m.refused(in, why, nil)
	m.rejectWith(in, msg.ID, code, text)

	return nil
}

// answered returns the request of ours that an answer of the peer names, and
// false if it names none. The caller holds mu.
func (m *Manager) answered(ctx context.Context, in inbound,
	id ID) (Record, bool, error) {

	r, ok, err := m.get(ctx, in.about(id), Outgoing)
	if err != nil || !ok || !r.IsRequest {
		return Record{}, false, err
	}
	r, err = m.expire(ctx, r)

	return r, err == nil, err
}

// onAnswer takes in an offer that answers a request of ours, and accepts it: it
// was asked for. One that answers nothing that this peer was asked, or is asked
// still, or something else, is turned down. The caller holds mu.
func (m *Manager) onAnswer(ctx context.Context, in inbound, msg *wire.Offer,
	r Record) error {

	request, ok, err := m.answered(ctx, in, r.ReplyTo)
	switch {
	case err != nil:
		return err

	case !ok:
		return m.turnDown(
			ctx, in, msg, refusedUnsolicited, wire.CodeUnknown, "",
		)

	case request.Ended():
		return m.turnDown(
			ctx, in, msg, refusedUnsolicited, wire.CodeExpired, "",
		)

	case !request.isMetBy(r.Offer):
		return m.turnDown(
			ctx, in, msg, refusedPolicy, wire.CodePolicy,
			textMismatch,
		)
	}

	return m.admit(ctx, in, msg, r, acceptance{
		accept:  true,
		reason:  reasonAnswer,
		request: &request,
	})
}

// isMetBy tells whether an offer of a peer is what a request asked it for.
func (o Offer) isMetBy(answer Offer) bool {
	return answer.Host == o.Host && answer.Protocol == o.Protocol &&
		answer.Legs == o.Legs && answer.Admission == o.Admission
}

// record returns the record of an offer that the peer makes.
func (in inbound) record(msg *wire.Offer, now, expiresAt time.Time) Record {
	host := msg.Host
	if host.IsZero() {
		host = in.peer
	}

	return Record{
		Offer: Offer{
			ID:        msg.ID,
			Peer:      in.peer,
			Direction: Incoming,
			State:     StatePending,
			Host:      host,
			Protocol:  msg.Protocol,
			Addrs:     msg.Addrs,
			Port1:     msg.Port1,
			Port2:     msg.Port2,
			Legs:      msg.Legs,
			Admission: msg.Admission,
			Label:     msg.Label,
			ReplyTo:   msg.ReplyTo,
			SocketID:  msg.SocketID,
			CreatedAt: now,
			ExpiresAt: expiresAt,
		},
		Tokens: msg.Tokens,
	}
}

// judgeExpiry returns when an offer or request ends here whose expiry is given
// in Unix seconds, or the code with which it is rejected. The sender's clock
// may differ from ours by Slack.
func judgeExpiry(expiry uint64, now time.Time) (time.Time, wire.RejectCode) {
	// In this order no number is too large for what is done with it.
	if expiry > uint64(now.Add(MaxLifetime+Slack).Unix()) {
		return time.Time{}, wire.CodeMalformed
	}

	expiresAt := time.Unix(int64(expiry), 0)
	switch {
	case expiresAt.After(now):
		return expiresAt, 0

	case expiresAt.Add(Slack).After(now):
		return expiresAt.Add(Slack), 0
	}

	return time.Time{}, wire.CodeExpired
}
