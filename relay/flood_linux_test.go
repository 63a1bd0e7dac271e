package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stranger is the number of the first client that is not meant.
const stranger = 1000

// burstOf returns so many payloads of the sender, counted from first.
func burstOf(sender uint32, first, count, size int) [][]byte {
	payloads := make([][]byte, 0, count)
	for i := range count {
		payloads = append(payloads, newPayload(
			sender, uint32(first+i), size,
		))
	}

	return payloads
}

// eventually is require.Eventually for goroutines, which must not end the test.
func eventually(happened func() bool) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()

	timeout := time.After(limit)
	for !happened() {
		select {
		case <-ticker.C:
		case <-timeout:
			return errors.New("it did not happen")
		}
	}

	return nil
}

// The tests of this file do not run beside others: what floods the system's own
// queues harms all.

// flood is what strangers send to one leg.
type flood struct {
	socket *Socket
	leg    Leg

	// paced makes them wait until what they sent is counted, so that no
	// queue overflows.
	paced bool

	// sent counts their datagrams.
	sent atomic.Uint64

	stop    atomic.Bool
	running sync.WaitGroup
	failed  chan error
}

// newFlood begins a flood from so many strangers. Each sends in bursts, in one
// of the modes.
func newFlood(t *testing.T, s *Socket, leg Leg, count int, paced bool,
	modes ...sendMode) *flood {

	t.Helper()

	f := &flood{
		socket: s, leg: leg, paced: paced,
		failed: make(chan error, count),
	}
	for i := range count {
		c := atLoopback(loopback4).client(
			t, s.Port(leg), modes[i%len(modes)], false,
		)
		f.running.Go(func() {
			if err := f.pour(c, stranger+uint32(i)); err != nil {
				f.failed <- err
			}
		})
	}
	t.Cleanup(func() {
		f.stop.Store(true)
		f.running.Wait()
	})

	return f
}

// pour sends until the flood ends.
func (f *flood) pour(c *offloadClient, sender uint32) error {
	const count = 60

	// Some runs are long, some end with a short tail, some are empty.
	payloads := burstOf(sender, 0, count, 800)
	payloads[20], payloads[40], payloads[41] = payloads[20][:300], nil, nil

	for !f.stop.Load() {
		if err := c.send(payloads...); err != nil {
			return err
		}

		sent := f.sent.Add(count)
		if !f.paced {
			continue
		}

		err := eventually(func() bool {
			return f.counted() >= sent
		})
		if err != nil {
			return fmt.Errorf("%d sent, %d counted: %w", sent,
				f.counted(), err)
		}
	}

	return nil
}

// counted returns how many datagrams of strangers the leg has dropped.
func (f *flood) counted() uint64 {
	return legStats(f.socket, f.leg).Drops[DropStranger]
}

// rise waits until so many more datagrams of the flood were counted.
func (f *flood) rise(t *testing.T, count uint64) {
	t.Helper()

	begin := f.counted()
	require.NoError(t, eventually(func() bool {
		return f.counted() >= begin+count || len(f.failed) > 0
	}))
}

// end ends the flood. It returns how many datagrams were sent.
func (f *flood) end(t *testing.T) uint64 {
	t.Helper()

	f.stop.Store(true)
	f.running.Wait()
	require.Empty(t, f.failed)

	return f.sent.Load()
}

// TestFlood lets strangers flood a leg whose client came first: before the
// other leg has a client, while it takes one, and after. Nothing of theirs
// comes out, every datagram of theirs is counted, and the clients lose nothing.
func TestFlood(t *testing.T) {
	for mode := range numSendModes {
		t.Run(fmt.Sprintf("mode %d", mode), func(t *testing.T) {
			floodPinned(t, mode)
		})
	}
}

// floodPinned is TestFlood with strangers who send in the mode.
func floodPinned(t *testing.T, mode sendMode) {
	t.Helper()

	const strangers, rounds, count, size = 4, 50, 10, 1000

	w := newWorld(t, nil)
	s := w.open()
	p := atLoopback(loopback4)

	c1 := p.client(t, s.Port(Leg1), sendRuns, true)
	require.NoError(t, c1.send(nil))
	require.Equal(t, c1.addr(), w.event().(EventPinned).New)
	waitDrops(t, s, Leg1, DropNoClient, 1)

	flood1 := newFlood(t, s, Leg1, strangers, true, mode)
	flood1.rise(t, 1000)

	c2 := p.client(t, s.Port(Leg2), sendOne, false)
	require.NoError(t, c2.send(nil))
	require.Equal(t, c2.addr(), w.event().(EventPinned).New)
	require.NoError(t, c1.wait())
	payload, err := c1.receive()
	require.NoError(t, err)
	require.Empty(t, payload)

	flood2 := newFlood(t, s, Leg2, strangers, true, mode)

	for round := range rounds {
		payloads := burstOf(1, round*count, count, size)
		require.NoError(t, pass(c1, c2, payloads), s.Stats())

		payloads = burstOf(2, round*count, count, size)
		require.NoError(t, pass(c2, c1, payloads), s.Stats())
	}

	flood1.rise(t, 1000)
	flood2.rise(t, 1000)
	sent1, sent2 := flood1.end(t), flood2.end(t)

	const packets, sent = rounds*count + 1, rounds * count * size
	requireDrops(t, s, Leg1, drops{DropNoClient: 1, DropStranger: sent1})
	requireDrops(t, s, Leg2, drops{DropStranger: sent2})

	stats := s.Stats()
	require.EqualValues(t, packets, stats.Leg1.PacketsIn)
	require.EqualValues(t, packets-1, stats.Leg2.PacketsOut)
	require.EqualValues(t, packets, stats.Leg2.PacketsIn)
	require.EqualValues(t, packets, stats.Leg1.PacketsOut)
	require.EqualValues(t, sent, stats.Leg1.BytesIn)
	require.EqualValues(t, sent, stats.Leg2.BytesIn)

	require.True(t, c1.isQuiet())
	require.True(t, c2.isQuiet())
	w.noEvent()
}

