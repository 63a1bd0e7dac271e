package offer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// Proposal is what an offer is made of.
type Proposal struct {
	// Peer is the far end.
	Peer PubKey

	// SocketID is the socket to offer.
	SocketID ID

	Protocol Protocol

	// Addrs are the addresses at which the socket is reached, the preferred
	// one first: 1 to wire.MaxAddrs, all different, none of them IPv4 in
	// IPv6.
	Addrs []netip.Addr

	// Port1 and Port2 are the ports of the legs.
	Port1 uint16
	Port2 uint16

	// Legs are the legs to grant.
	Legs Legs

	// Admission is how the legs of the socket admit their client. With
	// ByToken each of the legs is granted by one offer at a time, which has
	// a token of its own for it.
	Admission Admission

	// Label is the name of the socket, or empty. See wire.CheckText.
	Label string

	// ExpiresAt is when the offer ends if it is not used. It is cut to the
	// second and must be in the future, by MaxLifetime at most.
	ExpiresAt time.Time

	// ReplyTo is the request that the offer answers, or zero.
	ReplyTo ID
}

// record returns the record of the offer that is proposed, with new tokens if
// it needs any, or an error that wraps ErrInvalid.
func (p Proposal) record(self PubKey) (Record, error) {
	now := time.Now()
	r := Record{Offer: Offer{
		ID:        newID(),
		Peer:      p.Peer,
		Direction: Outgoing,
		State:     StateQueued,
		Host:      self,
		Protocol:  p.Protocol,
		Addrs:     slices.Clone(p.Addrs),
		Port1:     p.Port1,
		Port2:     p.Port2,
		Legs:      p.Legs,
		Admission: p.Admission,
		Label:     p.Label,
		ReplyTo:   p.ReplyTo,
		SocketID:  p.SocketID,
		CreatedAt: now,
		ExpiresAt: time.Unix(p.ExpiresAt.Unix(), 0),
	}}
	if p.Admission == ByToken {
		r.Tokens = newTokens(p.Legs)
	}

	switch {
	case p.Peer == self:
		return r, fmt.Errorf("%w: peer is our own node", ErrInvalid)

	case !r.ExpiresAt.After(now):
		return r, fmt.Errorf("%w: expiry is in the past", ErrInvalid)

	case r.ExpiresAt.After(now.Add(MaxLifetime)):
		return r, fmt.Errorf("%w: expiry is more than %v ahead",
			ErrInvalid, MaxLifetime)
	}

	return r, nil
}

// Send makes an offer and has it sent. It returns the offer once it is
// recorded; how it goes on is told by events. While the peer is not connected
// the offer waits for it, and the connector is asked to bring it about; it is
// sent again until the far end has answered, or its expiry.
//
// A leg of a TOKEN socket is granted by one offer at a time. If an offer that
// is undecided or accepted grants the same legs to the same peer, that one is
// returned as it is, and nothing else of the proposal counts. If a leg is
// granted otherwise the error is a *GrantedError, which wraps ErrGranted.
//
// Other errors are ErrInvalid, ErrLimit, ErrStopped, those of the store, and
// those of the opener, which are wrapped. There is no offer then.
func (m *Manager) Send(ctx context.Context, p Proposal) (Offer, error) {
	r, err := p.record(m.cfg.Self)
	if err != nil {
		return Offer{}, err
	}
	body, err := wire.Encode(r.message())
	if err != nil {
		return Offer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	d := &delivery{Message: Message{
		Peer:     r.Peer,
		OfferID:  r.ID,
		ID:       r.ID,
		Type:     wire.TypeOffer,
		Body:     body,
		Deadline: r.ExpiresAt,
	}}
	if err := m.ready(ctx); err != nil {
		return Offer{}, err
	}
	err = m.locked(func() error {
		same, ok, err := m.granted(ctx, r)
		if err != nil {
			return err
		}
		if ok {
			r = same

			return nil
		}

		// Nobody would send it before the next start.
		if isClosed(m.stopped) {
			return ErrStopped
		}
		err = m.makeRoom(ctx, r.Offer)
		if err != nil {
			return err
		}
		err = m.create(ctx, r, Batch{Add: []Message{d.Message}})
		if err != nil {
			return err
		}
		if err := m.grant(ctx, r); err != nil {
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
