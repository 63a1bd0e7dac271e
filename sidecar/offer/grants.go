package offer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// ErrGranted is returned if a leg of a TOKEN socket is granted already, so that
// it cannot be offered again. The error is a *GrantedError.
var ErrGranted = errors.New("leg is granted already")

// GrantedError tells which offer a leg is granted by. It wraps ErrGranted.
type GrantedError struct {
	// Peer is the node that the leg is granted to.
	Peer PubKey

	// ID is the id of the offer that grants it, which is undecided or
	// accepted.
	ID ID

	// Legs are the legs that were to be granted again.
	Legs Legs
}

// Error tells which node has the leg.
func (e *GrantedError) Error() string {
	which := "both legs are"
	switch e.Legs {
	case Leg1:
		which = "leg 1 is"

	case Leg2:
		which = "leg 2 is"
	}

	return fmt.Sprintf("%s granted already, to %s by offer %s", which,
		e.Peer, e.ID)
}

// Unwrap returns ErrGranted.
func (e *GrantedError) Unwrap() error {
	return ErrGranted
}

// Opener lets those who hold the tokens of an offer into the legs of a socket
// of ours, and out again. The manager calls it with its lock held, so that no
// leg is ever open to two far ends at once: neither method may wait for
// anything that waits for the manager, call the manager, or take long. A leg is
// 1 or 2.
type Opener interface {
	// Grant makes a token admit clients to a leg of a socket. It returns an
	// error if the socket is not there or takes no token, and nothing has
	// changed then.
	Grant(socketID ID, leg uint8, token Token) error

	// Revoke ends that. Whoever was admitted by the token is out when it
	// returns. It does nothing if the token admits nobody, or the socket is
	// not there any more.
	Revoke(socketID ID, leg uint8, token Token)
}

// newTokens returns a token for each of the legs, drawn at random.
func newTokens(legs Legs) Tokens {
	var tokens Tokens
	for i := range tokens {
		if legs.Has(Leg1 << i) {
			// It never fails, and never returns less.
			_, _ = rand.Read(tokens[i][:])
		}
	}

	return tokens
}

// grant opens the legs of an offer of ours that was recorded to those who hold
// its tokens. If that fails the record is deleted again. The caller holds mu.
func (m *Manager) grant(ctx context.Context, r Record) error {
	err := m.openLegs(r)
	if err == nil {
		return nil
	}

	// What was recorded is undone even for a caller who has given up. If it
	// cannot be, the offer is never sent, and ends as soon as the store
	// works.
	undoErr := m.drop(context.WithoutCancel(ctx), r)
	if undoErr != nil {
		m.setTimer(r.key(), time.Now().Add(storeRetry))
	}

	return errors.Join(err, undoErr)
}

// openLegs opens the legs of an offer of ours to those who hold its tokens. If
// that fails some of them may be open. The caller holds mu.
func (m *Manager) openLegs(r Record) error {
	for i, token := range r.Tokens {
		if token.IsZero() {
			continue
		}

		leg := uint8(i + 1)
		err := m.deps.Opener.Grant(r.SocketID, leg, token)
		if err != nil {
			return fmt.Errorf("grant leg %d of socket %s: %w", leg,
				r.SocketID, err)
		}
	}

	return nil
}

// revoke closes the legs of an offer that has ended to those who hold its
// tokens. Those of another node's socket are not ours to close. The caller
// holds mu.
func (m *Manager) revoke(r Record) {
	if !r.IsOwn() {
		return
	}
	for i, token := range r.Tokens {
		if !token.IsZero() {
			m.deps.Opener.Revoke(r.SocketID, uint8(i+1), token)
		}
	}
}

// granted looks for what stands against another offer of a TOKEN socket. It
// returns the offer that grants the same legs to the same peer already, and
// true, if there is one. The error is a *GrantedError if a leg is granted
// otherwise. The caller holds mu.
func (m *Manager) granted(ctx context.Context, r Record) (Record, bool, error) {
	if r.Admission != ByToken {
		return Record{}, false, nil
	}

	live, err := m.ofSocket(ctx, r.SocketID)
	if err != nil {
		return Record{}, false, err
	}
	for _, other := range live {
		overlap := other.Legs & r.Legs
		switch {
		case overlap == 0:

		case other.Peer == r.Peer && other.Legs == r.Legs:
			return other, true, nil

		default:
			return Record{}, false, &GrantedError{
				Peer: other.Peer,
				ID:   other.ID,
				Legs: overlap,
			}
		}
	}

	return Record{}, false, nil
}
