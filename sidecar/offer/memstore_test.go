package offer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMemStore checks what a Store promises.
func TestMemStore(t *testing.T) {
	ctx := t.Context()
	s := NewMemStore()
	record := func(id ID, peer PubKey) Record {
		return Record{Offer: Offer{
			ID: id, Peer: peer, Label: peer.String(),
		}}
	}

	_, err := s.Get(ctx, bob, testID(1))
	require.ErrorIs(t, err, ErrNotFound)
	found, err := s.Find(ctx, testID(1))
	require.NoError(t, err)
	require.Empty(t, found)
	all, err := s.List(ctx)
	require.NoError(t, err)
	require.Empty(t, all)
	require.NoError(t, s.Delete(ctx, bob, testID(1)))

	ofBob := record(testID(1), bob)
	ofBob.Tokens = Tokens{{1}, {2}}
	ofCarol := record(testID(1), carol)
	other := record(testID(2), bob)
	for _, r := range []Record{ofBob, ofCarol, other} {
		require.NoError(t, s.Put(ctx, r))
	}

	got, err := s.Get(ctx, bob, testID(1))
	require.NoError(t, err)
	require.Equal(t, ofBob, got)
	found, err = s.Find(ctx, testID(1))
	require.NoError(t, err)
	require.ElementsMatch(t, []Record{ofBob, ofCarol}, found)
	all, err = s.List(ctx)
	require.NoError(t, err)
	require.ElementsMatch(t, []Record{ofBob, ofCarol, other}, all)

	ofBob.State = StateClosed
	require.NoError(t, s.Put(ctx, ofBob))
	got, err = s.Get(ctx, bob, testID(1))
	require.NoError(t, err)
	require.Equal(t, ofBob, got)

	require.NoError(t, s.Delete(ctx, bob, testID(1)))
	_, err = s.Get(ctx, bob, testID(1))
	require.ErrorIs(t, err, ErrNotFound)
	got, err = s.Get(ctx, carol, testID(1))
	require.NoError(t, err)
	require.Equal(t, ofCarol, got)

	require.NoError(t, s.Delete(ctx, carol, testID(1)))
	require.NoError(t, s.Delete(ctx, bob, testID(2)))
	require.Empty(t, s.records)
}

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
