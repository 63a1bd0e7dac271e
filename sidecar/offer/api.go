package offer

import (
	"context"
	"errors"
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

	// Label is the name of the socket, or empty. See wire.CheckText.
	Label string

	// ExpiresAt is when the offer ends if it is not used. It is cut to the
	// second and must be in the future, by MaxLifetime at most.
	ExpiresAt time.Time

	// ReplyTo is the request that the offer answers, or zero.
	ReplyTo ID
}

// offer returns the offer that is proposed, or an error that wraps ErrInvalid.
func (p Proposal) offer(self PubKey) (Offer, error) {
	now := time.Now()
	o := Offer{
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
		Label:     p.Label,
		ReplyTo:   p.ReplyTo,
		SocketID:  p.SocketID,
		CreatedAt: now,
		ExpiresAt: time.Unix(p.ExpiresAt.Unix(), 0),
	}

	switch {
	case p.Peer == self:
		return o, fmt.Errorf("%w: peer is our own node", ErrInvalid)

	case !o.ExpiresAt.After(now):
		return o, fmt.Errorf("%w: expiry is in the past", ErrInvalid)

	case o.ExpiresAt.After(now.Add(MaxLifetime)):
		return o, fmt.Errorf("%w: expiry is more than %v ahead",
			ErrInvalid, MaxLifetime)
	}

	return o, nil
}

