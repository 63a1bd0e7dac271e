//go:build !portable

package relay

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// backlogDrops returns how many packets the system has dropped for all
// programs, before it knew whose they are.
func backlogDrops(t *testing.T) uint64 {
	t.Helper()

	// One line per processor; the second number counts what was dropped.
	text, err := os.ReadFile("/proc/net/softnet_stat")
	require.NoError(t, err)

	total := uint64(0)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		require.Greater(t, len(fields), 1)

		count, err := strconv.ParseUint(fields[1], 16, 64)
		require.NoError(t, err)
		total += count
	}

	return total
}

// TestFloodUnpaced lets strangers send as fast as they can, more than the leg
// can read. What the system does not drop is counted, nothing of theirs comes
// out, and what comes from the leg's client comes in order.
func TestFloodUnpaced(t *testing.T) {
	tests := map[string]struct {
		mode sendMode

		// most is how many datagrams the system may count as one when
		// it drops them.
		most uint64
	}{
		"single": {mode: sendOne, most: 1},
		"runs":   {mode: sendRunBatch, most: uint64(longestRun())},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if !inChild(t) {
				return
			}

			useOneProcessor(t)
			floodUnpaced(t, test.mode, test.most)
		})
	}
}

// floodUnpaced is TestFloodUnpaced with strangers who send in the mode.
func floodUnpaced(t *testing.T, mode sendMode, most uint64) {
	t.Helper()

	const strangers, count = 4, 10

	w := newQuietWorld(t)
	places := [2]place{atLoopback(loopback4), atLoopback(loopback4)}
	s, clients := joinSocket(t, w, places, script{})
	c1, c2 := clients[0], clients[1]
	before := backlogDrops(t)

	f := newFlood(t, s, Leg1, strangers, false, mode)

	// Go on until the flood has become one.
	last, sent := 0, uint64(1)
	burst := func(count int) {
		err := c1.send(burstOf(1, int(sent), count, 500)...)
		require.NoError(t, err)
		sent += uint64(count)
	}
	drain := func() {
		for !c2.isQuiet() {
			last = requireLater(t, c2, last)
		}
	}
	for f.sent.Load() < 50_000 || f.counted() == 0 || last == 0 {
		require.Empty(t, f.failed)
		burst(count)
		drain()
	}
	strange := f.end(t)

	// When a datagram comes that was sent after the end, nothing is under
	// way any more, and what was lost is known.
	burst(1)
	require.NoError(t, eventually(func() bool {
		drain()
		if last == int(sent-1) {
			return true
		}
		burst(1)

		return false
	}))

	in := s.Stats().Leg1
	lost, all := in.Drops[DropKernel], sent+strange
	got := in.PacketsIn + in.Drops[DropStranger]
	t.Logf("%d of the client, %d of strangers: %+v", sent, strange, in)
	require.LessOrEqual(t, got+lost, all)
	require.GreaterOrEqual(t,
		got+lost*most+backlogDrops(t)-before, all)

	// Now that it is calm nothing is lost.
	require.NoError(t, pass(c1, c2, burstOf(1, int(sent), count, 500)))
}

// useOneProcessor makes all threads of this process run on the same processor.
// The system has a queue for each, and packets of one client that were sent on
// two may overtake each other in a flood.
func useOneProcessor(t *testing.T) {
	t.Helper()

	var all, one unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &all))
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}

	// A new thread runs where the one that makes it runs.
	done := make(map[string]bool)
	for more := true; more; {
		more = false

		threads, err := os.ReadDir("/proc/self/task")
		require.NoError(t, err)
		for _, thread := range threads {
			if done[thread.Name()] {
				continue
			}
			done[thread.Name()], more = true, true

			id, err := strconv.Atoi(thread.Name())
			require.NoError(t, err)
			require.NoError(t, unix.SchedSetaffinity(id, &one))
		}
	}
}

// requireLater receives a datagram of client 1 that it sent after the one with
// the number. It returns its own number.
func requireLater(t *testing.T, c *offloadClient, last int) int {
	t.Helper()

	require.NoError(t, c.wait())
	payload, err := c.receive()
	require.NoError(t, err)

	sender, number, err := parsePayload(payload)
	require.NoError(t, err)
	require.EqualValues(t, 1, sender)
	require.Greater(t, int(number), last)

	return int(number)
}
