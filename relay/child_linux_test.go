package relay

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// childEnv names the test that a child process runs.
const childEnv = "RELAY_TEST_CHILD"

// inChild tells whether this is the child process of the test. If not it runs
// one, in which the test may do what would harm others.
func inChild(t *testing.T) bool {
	t.Helper()

	if os.Getenv(childEnv) == t.Name() {
		return true
	}

	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	ctx, cancel := context.WithTimeout(context.Background(), 4*limit)
	defer cancel()

	child := exec.CommandContext(
		ctx, os.Args[0], "-test.run="+pattern, "-test.v",
	)
	child.Env = append(os.Environ(), childEnv+"="+t.Name())
	out, err := child.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: "+t.Name())

	return false
}

// TestNoDescriptors opens sockets when the process may open no further files.
// Nothing half-open stays behind, and it works again when files are closed.
func TestNoDescriptors(t *testing.T) {
	if !inChild(t) {
		return
	}

	w := newWorld(t, nil)
	first := w.open()
	free := len(w.ports.free)

	// Take all that there is.
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{
		Cur: 100, Max: 100,
	}))

	var files []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			require.ErrorIs(t, err, unix.EMFILE)

			break
		}
		files = append(files, file)
	}

	// release closes one of the files.
	release := func() {
		require.NoError(t, files[0].Close())
		files = files[1:]
	}

	// Neither two ports nor one.
	for range 2 {
		for range 50 {
			_, err := w.Open(Options{Protocol: UDP})
			require.ErrorIs(t, err, unix.EMFILE)
		}

		require.Equal(t, []*Socket{first}, w.Sockets())
		require.Len(t, w.ports.free, free)
		require.Empty(t, w.ports.resting)
		require.Empty(t, w.reserved)

		// Whose address this is cannot be found out now.
		if len(files) > 0 && w.self.readAt.IsZero() {
			anybody := netip.MustParseAddr("192.0.2.99")
			require.Equal(t, isExhausted(t),
				w.self.contains(anybody, time.Now()))
		}

		release()
	}

	second := w.open()
	require.NoError(t, second.Close())
	require.IsType(t, EventClosed{}, w.event())
	w.noEvent()

	for len(files) > 0 {
		release()
	}
}

// isExhausted tells whether not one file can be opened.
func isExhausted(t *testing.T) bool {
	t.Helper()

	file, err := os.Open(os.DevNull)
	if err != nil {
		return true
	}
	require.NoError(t, file.Close())

	return false
}
