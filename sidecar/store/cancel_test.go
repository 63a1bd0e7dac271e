package store

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCanceledReads checks that reads which are given up at any moment leave
// neither a connection nor a file open.
func TestCanceledReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socketd.db")
	d := openPath(t, path)
	events := make([][]byte, 100)
	for i := range events {
		events[i] = make([]byte, 100)
	}
	require.NoError(t, d.Write(t.Context(), Batch{Events: events}))

	for i := range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := uint64(0); ctx.Err() == nil; n = (n + 1) % 90 {
				_, err := d.Events(ctx, n, 10)
				if ctx.Err() == nil && err != nil {
					t.Error(err)
				}
			}
		})
		time.Sleep(time.Duration(i) * time.Microsecond / 2)
		cancel()
		wg.Wait()
	}
	require.NoError(t, d.Close())

	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the system does not tell which files are open")
	}
	for _, entry := range entries {
		// One that was open for the list is closed by now.
		name, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err == nil {
			require.NotContains(t, name, filepath.Dir(path))
		}
	}
}
