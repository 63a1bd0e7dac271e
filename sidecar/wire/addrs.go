package wire

import (
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/lightningnetwork/lnd/tlv"
)

// MaxAddrs is how many addresses an offer may have.
const MaxAddrs = 8

// The families of an address, each with its length in bytes.
const (
	family4 = 4
	size4   = 4
	family6 = 6
	size6   = 16
)

// checkAddrs returns an error that wraps ErrMalformed unless there are one to
// MaxAddrs addresses, all different, and none of them has two spellings.
func checkAddrs(addrs []netip.Addr) error {
	if len(addrs) == 0 || len(addrs) > MaxAddrs {
		return fmt.Errorf("%w: %d addresses, not 1 to %d", ErrMalformed,
			len(addrs), MaxAddrs)
	}

	for i, addr := range addrs {
		switch {
		case !addr.IsValid():
			return fmt.Errorf("%w: address %d is none",
				ErrMalformed, i)

		case addr.Is4In6():
			return fmt.Errorf("%w: address %v is IPv4 in IPv6",
				ErrMalformed, addr)

		case addr.Zone() != "":
			return fmt.Errorf("%w: address %v has a zone",
				ErrMalformed, addr)

		case slices.Contains(addrs[:i], addr):
			return fmt.Errorf("%w: address %v is there twice",
				ErrMalformed, addr)
		}
	}

	return nil
}

// addrsField returns the record that has the addresses of a socket.
func addrsField(addrs *[]netip.Addr) field {
	size := func() uint64 {
		var n int
		for _, addr := range *addrs {
			n += 1 + addr.BitLen()/8
		}

		return uint64(n)
	}

	encode := func(w io.Writer, _ any, _ *[8]byte) error {
		for _, addr := range *addrs {
			b := []byte{family6}
			if addr.Is4() {
				b[0] = family4
			}
			b = append(b, addr.AsSlice()...)

			if _, err := w.Write(b); err != nil {
				return err
			}
		}

		return nil
	}

	decode := func(r io.Reader, _ any, _ *[8]byte, length uint64) error {
		if length > MaxAddrs*(1+size6) {
			return fmt.Errorf("%w: addresses of %d bytes",
				errLength, length)
		}

		b := make([]byte, length)
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}

		var err error
		*addrs, err = parseAddrs(b)

		return err
	}

	return field{
		Record: tlv.MakeDynamicRecord(
			recAddrs, nil, size, encode, decode,
		),
	}
}

// parseAddrs returns the addresses in the value of their record.
func parseAddrs(b []byte) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for len(b) > 0 {
		family, rest := b[0], b[1:]

		var size int
		switch family {
		case family4:
			size = size4

		case family6:
			size = size6

		default:
			return nil, fmt.Errorf("%w: address family %d",
				ErrMalformed, family)
		}
		if len(rest) < size {
			return nil, fmt.Errorf("%w: address of %d bytes",
				errLength, len(rest))
		}

		// Four and sixteen bytes always are an address.
		addr, _ := netip.AddrFromSlice(rest[:size])
		addrs = append(addrs, addr)
		b = rest[size:]
	}

	return addrs, nil
}
