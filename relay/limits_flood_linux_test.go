package relay

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests of this file do not run beside others: what floods the system's own
// queues harms all.

const (
	// floodTime is how long a flood lasts at least, and floodStep how often
	// those beside it send.
	floodTime = 1500 * time.Millisecond
	floodStep = 10 * time.Millisecond

	// besideCount and besideSize are the datagrams that they send in each
	// step.
	besideCount, besideSize = 8, 1000
)

// torrent is datagrams that the client of a leg sends at line rate, beyond what
// may pass.
type torrent struct {
	socket *Socket
	client *offloadClient
	begin  time.Time

	// why is the reason for which they are dropped.
	why DropReason

	stop atomic.Bool
	done chan error
}

// newTorrent opens a socket with limits, whose clients both legs know.
func newTorrent(t *testing.T, w *world, limits Limits, why DropReason,
	mode sendMode) *torrent {

	t.Helper()

	f := &torrent{
		socket: w.openWith(Options{Protocol: UDP, Limits: limits}),
		begin:  time.Now(), why: why, done: make(chan error, 1),
	}
	for _, leg := range []Leg{Leg2, Leg1} {
		f.client = atLoopback(loopback4).client(
			t, f.socket.Port(leg), mode, true,
		)
		require.NoError(t, f.client.send(nil))
		require.Equal(t, f.client.addr(), w.event().(EventPinned).New)
	}

	return f
}

// pour sends until it is to stop. What comes out is of no interest, and
// overflows the queue of the client that it is for.
func (f *torrent) pour() {
	payloads := burstOf(1, 0, 1000, besideSize)
	for !f.stop.Load() {
		if err := f.client.send(payloads...); err != nil {
			f.done <- err

			return
		}
	}
	f.done <- nil
}

// isMuch tells whether far more was dropped than may pass.
func (f *torrent) isMuch() bool {
	return legStats(f.socket, Leg1).Drops[f.why] > 20_000
}

// requireLimited ends the flood and checks what passed: at least the bytes that
// may pass at once, and at most what may in the time, and what comes at once.
func (f *torrent) requireLimited(t *testing.T, least float64,
	most func(elapsed time.Duration) float64) {

	t.Helper()

	f.stop.Store(true)
	require.NoError(t, <-f.done)

	var stats Stats
	require.Eventually(t, func() bool {
		stats = f.socket.Stats()

		return stats.Leg1.PacketsIn == stats.Leg2.PacketsOut+
			stats.Leg1.Drops[f.why]
	}, limit, tick)
	elapsed := time.Since(f.begin)

	require.True(t, f.isMuch())
	for why, count := range stats.Leg1.Drops {
		if why != f.why && why != DropKernel {
			require.Zero(t, count, why)
		}
	}

	out := float64(stats.Leg2.BytesOut)
	t.Logf("%v: %.0f bytes in %v, %d datagrams dropped, %d by the kernel",
		f.why, out, elapsed, stats.Leg1.Drops[f.why],
		stats.Leg1.Drops[DropKernel])
	require.GreaterOrEqual(t, out, least)
	require.LessOrEqual(t, out, most(elapsed)+maxIPv4)
}

// beside is a pair of clients that send a little, to and fro, while others are
// flooded. They wait for what they sent, so that no queue of the system's
// overflows because the machine is slow; what does not come was lost.
type beside struct {
	socket  *Socket
	clients [2]*offloadClient
	steps   int
	done    chan error
}

// newBeside opens a socket with limits that it is within.
func newBeside(t *testing.T, w *world, limits Limits) *beside {
	t.Helper()

	b := &beside{
		socket: w.openWith(Options{Protocol: UDP, Limits: limits}),
		done:   make(chan error, 1),
	}
	for i, leg := range []Leg{Leg1, Leg2} {
		b.clients[i] = atLoopback(loopback4).client(
			t, b.socket.Port(leg), sendMode(i)*sendRuns, i == 0,
		)
		require.NoError(t, b.clients[i].send(nil))
		require.Equal(t, b.clients[i].addr(),
			w.event().(EventPinned).New)

		// Leg 1 must be done with it before leg 2 has a client.
		if leg == Leg1 {
			waitDrops(t, b.socket, leg, DropNoClient, 1)
		}
	}
	require.NoError(t, b.clients[0].wait())
	_, err := b.clients[0].receive()
	require.NoError(t, err)

	return b
}

// talk sends a few datagrams in each step, until it is to stop.
func (b *beside) talk(stop *atomic.Bool) {
	ticker := time.NewTicker(floodStep)
	defer ticker.Stop()

	for !stop.Load() {
		<-ticker.C

		i := b.steps % 2
		err := pass(b.clients[i], b.clients[1-i], burstOf(
			uint32(i+1), b.steps*besideCount, besideCount,
			besideSize,
		))
		if err != nil {
			b.done <- err

			return
		}
		b.steps++
	}
	b.done <- nil
}

