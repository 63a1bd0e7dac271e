//go:build itest

package itest

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// dialLeg returns a client of a leg, connected to its port.
func dialLeg(t *testing.T, port string) *net.UDPConn {
	t.Helper()

	var dialer net.Dialer
	conn, err := dialer.DialContext(
		testContext(t), "udp", net.JoinHostPort("127.0.0.1", port),
	)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))

	return conn.(*net.UDPConn)
}

// sendTo sends one datagram.
func sendTo(t *testing.T, conn *net.UDPConn, payload []byte) {
	t.Helper()

	_, err := conn.Write(payload)
	require.NoError(t, err)
}

// receive receives one datagram and checks what it holds.
func receive(t *testing.T, conn *net.UDPConn, want []byte) {
	t.Helper()

	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, buf[:n]), "%d bytes instead of %d",
		n, len(want))
}

// pin makes a client the client of its leg, and waits until it is.
func pin(t *testing.T, conn *net.UDPConn, e *events) {
	t.Helper()

	sendTo(t, conn, nil)
	addr := conn.LocalAddr().String()
	e.match(t, func(event *socketrpc.Event) bool {
		return event.Type == socketrpc.Event_CLIENT_PINNED &&
			bytes.Contains(event.Data, []byte(`"`+addr+`"`))
	})
}

// TestRelay checks the relay of a real daemon: payloads of every size cross
// unchanged, and strangers do not.
func TestRelay(t *testing.T) {
	a := shared.a
	socket := a.startSocket(t, "relay")
	events := a.subscribe(t)

	one, two := dialLeg(t, socket.Port1), dialLeg(t, socket.Port2)
	stranger := dialLeg(t, socket.Port2)
	pin(t, one, events)
	pin(t, two, events)
	receive(t, one, nil)

	for _, size := range []int{0, 1, 64, 1200, 1472, 9000, 65507} {
		payload := bytes.Repeat([]byte{byte(size)}, size)
		sendTo(t, one, payload)
		receive(t, two, payload)
		sendTo(t, stranger, []byte("injected"))
		sendTo(t, two, payload)
		receive(t, one, payload)
	}

	// The last packet may be counted after it was received.
	var info *socketrpc.SocketInfo
	require.Eventually(t, func() bool {
		info = a.socketInfo(t, socket.SocketId)

		return info.Leg1.PacketsOut == 8
	}, testTimeout, time.Millisecond)
	require.Equal(t, "relay", info.Label)
	require.False(t, info.IsDefault)
	require.Equal(t, one.LocalAddr().String(), info.Leg1.ClientAddr)
	require.Equal(t, two.LocalAddr().String(), info.Leg2.ClientAddr)
	require.Equal(t, uint64(8), info.Leg1.PacketsIn)
	require.Equal(t, uint64(8), info.Leg1.PacketsOut)
	require.Equal(t, uint64(7), info.Leg2.PacketsOut)
	require.Equal(t, uint64(77244), info.Leg1.BytesIn)
	require.Equal(t, uint64(77244), info.Leg2.BytesOut)
	require.Equal(t, uint64(1), info.Leg1.Drops["no_client"])
	require.Equal(t, uint64(7), info.Leg2.Drops["stranger"])
	require.NotZero(t, info.Leg1.LastSeen)
	require.Greater(t, info.ExpiresAt, info.CreatedAt)
}

// TestClientRestarts checks that a client that comes back from another source
// port gets its leg again once the old one has been silent.
func TestClientRestarts(t *testing.T) {
	n := startNode(t, "--relay.pintimeout=1s")
	socket := n.startSocket(t, "")
	events := n.subscribe(t)

	one, two := dialLeg(t, socket.Port1), dialLeg(t, socket.Port2)
	pin(t, one, events)
	pin(t, two, events)
	receive(t, one, nil)
	old := one.LocalAddr().String()
	require.NoError(t, one.Close())

	// The new one sends until it is heard, as any program would.
	again := dialLeg(t, socket.Port1)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			_, _ = again.Write([]byte("hello"))
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
		}
	}()

	event := events.next(t, socketrpc.Event_CLIENT_PINNED)
	close(stop)
	<-done
	require.Contains(t, string(event.Data), `"`+old+`"`)
	require.Contains(
		t, string(event.Data), `"`+again.LocalAddr().String()+`"`,
	)
	receive(t, two, []byte("hello"))
	sendTo(t, two, []byte("welcome back"))
	receive(t, again, []byte("welcome back"))
}
