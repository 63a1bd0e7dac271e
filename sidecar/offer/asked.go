package offer

import (
	"context"
	"errors"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// onRequest judges a request. One that the policy allows is recorded, and its
// socket opened; of one that it does not nothing is kept. The caller holds mu.
func (m *Manager) onRequest(ctx context.Context, in inbound,
	msg *wire.Request) error {

	known, err := m.isKnown(ctx, in, msg.ID, true)
	if err != nil || known {
		return err
	}

	now := time.Now()
	expiresAt, code := judgeExpiry(msg.Expiry, now)
	if code != 0 {
		m.refused(in, refusedMalformed, nil)
		m.reject(in, msg.ID, code)

		return nil
	}

	r := in.asked(msg, m.cfg.Self, now, expiresAt)
	if refused := m.judgeRequest(&r.Offer); refused != nil {
		m.requestsRefused[refused.why].Add(1)
		m.refused(in, refusedPolicy, nil)
		m.rejectWith(in, msg.ID, wire.CodePolicy, refused.text)

		return nil
	}

	err = m.makeRoom(ctx, r.Offer)
	switch {
	case errors.Is(err, ErrLimit):
		m.requestsRefused[RequestLimit].Add(1)
		m.refused(in, refusedLimit, err)
		m.reject(in, msg.ID, wire.CodeLimit)

		return nil

	case err != nil:
		return err
	}

	err = m.create(ctx, r, Batch{Events: []Event{{
		Kind:      EventReceived,
		MessageID: r.ID,
		Offer:     r.Offer,
	}}})
	if err != nil {
		return err
	}
	m.hosting.add(hostJob{key: r.key()})
	m.ack(in, msg.ID)

	return nil
}

// judgeRequest returns nil if the policy allows a request, and else why not.
// The caller holds mu.
func (m *Manager) judgeRequest(r *Offer) *refusedRequest {
	counts := m.tally.peer(r.Peer)
	if m.cfg.CannotHost {
		return refuse(RequestNone, textCannotHost)
	}

	return m.requests.judge(r, requestFacts{
		hasChannel: m.requests.Channel &&
			m.deps.Channels.HasChannel(r.Peer),
		ofNode: len(counts.live) + counts.requests,
		hosted: m.tally.hosted,
	})
}

// asked returns the record of a request that the peer makes. The id of its
// socket is known before it is opened, so that it is found again if we are
// stopped in between.
func (in inbound) asked(msg *wire.Request, self PubKey,
	now, expiresAt time.Time) Record {

	return Record{Offer: Offer{
		ID:        msg.ID,
		IsRequest: true,
		Peer:      in.peer,
		Direction: Incoming,
		State:     StatePending,
		Host:      self,
		Protocol:  msg.Protocol,
		Legs:      msg.Legs,
		Admission: msg.Admission,
		Label:     msg.Label,
		Limits:    msg.Limits,
		SocketID:  newID(),
		CreatedAt: now,
		ExpiresAt: expiresAt,
	}}
}
