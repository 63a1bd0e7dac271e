package wire

import (
	"encoding/hex"
	"fmt"
	"io"

	"github.com/lightningnetwork/lnd/tlv"
)

// PubKeySize is the length of a public key, in bytes.
const PubKeySize = 33

// The first byte of a compressed public key (SEC 1, section 2.3.3): whether
// the y coordinate is even or odd.
const (
	keyEven = 2
	keyOdd  = 3
)

// PubKey is the public key of a node, compressed.
type PubKey [PubKeySize]byte

// String returns the key in hex.
func (k PubKey) String() string {
	return hex.EncodeToString(k[:])
}

// IsZero tells whether the key is none.
func (k PubKey) IsZero() bool {
	return k == PubKey{}
}

// check returns an error that wraps ErrMalformed unless the key has the form of
// one. Whether there is a node of this key is not known either way, so that
// nothing is gained by looking whether it is a point of the curve.
func (k PubKey) check() error {
	if k[0] != keyEven && k[0] != keyOdd {
		return fmt.Errorf("%w: public key begins with %#x",
			ErrMalformed, k[0])
	}

	return nil
}

// hostField returns the optional record that has the key of a host.
func hostField(key *PubKey) field {
	encode := func(w io.Writer, _ any, _ *[8]byte) error {
		_, err := w.Write(key[:])

		return err
	}

	decode := func(r io.Reader, _ any, _ *[8]byte, length uint64) error {
		if length != PubKeySize {
			return fmt.Errorf("%w: public key of %d bytes",
				errLength, length)
		}
		if _, err := io.ReadFull(r, key[:]); err != nil {
			return err
		}

		return key.check()
	}

	return field{
		Record: tlv.MakeStaticRecord(
			recHost, nil, PubKeySize, encode, decode,
		),
		optional: true,
		empty:    key.IsZero(),
	}
}
