// Package globalip tells which addresses lead to one machine of the internet,
// and to nothing else: no network of its own that somebody's machine is in, and
// no gateway to one. What another node says is checked by it before anything is
// sent there.
package globalip

import (
	"net/netip"
	"slices"
)

// unicast6 is what IANA has set aside for global unicast addresses of IPv6.
var unicast6 = netip.MustParsePrefix("2000::/3")

// special has the networks that are no place of a machine of the internet,
// although they look like it: those of the IANA special-purpose address
// registries of IPv4 and IPv6 (RFC 6890) that are not globally reachable, those
// that lead through a gateway to an IPv4 address which is in them, and what is
// not in use. Outside of unicast6 there is nothing to list.
var special = prefixes(
	"0.0.0.0/8",       // This network, RFC 791.
	"10.0.0.0/8",      // Private, RFC 1918.
	"100.64.0.0/10",   // Behind a carrier's NAT, RFC 6598.
	"127.0.0.0/8",     // Loopback, RFC 1122.
	"169.254.0.0/16",  // Link-local, RFC 3927.
	"172.16.0.0/12",   // Private, RFC 1918.
	"192.0.0.0/24",    // IETF protocol assignments, RFC 6890.
	"192.0.2.0/24",    // Documentation, RFC 5737.
	"192.88.99.0/24",  // The nearest 6to4 relay, RFC 7526.
	"192.168.0.0/16",  // Private, RFC 1918.
	"198.18.0.0/15",   // Benchmarks, RFC 2544.
	"198.51.100.0/24", // Documentation, RFC 5737.
	"203.0.113.0/24",  // Documentation, RFC 5737.
	"224.0.0.0/4",     // Multicast, RFC 5771.
	"240.0.0.0/4",     // Reserved, RFC 1112; broadcast, RFC 8190.

	// IETF protocol assignments, RFC 2928: Teredo, RFC 4380, benchmarks,
	// RFC 5180, ORCHID, RFC 7343, anycast of protocols.
	"2001::/23",
	"2001:db8::/32", // Documentation, RFC 3849.
	"2002::/16",     // 6to4, RFC 3056.
	"3fff::/20",     // Documentation, RFC 9637.
)

// prefixes parses networks.
func prefixes(texts ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		parsed = append(parsed, netip.MustParsePrefix(text))
	}

	return parsed
}

// Is tells whether an address is a global unicast one. An IPv4 address that is
// mapped into IPv6 is none, whatever it is by itself, nor is an address with a
// zone.
func Is(addr netip.Addr) bool {
	if addr.Is6() && !unicast6.Contains(addr) {
		return false
	}

	return addr.IsValid() && addr.Zone() == "" &&
		!slices.ContainsFunc(special, func(p netip.Prefix) bool {
			return p.Contains(addr)
		})
}
