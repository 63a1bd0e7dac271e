package globalip

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIs checks the first and the last address of each network that is special,
// and the ones beside it.
func TestIs(t *testing.T) {
	t.Parallel()

	for _, text := range []string{
		// Unspecified, and this network.
		"0.0.0.0", "0.255.255.255",

		// Private.
		"10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255",
		"192.168.0.0", "192.168.255.255",

		// Behind a carrier's NAT.
		"100.64.0.0", "100.127.255.255",

		// Loopback, link-local.
		"127.0.0.0", "127.255.255.255", "169.254.0.0",
		"169.254.169.254", "169.254.255.255",

		// Protocols, documentation, 6to4 relays, benchmarks.
		"192.0.0.0", "192.0.0.255", "192.0.2.0", "192.0.2.255",
		"192.88.99.0", "192.88.99.255", "198.18.0.0",
		"198.19.255.255", "198.51.100.0", "198.51.100.255",
		"203.0.113.0", "203.0.113.255",

		// Multicast, reserved, broadcast.
		"224.0.0.0", "239.255.255.255", "240.0.0.0",
		"255.255.255.254", "255.255.255.255",

		// Unspecified, loopback, discard.
		"::", "::1", "100::", "100::1", "100:0:0:1::1",

		// IPv4-compatible, IPv4-mapped, IPv4-translated, NAT64.
		"::8.8.8.8", "::ffff:8.8.8.8", "::ffff:10.0.0.1",
		"::ffff:0:8.8.8.8", "64:ff9b::808:808", "64:ff9b::a00:1",
		"64:ff9b:1::1",

		// Outside of what is given out.
		"1fff:ffff::1", "4000::1", "5f00::1",

		// Teredo and other protocols, documentation, 6to4.
		"2001::", "2001::1", "2001:0:a00:1::1", "2001:1::1",
		"2001:2::1", "2001:3::1", "2001:10::1", "2001:20::1",
		"2001:30::1", "2001:1ff:ffff::1", "2001:db8::",
		"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2002::1",
		"2002:a00:1::1", "2002:ffff::1", "3fff::1", "3fff:fff::1",

		// Private, link-local, site-local, multicast.
		"fc00::1", "fd00::1", "fdff::1", "fe80::1", "febf::1",
		"fec0::1", "feff::1", "ff02::1", "ff0e::1",

		// A zone makes it one of this machine's links.
		"2a00::1%eth0",
	} {
		require.False(t, Is(netip.MustParseAddr(text)), text)
	}
	require.False(t, Is(netip.Addr{}))

	for _, text := range []string{
		"1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0",
		"100.63.255.255", "100.128.0.0", "126.255.255.255",
		"128.0.0.0", "169.253.255.255", "169.255.0.0",
		"172.15.255.255", "172.32.0.0", "191.255.255.255",
		"192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0",
		"192.167.255.255", "192.169.0.0", "198.17.255.255",
		"198.20.0.0", "198.51.99.255", "198.51.101.0",
		"203.0.112.255", "203.0.114.0", "223.255.255.255",

		"2000::", "2001:200::", "2001:db7:ffff::1", "2001:db9::",
		"2001:ffff::1", "2003::", "2606:4700::1111", "2a00::1",
		"3ffe:ffff::1", "3fff:1000::",
	} {
		require.True(t, Is(netip.MustParseAddr(text)), text)
	}
}
