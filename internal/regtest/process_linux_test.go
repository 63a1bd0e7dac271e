package regtest

import (
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// watchChild returns a function that waits for the end of the process whose id
// proc prints. The process is watched by a descriptor, so that it cannot be
// taken for another with the same id.
func watchChild(t *testing.T, proc *Process) func() {
	t.Helper()

	match, err := proc.WaitLine(
		t.Context(), regexp.MustCompile(`^child (\d+)$`),
	)
	require.NoError(t, err)

	pid, err := strconv.Atoi(match[1])
	require.NoError(t, err)

	fd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		// This fails if all went well.
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		require.NoError(t, unix.Close(fd))
	})

	return func() {
		t.Helper()

		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, 10_000)
			if err == unix.EINTR {
				continue
			}

			require.NoError(t, err)
			require.Equal(t, 1, n, "the process still runs")

			return
		}
	}
}

// TestGroup checks that what a process started ends with it, however that is
// made to end.
func TestGroup(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *Process){
		"stop": func(t *testing.T, proc *Process) {
			t.Helper()
			require.NoError(t, proc.Stop())
		},
		"kill": func(t *testing.T, proc *Process) {
			t.Helper()
			proc.Kill()
		},
		"by itself": func(t *testing.T, proc *Process) {
			t.Helper()
			require.NoError(t, unix.Kill(
				proc.Pid(), unix.SIGKILL,
			))
			require.Error(t, proc.WaitExit(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			proc := startChild(t, childConfig(t, "family"))
			awaitEnd := watchChild(t, proc)

			end(t, proc)
			awaitEnd()
		})
	}
}

// TestParentKilled checks that nothing outlives a program that is killed.
func TestParentKilled(t *testing.T) {
	cfg := childConfig(t, "parent")
	cfg.Args = []string{filepath.Join(t.TempDir(), "output.log")}
	proc := startChild(t, cfg)
	awaitEnd := watchChild(t, proc)

	// The grandchild leads a group of its own, so it is not the group's end
	// that ends it.
	proc.Kill()
	awaitEnd()
}
