package wire

import (
	"errors"
	"fmt"
	"io"

	"github.com/lightningnetwork/lnd/tlv"
)

// errZeroLimit is returned for a record that has a limit of zero.
var errZeroLimit = errors.New("limit is zero")

// SocketLimits are what a request says of how much may pass through the socket
// and how long it lives. 0 leaves a limit to the host; that there be none
// cannot be asked for.
type SocketLimits struct {
	// Bandwidth is how many bytes may pass in a second, in each direction.
	Bandwidth uint64

	// Packets is how many datagrams may pass in a second, in each
	// direction. It is for UDP.
	Packets uint64

	// TotalBytes is how many bytes may pass in all, both directions
	// together.
	TotalBytes uint64

	// IdleTimeout is after how many seconds without a byte or a packet the
	// socket ends.
	IdleTimeout uint64

	// Lifetime is after how many seconds it ends in any case.
	Lifetime uint64

	// Pairs is how many pairs of connections there may be. It is for TCP.
	Pairs uint64
}

// check returns an error that wraps ErrMalformed if there is a limit that is
// not for sockets of the protocol.
func (l *SocketLimits) check(protocol Protocol) error {
	switch {
	case l.Packets != 0 && protocol != ProtocolUDP:
		return fmt.Errorf("%w: packets of a %v socket", ErrMalformed,
			protocol)

	case l.Pairs != 0 && protocol != ProtocolTCP:
		return fmt.Errorf("%w: pairs of a %v socket", ErrMalformed,
			protocol)
	}

	return nil
}

// Request asks the receiver to host a socket, and to answer with an offer of
// it.
type Request struct {
	// ID is the id of the message, and of the request.
	ID ID

	Protocol Protocol

	// Label is the name that the socket is to have, or empty. See
	// CheckText.
	Label string

	// Legs are the legs that the sender wants to be granted.
	Legs Legs

	Admission Admission

	// Expiry is when the request ends if it is not answered, in Unix
	// seconds.
	Expiry uint64

	Limits SocketLimits
}

// A compile-time check that Request is a message.
var _ Message = (*Request)(nil)

// Type returns TypeRequest.
func (*Request) Type() MsgType {
	return TypeRequest
}

// Validate returns an error that wraps ErrMalformed or ErrUnsupported if the
// request is not one that may be sent.
func (r *Request) Validate() error {
	if r.ID.IsZero() {
		return fmt.Errorf("%w: message id is zero", ErrMalformed)
	}
	if err := checkKind(r.Protocol, r.Admission); err != nil {
		return err
	}
	if err := r.Legs.check(); err != nil {
		return err
	}
	if err := r.Limits.check(r.Protocol); err != nil {
		return err
	}

	return CheckText(r.Label)
}

// fields returns the records of the message.
func (r *Request) fields() []field {
	version := Version

	return append(
		headerFields(&version, &r.ID),
		numField(recProtocol, (*uint8)(&r.Protocol)),
		textField(&r.Label),
		numField(recLegs, (*uint8)(&r.Legs)),
		numField(recAdmission, (*uint8)(&r.Admission)),
		numField(recExpiry, &r.Expiry),
		limitField(recBandwidth, &r.Limits.Bandwidth),
		limitField(recPackets, &r.Limits.Packets),
		limitField(recTotalBytes, &r.Limits.TotalBytes),
		limitField(recIdleTimeout, &r.Limits.IdleTimeout),
		limitField(recLifetime, &r.Limits.Lifetime),
		limitField(recPairs, &r.Limits.Pairs),
	)
}

// limitField returns the optional record that has a limit.
func limitField(typ tlv.Type, limit *uint64) field {
	decode := func(r io.Reader, value any, buf *[8]byte, l uint64) error {
		if err := tlv.DUint64(r, value, buf, l); err != nil {
			return err
		}
		if *limit == 0 {
			return fmt.Errorf("%w: record %d", errZeroLimit, typ)
		}

		return nil
	}

	return field{
		Record: tlv.MakeStaticRecord(
			typ, limit, 8, tlv.EUint64, decode,
		),
		optional: true,
		empty:    *limit == 0,
	}
}
