// Package wire is the offer protocol as it travels between two nodes: version
// 1 of its messages and how they are encoded. docs/protocol.md is the
// specification; testdata/vectors.json has examples of what is valid and what
// is not.
//
// The package is pure. It does no I/O, reads no clock and keeps no state. What
// a message means, and whether it is welcome, is decided above it.
package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

const (
	// Version is the version of the protocol that this package speaks.
	Version uint8 = 1

	// MaxSize is how long a body may be, in bytes. It is far below what
	// lnd would carry: no message needs more, and a peer cannot make us
	// keep more.
	MaxSize = 2048

	// IDSize is the length of an id, in bytes.
	IDSize = 32
)

var (
	// ErrTooLarge is returned for a body longer than MaxSize.
	ErrTooLarge = errors.New("message is too large")

	// ErrMalformed is returned for a message that breaks the rules of its
	// version: a body that does not parse, a record that is missing, or a
	// value that is not allowed.
	ErrMalformed = errors.New("message is malformed")

	// ErrVersion is returned for a message of another version. Its header
	// can be read all the same.
	ErrVersion = errors.New("version is not supported")

	// ErrUnsupported is returned for a message that asks for something that
	// this package does not know: its type, a record that must not be
	// ignored, a protocol or an admission.
	ErrUnsupported = errors.New("message is not supported")
)

// MsgType is the number under which lnd carries a message. All are odd, so that
// a node that does not know them ignores them, and in lnd's custom range.
type MsgType uint16

const (
	// TypeOffer gives the receiver a socket's connection information.
	TypeOffer MsgType = 50501

	// TypeRequest asks the receiver to host a socket.
	TypeRequest MsgType = 50503

	// TypeAccept tells the sender of an offer that it was accepted.
	TypeAccept MsgType = 50505

	// TypeReject tells the sender of a message that it was turned down.
	TypeReject MsgType = 50507

	// TypeClose ends an offer, whether it was accepted or not, or takes
	// back a request.
	TypeClose MsgType = 50509

	// TypeAck tells the sender of a message that it arrived.
	TypeAck MsgType = 50511
)

// msgTypeNames has a name for every type.
var msgTypeNames = map[MsgType]string{
	TypeOffer:   "offer",
	TypeRequest: "request",
	TypeAccept:  "accept",
	TypeReject:  "reject",
	TypeClose:   "close",
	TypeAck:     "ack",
}

// String returns the type's name.
func (t MsgType) String() string {
	if name, ok := msgTypeNames[t]; ok {
		return name
	}

	return strconv.Itoa(int(t))
}

// ParseMsgType returns the type of a custom message, and false if it is none of
// this protocol.
func ParseMsgType(n uint32) (MsgType, bool) {
	if n > uint32(TypeAck) {
		return 0, false
	}
	t := MsgType(n)
	_, ok := msgTypeNames[t]

	return t, ok
}

// ID names a message, an offer (the message that made it) or a socket. It is
// random; an id of zeros is none, and never on the wire.
type ID [IDSize]byte

// String returns the id in hex.
func (id ID) String() string {
	return hex.EncodeToString(id[:])
}

// IsZero tells whether the id is none.
func (id ID) IsZero() bool {
	return id == ID{}
}

// Header is what every message of every version begins with.
type Header struct {
	// Version is the version of the protocol that the message follows.
	Version uint8

	// ID is the id of the message, chosen by its sender.
	ID ID
}

// Message is a message of this version.
type Message interface {
	// Type returns the number under which lnd carries the message.
	Type() MsgType

	// Validate returns an error that wraps ErrMalformed or ErrUnsupported
	// if the message is one that Decode would refuse.
	Validate() error

	// fields returns the records of the message in ascending order. They
	// point into the message.
	fields() []field
}

// Encode returns the body of a message. It refuses whatever Decode would
// refuse, with the same errors.
func Encode(m Message) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Type(), err)
	}

	body, err := encodeFields(m.fields())
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Type(), err)
	}

	return body, nil
}

// Decode returns the message in a body that arrived under a type. The error
// wraps ErrTooLarge, ErrMalformed, ErrVersion or ErrUnsupported; with the last
// two the header can be read with DecodeHeader, and often with ErrMalformed.
func Decode(t MsgType, body []byte) (Message, error) {
	header, err := DecodeHeader(body)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", t, err)
	}
	if header.Version != Version {
		return nil, fmt.Errorf("decode %s: %w: %d", t, ErrVersion,
			header.Version)
	}

	var m Message
	switch t {
	case TypeOffer:
		m = &Offer{}

	case TypeRequest:
		m = &Request{}

	case TypeAccept:
		m = &Accept{}

	case TypeReject:
		m = &Reject{}

	case TypeClose:
		m = &Close{}

	case TypeAck:
		m = &Ack{}

	default:
		return nil, fmt.Errorf("decode %s: %w: type", t, ErrUnsupported)
	}

	if err := decodeFields(body, m.fields()); err != nil {
		return nil, fmt.Errorf("decode %s: %w", t, err)
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("decode %s: %w", t, err)
	}

	return m, nil
}
