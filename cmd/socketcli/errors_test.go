package main

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestRefused checks that what socketd says reaches stderr in words.
func TestRefused(t *testing.T) {
	server := newTestServer(t)

	tests := []struct {
		method string
		args   []string
		code   codes.Code
		msg    string
		words  string
	}{{
		method: socketrpc.Socket_StopSocket_FullMethodName,
		args:   []string{"stop", idA},
		code:   codes.NotFound,
		msg:    "socket_id: no socket with id " + idA,
		words:  "not found",
	}, {
		method: socketrpc.Socket_StartSocket_FullMethodName,
		args:   []string{"start"},
		code:   codes.FailedPrecondition,
		msg:    "set relay.externalip=<public address>",
		words:  "failed precondition",
	}, {
		method: socketrpc.Socket_ListSockets_FullMethodName,
		args:   []string{"list"},
		code:   codes.Unauthenticated,
		msg:    "no macaroon",
		words:  "unauthenticated",
	}, {
		method: socketrpc.Socket_ListOffers_FullMethodName,
		args:   []string{"offers"},
		code:   codes.Internal,
		msg:    "broken",
		words:  "internal",
	}, {
		method: socketrpc.Socket_AcceptOffer_FullMethodName,
		args:   []string{"accept", idA},
		code:   codes.PermissionDenied,
		msg:    "permission denied",
		words:  "permission denied",
	}, {
		method: socketrpc.Socket_RejectOffer_FullMethodName,
		args:   []string{"reject", idA},
		code:   codes.InvalidArgument,
		msg:    "reason: too long",
		words:  "invalid argument",
	}, {
		// socketd is there, its lnd or the other node is not.
		method: socketrpc.Socket_SendSocket_FullMethodName,
		args:   []string{"send", pubkey},
		code:   codes.Unavailable,
		msg:    "not connected to 03; run lncli connect",
		words:  "unavailable",
	}, {
		method: socketrpc.Socket_GetInfo_FullMethodName,
		args:   []string{"getinfo"},
		code:   codes.DeadlineExceeded,
		msg:    "lnd is slow",
		words:  "deadline exceeded",
	}}

	for _, test := range tests {
		t.Run(test.code.String(), func(t *testing.T) {
			server.fail(
				test.method, status.Error(test.code, test.msg),
			)

			require.Equal(t, result{
				code: exitFailed,
				stderr: "[socketcli] " + test.msg + " (" +
					test.words + ")\n",
			}, server.runCLI(t, test.args...))
		})
	}
}

// TestMissingFiles checks that a file that is not there, or is not what it
// should be, is named together with the option that sets it.
func TestMissingFiles(t *testing.T) {
	server := newTestServer(t)
	dir := filepath.Join(server.dir, "mainnet")
	cert := filepath.Join(dir, "tls.cert")
	mac := filepath.Join(dir, "socket.macaroon")
	bake := "lncli bakemacaroon --allow_external_permissions " +
		"--root_key_id 50501 --save_to " + mac +
		" socket:read socket:write\n"

	check := func(texts ...string) {
		t.Helper()

		res := server.runCLI(t, "getinfo")
		require.Equal(t, exitFailed, res.code)
		require.Empty(t, res.stdout)
		for _, text := range texts {
			require.Contains(t, res.stderr, text)
		}
		server.noCall(t)
	}

	// The macaroon: garbage, a directory, missing.
	writeFile(t, mac, []byte("garbage"))
	check("not a macaroon: "+mac, "--macaroonpath", bake)

	require.NoError(t, os.Remove(mac))
	require.NoError(t, os.Mkdir(mac, 0o700))
	check(mac+": is a directory", "--macaroonpath", bake)

	require.NoError(t, os.Remove(mac))
	check("open "+mac+": no such file", "--macaroonpath", bake)

	// The certificate is looked at first.
	writeFile(t, cert, []byte("garbage"))
	check(cert+" (--tlscertpath)", server.addr+" (--rpcserver)")

	require.NoError(t, os.Remove(cert))
	check("open "+cert+": no such file", "socketd writes it when it "+
		"starts; set --tlscertpath")
}

