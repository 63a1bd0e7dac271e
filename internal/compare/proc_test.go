package compare

import (
	"math"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// statLine is what Linux 6.18 tells of a process, with a hostile name.
const statLine = "4711 (a) b (c) 1 2) S 42 4711 4711 0 -1 4194560 219 77 0 " +
	"0 15 27 300 4000 20 0 1 0 1234 2441216 256 18446744073709551615 1 1 " +
	"0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"

// TestParseStat reads a process.
func TestParseStat(t *testing.T) {
	t.Parallel()

	s, err := parseStat(statLine)
	require.NoError(t, err)
	require.Equal(t, stat{
		pid:    4711,
		parent: 42,
		cpu:    (15 + 27 + 300 + 4000) * 10 * time.Millisecond,
	}, s)

	for _, text := range []string{
		"", "1", "1 (a", "x (a) S 1", ") 1 (", "1 (a) S 42 1 1 0 -1",
		"1 (a) S x 1 1 0 -1 1 1 1 1 1 1 1 1 1 1",
		"1 (a) S 1 1 1 0 -1 1 1 1 1 1 1 x 1 1 1",
	} {
		_, err := parseStat(text)
		require.Error(t, err, text)
	}
}

// TestFamily checks that descendants count in whatever order they come.
func TestFamily(t *testing.T) {
	t.Parallel()

	all := []stat{
		{pid: 5, parent: 4}, {pid: 4, parent: 2}, {pid: 3, parent: 1},
		{pid: 2, parent: 1}, {pid: 9, parent: 3}, {pid: 7, parent: 6},
	}
	require.Equal(t, []stat{
		{pid: 5, parent: 4}, {pid: 4, parent: 2}, {pid: 2, parent: 1},
	}, family(all, []int{2}))
	require.Len(t, family(all, []int{2, 9}), 4)
	require.Empty(t, family(all, []int{8}))
	require.Empty(t, family(all, nil))
}

// TestParseKiB reads lines of /proc.
func TestParseKiB(t *testing.T) {
	t.Parallel()

	text := []byte("VmPeak:\t  99 kB\nVmRSS:\t  1234 kB\nSlab:   7 kB\n")
	rss, err := parseKiB(text, "VmRSS:")
	require.NoError(t, err)
	require.Equal(t, uint64(1234<<10), rss)

	_, err = parseKiB(text, "VmHWM:")
	require.ErrorIs(t, err, errFormat)
	_, err = parseKiB([]byte("Slab: many kB"), "Slab:")
	require.Error(t, err)
}

// TestOwnProcess reads what this process uses.
func TestOwnProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	self := []int{os.Getpid()}

	// It uses CPU until that is seen, and memory.
	before, err := readCPU(self)
	require.NoError(t, err)
	rss, err := readRSS(self)
	require.NoError(t, err)
	require.Greater(t, rss, uint64(1<<20))

	memory := make([]byte, 64<<20)
	require.Eventually(t, func() bool {
		for i := range memory {
			memory[i]++
		}
		after, err := readCPU(self)

		return err == nil && after >= before+5*tick
	}, 30*time.Second, time.Millisecond)

	grown, err := readRSS(self)
	require.NoError(t, err)
	require.GreaterOrEqual(t, grown, rss+48<<20)
	runtime.KeepAlive(memory)

	slab, err := readSlab()
	require.NoError(t, err)
	require.Greater(t, slab, uint64(1<<20))
}

// TestNoProcess checks that nothing at all uses nothing, and that who has ended
// is missed.
func TestNoProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	cpu, err := readCPU(nil)
	require.NoError(t, err)
	require.Zero(t, cpu)
	rss, err := readRSS(nil)
	require.NoError(t, err)
	require.Zero(t, rss)

	_, err = readCPU([]int{os.Getpid(), math.MaxInt32})
	require.ErrorContains(t, err, "process 2147483647 has ended")
	_, err = readRSS([]int{math.MaxInt32})
	require.Error(t, err)
}
