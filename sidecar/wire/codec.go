package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/lightningnetwork/lnd/tlv"
)

// The types of the records. Even ones must be understood by the receiver, odd
// ones may be ignored. Type 6 depends on the message, the others do not.
const (
	// recVersion is the version, uint8. It is in every message.
	recVersion tlv.Type = 0

	// recMessageID is the id of the message, 32 bytes. It is in every
	// message.
	recMessageID tlv.Type = 2

	// recReplyTo is the id of the message that this one answers, 32 bytes.
	recReplyTo tlv.Type = 4

	// recProtocol is the protocol of a socket, uint8.
	recProtocol tlv.Type = 6

	// recCode is why a message is rejected, uint16.
	recCode tlv.Type = 6

	// recText is the label of a socket, or the words of a reject or close.
	recText tlv.Type = 7

	// recAddrs is the addresses of an offer's socket: for each of them a
	// byte 4 or 6, and then 4 or 16 bytes.
	recAddrs tlv.Type = 8

	// recPort1 is the port of leg 1, uint16.
	recPort1 tlv.Type = 10

	// recPort2 is the port of leg 2, uint16.
	recPort2 tlv.Type = 12

	// recLegs is the legs that an offer grants or a request asks for,
	// uint8.
	recLegs tlv.Type = 14

	// recAdmission is how the legs admit their client, uint8.
	recAdmission tlv.Type = 16

	// recExpiry is when an unused offer or an unanswered request ends, in
	// Unix seconds, uint64.
	recExpiry tlv.Type = 18

	// recSocketID is the id of an offer's socket, 32 bytes.
	recSocketID tlv.Type = 20

	// recToken1 is the token that an offer has for leg 1, 16 bytes.
	recToken1 tlv.Type = 22

	// recToken2 is the token that an offer has for leg 2, 16 bytes.
	recToken2 tlv.Type = 24

	// recBandwidth to recPairs are the limits that a request asks for,
	// uint64 each. See SocketLimits.
	recBandwidth   tlv.Type = 26
	recPackets     tlv.Type = 28
	recTotalBytes  tlv.Type = 30
	recIdleTimeout tlv.Type = 32
	recLifetime    tlv.Type = 34
	recPairs       tlv.Type = 36

	// recHost is the node that hosts an offer's socket, if that is not the
	// sender, 33 bytes.
	recHost tlv.Type = 27
)

// headerSize is the length of the header as it is encoded: two records with a
// byte each for type and length.
const headerSize = 2 + 1 + 2 + IDSize

// errZeroID is returned for a record that has an id of zeros.
var errZeroID = errors.New("id is zero")

// field is a record of a message, bound to the variable that has its value.
type field struct {
	tlv.Record

	// optional tells that the record need not be there. It is left out
	// when it is empty.
	optional bool
	empty    bool
}

// headerFields returns the two records that every message begins with.
func headerFields(version *uint8, id *ID) []field {
	return []field{
		{Record: tlv.MakePrimitiveRecord(recVersion, version)},
		idField(recMessageID, id),
	}
}

// replyFields returns the three records that every answer begins with.
func replyFields(id, replyTo *ID) []field {
	version := Version

	return append(headerFields(&version, id), idField(recReplyTo, replyTo))
}

// idField returns a record that has an id, which is never zero on the wire.
func idField(typ tlv.Type, id *ID) field {
	decode := func(r io.Reader, value any, buf *[8]byte, l uint64) error {
		if err := tlv.DBytes32(r, value, buf, l); err != nil {
			return err
		}
		if id.IsZero() {
			return fmt.Errorf("%w: record %d", errZeroID, typ)
		}

		return nil
	}

	return field{
		Record: tlv.MakeStaticRecord(
			typ, (*[IDSize]byte)(id), IDSize, tlv.EBytes32, decode,
		),
	}
}

// numField returns a record that has a number of fixed size.
func numField[T uint8 | uint16 | uint64](typ tlv.Type, n *T) field {
	return field{Record: tlv.MakePrimitiveRecord(typ, n)}
}

// encodeFields returns the stream of the records that are not left out.
func encodeFields(fields []field) ([]byte, error) {
	records := make([]tlv.Record, 0, len(fields))
	for _, f := range fields {
		if !f.optional || !f.empty {
			records = append(records, f.Record)
		}
	}

	stream, err := tlv.NewStream(records...)
	if err != nil {
		return nil, err
	}

	var b bytes.Buffer
	if err := stream.Encode(&b); err != nil {
		return nil, err
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, b.Len())
	}

	return b.Bytes(), nil
}

// decodeFields reads a body of at most MaxSize bytes into the variables of its
// records. Records that are not among them are ignored if their type is odd.
func decodeFields(body []byte, fields []field) error {
	known := make(map[tlv.Type]struct{}, len(fields))
	records := make([]tlv.Record, 0, len(fields))
	for _, f := range fields {
		known[f.Type()] = struct{}{}
		records = append(records, f.Record)
	}

	stream, err := tlv.NewStream(records...)
	if err != nil {
		return err
	}

	// Only the P2P decoder bounds what it allocates for a record by
	// something else than what the record claims.
	parsed, err := stream.DecodeWithParsedTypesP2P(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}

	for _, f := range fields {
		if _, ok := parsed[f.Type()]; !ok && !f.optional {
			return fmt.Errorf("%w: record %d is missing",
				ErrMalformed, f.Type())
		}
	}
	for _, typ := range slices.Sorted(maps.Keys(parsed)) {
		if _, ok := known[typ]; !ok && typ%2 == 0 {
			return fmt.Errorf("%w: record %d", ErrUnsupported, typ)
		}
	}

	return nil
}

// DecodeHeader returns the header of a message of any version and type. It
// looks at nothing behind it, so that a message of an unknown version can be
// answered. The error wraps ErrTooLarge or ErrMalformed.
func DecodeHeader(body []byte) (Header, error) {
	if len(body) > MaxSize {
		return Header{}, fmt.Errorf("%w: %d bytes", ErrTooLarge,
			len(body))
	}

	// The header's records come first and have a fixed size, so that they
	// fill these bytes exactly, or something else is there.
	var (
		header Header
		prefix = body[:min(len(body), headerSize)]
		fields = headerFields(&header.Version, &header.ID)
	)
	if err := decodeFields(prefix, fields); err != nil {
		return Header{}, fmt.Errorf("header: %w", err)
	}

	return header, nil
}
