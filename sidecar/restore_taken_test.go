package sidecar

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// occupy takes a port of 127.0.0.1 that nobody has.
func occupy(t *testing.T, port string) *net.UDPConn {
	t.Helper()

	num, err := strconv.Atoi(port)
	require.NoError(t, err)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: num})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })

	return conn
}

// TestRestartTaken checks what becomes of a socket whose port somebody took: it
// is FAILED and says so, its far end is told, nobody gets its ports, and it
// comes back as it was when the port is free.
func TestRestartTaken(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2)
	a, b := servers[0], servers[1]
	socket := a.start(&socketrpc.StartSocketRequest{})
	other := a.start(&socketrpc.StartSocketRequest{})
	require.Equal(t, socket.SocketId, other.SocketId)
	one, two := a.clients(t, socket)
	a.mustSend(b, socket.SocketId)
	info := a.infos()[0]

	a.end()
	thief := occupy(t, socket.Port2)
	a.begin()

	failed := a.await(0, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_SOCKET_FAILED
	})
	require.Equal(t, socket.SocketId, failed.SocketId)
	require.Contains(t, failed.Reason, socket.Port2)
	require.Contains(t, string(failed.Data), socket.Port1)
	got := a.infos()[0]
	require.Equal(t, socketrpc.SocketInfo_FAILED, got.State)
	require.Equal(t, failed.Reason, got.Reason)
	require.True(t, got.IsDefault)
	require.Equal(t, []string{socket.Port1, socket.Port2},
		[]string{got.Leg1.Port, got.Leg2.Port})
	require.Equal(t, info.Leg1.PacketsIn, got.Leg1.PacketsIn)

	b.await(0, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_CLOSED
	})
	for _, req := range []*socketrpc.StartSocketRequest{
		{}, {SocketId: socket.SocketId},
	} {
		_, err := a.rpc.StartSocket(t.Context(), req)
		requireStatus(t, err, codes.FailedPrecondition,
			"the socket is FAILED: ")
		require.ErrorContains(t, err, socket.Port2)
	}
	_, err := a.send(b, socket.SocketId, 0)
	requireStatus(t, err, codes.FailedPrecondition, "FAILED")

	// It is told once.
	a.restart()
	require.Len(t, a.ofType(socketrpc.Event_SOCKET_FAILED), 1)
	require.Equal(t, socketrpc.SocketInfo_FAILED, a.infos()[0].State)

	after := a.hub.cursor()
	require.NoError(t, thief.Close())
	back := a.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_SOCKET_STARTED
	})
	require.Equal(t, socket.SocketId, back.SocketId)
	got = a.infos()[0]
	require.Equal(t, socketrpc.SocketInfo_ACTIVE, got.State)
	require.Empty(t, got.Reason)
	require.True(t, proto.Equal(
		socket, a.start(&socketrpc.StartSocketRequest{}),
	))
	one.send("as before")
	two.receive("as before")

	// That is what the database says as well.
	a.restart()
	require.Len(t, a.ofType(socketrpc.Event_SOCKET_STARTED), 2)
	require.Equal(t, socketrpc.SocketInfo_ACTIVE, a.infos()[0].State)

	// It may also come back with the next start.
	a.end()
	thief = occupy(t, socket.Port1)
	a.begin()
	require.Len(t, a.ofType(socketrpc.Event_SOCKET_FAILED), 2)
	a.end()
	require.NoError(t, thief.Close())
	a.begin()
	require.Len(t, a.ofType(socketrpc.Event_SOCKET_STARTED), 3)
	one.send("as before")
	two.receive("as before")
}

// TestStopFailed checks that a socket that has FAILED can be stopped, or
// expires, and that its ports are free then. It runs alone: it needs all the
// ports of a range.
func TestStopFailed(t *testing.T) {
	a := newServers(t, 1, "--relay.ports=20900-20903")[0]
	stopped := a.start(&socketrpc.StartSocketRequest{Admission: "open"})
	expires := a.start(&socketrpc.StartSocketRequest{Admission: "open"})
	a.end()
	occupy(t, stopped.Port1)
	occupy(t, expires.Port1)
	a.rewrite(expires.SocketId, func(s *store.Socket) {
		s.ExpiresAt = time.Now().Add(2 * time.Second)
	})
	a.begin()
	require.Len(t, a.ofType(socketrpc.Event_SOCKET_FAILED), 2)

	// The two other ports are kept for them.
	_, err := a.relay.Open(relay.Options{Protocol: relay.UDP})
	require.ErrorIs(t, err, relay.ErrNoFreePort)
	a.stop(stopped.SocketId)
	_, err = a.rpc.StopSocket(t.Context(), &socketrpc.StopSocketRequest{
		SocketId: stopped.SocketId,
	})
	requireStatus(t, err, codes.NotFound, "socket_id: ")

	end := a.await(0, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_SOCKET_STOPPED &&
			e.SocketId == expires.SocketId
	})
	require.Equal(t, "lifetime", end.Reason)
	require.Empty(t, a.infos())
	require.Eventually(t, func() bool {
		// The event comes before the ports are free.
		opened, err := a.relay.Open(relay.Options{Protocol: relay.UDP})

		return err == nil && opened.Close() == nil
	}, testTimeout, time.Millisecond)
	a.restart()
	require.Empty(t, a.infos())
	require.Len(t, a.ofType(socketrpc.Event_SOCKET_STOPPED), 2)
}
