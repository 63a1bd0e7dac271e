package socketrpc

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if the tests leave a goroutine or a file descriptor behind.
func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

// runTests runs the tests and returns the exit code.
func runTests(m *testing.M) int {
	before := openFiles()
	if code := m.Run(); code != 0 {
		return code
	}

	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}
	if after := openFiles(); after != before {
		fmt.Fprintf(os.Stderr, "%d files open before the tests, %d "+
			"after\n", before, after)

		return 1
	}

	return 0
}

// openFiles counts the open file descriptors. It is 0 where the system does
// not tell.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}

	return len(entries)
}
