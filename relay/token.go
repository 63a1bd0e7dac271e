package relay

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/socketd/socketd/relay/bind"
)

// ErrGrant means that a leg cannot be granted.
var ErrGrant = errors.New("the leg cannot be granted")

// maxGrants is how many granted tokens a leg may have at once, so that a bind
// is never compared with many.
const maxGrants = 4

// keyring holds the tokens that admit clients to a leg.
type keyring struct {
	// leg is what the tokens are for. It is immutable.
	leg bind.Leg

	// mu guards the following fields and the keys. It is held while one
	// message of the handshake is looked at, not for payloads.
	mu sync.Mutex

	// keys holds the leg's own token first, and then the granted ones. Its
	// own is there as long as the leg.
	keys []*legKey

	// last is when the challenge was made that was answered by the last
	// bind which was taken, and lastNonce the client's nonce of that bind.
	last      instant
	lastNonce bind.Nonce
}

// legKey is a token of a leg.
type legKey struct {
	// token and granted, which tells that it is not the leg's own, are
	// immutable.
	token   Token
	granted bool

	// key authenticates the messages of clients that hold the token. It is
	// made when the first comes: an idle leg needs none. The keyring's lock
	// guards it.
	key *bind.Key
}

// newKeyring returns a keyring with one token, the leg's own.
func newKeyring(leg bind.Leg, own Token) *keyring {
	return &keyring{leg: leg, keys: []*legKey{{token: own}}}
}

// own returns the leg's own token.
func (k *keyring) own() Token {
	k.mu.Lock()
	defer k.mu.Unlock()

	return k.keys[0].token
}

// grant adds a token. It does nothing if it is there.
func (k *keyring) grant(token Token) error {
	k.mu.Lock()
	defer k.mu.Unlock()

	if k.find(token) != nil {
		return nil
	}
	if len(k.keys) > maxGrants {
		return fmt.Errorf("%w: it has %d granted tokens", ErrGrant,
			maxGrants)
	}

	// Whoever reads the old list goes on with it.
	k.keys = append(
		slices.Clone(k.keys), &legKey{token: token, granted: true},
	)

	return nil
}

// revoke takes a granted token out and returns what it was; nil if it was not
// there.
func (k *keyring) revoke(token Token) *legKey {
	k.mu.Lock()
	defer k.mu.Unlock()

	key := k.find(token)
	if key == nil || !key.granted {
		return nil
	}

	k.keys = slices.DeleteFunc(slices.Clone(k.keys),
		func(other *legKey) bool { return other == key })

	return key
}

// find returns a token's key; nil if there is none. The lock is held.
func (k *keyring) find(token Token) *legKey {
	for _, key := range k.keys {
		if key.token == token {
			return key
		}
	}

	return nil
}

// Token returns the leg's own token: it admits clients as long as the socket is
// open. It reports false if the socket's admission is not ByToken.
func (s *Socket) Token(leg Leg) (Token, bool) {
	keys := s.leg(leg).keys
	if keys == nil {
		return Token{}, false
	}

	return keys.own(), true
}

// Grant makes a further token admit clients to a leg, which is Leg1 or Leg2.
// Granting a token again changes nothing. The error is ErrGrant if the
// socket's admission is not ByToken, or if the leg has too many tokens.
func (s *Socket) Grant(leg Leg, token Token) error {
	keys := s.leg(leg).keys
	if keys == nil {
		return fmt.Errorf("%w: the socket's admission is %v", ErrGrant,
			s.opts.Admission)
	}
	if token.IsZero() {
		return fmt.Errorf("%w: a token of zeros", ErrGrant)
	}

	return keys.grant(token)
}

// Revoke ends a granted token. A client that was admitted by it is the leg's
// client no longer, and its connections are reset; when Revoke returns that
// has happened. It does nothing if the token is not there, or is the leg's
// own.
func (s *Socket) Revoke(leg Leg, token Token) {
	l := s.leg(leg)
	if l.keys == nil {
		return
	}

	if key := l.keys.revoke(token); key != nil {
		l.expel(key)
		s.carrier.expel(l, key)
	}
}

// Options returns what the socket was opened with, but for its name and what it
// was restored from: Socket.ID and Socket.Keep return those.
func (s *Socket) Options() Options {
	return s.opts.clone()
}
