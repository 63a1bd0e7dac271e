package compare

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/socketd/socketd/relay/bind"
)

// errRefused means that a leg does not take a client.
var errRefused = errors.New("the leg does not take the client")

// Tokens is what the clients of a socket bind with.
type Tokens struct {
	// Socket is the socket's id.
	Socket SocketID `json:"socket"`

	// Legs are the tokens of leg 1 and leg 2.
	Legs [2]Token `json:"legs"`
}

// SocketID is the id of a socket, in JSON 64 hex digits.
type SocketID [32]byte

// MarshalText writes the id in hex.
func (s SocketID) MarshalText() ([]byte, error) {
	return hex.AppendEncode(nil, s[:]), nil
}

// UnmarshalText reads an id in hex.
func (s *SocketID) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(s) {
		return fmt.Errorf("id of a socket: want %d hex digits: %w",
			2*len(s), errFormat)
	}
	*s = SocketID(raw)

	return nil
}

// Token is the token of a leg. It is in JSON, other than in everything that is
// printed: a job goes to the generator in a file that only its owner can read.
type Token struct {
	bind.Token
}

// MarshalText writes the token in hex.
func (t Token) MarshalText() ([]byte, error) {
	return []byte(t.Hex()), nil
}

// UnmarshalText reads a token in hex. The error does not tell what was given.
func (t *Token) UnmarshalText(text []byte) error {
	token, err := bind.ParseToken(string(text))
	t.Token = token

	return err
}

// keys returns the keys of both legs of a socket; nil if it is OPEN.
func (e *Ends) keys(socket int, protocol uint8) [2]*bind.Key {
	var keys [2]*bind.Key
	if len(e.Tokens) == 0 {
		return keys
	}

	tokens := e.Tokens[socket]
	for i := range keys {
		keys[i] = bind.NewKey(bind.Leg{
			SocketID: tokens.Socket,
			Num:      uint8(i + 1),
			Protocol: protocol,
		}, tokens.Legs[i].Token)
	}

	return keys
}

// The protocols as bind.Leg numbers them.
const (
	protocolUDP uint8 = 1
	protocolTCP uint8 = 2
)

// shakeHands proves to a leg that the client holds its token. Exchange sends a
// message, and takes what comes until it is the answer. Without a key the leg
// is OPEN and there is nothing to prove.
func shakeHands(key *bind.Key, exchange func(message []byte,
	isAnswer func([]byte) bool) error) error {

	if key == nil {
		return nil
	}

	m := bind.Message{Type: bind.Hello}

	// It never fails: the runtime ends the process instead.
	_, _ = rand.Read(m.Nonce[:])

	for _, want := range []bind.Type{bind.Challenge, bind.Bound} {
		isAnswer := func(raw []byte) bool {
			got, err := bind.Decode(raw)
			if err != nil || got.Type != want ||
				got.Nonce != m.Nonce || !key.Verify(raw) {

				return false
			}
			m = got

			return true
		}
		if err := exchange(m.Append(nil, key), isAnswer); err != nil {
			return fmt.Errorf("bind: %w", err)
		}

		// This is what follows on the challenge.
		m.Type = bind.Bind
	}

	return nil
}
