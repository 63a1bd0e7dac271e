package relay

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// speech is what one side of a pair sends, and how the other reads it.
type speech struct {
	// seed makes its bytes.
	seed byte

	// writes holds the size of each write in bytes, and pauses after how
	// many writes the sender lets others run each time; 0 for never.
	writes []int
	pauses int

	// reads is how many bytes the reader reads at once, and slow after how
	// many reads it waits for a moment; 0 for never.
	reads, slow int

	// last tells that the sender waits for the end of the other direction
	// before its last write.
	last bool
}

// size returns the number of bytes of the speech.
func (s *speech) size() int64 {
	size := int64(0)
	for _, write := range s.writes {
		size += int64(write)
	}

	return size
}

// drawSpeech draws a speech.
func drawSpeech(t *rapid.T, seed byte) *speech {
	s := &speech{
		seed: seed,
		writes: rapid.SliceOfN(rapid.OneOf(
			rapid.IntRange(1, 100),
			rapid.IntRange(chunkMax-1, chunkMax+1),
			rapid.IntRange(1, 100_000),
		), 0, 12).Draw(t, "writes"),
		pauses: rapid.IntRange(0, 3).Draw(t, "pauses"),
		reads: rapid.SampledFrom([]int{
			100, 4096, 1 << 16, 1 << 20,
		}).Draw(t, "reads"),
	}

	if rapid.IntRange(0, 4).Draw(t, "large") == 0 {
		s.writes = append(s.writes, rapid.IntRange(1<<20, 5<<20).
			Draw(t, "megabytes"))
	}
	if s.reads >= 4096 {
		s.slow = rapid.SampledFrom([]int{0, 0, 10, 100}).
			Draw(t, "slow")
	}

	return s
}

// chunkMax is about how much a relay may copy at once.
const chunkMax = 16 << 10

// send sends the speech and ends it. heard is closed when the other direction
// has ended.
func (s *speech) send(to *caller, heard <-chan struct{}) error {
	bytes := stream(s.seed)
	for i, size := range s.writes {
		if s.last && i == len(s.writes)-1 {
			<-heard
		}

		if s.pauses > 0 && i%s.pauses == 0 {
			runtime.Gosched()
		}

		chunk := make([]byte, size)
		_, _ = io.ReadFull(bytes, chunk)
		if _, err := to.Write(chunk); err != nil {
			return fmt.Errorf("write %d: %w", i, err)
		}
	}

	if s.last && len(s.writes) == 0 {
		<-heard
	}

	return to.CloseWrite()
}

// hear reads until a clean end, and tells whether it was the speech.
func (s *speech) hear(from *caller) error {
	sum, buffer, size := sha256.New(), make([]byte, s.reads), int64(0)
	for i := 1; ; i++ {
		if s.slow > 0 && i%s.slow == 0 {
			time.Sleep(100 * time.Microsecond)
		}

		n, err := from.Read(buffer)
		_, _ = sum.Write(buffer[:n])
		size += int64(n)

		switch {
		case errors.Is(err, io.EOF) && size == s.size():
			return compare(sum, s.seed, size)

		case err != nil:
			return fmt.Errorf("after %d of %d bytes: %w", size,
				s.size(), err)
		}
	}
}

// TestTCPStreams passes random streams both ways at once. Each comes out as it
// was, and ends when its sender ended it: not before, and though the other
// direction goes on.
func TestTCPStreams(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openTCP()

	rapid.Check(t, func(rt *rapid.T) {
		speeches := [2]*speech{drawSpeech(rt, 1), drawSpeech(rt, 2)}
		if last := rapid.IntRange(0, 2).Draw(rt, "last"); last < 2 {
			speeches[last].last = true
		}

		before := s.Stats()
		c1, c2 := callBoth(t, s)
		converse(rt, [2]*caller{c1, c2}, speeches)
		c1.hangUp()
		c2.hangUp()
		waitClosed(t, s)

		after := s.Stats()
		got1 := after.Leg1.BytesIn - before.Leg1.BytesIn
		got2 := after.Leg2.BytesIn - before.Leg2.BytesIn
		require.EqualValues(rt, speeches[0].size(), got1)
		require.EqualValues(rt, speeches[1].size(), got2)
		require.Equal(rt, after.Leg1.BytesIn, after.Leg2.BytesOut)
		require.Equal(rt, after.Leg2.BytesIn, after.Leg1.BytesOut)
	})

	for _, leg := range []Leg{Leg1, Leg2} {
		require.Zero(t, legStats(s, leg).Resets)
		requireDrops(t, s, leg, nil)
	}
}

// converse lets both callers speak at once.
func converse(t require.TestingT, callers [2]*caller, speeches [2]*speech) {
	require.NoError(t, tryConverse(callers, speeches))
}

