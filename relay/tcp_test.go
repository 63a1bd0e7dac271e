package relay

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestTCP joins two connections, of all families, and passes what they say to
// and fro.
func TestTCP(t *testing.T) {
	t.Parallel()

	for _, ips := range [][2]netip.Addr{
		{loopback4, loopback4}, {loopback6, loopback6},
		{loopback4, loopback6}, {loopback6, loopback4},
	} {
		t.Run(fmt.Sprintf("%v %v", ips[0], ips[1]), func(t *testing.T) {
			t.Parallel()

			w := newWorld(t, nil)
			s := w.openTCP()
			require.Equal(t, TCP, s.Protocol())

			c1 := callAdmitted(t, ips[0], s, Leg1)
			require.Equal(t, EventPinned{
				SocketID: s.ID(), Leg: Leg1, New: c1.addr(),
			}, w.event())
			c2 := callAdmitted(t, ips[1], s, Leg2)
			require.Equal(t, EventPinned{
				SocketID: s.ID(), Leg: Leg2, New: c2.addr(),
			}, w.event())

			c1.say("hello")
			c2.hear("hello")
			c2.say("good bye")
			c1.hear("good bye")

			// It is counted after it was sent.
			require.Eventually(t, func() bool {
				return s.Stats().Leg1.BytesOut == 8 &&
					s.Stats().Leg2.BytesOut == 5
			}, limit, tick)
			stats := s.Stats()
			require.EqualValues(t, 5, stats.Leg1.BytesIn)
			require.EqualValues(t, 8, stats.Leg2.BytesIn)
			require.Equal(t, c1.addr(), stats.Leg1.Client)
			require.Equal(t, c2.addr(), stats.Leg2.Client)
			require.False(t, stats.Leg2.LastSeen.IsZero())

			for _, leg := range []Leg{Leg1, Leg2} {
				require.Zero(t, legStats(s, leg).PacketsIn)
				require.Zero(t, legStats(s, leg).PacketsOut)
				waitConns(t, s, leg, connStats{
					accepted: 1, open: 1,
				})
			}

			c1.hangUp()
			c2.hearEnd()
			c2.hangUp()
			for _, leg := range []Leg{Leg1, Leg2} {
				waitConns(t, s, leg, connStats{accepted: 1})
				requireDrops(t, s, leg, nil)
			}
			w.noEvent()
		})
	}
}

// TestTCPOrder lets connections arrive at both legs in random order. The first
// at one is joined with the first at the other, and so on.
func TestTCPOrder(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.PortRest = 0
	})
	rapid.Check(t, func(rt *rapid.T) {
		s := w.openTCP()
		defer func() {
			require.NoError(rt, s.Close())
		}()

		arrivals := rapid.SliceOfN(
			rapid.SampledFrom([]Leg{Leg1, Leg2}), 1, 12,
		).Draw(rt, "arrivals")

		callers := make(map[Leg][]*caller)
		for _, leg := range arrivals {
			callers[leg] = append(callers[leg], call(t, s, leg))
		}

		pairs := min(len(callers[Leg1]), len(callers[Leg2]))
		for _, leg := range []Leg{Leg1, Leg2} {
			waitConns(t, s, leg, connStats{
				accepted: uint64(len(callers[leg])),
				open:     len(callers[leg]),
				waiting:  len(callers[leg]) - pairs,
			})
		}

		for i := range pairs {
			c1, c2 := callers[Leg1][i], callers[Leg2][i]
			c1.say(fmt.Sprint("pair ", i))
			c2.hear(fmt.Sprint("pair ", i))
			c2.say(fmt.Sprint("answer ", i))
			c1.hear(fmt.Sprint("answer ", i))
		}
	})
}