// requireNoLoss checks that all came, once, and that it was counted.
func (b *beside) requireNoLoss(t *testing.T) {
	t.Helper()

	require.Positive(t, b.steps)

	var packets, sent [2]uint64
	for i := range packets {
		count := uint64(b.steps+1-i) / 2 * besideCount
		packets[i], sent[i] = 1+count, count*besideSize
	}
	requireTraffic(t, b.socket, packets, sent)
	require.True(t, b.clients[0].isQuiet())
	require.True(t, b.clients[1].isQuiet())
}

// floodModes are how those who flood send.
var floodModes = map[string]sendMode{
	"single": sendBatch,
	"runs":   sendRunBatch,
}

// TestFloodLimited floods sockets at line rate beyond their limits. What passes
// is within them, what does not is counted by its reason and told, and the
// sockets beside them, on the same loop too, lose not one datagram.
func TestFloodLimited(t *testing.T) {
	const rate, packets = 2_000_000, 2000

	for name, mode := range floodModes {
		t.Run(name, func(t *testing.T) {
			// Those beside are well within limits of their own.
			w := newWorld(t, nil)
			besides := newBesides(t, w, Limits{
				Bandwidth: rate, Packets: packets,
			})
			byBytes := newTorrent(t, w, Limits{
				Bandwidth: rate,
			}, DropBandwidth, mode)
			byCount := newTorrent(t, w, Limits{
				Packets: packets,
			}, DropPackets, mode)

			floodBeside(t, besides, byBytes, byCount)

			byBytes.requireLimited(t, mostOf(rate, 0),
				func(elapsed time.Duration) float64 {
					return mostOf(rate, elapsed)
				})
			byCount.requireLimited(t, mostOf(packets, 0)*besideSize,
				func(elapsed time.Duration) float64 {
					return mostOf(packets, elapsed) *
						besideSize
				})
			w.requireLimits(time.Since(byBytes.begin),
				EventLimit{
					byBytes.socket.ID(), Leg1,
					DropBandwidth,
				},
				EventLimit{
					byCount.socket.ID(), Leg1, DropPackets,
				})
		})
	}
}

// TestFloodRelay floods a socket that has no limit of its own beyond what the
// whole relay may pass. The others may pass their part, and lose nothing.
func TestFloodRelay(t *testing.T) {
	// The part of each direction is twice what it needs.
	members := 1 + 2*numBeside()
	rate := float64(besideCount * besideSize *
		int(time.Second/floodStep) * members)

	for name, mode := range floodModes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(cfg *Config) {
				cfg.Bandwidth = uint64(rate)
			})
			besides := newBesides(t, w, Limits{})
			f := newTorrent(t, w, Limits{}, DropBandwidth, mode)

			floodBeside(t, besides, f)

			f.requireLimited(t, mostOf(rate, 0)/float64(members),
				func(elapsed time.Duration) float64 {
					return mostOf(rate, elapsed) + rate*
						firstBurst(members)/shareRate
				})
			w.requireLimits(time.Since(f.begin), EventLimit{
				f.socket.ID(), Leg1, DropBandwidth,
			})
		})
	}
}

// numBeside returns how many sockets have to be beside a flood, so that one at
// least is on the same loop.
func numBeside() int {
	return 2 * runtime.GOMAXPROCS(0)
}

// newBesides opens so many sockets.
func newBesides(t *testing.T, w *world, limits Limits) []*beside {
	t.Helper()

	besides := make([]*beside, numBeside())
	for i := range besides {
		besides[i] = newBeside(t, w, limits)
	}

	return besides
}

// floodBeside lets floods pour for some time, and others send beside them,
// which lose nothing.
func floodBeside(t *testing.T, besides []*beside, torrents ...*torrent) {
	t.Helper()

	for _, f := range torrents {
		shared := slices.ContainsFunc(besides, func(b *beside) bool {
			return sharesLoop(f.socket, b.socket)
		})
		require.True(t, shared)

		go f.pour()
		defer f.stop.Store(true)
	}

	var stop atomic.Bool
	defer stop.Store(true)
	for _, b := range besides {
		go b.talk(&stop)
	}

	begin := time.Now()
	require.NoError(t, eventually(func() bool {
		isMuch := time.Since(begin) > floodTime
		for _, f := range torrents {
			isMuch = isMuch && f.isMuch()
		}

		return isMuch || slices.ContainsFunc(besides,
			func(b *beside) bool { return len(b.done) > 0 })
	}))
	stop.Store(true)

	var failed error
	for _, b := range besides {
		if err := <-b.done; err != nil {
			failed = errors.Join(failed, fmt.Errorf(
				"%w: %+v", err, b.socket.Stats(),
			))
		}
	}
	require.NoError(t, failed)
	for _, b := range besides {
		b.requireNoLoss(t)
	}
}