// Send makes an offer and sends it. It returns the offer when the first attempt
// to send it was made, 10 seconds at most after the record was; the state tells
// how it went. If the peer is not connected there is no offer afterwards and
// the error wraps ErrNotConnected. After any other failure the offer is sent
// again until its expiry. Other errors are ErrInvalid, ErrLimit, ErrStopped and
// those of the store.
func (m *Manager) Send(ctx context.Context, p Proposal) (Offer, error) {
	o, err := p.offer(m.cfg.Self)
	if err != nil {
		return Offer{}, err
	}
	body, err := wire.Encode(o.message())
	if err != nil {
		return Offer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	attempted := make(chan error, 1)
	d := &delivery{
		offer:    o.key(),
		id:       o.ID,
		msgType:  wire.TypeOffer,
		body:     body,
		deadline: o.ExpiresAt,
		waiter:   attempted,
	}
	err = m.locked(func() error {
		err := m.makeRoom(ctx, o.Peer, Outgoing)
		if err != nil {
			return err
		}
		if err := m.create(ctx, o); err != nil {
			return err
		}
		m.outbox.add(d)

		return nil
	})
	if err != nil {
		return Offer{}, err
	}

	return m.wait(ctx, d, attempted)
}

// wait waits until the first attempt to send an offer was made, or it takes too
// long, and returns the offer as it is then.
func (m *Manager) wait(ctx context.Context, d *delivery,
	attempted <-chan error) (Offer, error) {

	timer := time.NewTimer(sendTimeout)
	defer timer.Stop()

	var stopped bool
	select {
	case err := <-attempted:
		if err != nil {
			return Offer{}, notSent(d, err)
		}

	case <-timer.C:
	case <-ctx.Done():
	case <-m.stopped:
		stopped = true
	}

	// The record was made, so that it is returned even to a caller who is
	// in a hurry.
	ctx = context.WithoutCancel(ctx)

	var o Offer
	err := m.locked(func() error {
		if stopped && d.waiter != nil {
			err := m.undo(ctx, d, ErrStopped)
			if err != nil {
				return err
			}
		}

		// From now on a failure concerns nobody but the outbox, unless
		// it came this very moment.
		d.waiter = nil
		select {
		case err := <-attempted:
			if err != nil {
				return err
			}

		default:
		}

		var err error
		o, err = m.deps.Store.Get(ctx, d.offer.peer, d.offer.id)

		return err
	})
	if err != nil {
		return Offer{}, notSent(d, err)
	}

	return o, nil
}

// notSent says which offer was not sent.
func notSent(d *delivery, err error) error {
	return fmt.Errorf("send offer to %s: %w", d.offer.peer, err)
}

// Accept accepts an incoming offer and returns it; DecisionID is the id of the
// accept message. Accepting twice returns the same. The error wraps ErrNotFound
// if there is no such offer, and ErrState if it has ended.
func (m *Manager) Accept(ctx context.Context, id ID) (Offer, error) {
	return m.decide(ctx, id, change{trigger: triggerLocalAccept})
}

// Reject turns an incoming offer down and returns it; DecisionID is the id of
// the reject message. The far end is told the text, which may be empty; see
// wire.CheckText. Rejecting twice returns the same. The error wraps ErrNotFound
// if there is no such offer, ErrState if it was accepted or has ended, and
// ErrInvalid if the text is not allowed.
func (m *Manager) Reject(ctx context.Context, id ID,
	text string) (Offer, error) {

	if err := wire.CheckText(text); err != nil {
		return Offer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	return m.decide(ctx, id, change{
		trigger: triggerLocalReject,
		reason:  text,
	})
}

// decide decides about an incoming offer.
func (m *Manager) decide(ctx context.Context, id ID, c change) (Offer, error) {
	c.decision = newID()

	var o Offer
	err := m.locked(func() error {
		offers, err := m.deps.Store.Find(ctx, id)
		if err != nil {
			return fmt.Errorf("find offer: %w", err)
		}

		// Only one peer's offer is ever taken in under an id.
		i := slices.IndexFunc(offers, func(o Offer) bool {
			return o.Direction == Incoming
		})
		if i < 0 {
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		o, err = m.expire(ctx, offers[i])
		if err != nil {
			return err
		}

		var out outcome
		o, out, err = m.apply(ctx, o, c)
		if err != nil {
			return err
		}
		if out.verdict == verdictDenied {
			return fmt.Errorf("%w: it is %s", ErrState, o.State)
		}

		return nil
	})
	if err != nil {
		return Offer{}, err
	}

	return o, nil
}

// SocketClosed ends all offers of a socket of ours that have not ended, and
// tells the far ends why. The reason may be empty; the error wraps ErrInvalid
// if it is not allowed, see wire.CheckText. Other errors are those of the
// store.
func (m *Manager) SocketClosed(ctx context.Context, socketID ID,
	reason string) error {

	if err := wire.CheckText(reason); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	return m.locked(func() error {
		offers, err := m.ofSocket(ctx, socketID)
		if err != nil {
			return err
		}

		var errs []error
		for _, o := range offers {
			_, _, err := m.apply(ctx, o, change{
				trigger: triggerStop,
				reason:  reason,
			})
			errs = append(errs, err)
		}

		return errors.Join(errs...)
	})
}

// LegUsed tells that the client of a leg, 1 or 2, of one of our sockets came.
// It counts as the acceptance of the one offer that grants the leg. If there
// are several nobody can tell who came, and nothing happens. The error wraps
// ErrInvalid for any other leg; other errors are those of the store.
func (m *Manager) LegUsed(ctx context.Context, socketID ID, leg uint8) error {
	if leg != 1 && leg != 2 {
		return fmt.Errorf("%w: leg %d", ErrInvalid, leg)
	}

	return m.locked(func() error {
		offers, err := m.ofSocket(ctx, socketID)
		if err != nil {
			return err
		}
		offers = slices.DeleteFunc(offers, func(o Offer) bool {
			return !o.Legs.Has(Leg1 << (leg - 1))
		})
		if len(offers) != 1 || offers[0].State == StateAccepted {
			return nil
		}
		_, _, err = m.apply(ctx, offers[0], change{
			trigger: triggerUsed,
		})

		return err
	})
}

// ofSocket returns the offers of a socket of ours that have not ended, oldest
// first. The caller holds mu.
func (m *Manager) ofSocket(ctx context.Context,
	socketID ID) ([]Offer, error) {

	all, err := m.deps.Store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list offers: %w", err)
	}
	sortOffers(all)

	var offers []Offer
	for _, o := range all {
		if o.Direction != Outgoing || o.SocketID != socketID {
			continue
		}

		o, err := m.expire(ctx, o)
		if err != nil {
			return nil, err
		}
		if !o.State.Ended() {
			offers = append(offers, o)
		}
	}

	return offers, nil
}

// List returns all offers that are remembered, in both directions, oldest
// first.
func (m *Manager) List(ctx context.Context) ([]Offer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	offers, err := m.deps.Store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list offers: %w", err)
	}
	sortOffers(offers)

	return offers, nil
}

// NumPending returns how many offers are undecided, in both directions.
func (m *Manager) NumPending() int {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.tally.pending
}

// Counters returns how many messages of other nodes were not acted on, by
// reason: malformed, oversized, version, unsolicited, duplicate, rate, limit
// and unsupported.
func (m *Manager) Counters() map[string]uint64 {
	return m.counters.snapshot()
}
