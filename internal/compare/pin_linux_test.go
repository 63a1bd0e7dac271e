package compare

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// coreEnv tells the child process of TestBecome which core to take.
const coreEnv = "COMPARE_TEST_CORE"

// TestBecome checks that a program has the core that it was to have, and the
// process that it was started in.
func TestBecome(t *testing.T) {
	if text := os.Getenv(coreEnv); text != "" {
		core, err := strconv.Atoi(text)
		require.NoError(t, err)

		// This returns only if it fails.
		require.NoError(t, Become(core, []string{
			"sh", "-c", `echo "$0 $$ $(nproc)"; ` +
				`grep Cpus_allowed_list /proc/self/status`,
			"it is",
		}))
	}

	cores, err := allowed()
	require.NoError(t, err)
	n, err := Cores()
	require.NoError(t, err)
	require.Len(t, cores, n)

	for i, core := range cores {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()

		child := exec.CommandContext(
			ctx, os.Args[0], "-test.run=^TestBecome$",
		)
		child.Env = append(os.Environ(), coreEnv+"="+strconv.Itoa(i))
		out, err := child.Output()
		require.NoError(t, err, string(out))
		require.Equal(t, "it is "+strconv.Itoa(child.Process.Pid)+
			" 1\nCpus_allowed_list:\t"+strconv.Itoa(core)+"\n",
			string(out))
	}

	require.ErrorContains(t, Become(n, []string{"sh"}), "there is no core")
	require.ErrorContains(t, Become(-1, []string{"sh"}), "there is no core")
	require.ErrorIs(t, Become(0, []string{"no-such-program-at-all"}),
		exec.ErrNotFound)
}
