package relay

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUnreachable lets a client go away while the other one goes on, so that
// the system answers by ICMP that nobody is there. The leg lives, a socket next
// to it loses nothing, and when the client is back it gets data again.
func TestUnreachable(t *testing.T) {
	t.Parallel()

	for mode := range numSendModes {
		t.Run(fmt.Sprintf("mode %d", mode), func(t *testing.T) {
			t.Parallel()

			unreachable(t, mode)
		})
	}
}

// unreachable is TestUnreachable with a client that sends in the mode.
func unreachable(t *testing.T, mode sendMode) {
	t.Helper()

	const rounds, count, size = 50, 20, 1200

	// At an address of its own, so that nobody gets what is sent to it
	// while it is away.
	pid := os.Getpid()
	away := netip.AddrFrom4([4]byte{
		127, 78 + byte(mode), byte(pid >> 8), byte(pid),
	})

	w := newQuietWorld(t)
	near := atLoopback(loopback4)
	places := [2]place{near, {ip: away, relay: loopback4, mtu: near.mtu}}
	how := script{modes: [2]sendMode{mode, mode}}
	s, clients := joinSocket(t, w, places, how)
	third, others := joinSocket(t, w, [2]place{near, near}, how)

	// Let it be busy, so that the relay does for it whatever it does for
	// busy clients.
	for range rounds {
		payloads := burstOf(1, 0, count, size)
		require.NoError(t, pass(clients[0], clients[1], payloads))
		require.NoError(t, pass(clients[1], clients[0], payloads))
	}

	at := clients[1].addr()
	clients[1].close()

	in, busy := uint64(1+rounds*count), [2]uint64{1, 1}
	for range rounds {
		require.NoError(t, clients[0].send(
			burstOf(1, 0, count, size)...,
		))
		in += count
		waitSettled(t, s, in)

		payloads := burstOf(3, int(busy[0]), count, size)
		require.NoError(t, pass(others[0], others[1], payloads))
		require.NoError(t, pass(others[1], others[0], payloads))
		busy[0] += count
		busy[1] += count
	}
	waitSettled(t, s, in)

	// Back at the same address. One answer may still wait to be told.
	back := places[1].clientAt(t, at.Port(), s.Port(Leg2), mode, true)
	require.NoError(t, eventually(func() bool {
		if !back.isQuiet() {
			return true
		}
		require.NoError(t, clients[0].send([]byte("back?")))
		in++

		return false
	}))
	waitSettled(t, s, in)
	for !back.isQuiet() {
		require.NoError(t, back.wait())
		payload, err := back.receive()
		require.NoError(t, err)
		require.Equal(t, "back?", string(payload))
	}

	payloads := burstOf(1, 0, count, size)
	require.NoError(t, pass(clients[0], back, payloads))
	require.NoError(t, pass(back, clients[0], payloads))

	sent := [2]uint64{rounds * count * size, rounds * count * size}
	requireTraffic(t, third, busy, sent)
	requireDrops(t, s, Leg2, nil)
	require.Equal(t, 2, w.NumSockets())
}

// waitSettled waits until leg 1 has admitted so many packets, and each is
// counted as sent or as dropped. It checks that none but the first was dropped
// for another reason than that it could not be sent.
func waitSettled(t *testing.T, s *Socket, packets uint64) {
	t.Helper()

	require.Eventually(t, func() bool {
		stats := s.Stats()
		failed := stats.Leg1.Drops[DropSendError]

		return stats.Leg1.PacketsIn == packets &&
			stats.Leg2.PacketsOut+failed+1 == packets
	}, limit, tick, "%d of %+v", packets, s.Stats())

	requireDrops(t, s, Leg1, drops{
		DropNoClient:  1,
		DropSendError: s.Stats().Leg1.Drops[DropSendError],
	})
}

// TestOversized sends datagrams that fit on one side only, between others that
// fit on both. They are counted, and the others are not disturbed.
func TestOversized(t *testing.T) {
	t.Parallel()

	sizes := []int{
		1200, 1200, maxIPv6, 1200, 0, maxIPv4 + 1, maxIPv4 + 1,
		maxIPv4, 64, 64, maxIPv6, 63, maxIPv4,
	}
	tooLong := func(payload []byte) bool {
		return len(payload) > maxIPv4
	}
	places := [2]place{atLoopback(loopback6), atLoopback(loopback4)}

	for mode := range numSendModes {
		w := newQuietWorld(t)
		s, clients := joinSocket(t, w, places, script{
			modes: [2]sendMode{mode, mode},
		})

		var payloads [][]byte
		for i, size := range sizes {
			payloads = append(payloads, newPayload(
				1, uint32(i), size,
			))
		}
		require.NoError(t, clients[0].send(payloads...))
		require.NoError(t, clients[1].wait())

		want := slices.DeleteFunc(slices.Clone(payloads), tooLong)
		for i := range want {
			got, err := clients[1].receive()
			require.NoError(t, err)
			require.True(t, slices.Equal(want[i], got), i)
		}
		require.True(t, clients[1].isQuiet())

		waitSettled(t, s, uint64(1+len(payloads)))
		failed := uint64(len(payloads) - len(want))
		requireDrops(t, s, Leg1, drops{
			DropNoClient: 1, DropSendError: failed,
		})
		require.EqualValues(t, len(want), s.Stats().Leg2.PacketsOut)

		// The other way the longest passes.
		payloads = burstOf(2, 0, 3, maxIPv4)
		require.NoError(t, pass(clients[1], clients[0], payloads))
		requireDrops(t, s, Leg2, nil)
	}
}
