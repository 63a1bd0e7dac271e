package relay

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// window bounds what is under way at once, so that no queue overflows: a
// datagram that does not come is a failure.
type window struct {
	// memory is how many bytes the datagrams may take in a queue.
	memory int

	// packets is how many packets they may make, with all fragments.
	packets int

	// mtu is the longest packet, in bytes.
	mtu int
}

// fit returns as many of the sizes as may be under way at once, at least one.
func (w window) fit(sizes []int) []int {
	memory, packets := 0, 0

	for i, size := range sizes {
		// The system counts what it allocates, which is less.
		memory += 2*size + 1024
		packets += 1 + (size+8)/(w.mtu-overhead6)

		if i > 0 && (memory > w.memory || packets > w.packets) {
			return sizes[:i]
		}
	}

	return sizes
}

// newWindow returns the window for clients at these places.
func newWindow(tb tester, places [2]place) window {
	tb.Helper()

	c := places[0].client(tb, 0, sendOne, false)
	defer c.close()

	w := window{
		memory:  c.queue(tb) / 4,
		packets: 300,
		mtu:     min(places[0].mtu, places[1].mtu),
	}

	// A queue between two namespaces holds 256 packets.
	if w.mtu < mtuLoopback {
		w.packets = 100
	}

	return w
}

// script is what two clients send to each other.
type script struct {
	// modes and gro say how client 1 and client 2 send and receive.
	modes [2]sendMode
	gro   [2]bool

	// most is how many datagrams each sends as one run; 0 is as many as the
	// system takes.
	most [2]int

	// rounds holds the sizes of the datagrams that client 1 and client 2
	// send at once. The next round begins when all have come.
	rounds [][2][]int
}

// drawScript draws a script.
func drawScript(rt *rapid.T, limits window, longest int) script {
	mode := rapid.Map(rapid.IntRange(0, int(numSendModes)-1),
		func(i int) sendMode {
			return sendMode(i)
		},
	)

	s := script{
		modes: [2]sendMode{mode.Draw(rt, "1"), mode.Draw(rt, "2")},
		gro: [2]bool{
			rapid.Bool().Draw(rt, "1"), rapid.Bool().Draw(rt, "2"),
		},
	}

	// Short runs make the relay join what was not joined before.
	for i := range s.most {
		s.most[i] = rapid.SampledFrom([]int{0, 2, 3, 4}).Draw(rt, "run")
	}

	for range rapid.IntRange(1, 5).Draw(rt, "rounds") {
		var round [2][]int
		who := rapid.IntRange(1, 3).Draw(rt, "who")
		for i := range round {
			if who&(1<<i) != 0 {
				sizes := drawBurst(rt, longest)
				round[i] = limits.fit(sizes)
			}
		}

		s.rounds = append(s.rounds, round)
	}

	return s
}

// drawBurst draws the sizes of datagrams that are sent one after the other.
func drawBurst(rt *rapid.T, longest int) []int {
	one := rapid.OneOf(
		rapid.SampledFrom([]int{
			0, 1, 20, 64, 1200, 1452, 1453, 1472, 1473, 9000,
			longest,
		}),
		rapid.IntRange(0, 1500),
		rapid.IntRange(0, longest),
	)
	count := rapid.IntRange(1, 150).Draw(rt, "count")

	shapes := map[string]func() []int{
		"equal": func() []int {
			return slices.Repeat([]int{one.Draw(rt, "")}, count)
		},
		"tails": func() []int {
			size := one.Draw(rt, "size")
			length := rapid.IntRange(
				1, longestRun()+5,
			).Draw(rt, "length")
			run := slices.Repeat([]int{size}, length)
			run = append(run, rapid.IntRange(0, size).Draw(rt, ""))

			return slices.Repeat(run, 1+count/len(run))
		},
		"blocks": func() []int {
			var sizes []int
			for range rapid.IntRange(2, 10).Draw(rt, "blocks") {
				sizes = append(sizes, slices.Repeat(
					[]int{one.Draw(rt, "size")},
					rapid.IntRange(2, 12).Draw(rt, "each"),
				)...)
			}

			return sizes
		},
		"in turns": func() []int {
			some := rapid.SliceOfN(one, 2, 4).Draw(rt, "sizes")

			return slices.Repeat(some, 1+count/len(some))
		},
		"empty between": func() []int {
			some := []int{one.Draw(rt, "size")}
			some = append(some, some[0], 0)

			return slices.Repeat(some, 1+count/len(some))
		},
		"steps": func() []int {
			size, step := one.Draw(rt, "from"), rapid.IntRange(
				1, 200).Draw(rt, "step")

			var sizes []int
			for range count {
				sizes = append(sizes, size)
				size = min(size+step, longest)
			}

			return sizes
		},
		"mixed": func() []int {
			return rapid.SliceOfN(one, 1, 40).Draw(rt, "sizes")
		},
	}
	names := []string{
		"equal", "tails", "blocks", "in turns", "empty between",
		"steps", "mixed",
	}

	sizes := shapes[rapid.SampledFrom(names).Draw(rt, "shape")]()
	if rapid.Bool().Draw(rt, "backwards") {
		slices.Reverse(sizes)
	}

	return sizes
}

// pass sends datagrams from one client, and checks that the other one gets
// them: the same ones, in the same order.
func pass(from, to *offloadClient, payloads [][]byte) error {
	if err := from.send(payloads...); err != nil {
		return err
	}

	if err := to.wait(); err != nil {
		return err
	}

	for i, want := range payloads {
		got, err := to.receive()
		if err != nil {
			return fmt.Errorf("datagram %d of %d, %d bytes: %w",
				i, len(payloads), len(want), err)
		}

		if !bytes.Equal(want, got) {
			sender, number, err := parsePayload(got)

			return fmt.Errorf("datagram %d of %d, %d bytes, came "+
				"as %d bytes, number %d of sender %d, %w", i,
				len(payloads), len(want), len(got), number,
				sender, err)
		}
	}

	return nil
}

