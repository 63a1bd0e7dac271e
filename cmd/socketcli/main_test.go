package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// asProgramEnv makes the test binary be socketcli itself, so that a test can
// start it as a process of its own.
const asProgramEnv = "SOCKETCLI_TEST_AS_PROGRAM"

// TestMain fails the tests if they leave a goroutine or an open file behind.
func TestMain(m *testing.M) {
	if os.Getenv(asProgramEnv) != "" {
		main()
	}

	os.Exit(runTests(m))
}

// runTests runs the tests and returns the exit code.
func runTests(m *testing.M) int {
	// The first socket makes the runtime open its poller, and the first
	// process the runtime's probe of pidfd. Both stay for good.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}
	_ = listener.Close()

	// It must be started as the program: as a test it would come here too,
	// and start the next.
	probe := exec.Command(os.Args[0], "--version")
	probe.Env = []string{asProgramEnv + "=1"}
	if err := probe.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}

	before := countFiles()
	code := m.Run()

	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}

	// goleak has waited for whoever closes them.
	if after := countFiles(); after != before {
		fmt.Fprintf(os.Stderr, "%d open files before the tests, %d "+
			"after\n", before, after)

		return 1
	}

	return code
}

// countFiles returns how many files this process has open, 0 where there is
// no /proc to tell.
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

// program returns socketcli as a process of its own, set up for the server.
func program(t *testing.T, server *testServer, args ...string) *exec.Cmd {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = []string{
		asProgramEnv + "=1",
		"SOCKETCLI_RPCSERVER=" + server.addr,
		"SOCKETCLI_SOCKETDIR=" + server.dir,
		"GORACE=atexit_sleep_ms=0",

		// A binary built with -cover wants to leave its counts.
		"GOCOVERDIR=" + t.TempDir(),
	}

	return cmd
}

// TestProgramExitCodes checks that the exit codes leave the process.
func TestProgramExitCodes(t *testing.T) {
	server := newTestServer(t)

	out, err := program(t, server, "stop").Output()
	require.NoError(t, err)
	require.Equal(t, "{}\n", string(out))

	for code, args := range map[int][]string{
		exitFailed: {"--network=regtest", "stop"},
		exitUsage:  {"nosuch"},
	} {
		out, err := program(t, server, args...).Output()

		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, code, exit.ExitCode())
		require.Empty(t, out)
		require.Contains(t, string(exit.Stderr), "[socketcli] ")
	}
}

// TestProgramInterrupt sends a real ^C to a stream and to a call.
func TestProgramInterrupt(t *testing.T) {
	server := newTestServer(t)
	server.events <- &socketrpc.Event{Cursor: 1}

	events := program(t, server, "events")
	stdout, err := events.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, events.Start())

	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, `"cursor":"1"`)

	require.NoError(t, events.Process.Signal(os.Interrupt))
	require.NoError(t, events.Wait())

	// A call that is under way ends at once, and says so.
	server.hang(socketrpc.Socket_StartSocket_FullMethodName)

	start := program(t, server, "start")
	stderrPath := filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(stderrPath)
	require.NoError(t, err)
	start.Stderr = stderr
	require.NoError(t, start.Start())
	require.NoError(t, stderr.Close())

	began := time.Now()
	server.waitCall(t)
	server.waitCall(t)
	require.NoError(t, start.Process.Signal(os.Interrupt))

	var exit *exec.ExitError
	require.ErrorAs(t, start.Wait(), &exit)
	require.Equal(t, exitFailed, exit.ExitCode())
	require.Less(t, time.Since(began), callTimeout)

	text, err := os.ReadFile(stderrPath)
	require.NoError(t, err)
	require.Equal(t, "[socketcli] "+errInterrupted.Error()+"\n",
		string(text))
}
