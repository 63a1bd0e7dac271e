package sidecar

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"gopkg.in/macaroon.v2"
)

const (
	// maxMacaroonSize bounds a macaroon, in bytes.
	maxMacaroonSize = 4096

	// The caveats that lnd or socketd enforces; lnd's constrainmacaroon
	// adds these and no others.
	caveatTimeBefore = "time-before"
	caveatIPAddr     = "ipaddr"
	caveatIPRange    = "iprange"
)

var (
	// errMacaroon is wrapped by every refusal to look at a macaroon.
	errMacaroon = errors.New("macaroon")

	// errClientAddr is wrapped when the client is not at an address for
	// which its macaroon was made.
	errClientAddr = errors.New("macaroon is not for this address")
)

// decodeHex is hex.DecodeString with an error that does not repeat the input,
// which may be a secret.
func decodeHex(s string) ([]byte, error) {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return nil, errors.New("not hex")
	}

	return raw, nil
}

// parseMacaroon decodes the macaroon that a call carries in hex. It refuses
// what lnd could not judge or what nobody would enforce here.
func parseMacaroon(values []string) ([]byte, *macaroon.Macaroon, error) {
	if len(values) != 1 {
		return nil, nil, fmt.Errorf("%w: expected one, got %d",
			errMacaroon, len(values))
	}
	if len(values[0]) > 2*maxMacaroonSize {
		return nil, nil, fmt.Errorf("%w: longer than %d bytes",
			errMacaroon, maxMacaroonSize)
	}

	raw, err := decodeHex(values[0])
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errMacaroon, err)
	}

	var mac macaroon.Macaroon
	if err := mac.UnmarshalBinary(raw); err != nil {
		return nil, nil, fmt.Errorf("%w: cannot be decoded",
			errMacaroon)
	}
	if mac.Version() != macaroon.V2 {
		return nil, nil, fmt.Errorf("%w: not of version 2", errMacaroon)
	}

	for _, caveat := range mac.Caveats() {
		if len(caveat.VerificationId) > 0 || caveat.Location != "" {
			return nil, nil, fmt.Errorf("%w: has a third-party "+
				"caveat", errMacaroon)
		}

		name, _ := splitCaveat(caveat)
		switch name {
		case caveatTimeBefore, caveatIPAddr, caveatIPRange:

		default:
			return nil, nil, fmt.Errorf("%w: has a caveat that "+
				"nobody here enforces", errMacaroon)
		}
	}

	return raw, &mac, nil
}

// splitCaveat returns the name of a first-party caveat and its argument.
func splitCaveat(caveat macaroon.Caveat) (string, string) {
	name, arg, _ := strings.Cut(string(caveat.Id), " ")

	return name, arg
}

// checkClientAddr checks the address caveats of a macaroon against the true
// address of the client, which is invalid if the client has none. lnd checks
// them too, but sees only socketd's address.
func checkClientAddr(mac *macaroon.Macaroon, client netip.Addr) error {
	for _, caveat := range mac.Caveats() {
		name, arg := splitCaveat(caveat)

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
				"socket", errClientAddr, name)
		}
		if !allowed {
			return fmt.Errorf("%w: %s %s, and the client is %s",
				errClientAddr, name, arg, client)
		}
	}

	return nil
}
