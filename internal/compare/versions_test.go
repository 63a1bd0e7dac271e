package compare

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program makes a program that prints a line and exits with a status.
func program(t *testing.T, dir, name, line string, status int) {
	t.Helper()

	script := fmt.Sprintf("#!/bin/sh\necho '%s'\nexit %d\n", line, status)
	require.NoError(t, os.WriteFile(
		filepath.Join(dir, name), []byte(script), 0o700,
	))
}

// TestReadVersions checks which programs have to be there.
func TestReadVersions(t *testing.T) {
	old := sbin
	t.Cleanup(func() { sbin = old })
	sbin = nil
	path, bin := t.TempDir(), t.TempDir()
	t.Setenv("PATH", path)

	_, err := readVersions(t.Context(), bin)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "socketd")

	// Both of these are missed, and a comparison ends before it begins.
	program(t, bin, "socketd", "socketd version 0.1.0 commit=abc", 0)
	for _, missing := range []string{"turnserver", "haproxy"} {
		_, err = readVersions(t.Context(), bin)
		require.ErrorIs(t, err, errUnavailable)
		require.ErrorContains(t, err, missing)
		require.ErrorContains(t, err, "scripts/compare-packages.sh")

		err := Run(t.Context(), Config{
			BinDir: bin,
			Dir:    t.TempDir(),
			Rounds: MinRounds,
			Budget: time.Minute,
		}, io.Discard, io.Discard)
		require.Error(t, err)
		if cores, _ := Cores(); cores > 1 {
			require.ErrorIs(t, err, errUnavailable)
		}

		program(t, path, missing, missing+" 1.2.3", 0)
	}

	// The others need not be there.
	program(t, path, "nginx", "nginx version: nginx/1.22.1", 1)
	lines, err := readVersions(t.Context(), bin)
	require.NoError(t, err)
	require.Equal(t, []string{
		"socketd version 0.1.0 commit=abc", "coturn 1.2.3",
		"haproxy 1.2.3", "nginx 1.22.1", "socat: not available",
	}, lines[:5])
	require.Contains(t, lines[6], "cores")
	require.Contains(t, lines[6], "load average before: ")

	// A program that cannot tell is no use.
	program(t, path, "nginx", "what?", 1)
	_, err = readVersions(t.Context(), bin)
	require.ErrorContains(t, err, "nginx: exit status 1")
}
