package bind

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
)

// Label is what the input of every authentication code begins with.
const Label = "socketd bind"

// idSize is the length of a socket's id, in bytes.
const idSize = 32

// Leg names what a client binds to: one leg of one socket.
type Leg struct {
	// SocketID is the id of the socket.
	SocketID [idSize]byte

	// Num is 1 or 2.
	Num uint8

	// Protocol is the protocol of the socket: 1 is UDP, 2 is TCP.
	Protocol uint8
}

// Key authenticates the messages of one leg under one token. It must not be
// used by two goroutines at once. Its methods do not allocate.
type Key struct {
	mac hash.Hash

	// context is what comes before the message in the input.
	context [len(Label) + idSize + 2]byte

	// sum is where a code is computed.
	sum [sha256.Size]byte
}

// NewKey returns the key of a leg for clients that hold a token.
func NewKey(leg Leg, token Token) *Key {
	k := &Key{mac: hmac.New(sha256.New, token[:])}

	n := copy(k.context[:], Label)
	n += copy(k.context[n:], leg.SocketID[:])
	k.context[n] = leg.Num
	k.context[n+1] = leg.Protocol

	return k
}

// Verify tells whether a message, of which the length is right, has the
// authentication code that whoever holds the token would give it.
func (k *Key) Verify(b []byte) bool {
	if len(b) != Size {
		return false
	}

	return subtle.ConstantTimeCompare(
		k.compute(b[:offMAC]), b[offMAC:],
	) == 1
}

// appendMAC appends the authentication code of a message to b.
func (k *Key) appendMAC(b, message []byte) []byte {
	return append(b, k.compute(message)...)
}

// compute returns the authentication code of a message. It is valid until the
// next call.
func (k *Key) compute(message []byte) []byte {
	k.mac.Reset()
	k.mac.Write(k.context[:])
	k.mac.Write(message)

	return k.mac.Sum(k.sum[:0])[:MACSize]
}
