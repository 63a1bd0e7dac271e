package wire

import (
	"fmt"
	"net/netip"
	"strconv"
)

// Protocol is what a socket relays.
type Protocol uint8

const (
	// ProtocolUDP is datagrams.
	ProtocolUDP Protocol = 1

	// ProtocolTCP is streams.
	ProtocolTCP Protocol = 2
)

// String returns the protocol's name as the API has it.
func (p Protocol) String() string {
	switch p {
	case ProtocolUDP:
		return "udp"

	case ProtocolTCP:
		return "tcp"
	}

	return strconv.Itoa(int(p))
}

// Legs is a set of legs.
type Legs uint8

const (
	// Leg1 has only leg 1.
	Leg1 Legs = 1 << 0

	// Leg2 has only leg 2.
	Leg2 Legs = 1 << 1

	// BothLegs has both.
	BothLegs = Leg1 | Leg2
)

// Has tells whether all of other's legs are in the set.
func (l Legs) Has(other Legs) bool {
	return l&other == other
}

// check returns an error that wraps ErrMalformed unless the set has one or both
// legs, and nothing else.
func (l Legs) check() error {
	if l == 0 || !BothLegs.Has(l) {
		return fmt.Errorf("%w: legs %#x", ErrMalformed, uint8(l))
	}

	return nil
}

// Admission is how a leg decides whom it takes as its client.
type Admission uint8

const (
	// AdmissionOpen admits the first source that sends to the leg.
	AdmissionOpen Admission = 0

	// AdmissionToken admits whoever proves that it holds a token of the
	// leg.
	AdmissionToken Admission = 1
)

// String returns the admission's name as the API has it.
func (a Admission) String() string {
	switch a {
	case AdmissionOpen:
		return "open"

	case AdmissionToken:
		return "token"
	}

	return strconv.Itoa(int(a))
}

// Offer gives the receiver a socket's connection information and grants it one
// of the socket's legs, or both.
type Offer struct {
	// ID is the id of the message, and of the offer.
	ID ID

	// ReplyTo is the request that the offer answers; zero for none.
	ReplyTo ID

	Protocol Protocol

	// Addrs are the addresses of the host, the preferred one first.
	Addrs []netip.Addr

	// Port1 and Port2 are the ports of the legs, both of them always.
	Port1 uint16
	Port2 uint16

	// Legs are the legs that are granted to the receiver.
	Legs Legs

	Admission Admission

	// Tokens admit the receiver to the legs that are granted, if the
	// admission is AdmissionToken. All others are zero.
	Tokens Tokens

	// Expiry is when the offer ends if it is not used, in Unix seconds.
	Expiry uint64

	SocketID ID

	// Label is the name that the socket's owner gave it, or empty. See
	// CheckText.
	Label string

	// Host is the node that hosts the socket, if that is not the sender,
	// who passes on what it got. Zero for the sender.
	Host PubKey
}

// A compile-time check that Offer is a message.
var _ Message = (*Offer)(nil)

// Type returns TypeOffer.
func (*Offer) Type() MsgType {
	return TypeOffer
}

// Validate returns an error that wraps ErrMalformed or ErrUnsupported if the
// offer is not one that may be sent.
func (o *Offer) Validate() error {
	if err := checkKind(o.Protocol, o.Admission); err != nil {
		return err
	}
	switch {
	case o.ID.IsZero():
		return fmt.Errorf("%w: message id is zero", ErrMalformed)

	case o.SocketID.IsZero():
		return fmt.Errorf("%w: socket id is zero", ErrMalformed)

	case o.Port1 == 0 || o.Port2 == 0:
		return fmt.Errorf("%w: port is zero", ErrMalformed)

	case o.Port1 == o.Port2:
		return fmt.Errorf("%w: both ports are %d", ErrMalformed,
			o.Port1)
	}

	if err := o.Legs.check(); err != nil {
		return err
	}
	if !o.Host.IsZero() {
		if err := o.Host.check(); err != nil {
			return err
		}
	}
	if err := o.Tokens.check(o.Admission, o.Legs); err != nil {
		return err
	}
	if err := checkAddrs(o.Addrs); err != nil {
		return err
	}

	return CheckText(o.Label)
}

// checkKind returns an error that wraps ErrUnsupported unless both are known.
func checkKind(protocol Protocol, admission Admission) error {
	switch {
	case protocol != ProtocolUDP && protocol != ProtocolTCP:
		return fmt.Errorf("%w: protocol %d", ErrUnsupported, protocol)

	case admission != AdmissionOpen && admission != AdmissionToken:
		return fmt.Errorf("%w: admission %d", ErrUnsupported, admission)
	}

	return nil
}

// fields returns the records of the message.
func (o *Offer) fields() []field {
	version := Version

	replyTo := idField(recReplyTo, &o.ReplyTo)
	replyTo.optional = true
	replyTo.empty = o.ReplyTo.IsZero()

	return append(
		headerFields(&version, &o.ID),
		replyTo,
		numField(recProtocol, (*uint8)(&o.Protocol)),
		textField(&o.Label),
		addrsField(&o.Addrs),
		numField(recPort1, &o.Port1),
		numField(recPort2, &o.Port2),
		numField(recLegs, (*uint8)(&o.Legs)),
		numField(recAdmission, (*uint8)(&o.Admission)),
		numField(recExpiry, &o.Expiry),
		idField(recSocketID, &o.SocketID),
		tokenField(recToken1, &o.Tokens[0]),
		tokenField(recToken2, &o.Tokens[1]),
		hostField(&o.Host),
	)
}
