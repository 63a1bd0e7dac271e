package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// testTerminal is a terminal of the kernel's: what is written to it comes out
// at its master, as it would reach a screen.
type testTerminal struct {
	*os.File

	// screen is what came out. It may be read once done has said so.
	screen bytes.Buffer
	done   chan error
}

// newTerminal opens a terminal of so many columns.
func newTerminal(t *testing.T, columns uint16) *testTerminal {
	t.Helper()

	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, master.Close())
	})

	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(
		fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns},
	))

	slave, err := os.OpenFile(
		"/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0,
	)
	require.NoError(t, err)

	term := &testTerminal{File: slave, done: make(chan error, 1)}

	// It is closed by now unless the test has failed.
	t.Cleanup(func() {
		_ = slave.Close()
	})

	go func() {
		// The kernel says so when nobody has the terminal open any
		// more.
		_, err := io.Copy(&term.screen, master)
		if errors.Is(err, syscall.EIO) {
			err = nil
		}
		term.done <- err
	}()

	return term
}

// text closes the terminal and returns what came out, without the carriage
// returns that the kernel puts before the ends of lines.
func (term *testTerminal) text(t *testing.T) string {
	t.Helper()

	require.NoError(t, term.Close())
	require.NoError(t, <-term.done)

	return strings.ReplaceAll(term.screen.String(), "\r\n", "\n")
}

// runTerminal runs a command line against the server with stdout and stderr on
// a terminal of so many columns, and returns the exit code and what is on the
// screen.
func (s *testServer) runTerminal(t *testing.T, columns uint16,
	args ...string) (int, string) {

	t.Helper()

	term := newTerminal(t, columns)
	code := run(t.Context(), append([]string{
		"socketcli", "--rpcserver=" + s.addr, "--socketdir=" + s.dir,
	}, args...), term.File, term.File)

	return code, term.text(t)
}

// TestTerminalLists checks that the lists are tables on a terminal, that they
// fit it, and when they are JSON all the same.
func TestTerminalLists(t *testing.T) {
	server := newTestServer(t)
	server.respondLists()

	for _, test := range []struct {
		command string
		columns uint16
		table   string
	}{
		{"offers", 0, offersTable},
		{"offers", 200, offersTable},
		{"offers", 100, narrowOffersTable},
		{"list", 200, socketsTable},
	} {
		code, screen := server.runTerminal(
			t, test.columns, test.command,
		)
		require.Equal(t, exitDone, code)
		require.Equal(t, test.table, screen)

		// A reader of a pipe must not notice that there are tables.
		piped := server.runCLI(t, test.command)
		require.Equal(t, exitDone, piped.code)
		require.True(t, strings.HasPrefix(piped.stdout, "{\n    \""))

		_, screen = server.runTerminal(t, 80, test.command, "--json")
		require.Equal(t, visibleLines(piped.stdout), screen)

		_, screen = server.runTerminal(t, 80, "--json", test.command)
		require.Equal(t, visibleLines(piped.stdout), screen)
	}

	t.Setenv("SOCKETCLI_JSON", "true")
	_, screen := server.runTerminal(t, 80, "offers")
	piped := server.runCLI(t, "offers").stdout
	require.Equal(t, visibleLines(piped), screen)

	_, screen = server.runTerminal(t, 200, "offers", "--json=false")
	require.Equal(t, offersTable, screen)
}

// requireSafe checks that a screen got nothing but lines of what can be seen.
func requireSafe(t *testing.T, screen string) {
	t.Helper()

	require.NotEmpty(t, screen)
	require.Equal(t, screen, visibleLines(screen))
	require.NotContains(t, screen, "\r")
}

// TestTerminalJSON checks that what a stranger wrote does not reach a terminal
// in a response that is JSON everywhere, and that it is the same JSON.
func TestTerminalJSON(t *testing.T) {
	server := newTestServer(t)
	server.respond(
		socketrpc.Socket_AcceptOffer_FullMethodName,
		&socketrpc.AcceptOfferResponse{
			Offer: &socketrpc.Offer{Label: hostile},
		},
	)

	code, screen := server.runTerminal(t, 80, "accept", idA)
	require.Equal(t, exitDone, code)
	requireSafe(t, screen)

	piped := server.runCLI(t, "accept", idA).stdout
	require.NotEqual(t, piped, screen)
	require.JSONEq(t, piped, screen)
}

// TestTerminalError checks that an error is one line that can be seen, whatever
// socketd repeats in it of what a stranger said.
func TestTerminalError(t *testing.T) {
	server := newTestServer(t)
	server.fail(
		socketrpc.Socket_StopSocket_FullMethodName,
		status.Error(codes.Internal, "peer: "+hostile),
	)

	code, screen := server.runTerminal(t, 80, "stop")
	require.Equal(t, exitFailed, code)
	requireSafe(t, screen)
	require.Equal(t, 1, strings.Count(screen, "\n"))
	require.Contains(t, screen, `peer: \u001b[2J\u202eevil`)

	require.Equal(t, screen, server.runCLI(t, "stop").stderr)
}

// TestTerminalEvents checks that events are lines to read on a terminal.
func TestTerminalEvents(t *testing.T) {
	server := newTestServer(t)
	event := &socketrpc.Event{
		Id:     idA,
		Cursor: 41,
		Type:   socketrpc.Event_OFFER_CLOSED,
		Reason: hostile,
	}
	const end = "[socketcli] socketd ended the stream of events\n"

	server.events <- event
	close(server.events)
	code, screen := server.runTerminal(t, 80, "events")
	require.Equal(t, exitFailed, code)
	requireSafe(t, screen)
	require.Equal(t, eventLine(event, time.Local)+"\n"+end, screen)

	server.events = make(chan *socketrpc.Event, 1)
	server.events <- event
	close(server.events)
	_, screen = server.runTerminal(t, 80, "events", "--json")
	requireSafe(t, screen)
	line, rest, _ := strings.Cut(screen, "\n")
	require.Equal(t, end, rest)
	require.True(t, json.Valid([]byte(line)))
	require.Contains(t, line, `"cursor":"41"`)
}

// TestMeetTerminal checks that nothing a terminal obeys comes through.
func TestMeetTerminal(t *testing.T) {
	server := newTestServer(t)
	server.live = true
	server.events <- &socketrpc.Event{
		Type:   socketrpc.Event_REQUEST_REJECTED,
		Reason: hostile,
	}
	code, screen := server.runTerminal(
		t, 80, "meet", pubkey, "--via", hostR,
	)
	require.Equal(t, exitFailed, code)
	requireSafe(t, screen)
	require.Contains(t, screen, `was turned down: \u001b[2J\u202eevil`)
}

// TestProgramTerminal checks that the program itself looks at its stdout.
func TestProgramTerminal(t *testing.T) {
	server := newTestServer(t)
	server.respondLists()

	term := newTerminal(t, 200)
	cmd := program(t, server, "offers")
	cmd.Stdout, cmd.Stderr = term.File, term.File
	require.NoError(t, cmd.Run())
	require.Equal(t, offersTable, term.text(t))

	out, err := program(t, server, "offers").Output()
	require.NoError(t, err)
	require.True(t, json.Valid(out))
}
