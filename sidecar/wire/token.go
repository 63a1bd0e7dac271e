package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/lightningnetwork/lnd/tlv"
)

// TokenSize is the length of a token, in bytes.
const TokenSize = 16

// hidden is what is shown instead of a token.
const hidden = "(token)"

// errZeroToken is returned for a record that has a token of zeros.
var errZeroToken = errors.New("token is zero")

// Token admits whoever holds it to a leg. It is drawn at random and is a
// secret: nothing prints it by mistake. A token of zeros is none, and never on
// the wire.
type Token [TokenSize]byte

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

// MarshalText keeps the token out of JSON, also where it is a part of
// something that is logged or told.
func (t Token) MarshalText() ([]byte, error) {
	return []byte(hidden), nil
}

// Tokens has the token of leg 1 and that of leg 2, zero for none.
type Tokens [2]Token

// check returns an error that wraps ErrMalformed unless there are exactly the
// tokens that an offer of these legs must have.
func (t Tokens) check(admission Admission, legs Legs) error {
	for i, token := range t {
		granted := legs.Has(Leg1 << i)
		switch {
		case admission == AdmissionOpen && !token.IsZero():
			return fmt.Errorf("%w: leg %d is OPEN and has a token",
				ErrMalformed, i+1)

		case !granted && !token.IsZero():
			return fmt.Errorf("%w: leg %d is not granted and has "+
				"a token", ErrMalformed, i+1)

		case admission == AdmissionToken && granted && token.IsZero():
			return fmt.Errorf("%w: leg %d has no token",
				ErrMalformed, i+1)
		}
	}

	return nil
}

// tokenField returns the optional record that has a token.
func tokenField(typ tlv.Type, token *Token) field {
	encode := func(w io.Writer, _ any, _ *[8]byte) error {
		_, err := w.Write(token[:])

		return err
	}

	decode := func(r io.Reader, _ any, _ *[8]byte, length uint64) error {
		if length != TokenSize {
			return fmt.Errorf("%w: token of %d bytes", errLength,
				length)
		}
		if _, err := io.ReadFull(r, token[:]); err != nil {
			return err
		}
		if token.IsZero() {
			return fmt.Errorf("%w: record %d", errZeroToken, typ)
		}

		return nil
	}

	return field{
		Record: tlv.MakeStaticRecord(
			typ, nil, TokenSize, encode, decode,
		),
		optional: true,
		empty:    token.IsZero(),
	}
}
