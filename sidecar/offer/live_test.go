package offer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLive checks that the offers of a socket are told without anything being
// changed, also those whose time is over and that nobody has ended yet.
func TestLive(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		w.add(bob)
		first := w.sendOffer(a, proposal(carol))
		time.Sleep(time.Second)
		second := w.sendOffer(a, proposal(bob))
		other := proposal(bob)
		other.SocketID = testID(0x51)
		w.sendOffer(a, other)

		live, err := a.Live(t.Context(), testSocket)
		require.NoError(t, err)
		require.Equal(t, []Offer{first, second}, live)
		live, err = a.Live(t.Context(), testID(0x52))
		require.NoError(t, err)
		require.Empty(t, live)

		_, _, err = a.Withdraw(t.Context(), second.ID, "")
		require.NoError(t, err)
		live, err = a.Live(t.Context(), testSocket)
		require.NoError(t, err)
		require.Equal(t, []Offer{first}, live)

		// Nothing happens by itself any more.
		a.stop()
		a.takeEvents()
		time.Sleep(2 * time.Hour)
		live, err = a.Live(t.Context(), testSocket)
		require.NoError(t, err)
		require.Equal(t, []Offer{first}, live)
		require.Empty(t, a.takeEvents())

		live, err = a.OfSocket(t.Context(), testSocket)
		require.NoError(t, err)
		require.Empty(t, live)
		require.Equal(
			t, []EventKind{EventExpired}, kindsOf(a.takeEvents()),
		)
		live, err = a.Live(t.Context(), testSocket)
		require.NoError(t, err)
		require.Empty(t, live)
	})
}