// TestTCPHalfClose ends one direction. The other goes on.
func TestTCPHalfClose(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openTCP()

	for _, first := range []Leg{Leg1, Leg2} {
		a, b := call(t, s, first), call(t, s, first.Other())

		a.say("question")
		a.halfClose()
		b.hear("question")
		b.hearEnd()

		// However often it says something.
		for range 3 {
			b.say("answer")
			a.hear("answer")
		}
		require.Equal(t, 1, legStats(s, first).Open)

		b.halfClose()
		a.hearEnd()
		waitClosed(t, s)
	}

	for _, leg := range []Leg{Leg1, Leg2} {
		waitConns(t, s, leg, connStats{accepted: 2})
		requireDrops(t, s, leg, nil)
	}
}

// TestTCPEarlyData checks that what a connection says before it has a partner
// is not lost, and neither is its end.
func TestTCPEarlyData(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openTCP()

	for _, first := range []Leg{Leg1, Leg2} {
		for _, size := range []int64{1, 1000, 100_000} {
			for _, ends := range []bool{false, true} {
				a := call(t, s, first)
				_, err := io.CopyN(a, stream(1), size)
				require.NoError(t, err)
				if ends {
					a.halfClose()
				}

				b := call(t, s, first.Other())
				b.requireStream(1, size)
				if !ends {
					a.halfClose()
				}
				b.hearEnd()

				b.say("got it")
				b.hangUp()
				a.hear("got it")
				a.hearEnd()
				waitClosed(t, s)
			}
		}
	}

	for _, leg := range []Leg{Leg1, Leg2} {
		require.Zero(t, legStats(s, leg).Resets)
		requireDrops(t, s, leg, nil)
	}
}

// TestTCPNotRead lets a connection without a partner send as much as it can.
// Nothing is read from it before its partner comes, and all of it after.
func TestTCPNotRead(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openTCP()

	a := call(t, s, Leg1)
	size := a.fill(stream(1))
	require.Positive(t, size)

	// What the kernel's queues hold, and no more.
	require.Less(t, size, int64(64<<20))
	require.Zero(t, s.Stats().Leg1.BytesIn)

	b := call(t, s, Leg2)
	b.requireStream(1, size)
	a.halfClose()
	b.hearEnd()
	require.EqualValues(t, size, s.Stats().Leg1.BytesIn)
}

// TestTCPChurn opens and closes thousands of short pairs from many clients at
// once. Each gets what its partner says, and nothing is left.
func TestTCPChurn(t *testing.T) {
	const workers, calls = 16, 200

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxPairs = 2 * workers
	})

	// The first socket starts what serves all.
	require.NoError(t, w.openTCP().Close())
	files := openFiles()

	s := w.openTCP()
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() {
			for j := range calls {
				err := ask(s, uint64(i*calls+j))
				if err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			for range calls {
				if err := answer(s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()

	for _, leg := range []Leg{Leg1, Leg2} {
		waitConns(t, s, leg, connStats{accepted: workers * calls})
		requireDrops(t, s, leg, nil)
	}
	require.Zero(t, w.conns.Load())

	require.NoError(t, s.Close())
	require.Equal(t, files, openFiles())
}

// ask connects to leg 1, says a number, and waits for the same number as an
// answer.
func ask(s *Socket, number uint64) error {
	conn, err := tryCall(loopback4, s.Port(Leg1))
	if err != nil {
		return err
	}
	defer func() {
		_ = conn.Close()
	}()

	var question [8]byte
	binary.BigEndian.PutUint64(question[:], number)
	if _, err := conn.Write(question[:]); err != nil {
		return fmt.Errorf("ask: %w", err)
	}

	if err := conn.CloseWrite(); err != nil {
		return fmt.Errorf("ask: %w", err)
	}

	answer, err := io.ReadAll(conn)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}

	if string(answer) != string(question[:]) {
		return fmt.Errorf("asked %x, was answered %x", question, answer)
	}

	return nil
}

// answer connects to leg 2, and says what it hears.
func answer(s *Socket) error {
	conn, err := tryCall(loopback4, s.Port(Leg2))
	if err != nil {
		return err
	}
	defer func() {
		_ = conn.Close()
	}()

	question, err := io.ReadAll(conn)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}

	if _, err := conn.Write(question); err != nil {
		return fmt.Errorf("answer: %w", err)
	}

	return nil
}
