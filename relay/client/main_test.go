package client_test

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// limit is how long anything may take that happens at once on an idle machine.
const limit = 30 * time.Second

// TestMain fails if the tests leave a goroutine or a file descriptor behind.
func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

// runTests runs the tests and returns the exit code.
func runTests(m *testing.M) int {
	// The runtime opens descriptors of its own for the first socket.
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}
	_ = conn.Close()

	before := openFiles()

	code := m.Run()
	if code != 0 {
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
