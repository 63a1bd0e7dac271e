package offer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSortOffers checks the order in which offers are listed.
func TestSortOffers(t *testing.T) {
	now := time.Now()
	want := []Offer{
		{CreatedAt: now, ID: testID(1), Peer: bob},
		{CreatedAt: now, ID: testID(1), Peer: carol},
		{CreatedAt: now, ID: testID(2), Peer: alice},
		{CreatedAt: now.Add(1), ID: testID(0), Peer: alice},
	}
	got := []Offer{want[3], want[1], want[2], want[0]}
	sortOffers(got)
	require.Equal(t, want, got)
}