// TestUnreachable checks that the error says which address was tried and how
// to set another.
func TestUnreachable(t *testing.T) {
	server := newTestServer(t)

	// A port that nobody listens on any more.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())

	noSocket := "unix://" + filepath.Join(t.TempDir(), "sock")

	for _, addr := range []string{addr, noSocket} {
		for _, args := range [][]string{
			{"getinfo"}, {"events"}, {"stop", "12345678"},
		} {
			res := server.runCLI(
				t, append(args, "--rpcserver", addr)...,
			)
			require.Equal(t, exitFailed, res.code)
			require.Empty(t, res.stdout)
			require.Contains(t, res.stderr,
				"cannot reach socketd at "+addr+": ")
			require.Contains(t, res.stderr, "(unavailable)")
			require.Contains(t, res.stderr, "--rpcserver")
		}
	}

	// A server with another certificate.
	other := newTestServer(t)
	res := server.runCLI(t, "--rpcserver", other.addr, "getinfo")
	require.Equal(t, exitFailed, res.code)
	require.Contains(t, res.stderr,
		"cannot reach socketd at "+other.addr+": ")
	require.Contains(t, res.stderr, "certificate")
	require.Contains(t, res.stderr, "--tlscertpath")
	other.noCall(t)
}

// TestOtherServer checks the error of an address where something else than
// socketd's gRPC listens, its REST port for one.
func TestOtherServer(t *testing.T) {
	server := newTestServer(t)

	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.EnableHTTP2 = true
	web.StartTLS()
	defer web.Close()

	cert := filepath.Join(t.TempDir(), "tls.cert")
	writeFile(t, cert, pem.EncodeToMemory(&pem.Block{
		Type:  "CERTIFICATE",
		Bytes: web.Certificate().Raw,
	}))

	for _, command := range []string{"getinfo", "events"} {
		res := server.runCLI(
			t, "--rpcserver", web.Listener.Addr().String(),
			"--tlscertpath", cert, command,
		)
		require.Equal(t, exitFailed, res.code)
		require.Empty(t, res.stdout)
		require.Contains(t, res.stderr, "404")
	}
}

// TestServerDies checks that a call that loses its connection does not look
// like an answer.
func TestServerDies(t *testing.T) {
	server := newTestServer(t)
	server.hang(socketrpc.Socket_GetInfo_FullMethodName)

	done := make(chan result, 1)
	go func() {
		done <- server.runCLI(t, "getinfo")
	}()

	server.waitCall(t)
	server.grpc.Stop()

	res := <-done
	require.Equal(t, exitFailed, res.code)
	require.Contains(t, res.stderr, "cannot reach socketd at "+server.addr)
}

// TestNoAnswer checks that a call that takes too long says so.
func TestNoAnswer(t *testing.T) {
	server := newTestServer(t)

	// Something listens, and never says a word.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() {
		require.NoError(t, listener.Close())
	}()
	addr := listener.Addr().String()

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()

	res := runArgs(
		ctx, "--socketdir", server.dir, "--rpcserver", addr, "getinfo",
	)
	require.Equal(t, exitFailed, res.code)
	require.Contains(t, res.stderr,
		"socketd at "+addr+" did not answer in time: ")
	require.Contains(t, res.stderr, "(deadline exceeded)")
	require.Contains(t, res.stderr, "--rpcserver")
}

// TestInterrupted checks that the end of the context ends a call, and that
// nothing is printed for it.
func TestInterrupted(t *testing.T) {
	server := newTestServer(t)
	server.hang(socketrpc.Socket_StartSocket_FullMethodName)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	done := make(chan result, 1)
	go func() {
		done <- runArgs(
			ctx, "--socketdir", server.dir, "--rpcserver",
			server.addr, "start",
		)
	}()

	server.waitCall(t)
	cancel()

	require.Equal(t, result{
		code:   exitFailed,
		stderr: "[socketcli] " + errInterrupted.Error() + "\n",
	}, <-done)
}

// errFull is the error of a full disk.
var errFull = errors.New("no space left")

// fullWriter is a stdout that takes nothing.
type fullWriter struct{}

// Write takes nothing.
func (fullWriter) Write([]byte) (int, error) {
	return 0, errFull
}

// TestStdoutFails checks that a response that cannot be printed is a failure,
// of a stream too.
func TestStdoutFails(t *testing.T) {
	server := newTestServer(t)
	server.events <- &socketrpc.Event{}

	for _, command := range []string{"getinfo", "events"} {
		var stderr strings.Builder
		code := run(t.Context(), []string{
			"socketcli", "--rpcserver", server.addr,
			"--socketdir", server.dir, command,
		}, fullWriter{}, &stderr)

		require.Equal(t, exitFailed, code)
		require.Equal(t, "[socketcli] print the response: "+
			errFull.Error()+"\n", stderr.String())
	}
}
