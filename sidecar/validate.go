package sidecar

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/wire"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// defaultExpiry is how long an offer is good for if nobody says.
	defaultExpiry = time.Hour

	// maxExternalAddrs is how many addresses an offer carries.
	maxExternalAddrs = wire.MaxAddrs
)

// invalid returns the status of a bad field of a request.
func invalid(field, format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, "%s: %s", field,
		fmt.Sprintf(format, args...))
}

// parsePubKey parses the public key of another node.
func parsePubKey(s string, own offer.PubKey) (offer.PubKey, error) {
	const field = "pubkey"

	raw, err := hex.DecodeString(s)
	if err != nil {
		return offer.PubKey{}, invalid(field, "not hex: %v", err)
	}
	if len(raw) != len(own) {
		return offer.PubKey{}, invalid(field, "%d bytes, a public "+
			"key has %d", len(raw), len(own))
	}
	if _, err := btcec.ParsePubKey(raw); err != nil {
		return offer.PubKey{}, invalid(field, "not a point on the "+
			"curve: %v", err)
	}

	key := offer.PubKey(raw)
	if key == own {
		return offer.PubKey{}, invalid(field, "this is our own node")
	}

	return key, nil
}

// parseID parses the 32-byte id in a field of a request.
func parseID(field, s string) ([32]byte, error) {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return [32]byte{}, invalid(field, "not hex: %v", err)
	}
	if len(raw) != 32 {
		return [32]byte{}, invalid(field, "%d hex digits, an id has "+
			"64", len(s))
	}

	return [32]byte(raw), nil
}

// parseProtocol parses the protocol of a socket; empty stands for UDP.
func parseProtocol(s string) (relay.Protocol, error) {
	if s == "" {
		return relay.UDP, nil
	}

	protocol, err := relay.ParseProtocol(s)
	if err != nil {
		return 0, invalid("protocol", "%q is not known, use %q or %q",
			s, relay.UDP, relay.TCP)
	}

	return protocol, nil
}

// parseText checks a text that is shown to people on another node.
func parseText(field, s string) (string, error) {
	if err := wire.CheckText(s); err != nil {
		return "", invalid(field, "%v", err)
	}

	return s, nil
}

// parseExpiry returns the time at which an offer or request ends, from Unix
// seconds; the zero time for 0, which says nothing.
func parseExpiry(seconds int64, now time.Time) (time.Time, error) {
	if seconds == 0 {
		return time.Time{}, nil
	}

	const field = "expiry"
	expiry := time.Unix(seconds, 0)
	switch {
	case !expiry.After(now):
		return time.Time{}, invalid(field, "is in the past")

	case expiry.After(now.Add(offer.MaxLifetime)):
		return time.Time{}, invalid(field, "is more than %v ahead",
			offer.MaxLifetime)
	}

	return expiry, nil
}

// parseLeg returns the leg that an offer grants; 0 stands for leg 2.
func parseLeg(leg uint32) (relay.Leg, error) {
	switch leg {
	case 0, 2:
		return relay.Leg2, nil

	case 1:
		return relay.Leg1, nil
	}

	return 0, invalid("leg", "%d is neither 1 nor 2", leg)
}
