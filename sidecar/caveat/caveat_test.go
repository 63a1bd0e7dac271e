package caveat

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/macaroon.v2"
)

// makeMacaroon returns a macaroon in hex with the given caveats.
func makeMacaroon(t *testing.T, version macaroon.Version,
	caveats ...string) string {

	t.Helper()

	mac, err := macaroon.New([]byte("key"), []byte("id"), "lnd", version)
	require.NoError(t, err)
	for _, caveat := range caveats {
		require.NoError(t, mac.AddFirstPartyCaveat([]byte(caveat)))
	}
	raw, err := mac.MarshalBinary()
	require.NoError(t, err)

	return hex.EncodeToString(raw)
}

// TestParseMacaroon checks which macaroons are looked at, and that an error
// never repeats what it was given.
func TestParseMacaroon(t *testing.T) {
	t.Parallel()

	mac, err := macaroon.New([]byte("k"), []byte("id"), "", macaroon.V2)
	require.NoError(t, err)
	require.NoError(t, mac.AddThirdPartyCaveat(
		[]byte("root"), []byte("3p"), "elsewhere",
	))
	thirdParty, err := mac.MarshalBinary()
	require.NoError(t, err)

	good := makeMacaroon(t, macaroon.V2)
	tests := []struct {
		name   string
		values []string
		want   string
	}{
		{"good", []string{good}, ""},
		{"all caveats", []string{makeMacaroon(
			t, macaroon.V2, "time-before 2030-01-01T00:00:00Z",
			"ipaddr 127.0.0.1", "iprange 127.0.0.0/8",
		)}, ""},
		{"none", nil, "expected one, got 0"},
		{"two", []string{good, good}, "expected one, got 2"},
		{"not hex", []string{"secret"}, "not hex"},
		{"empty", []string{""}, "cannot be decoded"},
		{"garbage", []string{"0201036c6e64"}, "cannot be decoded"},
		{"too long", []string{strings.Repeat("00", MaxSize+1)},
			"longer than 4096 bytes"},
		{"version 1", []string{makeMacaroon(t, macaroon.V1)},
			"not of version 2"},
		{"unknown caveat", []string{makeMacaroon(
			t, macaroon.V2, "lnd-custom app x",
		)}, "nobody here enforces"},
		{"third party", []string{hex.EncodeToString(thirdParty)},
			"third-party"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()

			_, _, err := Parse(test.values)
			if test.want == "" {
				require.NoError(t, err)

				return
			}
			require.ErrorIs(t, err, ErrMacaroon)
			require.ErrorContains(t, err, test.want)
			for _, value := range test.values {
				if value != "" {
					require.NotContains(
						t, err.Error(), value,
					)
				}
			}
		})
	}
}

// TestCheckClientAddr checks the address caveats against the client's true
// address.
func TestCheckClientAddr(t *testing.T) {
	t.Parallel()

	var (
		local = netip.MustParseAddr("127.0.0.1")
		other = netip.MustParseAddr("192.0.2.7")
		six   = netip.MustParseAddr("2001:db8::7")
		none  netip.Addr
	)
	tests := []struct {
		caveats []string
		client  netip.Addr
		ok      bool
	}{
		{nil, none, true},
		{[]string{"time-before 2030-01-01T00:00:00Z"}, none, true},
		{[]string{"ipaddr 127.0.0.1"}, local, true},
		{[]string{"ipaddr ::ffff:127.0.0.1"}, local, true},
		{[]string{"ipaddr 127.0.0.1"}, other, false},
		{[]string{"ipaddr 127.0.0.1"}, none, false},
		{[]string{"ipaddr nonsense"}, local, false},
		{[]string{"ipaddr"}, local, false},
		{[]string{"iprange 127.0.0.0/8"}, local, true},
		{[]string{"iprange 127.0.0.0/8"}, other, false},
		{[]string{"iprange 127.0.0.0/8"}, none, false},
		{[]string{"iprange 127.0.0.1"}, local, false},
		{[]string{"iprange 2001:db8::/32"}, six, true},
		{[]string{"iprange 2001:db8::/32"}, other, false},
		{[]string{"ipaddr 127.0.0.1", "ipaddr 192.0.2.7"}, local,
			false},
	}
	for _, test := range tests {
		_, mac, err := Parse([]string{makeMacaroon(
			t, macaroon.V2, test.caveats...,
		)})
		require.NoError(t, err)

		err = CheckAddr(mac, test.client)
		if test.ok {
			require.NoError(t, err, "%v from %v", test.caveats,
				test.client)
		} else {
			require.ErrorIs(t, err, ErrAddr, "%v from %v",
				test.caveats, test.client)
		}
	}
}
