//go:build itest

package itest

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// BenchmarkRestore measures the time from the start of the process until all
// sockets are back, both legs of each pinned, after a kill. It is the time that
// another process sees: what the system needs to start a program is in it.
func BenchmarkRestore(b *testing.B) {
	for _, count := range []int{1, 1000} {
		b.Run(fmt.Sprintf("sockets=%d", count), func(b *testing.B) {
			benchRestore(b, count)
		})
	}
}

// benchRestore is BenchmarkRestore with a number of sockets.
func benchRestore(b *testing.B, count int) {
	b.Helper()

	n, stop := startBig(b, count)
	defer stop()
	var sockets []*socketrpc.StartSocketResponse
	for range count {
		sockets = append(sockets, open(b, n, "udp"))
	}
	pinAll(b, n, sockets)
	time.Sleep(restoreTime) // A pin is stored within a second.

	var took []time.Duration
	for b.Loop() {
		n.Socketd.Kill()
		start := time.Now()
		proc, err := n.Socketd.Launch(b.Context())
		require.NoError(b, err)
		match, err := proc.WaitLine(b.Context(), restoredLine)
		require.NoError(b, err)
		took = append(took, time.Since(start))
		require.Equal(b, strconv.Itoa(count), match[1])
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(milliseconds(took[len(took)/2]), "ms-median")
	b.ReportMetric(milliseconds(took[len(took)-1]), "ms-longest")

	// It ends in order only once it runs.
	_, err := n.Socketd.WaitLine(b.Context(), readyLine)
	require.NoError(b, err)
}

// milliseconds returns a time in milliseconds.
func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
