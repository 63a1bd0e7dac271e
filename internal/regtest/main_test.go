package regtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// childEnv makes the test binary play the program that a test starts. Its
// value says which.
const childEnv = "REGTEST_TEST_CHILD"

// TestMain fails the tests if they leave a goroutine or an open file behind.
func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		playChild(role)
	}

	os.Exit(runTests(m))
}

// runTests runs the tests and returns the exit code.
func runTests(m *testing.M) int {
	// Under the race detector a program waits for a second before it ends.
	// There are many of them here.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}

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

// playChild is the program that the tests start. It does not return.
func playChild(role string) {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)

	switch role {
	// Prints its lines and ends in order when it is told to.
	case "daemon":
		fmt.Println("opening the database")
		fmt.Println("listening on 127.0.0.1:1234")
		fmt.Fprintln(os.Stderr, "Ready")
		<-interrupts
		fmt.Println("bye")
		os.Exit(0)

	// Ends by itself, with a last line that has no end.
	case "fail":
		for i := range 30 {
			fmt.Println("line", i)
		}
		fmt.Print("cannot go on")
		os.Exit(3)

	case "done":
		fmt.Println("all done")
		os.Exit(0)

	// Says how it was interrupted with its exit status.
	case "sulk":
		fmt.Println("Ready")
		<-interrupts
		os.Exit(4)

	// Does not end when it is told to.
	case "deaf":
		fmt.Println("Ready")
		for range interrupts {
			fmt.Println("heard you")
		}

	// Has a process of its own, in the same group, that outlives it.
	case "family":
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"=deaf")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		fmt.Println("child", cmd.Process.Pid)
		<-interrupts
		os.Exit(0)

	// Starts a process with this package and tells its id.
	case "parent":
		proc, err := Start(context.Background(), ProcessConfig{
			Name:    "grandchild",
			Path:    os.Args[0],
			Env:     []string{childEnv + "=deaf"},
			LogFile: os.Args[1],
		})
		if err != nil {
			panic(err)
		}

		// From here on it prints nothing, which it would not survive
		// without this process.
		_, err = proc.WaitLine(context.Background(), readyLine)
		if err != nil {
			panic(err)
		}
		fmt.Println("child", proc.Pid())
		<-interrupts
		os.Exit(0)

	// Prints what it reads.
	case "echo":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			panic(err)
		}
		os.Exit(0)

	case "env":
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, "SOCKET") {
				fmt.Println("found", v)
			}
		}
		fmt.Println("all told")
		os.Exit(0)
	}

	panic("unknown role " + role)
}

// childConfig returns what starts the test binary in a role.
func childConfig(t *testing.T, role string) ProcessConfig {
	t.Helper()

	return ProcessConfig{
		Name:    role,
		Path:    os.Args[0],
		Env:     []string{childEnv + "=" + role},
		LogFile: filepath.Join(t.TempDir(), "sub", "output.log"),
	}
}

// startChild starts the test binary in a role, and sees to it that nothing of
// it is left when the test ends.
func startChild(t *testing.T, cfg ProcessConfig) *Process {
	t.Helper()

	proc, err := Start(context.WithoutCancel(t.Context()), cfg)
	require.NoError(t, err)
	t.Cleanup(proc.Kill)

	return proc
}
