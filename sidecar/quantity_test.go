package sidecar

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestQuantity checks which texts are quantities, and that each is written as
// it is read.
func TestQuantity(t *testing.T) {
	t.Parallel()

	tests := []struct {
		text    string
		want    Quantity
		written string
	}{
		{"0", 0, "0"},
		{"0G", 0, "0"},
		{"1", 1, "1"},
		{"007", 7, "7"},
		{"1000", 1000, "1k"},
		{"1001", 1001, "1001"},
		{"50k", 50_000, "50k"},
		{"62500000", 62_500_000, "62500k"},
		{"25M", 25_000_000, "25M"},
		{"25000k", 25_000_000, "25M"},
		{"3G", 3_000_000_000, "3G"},
		{"9223372036854775807", math.MaxInt64, "9223372036854775807"},
		{"9223372036G", 9_223_372_036_000_000_000, "9223372036G"},
	}
	for _, test := range tests {
		var q Quantity
		require.NoError(t, q.UnmarshalFlag(test.text), test.text)
		require.Equal(t, test.want, q, test.text)

		written, err := q.MarshalFlag()
		require.NoError(t, err)
		require.Equal(t, test.written, written)

		var again Quantity
		require.NoError(t, again.UnmarshalFlag(written))
		require.Equal(t, q, again)
	}
}

// TestQuantityRefused checks that whatever is no quantity is refused, and that
// none that is too large becomes a small one.
func TestQuantityRefused(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]string{
		"":                     "not a whole number",
		" ":                    "not a whole number",
		"k":                    "not a whole number",
		"-1":                   "not a whole number",
		"+1":                   "not a whole number",
		"1.5M":                 "not a whole number",
		"1e6":                  "not a whole number",
		"0x10":                 "not a whole number",
		"1_000":                "not a whole number",
		"1 k":                  "not a whole number",
		"1K":                   "not a whole number",
		"1m":                   "not a whole number",
		"1kB":                  "not a whole number",
		"1kM":                  "not a whole number",
		"1Mk":                  "not a whole number",
		"1T":                   "not a whole number",
		"١":                    "not a whole number",
		"9223372036854775808":  "too large",
		"18446744073709551617": "too large",
		"9223372037G":          "too large",
		"18446744074G":         "too large",
		"99999999999999999999": "too large",
	} {
		q := Quantity(7)
		require.ErrorContains(t, q.UnmarshalFlag(text), want, text)
		require.Equal(t, Quantity(7), q, text)
	}
}
