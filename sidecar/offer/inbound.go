package offer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// handle reads a message of a peer and acts on it.
func (m *Manager) handle(ctx context.Context, in inbound) {
	err := m.locked(func() error {
		msg, err := wire.Decode(in.msgType, in.body)
		switch msg := msg.(type) {
		case *wire.Offer:
			return m.onOffer(ctx, in, msg)

		case *wire.Request:
			return m.onRequest(ctx, in, msg)

		case *wire.Accept:
			return m.onAccept(ctx, in, msg)

		case *wire.Reject:
			return m.onReject(ctx, in, msg)

		case *wire.Close:
			return m.onClose(ctx, in, msg)

		case *wire.Ack:
			return m.onAck(ctx, in, msg)
		}
		m.onUnreadable(in, err)

		return nil
	})

	// The message was not acknowledged. Its sender sends it again.
	if err != nil {
		m.storeFailed(err)
	}
}

// onUnreadable answers a message that cannot be decoded. The caller holds mu.
func (m *Manager) onUnreadable(in inbound, err error) {
	why, code := refusedMalformed, wire.CodeMalformed
	switch {
	case errors.Is(err, wire.ErrVersion):
		why, code = refusedVersion, wire.CodeVersion

	case errors.Is(err, wire.ErrUnsupported):
		why, code = refusedUnsupported, wire.CodeUnsupported
	}
	m.refused(in, why, err)

	// Without an id there is nothing to answer.
	header, err := wire.DecodeHeader(in.body)
	if err != nil {
		return
	}

	// If an answer were answered with a reject, two nodes could go on for
	// ever.
	switch in.msgType {
	case wire.TypeAck:

	case wire.TypeReject:
		m.ack(in, header.ID)

	default:
		m.reject(in, header.ID, code)
	}
}

// onAccept notes that the far end accepts an offer of ours. The caller holds
// mu.
func (m *Manager) onAccept(ctx context.Context, in inbound,
	msg *wire.Accept) error {

	r, ok, err := m.get(ctx, in.about(msg.ReplyTo), Outgoing)
	if err != nil {
		return err
	}
	if !ok || r.IsRequest {
		m.refused(in, refusedUnsolicited, nil)
		m.reject(in, msg.ID, wire.CodeUnknown)

		return nil
	}

	// What was acknowledged once is acknowledged again, even if the offer
	// has ended since.
	if r.DecisionID == msg.ID {
		m.refused(in, refusedDuplicate, nil)
		m.ack(in, msg.ID)

		return nil
	}

	if r, err = m.expire(ctx, r); err != nil {
		return err
	}
	r, out, err := m.apply(ctx, r, change{
		trigger:  triggerAccept,
		cause:    msg.ID,
		decision: msg.ID,
	})
	if err != nil {
		return err
	}

	switch {
	case out.verdict == verdictLate:
		m.refused(in, refusedUnsolicited, nil)
		m.reject(in, msg.ID, wire.CodeExpired)

		return nil

	// The offer was used before it was accepted.
	case out.verdict == verdictStay && r.DecisionID.IsZero():
		r.DecisionID = msg.ID
		if err := m.write(ctx, Batch{Put: []Record{r}}); err != nil {
			return err
		}

	case out.verdict == verdictStay:
		m.refused(in, refusedDuplicate, nil)
	}
	m.ack(in, msg.ID)

	return nil
}

// onReject notes that a message of ours was turned down. The caller holds mu.
func (m *Manager) onReject(ctx context.Context, in inbound,
	msg *wire.Reject) error {

	// Whatever was rejected, an answer to it would not end.
	ok, err := m.offerRejected(ctx, in, msg)
	if err == nil && !ok {
		ok, err = m.answerRejected(ctx, in, msg)
	}
	if err != nil {
		return err
	}
	if !ok {
		m.refused(in, refusedUnsolicited, nil)
	}
	m.ack(in, msg.ID)

	return nil
}

// offerRejected notes that an offer or request of ours was turned down. It
// returns false if the message is not about one. The caller holds mu.
func (m *Manager) offerRejected(ctx context.Context, in inbound,
	msg *wire.Reject) (bool, error) {

	r, ok, err := m.get(ctx, in.about(msg.ReplyTo), Outgoing)
	if err != nil || !ok {
		return false, err
	}

	c := change{
		trigger:  triggerDecline,
		cause:    msg.ID,
		decision: msg.ID,
		reason:   msg.Text,
	}
	if msg.Code != wire.CodeDeclined {
		c.trigger = triggerRefuse
		c.reason = refusalReason(msg)
	}
	_, out, err := m.apply(ctx, r, c)
	if err != nil {
		return false, err
	}
	if out.verdict == verdictStay {
		m.refused(in, refusedDuplicate, nil)
	}

	return true, nil
}