// TestFloodRace lets many clients race for a leg. Whoever wins gets all of its
// datagrams through, the others none.
func TestFloodRace(t *testing.T) {
	const rounds, racers, count, size = 20, 6, 60, 200

	p := atLoopback(loopback4)
	w := newWorld(t, func(cfg *Config) {
		cfg.PortRest = 0
	})

	for range rounds {
		s := w.open()
		c2 := p.client(t, s.Port(Leg2), sendOne, true)
		require.NoError(t, c2.send(nil))
		require.Equal(t, Leg2, w.event().(EventPinned).Leg)
		waitDrops(t, s, Leg2, DropNoClient, 1)

		start, sent := make(chan struct{}), make(chan error, racers)
		var all []*offloadClient
		for i := range racers {
			c := p.client(t, s.Port(Leg1),
				sendMode(i)%numSendModes, false)
			all = append(all, c)

			go func() {
				<-start
				sent <- c.send(burstOf(
					uint32(i), 0, count, size,
				)...)
			}()
		}
		close(start)
		for range racers {
			require.NoError(t, <-sent)
		}

		waitDrops(t, s, Leg1, DropStranger, (racers-1)*count)
		pinned := w.event().(EventPinned)
		require.Equal(t, s.Stats().Leg1.Client, pinned.New)

		winner := -1
		for i, c := range all {
			if c.addr() == pinned.New {
				winner = i
			}
		}
		require.NotEqual(t, -1, winner)

		// What has come is what the winner has sent.
		require.NoError(t, c2.wait())
		for _, want := range burstOf(uint32(winner), 0, count, size) {
			got, err := c2.receive()
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.True(t, c2.isQuiet())
		require.EqualValues(t, count, s.Stats().Leg1.PacketsIn)

		w.noEvent()
		require.NoError(t, s.Close())
		require.IsType(t, EventClosed{}, w.event())
		for _, c := range append(all, c2) {
			c.close()
		}
	}
}

// TestFloodEveryPort sends first packets to every port of many sockets from
// many clients at once. Each leg takes one of them, drops and counts the
// others, and a socket next to them loses nothing meanwhile.
func TestFloodEveryPort(t *testing.T) {
	const sockets, flooders, count, rounds = 100, 8, 5, 20

	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = freePorts(t, 2*sockets+chunk)
	})
	p := atLoopback(loopback4)
	innocent, clients := joinSocket(t, w, [2]place{p, p}, script{
		modes: [2]sendMode{sendRuns, sendOne},
		gro:   [2]bool{true, false},
	})
	require.IsType(t, EventPinned{}, w.event())
	require.IsType(t, EventPinned{}, w.event())

	var legs []LegStats
	var open []*Socket
	for range sockets {
		s := w.open()
		open = append(open, s)
		legs = append(legs, s.Stats().Leg1, s.Stats().Leg2)
	}

	known := make(map[string]bool)
	sent := make(chan error, flooders)
	for i := range flooders {
		c := p.client(t, 0, sendMode(i)%numSendModes, false)
		known[c.addr().String()] = true
		payloads := burstOf(stranger+uint32(i), 0, count, 100)

		go func() {
			var failed error
			for _, leg := range legs {
				c.leg = netip.AddrPortFrom(p.relay, leg.Port)
				err := c.send(payloads...)
				failed = errors.Join(failed, err)
			}
			sent <- failed
		}()
	}

	// The socket next to them is busy until they are done.
	packets, bytes := [2]uint64{1, 1}, [2]uint64{}
	done := 0
	for round := 0; round < rounds || done < flooders; round++ {
		for i := range clients {
			err := pass(clients[i], clients[1-i], burstOf(
				uint32(i+1), round*8, 8, 1200,
			))
			require.NoError(t, err, "%+v", innocent.Stats())
			packets[i] += 8
			bytes[i] += 8 * 1200
		}

		select {
		case err := <-sent:
			require.NoError(t, err)
			done++

		default:
		}
	}

	for _, s := range open {
		for _, num := range []Leg{Leg1, Leg2} {
			require.Eventually(t, func() bool {
				got := legStats(s, num).Drops[DropStranger]

				return got == (flooders-1)*count
			}, limit, tick)

			leg := legStats(s, num)
			require.EqualValues(t, count, leg.PacketsIn)
			require.Zero(t, leg.Drops[DropKernel])
			require.True(t, known[leg.Client.String()])

			pinned := w.event().(EventPinned)
			require.False(t, pinned.Old.IsValid())
		}
	}
	w.noEvent()

	requireTraffic(t, innocent, packets, bytes)
	require.True(t, clients[0].isQuiet())
	require.True(t, clients[1].isQuiet())
}
