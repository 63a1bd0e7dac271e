package compare

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newRunner returns a runner of one row, for which there is time.
func newRunner(t *testing.T, key string, progress *strings.Builder) *runner {
	t.Helper()

	r := bench(key, nil)
	r.stage = &stage{self: "/bin/false", dir: t.TempDir()}
	r.progress = progress
	r.deadline = time.Now().Add(time.Hour)
	r.running = make(map[string]relay)

	return r
}

// TestNotAvailable checks that a contestant which is not installed is left out
// of the rounds that follow, and is no failure.
func TestNotAvailable(t *testing.T) {
	old := sbin
	t.Cleanup(func() { sbin = old })
	sbin = nil
	t.Setenv("PATH", t.TempDir())

	var progress strings.Builder
	r := newRunner(t, "udp-plain", &progress)
	row := r.rows[0]
	for round := range 2 {
		r.step(t.Context(), round, row, nameSocat)
	}

	require.Equal(t, 1, strings.Count(progress.String(), "\n"))
	require.Contains(t, progress.String(), "round 1 of 4, udp-plain, "+
		"socat: start socat: socat: not available")
	require.NoError(t, r.failures())
	cells, note := r.line(row, nameSocat)
	require.Equal(t, "0", cells[len(cells)-1])
	require.Contains(t, note, "not available")
}

// TestFailing checks that a measurement which fails is made once more, and is
// told.
func TestFailing(t *testing.T) {
	var progress strings.Builder
	r := newRunner(t, "udp-plain", &progress)
	row := r.rows[0]

	r.step(t.Context(), 0, row, nameNone)
	require.NoError(t, r.failures())
	for round := 1; round < 4; round++ {
		r.step(t.Context(), round, row, nameNone)
	}
	require.Equal(t, 2, strings.Count(
		progress.String(), "generator ended (exit status 1)",
	))
	require.ErrorContains(t, r.failures(), "udp-plain, no relay: generator")
	require.NoError(t, r.stop())
}

// TestBudget checks that nothing is begun for which there is no time.
func TestBudget(t *testing.T) {
	var progress strings.Builder
	r := newRunner(t, "udp-plain", &progress)
	row := r.rows[0]

	r.deadline = time.Now().Add(firstCost - time.Second)
	r.step(t.Context(), 0, row, nameNone)
	require.Empty(t, progress.String())

	// A measurement is taken to last as long as the one before.
	r.deadline = time.Now().Add(time.Hour)
	r.jobs[jobKey{row: row.key, contestant: nameNone}].cost = 2 * time.Hour
	r.step(t.Context(), 1, row, nameNone)
	require.Empty(t, progress.String())

	_, note := r.line(row, nameNone)
	require.Contains(t, note, "the time ended after 0 rounds")

	// Nor after the end.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.rounds(ctx)
	require.Empty(t, progress.String())
}
