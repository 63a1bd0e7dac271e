// Package caveat is what socketd itself reads of a macaroon before it asks lnd
// about it: whether lnd could judge it, and what lnd cannot, which is the
// address of the client. A stranger can reach it.
//
// The package is pure. It does no I/O and reads no clock.
package caveat

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"gopkg.in/macaroon.v2"
)

const (
	// MaxSize is how long a macaroon may be, in bytes.
	MaxSize = 4096

	// The caveats that lnd or socketd enforces; lnd's constrainmacaroon
	// adds these and no others.
	caveatTimeBefore = "time-before"
	caveatIPAddr     = "ipaddr"
	caveatIPRange    = "iprange"
)

var (
	// ErrMacaroon is wrapped by every refusal to look at a macaroon.
	ErrMacaroon = errors.New("macaroon")

	// ErrAddr is wrapped when the client is not at an address for
	// which its macaroon was made.
	ErrAddr = errors.New("macaroon is not for this address")
)

// Parse decodes the macaroon that a call carries in hex, as the values of its
// header. It refuses, with ErrMacaroon, what lnd could not judge or what nobody
// would enforce here.
func Parse(values []string) ([]byte, *macaroon.Macaroon, error) {
	if len(values) != 1 {
		return nil, nil, fmt.Errorf("%w: expected one, got %d",
			ErrMacaroon, len(values))
	}
	if len(values[0]) > 2*MaxSize {
		return nil, nil, fmt.Errorf("%w: longer than %d bytes",
			ErrMacaroon, MaxSize)
	}

	// The library's error would repeat what was sent, which is a secret.
	raw, err := hex.DecodeString(values[0])
	if err != nil {
		return nil, nil, fmt.Errorf("%w: not hex", ErrMacaroon)
	}

	var mac macaroon.Macaroon
	if err := mac.UnmarshalBinary(raw); err != nil {
		return nil, nil, fmt.Errorf("%w: cannot be decoded",
			ErrMacaroon)
	}
	if mac.Version() != macaroon.V2 {
		return nil, nil, fmt.Errorf("%w: not of version 2", ErrMacaroon)
	}

	for _, caveat := range mac.Caveats() {
		if len(caveat.VerificationId) > 0 || caveat.Location != "" {
			return nil, nil, fmt.Errorf("%w: has a third-party "+
				"caveat", ErrMacaroon)
		}

		name, _ := split(caveat)
		switch name {
		case caveatTimeBefore, caveatIPAddr, caveatIPRange:

		default:
			return nil, nil, fmt.Errorf("%w: has a caveat that "+
				"nobody here enforces", ErrMacaroon)
		}
	}

	return raw, &mac, nil
}

// split returns the name of a first-party caveat and its argument.
func split(caveat macaroon.Caveat) (string, string) {
	name, arg, _ := strings.Cut(string(caveat.Id), " ")

	return name, arg
}

// CheckAddr checks the address caveats of a macaroon against the true address
// of the client, which is invalid if the client has none. lnd checks them too,
// but sees only socketd's address. The error wraps ErrAddr.
func CheckAddr(mac *macaroon.Macaroon, client netip.Addr) error {
	for _, caveat := range mac.Caveats() {
		name, arg := split(caveat)

		var allowed bool
		switch name {
		case caveatIPAddr:
			addr, err := netip.ParseAddr(arg)
			allowed = err == nil && addr.Unmap() == client

		case caveatIPRange:
			prefix, err := netip.ParsePrefix(arg)
			allowed = err == nil && prefix.Contains(client)

		default:
			continue
		}

		if !client.IsValid() {
			return fmt.Errorf("%w: %s does not work over a unix "+
				"socket", ErrAddr, name)
		}
		if !allowed {
			return fmt.Errorf("%w: %s %s, and the client is %s",
				ErrAddr, name, arg, client)
		}
	}

	return nil
}
