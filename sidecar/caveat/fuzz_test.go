package caveat

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/macaroon.v2"
)

// FuzzParseMacaroon gives the parser what a caller may send in place of a
// macaroon, before anybody is asked whether it is good. What it takes has
// caveats that somebody enforces, and no others.
func FuzzParseMacaroon(f *testing.F) {
	for _, caveats := range [][]string{
		nil, {"time-before 2026-01-01T00:00:00Z"},
		{"ipaddr 192.0.2.7", "iprange 192.0.2.0/24"},
		{"lnd-custom x y"}, {"ipaddr"}, {""},
	} {
		for _, version := range []macaroon.Version{
			macaroon.V1, macaroon.V2,
		} {
			mac, err := macaroon.New(
				[]byte("key"), []byte("id"), "lnd", version,
			)
			require.NoError(f, err)
			for _, caveat := range caveats {
				err := mac.AddFirstPartyCaveat([]byte(caveat))
				require.NoError(f, err)
			}

			raw, err := mac.MarshalBinary()
			require.NoError(f, err)
			f.Add(hex.EncodeToString(raw))
		}
	}
	f.Add("")
	f.Add("0g")

	f.Fuzz(func(t *testing.T, text string) {
		raw, mac, err := Parse([]string{text})
		if err != nil {
			require.ErrorIs(t, err, ErrMacaroon)

			return
		}

		require.LessOrEqual(t, len(raw), MaxSize)
		require.Equal(t, macaroon.V2, mac.Version())
		for _, caveat := range mac.Caveats() {
			name, _ := split(caveat)
			require.Contains(t, []string{
				caveatTimeBefore, caveatIPAddr, caveatIPRange,
			}, name)
			require.Empty(t, caveat.VerificationId)
		}

		// Whatever its caveats say, it does not work for a client that
		// has no address if one is about that.
		err = CheckAddr(mac, netip.Addr{})
		if err != nil {
			require.ErrorIs(t, err, ErrAddr)
		}
	})
}
