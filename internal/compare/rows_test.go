package compare

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// keysOf returns the names of rows.
func keysOf(rows []*row) []string {
	var keys []string
	for _, r := range rows {
		keys = append(keys, r.key)
	}

	return keys
}

// TestChoose checks which rows names choose.
func TestChoose(t *testing.T) {
	t.Parallel()

	for _, test := range []struct {
		only []string
		keys []string
	}{
		{nil, Keys()},
		{[]string{"tcp", "udp"}, Keys()},
		{[]string{"tcp"}, []string{
			"tcp-bulk", "tcp-bulk8", "tcp-short", "tcp-idle",
		}},
		{[]string{"tcp-bulk"}, []string{"tcp-bulk"}},
		{[]string{"tcp-short", "udp-plain", "udp-plain"}, []string{
			"udp-plain", "tcp-short",
		}},
	} {
		chosen, err := choose(test.only)
		require.NoError(t, err)
		require.Equal(t, test.keys, keysOf(chosen))
	}

	for _, name := range []string{"", "ud", "tcp-", "udp-none"} {
		err := CheckRows([]string{"udp", name})
		require.ErrorContains(t, err, "is none of udp-offload")
	}
}

// TestRows checks that all that rows and targets name exists.
func TestRows(t *testing.T) {
	t.Parallel()

	seen := make(map[string]bool)
	for _, r := range rows() {
		require.False(t, seen[r.key], r.key)
		seen[r.key] = true

		for _, name := range r.contestants {
			require.Contains(t, starters, name)
		}
		require.Contains(t, r.contestants, nameSocketd)
		require.Positive(t, r.sockets)
		for _, f := range r.figures {
			require.NotEmpty(t, f.head)
			require.Zero(t, f.of(sample{}) > 100)
			if f.over {
				require.Contains(t, r.contestants, nameNone)
			}
		}
		if r.gauge != "" {
			require.Contains(t, r.contestants, r.gauge)
			require.NotEmpty(t, r.spec.Rates)
			require.True(t, slices.IsSorted(r.spec.Rates))
		}
		for _, depth := range r.spec.Depths {
			require.GreaterOrEqual(t, depth.Window, depth.Batch)
		}
		if r.spec.Offload {
			for _, depth := range r.spec.Depths {
				// With the framing of TURN it is one datagram.
				bytes := (r.spec.Size + 4) * depth.Batch
				require.LessOrEqual(t, bytes, 65507)
				require.LessOrEqual(t, depth.Batch, 64)
			}
		}
	}

	for _, goal := range targets {
		chosen, err := choose([]string{goal.row})
		require.NoError(t, err)
		require.Contains(t, chosen[0].contestants, goal.other)
		require.True(t, slices.ContainsFunc(
			chosen[0].figures, func(f figure) bool {
				return f.head == goal.head && f.ratio != ""
			},
		), goal.what)
	}
	require.True(t, seen[lossRow])
}

// TestThousands renders numbers.
func TestThousands(t *testing.T) {
	t.Parallel()

	require.Equal(t, "0", thousands(0))
	require.Equal(t, "999", thousands(999))
	require.Equal(t, "1,000", thousands(1000))
	require.Equal(t, "12,345,678", thousands(12345678))
}
