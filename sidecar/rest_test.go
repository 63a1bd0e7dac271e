package sidecar

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestSlowBody checks that a client that never finishes its request is not
// waited for.
func TestSlowBody(t *testing.T) {
	t.Parallel()

	pipe := newPipeListener()
	defer pipe.Close()
	conn, err := grpc.NewClient(
		"passthrough:///test", grpc.WithContextDialer(pipe.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	require.NoError(t, err)
	defer conn.Close()

	handler, err := newRESTHandler(
		t.Context(), conn, nil, slog.New(slog.DiscardHandler),
	)
	require.NoError(t, err)
	require.Equal(t, bodyTimeout, handler.bodyTimeout)
	handler.bodyTimeout = 50 * time.Millisecond
	server := httptest.NewServer(handler)
	defer server.Close()

	client, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	_, err = io.WriteString(client, "POST /v1/socket/start HTTP/1.1\r\n"+
		"Host: localhost\r\nContent-Length: 100\r\n\r\n{")
	require.NoError(t, err)

	// The server answers, or hangs up: it does not wait.
	require.NoError(t, client.SetReadDeadline(
		time.Now().Add(30*time.Second),
	))
	answer, err := io.ReadAll(client)
	require.NoError(t, err)
	require.NotContains(t, string(answer), http.StatusText(http.StatusOK))
}
