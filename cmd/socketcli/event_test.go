package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// eventsRun is a socketcli that prints events.
type eventsRun struct {
	lines  *bufio.Reader
	stderr *bytes.Buffer
	code   chan int
	stop   context.CancelFunc
}

// runEvents starts the command. It is stopped when the test ends.
func (s *testServer) runEvents(t *testing.T, args ...string) *eventsRun {
	t.Helper()

	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()

	r := &eventsRun{
		lines:  bufio.NewReader(reader),
		stderr: new(bytes.Buffer),
		code:   make(chan int, 1),
		stop:   cancel,
	}

	go func() {
		code := run(ctx, append([]string{
			"socketcli", "--rpcserver", s.addr, "--socketdir",
			s.dir, "events",
		}, args...), writer, r.stderr)
		_ = writer.Close()
		r.code <- code
	}()

	// Whatever becomes of the test, the command ends with it.
	t.Cleanup(func() {
		cancel()
		_ = reader.Close()
	})

	return r
}

// TestEvents checks that each event is a line as soon as it happens, and that
// ^C ends the command without an error.
func TestEvents(t *testing.T) {
	server := newTestServer(t)
	r := server.runEvents(t)

	got := server.waitCall(t)
	require.Equal(t, socketrpc.Socket_SubscribeEvents_FullMethodName,
		got.method)
	require.Equal(t, []string{server.macaroon}, got.macaroon)
	require.Zero(t, got.req.(*socketrpc.SubscribeEventsRequest).GetAfter())

	// A stream has no time limit.
	require.Zero(t, got.deadline)

	for _, event := range []struct {
		event *socketrpc.Event
		line  string
	}{{
		event: &socketrpc.Event{
			Id:          idA,
			FromPubkey:  pubkey,
			Data:        []byte(`{"protocol":"udp"}`),
			ServiceType: "socket",
			Type:        socketrpc.Event_OFFER_RECEIVED,
			Cursor:      41,
			Timestamp:   1700000000,
		},
		line: `{"id":"` + idA + `","reply_to_id":"","from_pubkey":"` +
			pubkey + `","data":"eyJwcm90b2NvbCI6InVkcCJ9",` +
			`"service_type":"socket","amount":"0",` +
			`"type":"OFFER_RECEIVED","cursor":"41",` +
			`"timestamp":"1700000000","socket_id":"",` +
			`"reason":""}`,
	}, {
		event: &socketrpc.Event{
			Type:     socketrpc.Event_SOCKET_STOPPED,
			SocketId: idB,
			Reason:   "two words",
		},
		line: `{"id":"","reply_to_id":"","from_pubkey":"","data":"",` +
			`"service_type":"","amount":"0",` +
			`"type":"SOCKET_STOPPED","cursor":"0",` +
			`"timestamp":"0","socket_id":"` + idB + `",` +
			`"reason":"two words"}`,
	}} {
		server.events <- event.event

		line, err := r.lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, event.line+"\n", line)
	}

	r.stop()

	rest, err := io.ReadAll(r.lines)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, exitDone, <-r.code)
	require.Empty(t, r.stderr.String())
}

// TestEventsLive checks that the command says, once and not on stdout, from
// when on it listens.
func TestEventsLive(t *testing.T) {
	server := newTestServer(t)
	server.live = true
	close(server.events)

	got := server.runCLI(t, "events")
	require.Empty(t, got.stdout)
	require.Equal(t, exitFailed, got.code)
	require.Equal(t, "[socketcli] listening for events\n[socketcli] "+
		errStreamEnded.Error()+"\n", got.stderr)
}

// TestEventsAfter checks that the cursor reaches socketd in full.
func TestEventsAfter(t *testing.T) {
	server := newTestServer(t)
	r := server.runEvents(t, "--after", "18446744073709551615")

	req := server.waitCall(t).req.(*socketrpc.SubscribeEventsRequest)
	require.Equal(t, ^uint64(0), req.GetAfter())

	r.stop()
	require.Equal(t, exitDone, <-r.code)
}

// TestEventsSince checks from when on events are asked for.
func TestEventsSince(t *testing.T) {
	server := newTestServer(t)

	for text, want := range map[string]int64{
		"1700000000":                1_700_000_000,
		"2026-01-31T08:00:00Z":      1_769_846_400,
		"2026-01-31T09:00:00+01:00": 1_769_846_400,
		"2026-01-31T08:00:00.9Z":    1_769_846_400,

		// Longer ago than there is a time.
		"1000000h": 1,
	} {
		r := server.runEvents(t, "--since", text)

		got := server.waitCall(t)
		req := got.req.(*socketrpc.SubscribeEventsRequest)
		require.Equal(t, want, req.GetSince(), text)
		require.Zero(t, req.GetAfter())

		r.stop()
		require.Equal(t, exitDone, <-r.code)
	}

	before := time.Now().Add(-90 * time.Minute).Unix()
	r := server.runEvents(t, "--since", "1h30m")
	req := server.waitCall(t).req.(*socketrpc.SubscribeEventsRequest)
	after := time.Now().Add(-90 * time.Minute).Unix()

	require.GreaterOrEqual(t, req.GetSince(), before)
	require.LessOrEqual(t, req.GetSince(), after)

	r.stop()
	require.Equal(t, exitDone, <-r.code)
}

// TestEventsEnd checks that a stream that socketd ends is a failure, which
// comes after the events.
func TestEventsEnd(t *testing.T) {
	const method = socketrpc.Socket_SubscribeEvents_FullMethodName

	tests := []struct {
		name   string
		end    func(s *testServer)
		stderr string
	}{{
		name: "no reason",
		end: func(s *testServer) {
			close(s.events)
		},
		stderr: `\[socketcli\] socketd ended the stream of events`,
	}, {
		name: "refused",
		end: func(s *testServer) {
			s.fail(method, status.Error(
				codes.Unauthenticated, "macaroon revoked",
			))
			close(s.events)
		},
		stderr: `\[socketcli\] macaroon revoked \(unauthenticated\)`,
	}, {
		name: "unavailable",
		end: func(s *testServer) {
			s.fail(method, status.Error(
				codes.Unavailable, "shutting down",
			))
			close(s.events)
		},
		stderr: `\[socketcli\] shutting down \(unavailable\)`,
	}, {
		name: "connection lost",
		end: func(s *testServer) {
			s.grpc.Stop()
		},
		stderr: `\[socketcli\] cannot reach socketd at 127.0.0.1:` +
			`\d+: .*\(unavailable\);.*`,
	}}

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := newTestServer(t)
			r := server.runEvents(t)

			server.events <- &socketrpc.Event{Cursor: 1}
			line, err := r.lines.ReadString('\n')
			require.NoError(t, err)
			require.Contains(t, line, `"cursor":"1"`)

			test.end(server)

			_, err = r.lines.ReadString('\n')
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, exitFailed, <-r.code)
			require.Regexp(t, `\A`+test.stderr+`\n\z`,
				r.stderr.String())
		})
	}
}