// joinSocket opens a socket and makes both clients known to it. Leg 1 has
// dropped one packet then, for want of a client on the other leg, and both
// legs have admitted one.
func joinSocket(tb tester, w *world, places [2]place,
	how script) (*Socket, [2]*offloadClient) {

	tb.Helper()

	s, err := w.Open(Options{Protocol: UDP})
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, s.Close())
	})

	var clients [2]*offloadClient
	for i, leg := range []Leg{Leg1, Leg2} {
		clients[i] = places[i].client(
			tb, s.Port(leg), how.modes[i], how.gro[i],
		)
		if how.most[i] > 0 {
			clients[i].most = how.most[i]
		}
	}

	// Leg 1 must be done with it before leg 2 has a client.
	require.NoError(tb, clients[0].send(nil))
	require.NoError(tb, eventually(func() bool {
		return legStats(s, Leg1).Drops[DropNoClient] == 1
	}))

	require.NoError(tb, clients[1].send(nil))
	require.NoError(tb, clients[0].wait())
	payload, err := clients[0].receive()
	require.NoError(tb, err)
	require.Empty(tb, payload)

	for i, leg := range []Leg{Leg1, Leg2} {
		client := legStats(s, leg).Client
		require.Equal(tb, clients[i].addr(), client)
	}

	return s, clients
}

// play plays the script on a new socket.
func (how script) play(tb tester, w *world, places [2]place) {
	tb.Helper()

	s, clients := joinSocket(tb, w, places, how)

	// What client 1 and client 2 have sent, with the packet that pinned.
	packets, sent := [2]uint64{1, 1}, [2]uint64{}

	for number, round := range how.rounds {
		done := make(chan error, len(round))
		for i, sizes := range round {
			var payloads [][]byte
			for _, size := range sizes {
				payloads = append(payloads, newPayload(
					uint32(i+1), uint32(packets[i]), size,
				))
				packets[i]++
				sent[i] += uint64(size)
			}

			go func() {
				done <- pass(
					clients[i], clients[1-i], payloads,
				)
			}()
		}

		err := errors.Join(<-done, <-done)
		require.NoError(tb, err, "round %d, %+v", number, s.Stats())
	}

	requireTraffic(tb, s, packets, sent)
	require.True(tb, clients[0].isQuiet())
	require.True(tb, clients[1].isQuiet())
}

// requireTraffic checks that all that the two clients of a socket have sent was
// admitted, relayed and counted, but for the packet that pinned leg 1.
func requireTraffic(tb tester, s *Socket, packets, sent [2]uint64) {
	tb.Helper()

	// Packets are counted after they were sent.
	require.Eventually(tb, func() bool {
		stats := s.Stats()

		return stats.Leg2.PacketsOut >= packets[0]-1 &&
			stats.Leg1.PacketsOut >= packets[1] &&
			stats.Leg2.BytesOut >= sent[0] &&
			stats.Leg1.BytesOut >= sent[1]
	}, patience, tick, "%v %v", packets, sent)

	stats := s.Stats()
	require.Equal(tb, packets[0], stats.Leg1.PacketsIn)
	require.Equal(tb, packets[1], stats.Leg2.PacketsIn)
	require.Equal(tb, packets[0]-1, stats.Leg2.PacketsOut)
	require.Equal(tb, packets[1], stats.Leg1.PacketsOut)
	require.Equal(tb, sent[0], stats.Leg1.BytesIn)
	require.Equal(tb, sent[1], stats.Leg2.BytesIn)
	require.Equal(tb, sent[0], stats.Leg2.BytesOut)
	require.Equal(tb, sent[1], stats.Leg1.BytesOut)

	for reason := range numDropReasons {
		want := uint64(0)
		if reason == DropNoClient {
			want = 1
		}
		require.Equal(tb, want, stats.Leg1.Drops[reason], reason)
		require.Zero(tb, stats.Leg2.Drops[reason], reason)
	}
}

// newQuietWorld runs a relay whose ports need no rest and whose events nobody
// reads.
func newQuietWorld(tb testing.TB) *world {
	tb.Helper()

	w := newWorld(tb, func(cfg *Config) {
		cfg.PortRest = 0
	})

	done := make(chan struct{})
	go func() {
		defer close(done)

		for range w.events {
			continue
		}
	}()
	tb.Cleanup(func() {
		w.stop()
		close(w.events)
		<-done
	})

	return w
}

// longestOf returns the longest payload that both clients can send and get.
func longestOf(places [2]place) int {
	return min(places[0].longest(), places[1].longest())
}

// TestSameDatagrams sends bursts of all shapes, with every kind of offload on
// either side. What one client sent as so many datagrams the other one gets as
// the same datagrams.
func TestSameDatagrams(t *testing.T) {
	t.Parallel()

	tests := map[string][2]netip.Addr{
		"IPv4 to IPv4": {loopback4, loopback4},
		"IPv6 to IPv6": {loopback6, loopback6},
		"IPv4 to IPv6": {loopback4, loopback6},
	}
	for name, ips := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			places := [2]place{
				atLoopback(ips[0]), atLoopback(ips[1]),
			}
			limits := newWindow(t, places)
			w := newQuietWorld(t)

			rapid.Check(t, func(rt *rapid.T) {
				drawScript(rt, limits, longestOf(places)).play(
					rt, w, places,
				)
			})
		})
	}
}
