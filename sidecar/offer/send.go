package offer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
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
		SocketID:  p.SocketID,
		CreatedAt: now,
		ExpiresAt: time.Unix(p.ExpiresAt.Unix(), 0),
	}}
	if p.Admission == ByToken {
		r.Tokens = newTokens(p.Legs)
	}

	return r, r.checkProposed(self, now)
}

// checkProposed returns an error that wraps ErrInvalid if an offer or request
// of ours is not to be made: to this peer, or with this expiry.
func (o Offer) checkProposed(self PubKey, now time.Time) error {
	switch {
	case o.Peer == self:
		return fmt.Errorf("%w: peer is our own node", ErrInvalid)

	case !o.ExpiresAt.After(now):
		return fmt.Errorf("%w: expiry is in the past", ErrInvalid)

	case o.ExpiresAt.After(now.Add(MaxLifetime)):
		return fmt.Errorf("%w: expiry is more than %v ahead",
			ErrInvalid, MaxLifetime)
	}

	return nil
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
	d, err := newOpening(r)
	if err != nil {
		return Offer{}, err
	}
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

		if err := m.open(ctx, r, d); err != nil {
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

// open makes the record of an offer or request of ours, and of its message,
// which the caller has sent then. The caller holds mu.
func (m *Manager) open(ctx context.Context, r Record, d *delivery) error {
	// Nobody would send it before the next start.
	if isClosed(m.stopped) {
		return ErrStopped
	}
	if err := m.makeRoom(ctx, r.Offer); err != nil {
		return err
	}

	return m.create(ctx, r, Batch{Add: []Message{d.Message}})
}
