package store

import (
	"math"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// requirePolicy requires that a database has this policy.
func requirePolicy(t *testing.T, d *DB, want Policy) {
	t.Helper()

	got, ok, err := d.Policy(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, want, got)
}

// TestPolicy checks that the policy is kept as it was set last, over restarts,
// until it is removed.
func TestPolicy(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		_, ok, err := d.Policy(t.Context())
		require.NoError(t, err)
		require.False(t, ok)
		require.NoError(t, d.ClearPolicy(t.Context()))

		full := Policy{
			RequestPolicy: offer.RequestPolicy{
				Any:     true,
				Channel: true,
				Nodes: []offer.PubKey{
					testKey(2), testKey(1), testKey(3),
				},
				OpenFor:      []offer.PubKey{testKey(4)},
				MaxHosted:    math.MaxInt32,
				MaxPerNode:   6,
				MaxLifetime:  offer.MaxLifetime,
				MaxBandwidth: math.MaxInt64,
			},
			NodeBandwidth: 7, TotalBandwidth: 8,
		}
		require.NoError(t, d.SetPolicy(t.Context(), full))
		requirePolicy(t, d, full)
		require.NoError(t, d.Close())
		d = db.open()
		requirePolicy(t, d, full)

		// Another one takes its place, with nothing of it left.
		plain := Policy{RequestPolicy: offer.RequestPolicy{
			MaxLifetime: time.Second,
		}}
		require.NoError(t, d.SetPolicy(t.Context(), plain))
		requirePolicy(t, d, plain)

		// What cannot be kept leaves it as it is.
		full.NodeBandwidth = math.MaxInt64 + 1
		err = d.SetPolicy(t.Context(), full)
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, "node bandwidth")
		requirePolicy(t, d, plain)

		require.NoError(t, d.ClearPolicy(t.Context()))
		_, ok, err = d.Policy(t.Context())
		require.NoError(t, err)
		require.False(t, ok)
	})
}

// TestDamagedPolicy checks that a policy that nobody can have written is not
// taken for one: it would let in whom the owner did not mean.
func TestDamagedPolicy(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		for _, change := range []string{
			"nodes = 'x'", "nodes = 'abcd'", "open_for = '02'",
		} {
			require.NoError(t, d.SetPolicy(t.Context(), Policy{}))
			_, err := d.backend.base().ExecContext(
				t.Context(), "UPDATE policy SET "+change,
			)
			require.NoError(t, err)
			_, _, err = d.Policy(t.Context())
			require.ErrorIs(t, err, ErrDamaged, change)
		}
	})
}
