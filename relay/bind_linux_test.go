//go:build !portable

package relay

import (
	"bytes"
	"slices"
	"testing"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// boundClient returns a client that sends as the mode says, bound to a leg, and
// the key that it is bound by.
func boundClient(t *testing.T, s *Socket, leg Leg,
	mode sendMode) (*offloadClient, *bind.Key) {

	t.Helper()

	key := bind.NewKey(bindLeg(s, leg), ownToken(t, s, leg))
	c := atLoopback(loopback4).client(t, s.Port(leg), mode, false)
	require.NoError(t, c.send(bindOf(t, c, key)))
	require.Equal(t, bind.Bound, nextMessage(t, c, key).Type)

	return c, key
}

// bindOf says hello and returns the bind that answers the challenge.
func bindOf(t *testing.T, c *offloadClient, key *bind.Key) []byte {
	t.Helper()

	require.NoError(t, c.send(helloOf(key)))
	m := nextMessage(t, c, key)
	require.Equal(t, bind.Challenge, m.Type)
	m.Type = bind.Bind

	return m.Append(nil, key)
}

// nextMessage waits for a message of the relay.
func nextMessage(t *testing.T, c *offloadClient, key *bind.Key) bind.Message {
	t.Helper()

	raw, err := c.receive()
	require.NoError(t, err)
	require.True(t, key.Verify(raw))
	m, err := bind.Decode(raw)
	require.NoError(t, err)

	return m
}

// TestBindWithinRun sends payloads and messages of the handshake as one run,
// which the relay receives as one message: the payloads all come through, in
// order, and the messages do not.
func TestBindWithinRun(t *testing.T) {
	t.Parallel()

	for _, mode := range []sendMode{
		sendOne, sendBatch, sendRuns, sendRunBatch,
	} {
		w := newWorld(t, nil)
		s := w.openByToken(UDP)
		c1, key := boundClient(t, s, Leg1, mode)
		c2, _ := boundClient(t, s, Leg2, mode)

		for _, messages := range [][]int{
			{0}, {63}, {31}, {0, 1, 2}, {0, 63},
			{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29,
				31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53},
		} {
			payloads := burstOf(1, 0, 64, bind.Size)

			// A look-alike is payload.
			payloads[40] = helloOf(bind.NewKey(
				bindLeg(s, Leg1), NewToken(),
			))
			want := bytes.Join(payloads, nil)
			for i, at := range messages {
				payloads[at] = helloOf(key)
				first := (at - i) * bind.Size
				want = slices.Delete(
					want, first, first+bind.Size,
				)
			}

			require.NoError(t, c1.send(payloads...))
			var got []byte
			for len(got) < len(want) {
				payload, err := c2.receive()
				require.NoError(t, err)
				got = append(got, payload...)
			}
			require.True(t, bytes.Equal(want, got))

			for range messages {
				m := nextMessage(t, c1, key)
				require.Equal(t, bind.Challenge, m.Type)
			}
		}
		requireDrops(t, s, Leg1, nil)
	}
}

// TestBindTail binds by the last and shorter datagram of a run, from a new
// address: what came before it is a stranger's.
func TestBindTail(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openByToken(UDP)
	c1, key := boundClient(t, s, Leg1, sendRuns)
	c2, _ := boundClient(t, s, Leg2, sendRuns)

	moved := atLoopback(loopback4).client(
		t, s.Port(Leg1), sendRuns, false,
	)
	payloads := append(burstOf(2, 0, 10, 1200), bindOf(t, moved, key))
	require.NoError(t, moved.send(payloads...))
	require.Equal(t, bind.Bound, nextMessage(t, moved, key).Type)
	require.Equal(t, moved.addr(), s.Stats().Leg1.Client)
	waitDrops(t, s, Leg1, DropStranger, 10)

	// In the same run what comes after it is the client's.
	back := append([][]byte{bindOf(t, c1, key)},
		burstOf(1, 0, 10, bind.Size)...)
	require.NoError(t, c1.send(back...))
	for _, want := range back[1:] {
		got, err := c2.receive()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// TestBindAllocation checks that a flood of forged messages makes the relay
// allocate nothing.
func TestBindAllocation(t *testing.T) {
	w := newWorld(t, nil)
	s := w.openByToken(UDP)
	l := s.leg(Leg1)
	forged := helloOf(bind.NewKey(bindLeg(s, Leg1), NewToken()))
	src := sourceOf("192.0.2.7:1000")

	var answer [bind.Size]byte
	_, _ = l.shakeHands(forged, src, w.moment(), answer[:0])
	count := testing.AllocsPerRun(1000, func() {
		_, err := l.shakeHands(forged, src, moment{}, answer[:0])
		if err == nil {
			t.Fatal("a forged message was answered")
		}
	})
	require.Zero(t, count)
}
