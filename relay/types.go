package relay

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var (
	// ErrClosed means that the relay has shut down.
	ErrClosed = errors.New("the relay has shut down")

	// ErrTooManySockets means that Config.MaxSockets are open.
	ErrTooManySockets = errors.New("too many sockets")

	// ErrNoFreePort means that no two ports of Config.Ports can be had:
	// they are in use, rest, or belong to other programs.
	ErrNoFreePort = errors.New("no free port")

	// ErrProtocol means that the relay does not speak the protocol.
	ErrProtocol = errors.New("unknown protocol")

	// ErrOptions means that a socket with these limits cannot be.
	ErrOptions = errors.New("invalid socket options")
)

// ID names a socket. It is drawn at random.
type ID [32]byte

// newID draws an id from the system's random source.
func newID() ID {
	var id ID

	// It never fails: the runtime ends the process instead.
	_, _ = rand.Read(id[:])

	return id
}

// ParseID reads an id from the 64 hex digits that ID.String writes. Upper case
// is fine too.
func ParseID(s string) (ID, error) {
	var id ID

	if len(s) != hex.EncodedLen(len(id)) {
		return ID{}, fmt.Errorf("a socket id has %d hex digits: got "+
			"%d characters", hex.EncodedLen(len(id)), len(s))
	}

	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("a socket id is hex: %w", err)
	}

	return id, nil
}

// String returns the id as 64 hex digits in lower case.
func (i ID) String() string {
	return hex.EncodeToString(i[:])
}

// Protocol is what the clients of a socket speak to it.
type Protocol uint8

const (
	// UDP relays datagrams.
	UDP Protocol = 1

	// TCP joins connections, and relays their bytes.
	TCP Protocol = 2
)

// ParseProtocol reads a protocol from its name, in lower case as
// Protocol.String writes it. Any other name is an ErrProtocol.
func ParseProtocol(s string) (Protocol, error) {
	switch s {
	case UDP.String():
		return UDP, nil

	case TCP.String():
		return TCP, nil

	default:
		return 0, fmt.Errorf("%w %q: the relay speaks %v and %v",
			ErrProtocol, s, UDP, TCP)
	}
}

// String returns the protocol's name: "udp" or "tcp".
func (p Protocol) String() string {
	switch p {
	case UDP:
		return "udp"

	case TCP:
		return "tcp"

	default:
		return "protocol " + strconv.Itoa(int(p))
	}
}

// Leg is one side of a socket.
type Leg uint8

const (
	// Leg1 is the side of the socket's first port.
	Leg1 Leg = 1

	// Leg2 is the side of the socket's second port.
	Leg2 Leg = 2
)

// Other returns the leg on the far side of the socket. It is only defined for
// Leg1 and Leg2.
func (l Leg) Other() Leg {
	return Leg1 + Leg2 - l
}

// PortRange is a range of ports. Both ends belong to it.
type PortRange struct {
	// Low is the first port, at least 1.
	Low uint16

	// High is the last port, at least Low.
	High uint16
}

// ParsePortRange reads a range such as "21000-21999".
func ParsePortRange(s string) (PortRange, error) {
	low, high, found := strings.Cut(s, "-")
	if !found {
		return PortRange{}, fmt.Errorf("port range %q: want two ports "+
			"as in 21000-21999", s)
	}

	first, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return PortRange{}, fmt.Errorf("port range %q: %w", s, err)
	}

	last, err := strconv.ParseUint(high, 10, 16)
	if err != nil {
		return PortRange{}, fmt.Errorf("port range %q: %w", s, err)
	}

	r := PortRange{Low: uint16(first), High: uint16(last)}
	if err := r.validate(); err != nil {
		return PortRange{}, err
	}

	return r, nil
}

// String returns the range as ParsePortRange reads it.
func (r PortRange) String() string {
	return fmt.Sprintf("%d-%d", r.Low, r.High)
}

// validate tells what is wrong with the range.
func (r PortRange) validate() error {
	switch {
	case r.Low == 0:
		return fmt.Errorf("port range %v: ports begin at 1", r)

	case r.High < r.Low:
		return fmt.Errorf("port range %v: it ends before it begins", r)

	default:
		return nil
	}
}

// size returns the number of ports in a valid range.
func (r PortRange) size() int {
	return int(r.High) - int(r.Low) + 1
}

// contains tells whether the port belongs to the range.
func (r PortRange) contains(port uint16) bool {
	return r.Low <= port && port <= r.High
}
