package compare

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails the tests if they leave a goroutine or an open file behind.
func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

// runTests runs the tests and returns the exit code.
func runTests(m *testing.M) int {
	// The first socket makes the runtime open its poller, which stays.
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}
	_ = lis.Close()

	before := countFiles()
	code := m.Run()

	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}

	if after := countFiles(); after != before {
		fmt.Fprintf(os.Stderr, "%d open files before the tests, %d "+
			"after\n", before, after)

		return 1
	}

	return code
}

// countFiles returns how many files this process has open, 0 where there is no
// /proc to tell.
func countFiles() int {
	if runtime.GOOS != "linux" {
		return 0
	}

	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}

	return len(entries)
}
