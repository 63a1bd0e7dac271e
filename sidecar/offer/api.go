package offer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/socketd/socketd/sidecar/wire"
)

// Accept accepts an incoming offer and returns it; DecisionID is the id of the
// accept message. With it come the tokens of the legs that it grants, zero for
// those that need none: nothing else tells them. Accepting twice returns the
// same. The error wraps ErrNotFound if there is no such offer, and ErrState if
// it has ended.
func (m *Manager) Accept(ctx context.Context, id ID) (Offer, Tokens, error) {
	r, err := m.decide(ctx, id, change{trigger: triggerLocalAccept})

	return r.Offer, r.Tokens, err
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

	r, err := m.decide(ctx, id, change{
		trigger: triggerLocalReject,
		reason:  text,
	})

	return r.Offer, err
}

// Withdraw ends an offer, and tells the other node: one of ours that is
// undecided becomes WITHDRAWN, and one that is accepted, on either side of it,
// CLOSED. The text, which may be empty, says why; see wire.CheckText. It
// returns the offer, and the id of the close message for as long as that one is
// being delivered, zero afterwards. For an offer that is WITHDRAWN or CLOSED,
// whoever did that, nothing happens. The error wraps ErrNotFound if there is no
// such offer, ErrState if it was rejected, has expired, or is an undecided one
// of the other node, and ErrInvalid if the text is not allowed.
func (m *Manager) Withdraw(ctx context.Context, id ID,
	text string) (Offer, ID, error) {

	if err := wire.CheckText(text); err != nil {
		return Offer{}, ID{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := m.ready(ctx); err != nil {
		return Offer{}, ID{}, err
	}

	var (
		r       Record
		closeID ID
	)
	err := m.locked(func() error {
		var err error
		r, err = m.decided(ctx, id, change{
			trigger: triggerWithdraw,
			reason:  text,
		}, Outgoing, Incoming)
		d := m.outbox.byOffer[r.key()][wire.TypeClose]
		if d != nil {
			closeID = d.ID
		}

		return err
	})
	if err != nil {
		return Offer{}, ID{}, err
	}

	return r.Offer, closeID, nil
}

// decide decides about an incoming offer.
func (m *Manager) decide(ctx context.Context, id ID, c change) (Record, error) {
	if err := m.ready(ctx); err != nil {
		return Record{}, err
	}
	c.decision = newID()

	var r Record
	err := m.locked(func() error {
		var err error
		r, err = m.decided(ctx, id, c, Incoming)

		return err
	})
	if err != nil {
		return Record{}, err
	}

	return r, nil
}

// decided applies what our own side wants to an offer of one of some
// directions, and returns the offer as it is then. The caller holds mu.
func (m *Manager) decided(ctx context.Context, id ID, c change,
	dirs ...Direction) (Record, error) {

	records, err := m.deps.Store.Find(ctx, id)
	if err != nil {
		return Record{}, fmt.Errorf("find offer: %w", err)
	}

	// Only one peer's offer is ever taken in under an id, and none under
	// one of ours.
	i := slices.IndexFunc(records, func(r Record) bool {
		return slices.Contains(dirs, r.Direction)
	})
	if i < 0 {
		return Record{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if records[i].isAsked() {
		return Record{}, fmt.Errorf("%w: it is a request, which the "+
			"policy decides about", ErrState)
	}
	r, err := m.expire(ctx, records[i])
	if err != nil {
		return Record{}, err
	}

	r, out, err := m.apply(ctx, r, c)
	if err != nil {
		return Record{}, err
	}
	if out.verdict == verdictDenied {
		return Record{}, fmt.Errorf("%w: it is %s", ErrState, r.State)
	}

	return r, nil
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
	if err := m.ready(ctx); err != nil {
		return err
	}

	return m.locked(func() error {
		live, err := m.ofSocket(ctx, socketID)
		if err != nil {
			return err
		}

		var errs []error
		for _, r := range live {
			_, _, err := m.apply(ctx, r, change{
				trigger: triggerStop,
				reason:  reason,
			})
			errs = append(errs, err)
		}

		return errors.Join(errs...)
	})
}

// LegUsed tells that the client of a leg, 1 or 2, of one of our OPEN sockets
// came. It counts as the acceptance of the one offer that grants the leg. If
// there are several nobody can tell who came, and nothing happens. The error
// wraps ErrInvalid for any other leg; other errors are those of the store.
func (m *Manager) LegUsed(ctx context.Context, socketID ID, leg uint8) error {
	return m.used(ctx, socketID, leg, func(r Record) bool {
		return r.Admission == Open && r.Legs.Has(Leg1<<(leg-1))
	})
}

// TokenUsed tells that a client of a leg, 1 or 2, of one of our sockets was
// admitted by a token. It counts as the acceptance of the offer that has the
// token, and of no other, however late it is told. The error wraps ErrInvalid
// for any other leg; other errors are those of the store.
func (m *Manager) TokenUsed(ctx context.Context, socketID ID, leg uint8,
	token Token) error {

	return m.used(ctx, socketID, leg, func(r Record) bool {
		return !token.IsZero() && r.Tokens[leg-1] == token
	})
}

// used accepts the one offer of a socket that was used, if there is just one.
func (m *Manager) used(ctx context.Context, socketID ID, leg uint8,
	isUsed func(Record) bool) error {

	if leg != 1 && leg != 2 {
		return fmt.Errorf("%w: leg %d", ErrInvalid, leg)
	}
	if err := m.ready(ctx); err != nil {
		return err
	}

	return m.locked(func() error {
		live, err := m.ofSocket(ctx, socketID)
		if err != nil {
			return err
		}
		live = slices.DeleteFunc(live, func(r Record) bool {
			return !isUsed(r)
		})
		if len(live) != 1 || live[0].State == StateAccepted {
			return nil
		}
		_, _, err = m.apply(ctx, live[0], change{
			trigger: triggerUsed,
		})

		return err
	})
}

// OfSocket returns the offers of a socket of ours that have not ended, oldest
// first. It does not look at the others, however many there are.
func (m *Manager) OfSocket(ctx context.Context, socketID ID) ([]Offer, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}

	var offers []Offer
	err := m.locked(func() error {
		live, err := m.ofSocket(ctx, socketID)
		for _, r := range live {
			offers = append(offers, r.Offer)
		}

		return err
	})

	return offers, err
}

// ofSocket returns the offers of a socket of ours that have not ended, oldest
// first. The caller holds mu.
func (m *Manager) ofSocket(ctx context.Context,
	socketID ID) ([]Record, error) {

	all, err := m.liveRecords(ctx, socketID)
	if err != nil {
		return nil, err
	}

	var live []Record
	for _, r := range all {
		r, err := m.expire(ctx, r)
		if err != nil {
			return nil, err
		}
		if !r.Ended() {
			live = append(live, r)
		}
	}

	return live, nil
}

// List returns all offers that are remembered, in both directions, oldest
// first.
func (m *Manager) List(ctx context.Context) ([]Offer, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	records, err := m.deps.Store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list offers: %w", err)
	}

	offers := make([]Offer, 0, len(records))
	for _, r := range records {
		offers = append(offers, r.Offer)
	}
	sortOffers(offers)

	return offers, nil
}

// NumPending returns how many offers are undecided, in both directions. Before
// the store was read that is none.
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
