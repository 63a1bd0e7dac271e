package offer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// ErrAmbiguous is returned for a socket of which several nodes have made
// offers, so that its id does not tell which is meant.
var ErrAmbiguous = errors.New("several nodes have offered this socket")

// Passing is what is passed on.
type Passing struct {
	// Peer is the node that it is passed on to.
	Peer PubKey

	// SocketID is the socket of another node, which has offered it, and
	// whose offer was accepted.
	SocketID ID

	// Legs is the leg that is passed on, one that was granted.
	Legs Legs

	// ExpiresAt is when the offer ends if it is not accepted, at most when
	// the host's does, or zero for an hour from now or the end of the
	// host's, whichever comes first.
	ExpiresAt time.Time
}

// passLifetime is how long an offer that passes on a leg lives if nothing else
// is said.
const passLifetime = time.Hour

// PassOn offers a leg of a socket that another node hosts, and that was granted
// to us, to a third node. The offer has what the host's has: its addresses, its
// ports, and its token of the leg. When either of them ends the other one does.
//
// A leg is passed on once: the same leg to the same node again is the same
// offer. To another one the error is a *GrantedError, which wraps ErrGranted.
// The error wraps ErrNotFound if there is no such socket, ErrAmbiguous, and
// ErrState if its offer is not accepted, or was passed on itself. Other errors
// are those of Send.
func (m *Manager) PassOn(ctx context.Context, p Passing) (Offer, error) {
	if err := m.ready(ctx); err != nil {
		return Offer{}, err
	}

	var r Record
	err := m.locked(func() error {
		parent, err := m.remote(ctx, p.SocketID)
		if err != nil {
			return err
		}
		r, err = p.record(parent, m.cfg.Self)
		if err != nil {
			return err
		}
		same, ok, err := m.passedOn(ctx, parent, r)
		if err != nil {
			return err
		}
		if ok {
			r = same

			return nil
		}

		d, err := newOpening(r)
		if err != nil {
			return err
		}
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

// record returns the record of the offer that passes on a leg of another one.
func (p Passing) record(parent Record, self PubKey) (Record, error) {
	now := time.Now()
	expiresAt := time.Unix(p.ExpiresAt.Unix(), 0)
	if p.ExpiresAt.IsZero() {
		expiresAt = earlier(parent.ExpiresAt, now.Add(passLifetime))
	}

	r := Record{Offer: parent.Offer}
	r.ID = newID()
	r.Peer = p.Peer
	r.Direction = Outgoing
	r.State = StateQueued
	r.Legs = p.Legs
	r.ReplyTo = ID{}
	r.Parent = parent.ID
	r.CreatedAt = now
	r.ExpiresAt = time.Unix(expiresAt.Unix(), 0)
	r.Reason = ""
	r.DecisionID = ID{}
	for i, token := range parent.Tokens {
		if p.Legs.Has(Leg1 << i) {
			r.Tokens[i] = token
		}
	}

	switch {
	case parent.Host != parent.Peer:
		return r, fmt.Errorf("%w: %s has passed it on itself, and a "+
			"leg is passed on once", ErrState, parent.Peer)

	case p.Peer == parent.Host:
		return r, fmt.Errorf("%w: peer is the host of the socket",
			ErrInvalid)

	case p.Legs != Leg1 && p.Legs != Leg2:
		return r, fmt.Errorf("%w: one leg can be passed on", ErrInvalid)

	case !parent.Legs.Has(p.Legs):
		return r, fmt.Errorf("%w: the leg was not granted to this node",
			ErrState)

	case r.ExpiresAt.After(parent.ExpiresAt):
		return r, fmt.Errorf("%w: expiry is after that of the host's "+
			"offer, %d", ErrInvalid, parent.ExpiresAt.Unix())
	}

	return r, r.checkProposed(self, now)
}

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}

	return b
}

// passedOn looks for what stands against passing on a leg. It returns the offer
// that passes the same leg on to the same node already, and true, if there is
// one. The error is a *GrantedError if another node has it. The caller holds
// mu.
func (m *Manager) passedOn(ctx context.Context, parent,
	r Record) (Record, bool, error) {

	for key := range m.tally.children[parent.key()] {
		other, err := m.deps.Store.Get(ctx, key.peer, key.id)
		if err != nil {
			return Record{}, false, fmt.Errorf("get offer: %w", err)
		}

		switch {
		case other.Legs != r.Legs:

		case other.Peer == r.Peer:
			return other, true, nil

		default:
			return Record{}, false, &GrantedError{
				Peer: other.Peer,
				ID:   other.ID,
				Legs: other.Legs,
			}
		}
	}

	return Record{}, false, nil
}

// EndRemote ends our accepted offer of a socket that another node hosts, and
// tells its sender. A host ends a socket that it has opened on our request. The
// text, which may be empty, says why; see wire.CheckText. The error wraps
// ErrNotFound if there is no such socket, ErrAmbiguous, ErrState if the offer
// was not accepted, and ErrInvalid if the text is not allowed.
func (m *Manager) EndRemote(ctx context.Context, socketID ID,
	text string) (Offer, error) {

	if err := wire.CheckText(text); err != nil {
		return Offer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := m.ready(ctx); err != nil {
		return Offer{}, err
	}

	var r Record
	err := m.locked(func() error {
		var err error
		r, err = m.remote(ctx, socketID)
		if err != nil {
			return err
		}
		r, _, err = m.apply(ctx, r, change{
			trigger: triggerWithdraw,
			reason:  text,
		})

		return err
	})
	if err != nil {
		return Offer{}, err
	}

	return r.Offer, nil
}

// remote returns the accepted offer of a socket that another node hosts. One
// that answers a request of ours counts for more than others, which anybody can
// make of any id. The caller holds mu.
func (m *Manager) remote(ctx context.Context, socketID ID) (Record, error) {
	var found []Record
	pending := false
	for key := range m.tally.remote[socketID] {
		r, err := m.deps.Store.Get(ctx, key.peer, key.id)
		if err != nil {
			return Record{}, fmt.Errorf("get offer: %w", err)
		}
		if r.State == StateAccepted {
			found = append(found, r)
		} else {
			pending = true
		}
	}

	if slices.ContainsFunc(found, isAnswer) {
		found = slices.DeleteFunc(found, func(r Record) bool {
			return !isAnswer(r)
		})
	}
	switch {
	case len(found) == 1:
		return found[0], nil

	case len(found) > 1:
		return Record{}, fmt.Errorf("%w: %s", ErrAmbiguous, socketID)

	case pending:
		return Record{}, fmt.Errorf("%w: accept it first", ErrState)

	default:
		return Record{}, fmt.Errorf("%w: no accepted offer is of "+
			"socket %s", ErrNotFound, socketID)
	}
}

// isAnswer tells whether an offer answers a request.
func isAnswer(r Record) bool {
	return !r.ReplyTo.IsZero()
}
