package offer

import (
	"context"
	"time"
)

// Inquiry is what a request is made of.
type Inquiry struct {
	// Peer is the node that is asked to host.
	Peer PubKey

	Protocol  Protocol
	Admission Admission

	// Legs are the legs that we want to be granted.
	Legs Legs

	// Label is the name that the socket is to have, or empty. See
	// wire.CheckText.
	Label string

	// Limits are those that the socket is to have. One that is 0 is for the
	// host to choose.
	Limits SocketLimits

	// ExpiresAt is when the request ends if it is not answered. It is cut
	// to the second and must be in the future, by MaxLifetime at most.
	ExpiresAt time.Time
}

// Request asks another node to host a socket. It returns the request once it is
// recorded; how it goes on is told by events. It is sent as an offer is. An
// offer that answers it is accepted at once, as it was asked for. The errors
// are ErrInvalid, ErrLimit, ErrStopped, and those of the store, which are
// wrapped. There is no request then.
func (m *Manager) Request(ctx context.Context, q Inquiry) (Offer, error) {
	now := time.Now()
	r := Record{Offer: Offer{
		ID:        newID(),
		IsRequest: true,
		Peer:      q.Peer,
		Direction: Outgoing,
		State:     StateQueued,
		Host:      q.Peer,
		Protocol:  q.Protocol,
		Legs:      q.Legs,
		Admission: q.Admission,
		Label:     q.Label,
		Limits:    q.Limits,
		CreatedAt: now,
		ExpiresAt: time.Unix(q.ExpiresAt.Unix(), 0),
	}}
	if err := r.checkProposed(m.cfg.Self, now); err != nil {
		return Offer{}, err
	}
	d, err := newOpening(r)
	if err != nil {
		return Offer{}, err
	}

	if err := m.ready(ctx); err != nil {
		return Offer{}, err
	}
	err = m.locked(func() error {
		if err := m.open(ctx, r, d); err != nil {
			return err
		}
		m.outbox.add(d)

		return nil
	})
	if err != nil {
		return Offer{}, err
	}

	return r.Offer, nil
}