// answerRejected notes that an accept, reject or close of ours was turned down.
// It returns false if the message is not about one that we still send. The
// caller holds mu.
func (m *Manager) answerRejected(ctx context.Context, in inbound,
	msg *wire.Reject) (bool, error) {

	d := m.outbox.find(in.peer, msg.ReplyTo)
	if d == nil {
		return false, nil
	}

	over := msg.Code == wire.CodeUnknown || msg.Code == wire.CodeExpired
	if d.Type == wire.TypeAccept && over {
		r, ok, err := m.get(ctx, d.key(), Incoming)
		if err != nil {
			return false, err
		}
		if ok {
			_, _, err = m.apply(ctx, r, change{
				trigger: triggerRefuse,
				cause:   msg.ID,
				reason:  refusalReason(msg),
			})
			if err != nil {
				return false, err
			}
		}
	}

	return true, m.delivered(ctx, d)
}

// refusalReason returns the reason of a reject that is not a person's.
func refusalReason(msg *wire.Reject) string {
	switch {
	case msg.Text == "":
		return msg.Code.String()

	// The text says all.
	case msg.Code == wire.CodePolicy:
		return msg.Text
	}

	return msg.Code.String() + ": " + msg.Text
}

// onClose notes that the other node ends an offer. The caller holds mu.
func (m *Manager) onClose(ctx context.Context, in inbound,
	msg *wire.Close) error {

	key := in.about(msg.ReplyTo)
	r, err := m.deps.Store.Get(ctx, key.peer, key.id)
	switch {
	case errors.Is(err, ErrNotFound):
		m.refused(in, refusedUnsolicited, nil)
		m.rememberEarly(key)
		m.ack(in, msg.ID)

		return nil

	case err != nil:
		return fmt.Errorf("get offer: %w", err)
	}

	_, out, err := m.apply(ctx, r, change{
		trigger: triggerClose,
		cause:   msg.ID,
		reason:  msg.Text,
	})
	if err != nil {
		return err
	}
	if out.verdict == verdictStay {
		m.refused(in, refusedDuplicate, nil)
	}
	m.ack(in, msg.ID)

	return nil
}

// rememberEarly remembers a close of an offer that is not known, in case it has
// overtaken the offer. There is room for as many as there may be pending
// offers. The caller holds mu.
func (m *Manager) rememberEarly(key offerKey) {
	if len(m.early) >= m.cfg.Limits.Pending {
		return
	}

	var ofPeer int
	for other := range m.early {
		if other.peer == key.peer {
			ofPeer++
		}
	}
	if ofPeer >= m.cfg.Limits.PendingPerPeer {
		return
	}

	m.early[key] = struct{}{}
	m.timers.set(
		timerKey{kind: timerEarly, offerKey: key},
		time.Now().Add(Slack),
	)
}

// onAck notes that a message of ours arrived. The caller holds mu.
func (m *Manager) onAck(ctx context.Context, in inbound,
	msg *wire.Ack) error {

	// The ack of an offer tells something even if we have stopped to send
	// it. The record knows.
	r, ok, err := m.get(ctx, in.about(msg.ReplyTo), Outgoing)
	if err != nil {
		return err
	}
	if ok {
		_, _, err := m.apply(ctx, r, change{
			trigger: triggerDelivered,
			cause:   msg.ID,
		})

		return err
	}

	// The acks of replies, and those that come twice, are about nothing.
	if d := m.outbox.find(in.peer, msg.ReplyTo); d != nil {
		return m.delivered(ctx, d)
	}
	if m.outbox.asked(msg.ReplyTo) {
		m.refused(in, refusedUnsolicited, nil)
	}

	return nil
}

// about returns the key of an offer that the peer speaks of.
func (in inbound) about(id ID) offerKey {
	return offerKey{peer: in.peer, id: id}
}

// ack tells the peer that its message arrived. The caller holds mu.
func (m *Manager) ack(in inbound, id ID) {
	m.reply(in, &wire.Ack{ID: newID(), ReplyTo: id})
}

// reject tells the peer that its message was turned down. The caller holds mu.
func (m *Manager) reject(in inbound, id ID, code wire.RejectCode) {
	m.rejectWith(in, id, code, "")
}

// rejectWith tells the peer that its message was turned down, and why. The
// caller holds mu.
func (m *Manager) rejectWith(in inbound, id ID, code wire.RejectCode,
	text string) {

	m.reply(in, &wire.Reject{
		ID:      newID(),
		ReplyTo: id,
		Code:    code,
		Text:    text,
	})
}

// reply sends an answer to a message once: if it is lost, the message comes
// again. The caller holds mu.
func (m *Manager) reply(in inbound, msg wire.Message) {
	body, err := wire.Encode(msg)
	if err != nil || !m.outbox.reply(in.peer, msg.Type(), body) {
		m.refused(in, refusedLimit, err)
	}
}