// tryConverse is converse for goroutines, which must not end the test.
func tryConverse(callers [2]*caller, speeches [2]*speech) error {
	done := make(chan error, 4)
	heard := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	for i := range callers {
		go func() {
			done <- speeches[i].send(callers[i], heard[1-i])
		}()
		go func() {
			done <- speeches[i].hear(callers[1-i])
			close(heard[i])
		}()
	}

	var failed error
	for range cap(done) {
		failed = errors.Join(failed, <-done)
	}

	return failed
}

// TestTCPSlowReader lets readers stop. Their senders stop too, the relay holds
// little meanwhile, and nothing is lost when they go on.
func TestTCPSlowReader(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openTCP()
	c1, c2 := callBoth(t, s)

	// Both directions, at once in the end.
	for range 2 {
		size1 := c1.fill(stream(1))
		size2 := c2.fill(stream(2))
		requireHolds(t, s)

		c2.requireStream(1, size1)
		c1.requireStream(2, size2)
	}

	// A reader that takes a little at a time.
	size := c1.fill(stream(3))
	c1.halfClose()
	sum, buffer := sha256.New(), make([]byte, 50_000)
	_, err := io.CopyBuffer(
		struct{ io.Writer }{sum}, struct{ io.Reader }{c2}, buffer,
	)
	require.NoError(t, err)
	require.NoError(t, compare(sum, 3, size))
	require.Equal(t, s.Stats().Leg1.BytesIn, s.Stats().Leg2.BytesOut)
}

// requireHolds checks that the relay holds no more of either direction than one
// pipe.
func requireHolds(t *testing.T, s *Socket) {
	t.Helper()

	stats := s.Stats()
	require.LessOrEqual(t, stats.Leg1.BytesIn-stats.Leg2.BytesOut,
		uint64(1<<20))
	require.LessOrEqual(t, stats.Leg2.BytesIn-stats.Leg1.BytesOut,
		uint64(1<<20))
}

// TestTCPReset resets one side of pairs that do all sorts of things. The other
// side is reset too, which is counted, and never hears of a clean end.
func TestTCPReset(t *testing.T) {
	t.Parallel()

	// What b still writes must not learn of the reset in place of its
	// reads, after which they see an end.
	tests := map[string]func(t *testing.T, a, b *caller){
		"idle": func(*testing.T, *caller, *caller) {},
		"after words": func(_ *testing.T, a, b *caller) {
			a.say("hello")
			b.hear("hello")
			b.say("hello")
			a.hear("hello")
		},
		"half closed": func(_ *testing.T, a, b *caller) {
			b.halfClose()
			a.hearEnd()
			a.say("hello")
			b.hear("hello")
		},
		"bulk": func(_ *testing.T, a, b *caller) {
			go func() {
				_, _ = io.Copy(a, stream(1))
			}()
			b.requireStream(1, 10<<20)
		},
		"bulk towards it": func(t *testing.T, a, b *caller) {
			t.Helper()

			done := make(chan error, 1)
			go func() {
				_, err := io.CopyN(b, stream(1), 10<<20)
				done <- err
			}()
			a.requireStream(1, 10<<20-100_000)
			require.NoError(t, <-done)
		},
		"slow": func(t *testing.T, a, _ *caller) {
			t.Helper()

			require.Positive(t, a.fill(stream(1)))
		},
		"slow itself": func(t *testing.T, _, b *caller) {
			t.Helper()

			require.Positive(t, b.fill(stream(1)))
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			w := newWorld(t, nil)
			s := w.openTCP()
			for i, leg := range []Leg{Leg1, Leg2, Leg1, Leg2} {
				a, b := call(t, s, leg), call(t, s, leg.Other())
				prepare(t, a, b)
				a.abort()

				_, err := io.Copy(io.Discard, b)
				require.ErrorIs(t, err, syscall.ECONNRESET)
				waitClosed(t, s)

				count := uint64(i/2 + 1)
				require.Equal(t, count,
					legStats(s, leg).Resets)
				require.EqualValues(t, i/2+i%2,
					legStats(s, leg.Other()).Resets)
			}
		})
	}
}

// TestTCPResetRace resets connections that are written to all the while: the
// system tells only one of the relay's calls of a reset.
func TestTCPResetRace(t *testing.T) {
	t.Parallel()

	const count = 200

	w := newWorld(t, nil)
	s := w.openTCP()
	for range count {
		a, b := callBoth(t, s)
		done := make(chan error, 1)
		go func() {
			for {
				_, err := b.Write([]byte("hello"))
				if err != nil {
					done <- err

					return
				}
			}
		}()

		a.hear("hello")
		a.abort()

		// One of b's own calls is told of the reset. After a clean end
		// it would be another error.
		_, err := io.Copy(io.Discard, b)
		err = errors.Join(err, <-done)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		waitClosed(t, s)
	}

	require.EqualValues(t, count, s.Stats().Leg1.Resets)
	require.Zero(t, s.Stats().Leg2.Resets)
}
