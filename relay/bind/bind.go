// Package bind is the handshake by which a client proves that it holds the
// token of a leg, as it travels between the client and the relay: version 1 of
// its messages, and how they are authenticated. docs/relay-protocol.md is the
// specification; testdata/vectors.json has examples of what is valid and what
// is not.
//
// The client says hello, the relay answers with a challenge, the client binds,
// and the relay confirms: four messages of one length, so that no answer is
// longer than what it answers. The token itself is never sent.
//
// The package is pure. It does no I/O and reads no clock.
package bind

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

const (
	// Version is the version of the handshake that this package speaks.
	Version uint8 = 1

	// Size is the length of every message, in bytes.
	Size = 84

	// TokenSize is the length of a token, in bytes.
	TokenSize = 16

	// NonceSize is the length of the client's nonce, in bytes.
	NonceSize = 16

	// CookieSize is the length of the relay's nonce, in bytes. It is what
	// lets the relay keep no state for a client that has not proved that it
	// receives at its address.
	CookieSize = 24

	// MACSize is the length of the code that authenticates a message, in
	// bytes: HMAC-SHA-256 (RFC 2104, RFC 6234), cut.
	MACSize = 16
)

// Where the fields of a message are, in bytes from its start. Numbers are
// big-endian.
const (
	offMagic   = 0
	offVersion = 8
	offType    = 9
	offAddr    = 10
	offPort    = 26
	offNonce   = 28
	offCookie  = 44
	offMAC     = 68
)

// Magic is what every message of every version begins with. What begins
// otherwise is payload.
const Magic = "\xb1\x9dsocket"

var (
	// ErrFormat means that something is no message of this handshake.
	ErrFormat = errors.New("no bind message")

	// ErrVersion means that a message is of another version.
	ErrVersion = errors.New("bind message of another version")

	// ErrToken means that something is no token.
	ErrToken = errors.New("no token")
)

// Type tells what a message is for. Odd ones go from the client to the relay,
// even ones back: the type is also the direction.
type Type uint8

const (
	// Hello is the client's first message. Its address and cookie are
	// zeros: it is as long as its answer.
	Hello Type = 1

	// Challenge is the relay's answer to a hello. It has the address that
	// the relay sees the client at, and a cookie.
	Challenge Type = 2

	// Bind is the client's second message. It repeats the challenge.
	Bind Type = 3

	// Bound is the relay's answer to a bind: the client is the leg's.
	Bound Type = 4
)

// String returns the type's name.
func (t Type) String() string {
	switch t {
	case Hello:
		return "hello"

	case Challenge:
		return "challenge"

	case Bind:
		return "bind"

	case Bound:
		return "bound"

	default:
		return fmt.Sprintf("type %d", uint8(t))
	}
}

// FromClient tells whether messages of this type go from the client to the
// relay.
func (t Type) FromClient() bool {
	return t == Hello || t == Bind
}

// Token is what a client of a leg has to hold. It is drawn at random and is a
// secret: nothing prints it by mistake.
type Token [TokenSize]byte

// ParseToken reads a token from the 32 hex digits that Token.Hex writes. Upper
// case is fine too. The error wraps ErrToken and does not tell what was given.
func ParseToken(s string) (Token, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != TokenSize {
		return Token{}, fmt.Errorf("%w: want %d hex digits", ErrToken,
			2*TokenSize)
	}

	return Token(raw), nil
}

// Hex returns the token as 32 hex digits in lower case.
func (t Token) Hex() string {
	return hex.EncodeToString(t[:])
}

// IsZero tells whether there is no token.
func (t Token) IsZero() bool {
	return t == Token{}
}

// Format keeps the token out of what is printed, with any verb.
func (t Token) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, hidden)
}

// MarshalText keeps the token out of JSON, logs and the like.
func (t Token) MarshalText() ([]byte, error) {
	return []byte(hidden), nil
}

// hidden is what is shown instead of a token.
const hidden = "(token)"

// Nonce is what the client draws at random for each handshake.
type Nonce [NonceSize]byte

// Cookie is the relay's nonce. Only the relay knows how to make one.
type Cookie [CookieSize]byte

// Message is a message of the handshake.
type Message struct {
	// Type tells what the message is for.
	Type Type

	// Addr is the address of the client as the relay sees it. It is the
	// zero value in a hello.
	Addr netip.AddrPort

	// Nonce is the client's.
	Nonce Nonce

	// Cookie is the relay's nonce. It is zeros in a hello.
	Cookie Cookie
}

// Append appends the message to b, with its authentication code under the key.
// An IPv4 address travels in mapped form; a zone does not travel.
func (m *Message) Append(b []byte, key *Key) []byte {
	start := len(b)
	addr := m.Addr.Addr()

	b = append(b, Magic...)
	b = append(b, Version, uint8(m.Type))
	if addr.IsValid() {
		ip := addr.As16()
		b = append(b, ip[:]...)
	} else {
		b = append(b, make([]byte, offPort-offAddr)...)
	}
	b = binary.BigEndian.AppendUint16(b, m.Addr.Port())
	b = append(b, m.Nonce[:]...)
	b = append(b, m.Cookie[:]...)

	return key.appendMAC(b, b[start:])
}

// IsMessage tells whether something may be a message of this version: it has
// the length and the beginning of one. It is cheap, so that payloads can be
// asked.
func IsMessage(b []byte) bool {
	return len(b) == Size && string(b[offMagic:offVersion]) == Magic &&
		b[offVersion] == Version
}

// Decode reads a message without looking at its authentication code, for which
// see Key.Verify. The error wraps ErrFormat or ErrVersion.
func Decode(b []byte) (Message, error) {
	switch {
	case len(b) <= offVersion || string(b[:offVersion]) != Magic:
		return Message{}, fmt.Errorf("%w: it does not begin like one",
			ErrFormat)

	case b[offVersion] != Version:
		return Message{}, fmt.Errorf("%w: %d", ErrVersion,
			b[offVersion])

	case len(b) != Size:
		return Message{}, fmt.Errorf("%w: %d bytes instead of %d",
			ErrFormat, len(b), Size)
	}

	m := Message{
		Type:   Type(b[offType]),
		Nonce:  Nonce(b[offNonce:offCookie]),
		Cookie: Cookie(b[offCookie:offMAC]),
	}
	if m.Type < Hello || m.Type > Bound {
		return Message{}, fmt.Errorf("%w: unknown %v", ErrFormat,
			m.Type)
	}

	addr := netip.AddrFrom16([16]byte(b[offAddr:offPort])).Unmap()
	port := binary.BigEndian.Uint16(b[offPort:])
	hasAddr := !addr.IsUnspecified() || port != 0
	if hasAddr {
		m.Addr = netip.AddrPortFrom(addr, port)
	}

	// A hello has nothing to say there, and a byte that nobody looks at is
	// one that can be misused.
	if m.Type == Hello && (hasAddr || m.Cookie != Cookie{}) {
		return Message{}, fmt.Errorf("%w: a hello with an address or "+
			"a cookie", ErrFormat)
	}

	return m, nil
}
