//go:build unix

package sidecar

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRaiseFileLimit checks that a lowered limit is raised to the hard one. It
// runs alone: the limit is the whole process's.
func TestRaiseFileLimit(t *testing.T) {
	var before, after syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))

	low := before
	low.Cur = 200
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	t.Cleanup(func() {
		require.NoError(t, syscall.Setrlimit(
			syscall.RLIMIT_NOFILE, &before,
		))
	})

	raised := raiseFileLimit()
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &after))
	require.Equal(t, before.Max, after.Cur)
	require.Equal(t, before.Max, after.Max)
	require.Equal(t, int(min(before.Max, noFileLimit)), raised)
}
