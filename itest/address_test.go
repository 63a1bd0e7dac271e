//go:build itest

package itest

import (
	"bytes"
	"context"
	"encoding/hex"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
)

// TestClientAddress calls from another address than the one that its macaroon
// is for. lnd would let it pass, as it sees socketd's own address, which is the
// right one: only socketd can tell. A forged X-Forwarded-For does not help.
func TestClientAddress(t *testing.T) {
	a := shared.a
	mac := constrain(t, a.bake(t, "socket:read"), "ipaddr 127.0.0.1")
	dialer := &net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)},
	}

	conn, err := grpc.NewClient(
		a.Socketd.RPCAddr(), grpc.WithTransportCredentials(
			credentials.NewTLS(a.tlsConfig(t)),
		), grpc.WithContextDialer(func(ctx context.Context,
			addr string) (net.Conn, error) {

			return dialer.DialContext(ctx, "tcp", addr)
		}),
	)
	require.NoError(t, err)
	defer conn.Close()
	_, err = socketrpc.NewSocketClient(conn).GetInfo(
		withMacaroon(testContext(t), mac), &socketrpc.GetInfoRequest{},
	)
	requireCode(t, err, codes.PermissionDenied, "the client is 127.0.0.2")

	header := http.Header{
		macaroonHTTPHeader: {hex.EncodeToString(mac)},
		"X-Forwarded-For":  {"127.0.0.1"},
	}
	transport := &http.Transport{
		TLSClientConfig: a.tlsConfig(t),
		DialContext:     dialer.DialContext,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(
		testContext(t), http.MethodGet,
		"https://"+a.Socketd.RESTAddr()+"/v1/socket/getinfo", nil,
	)
	require.NoError(t, err)
	req.Header = header.Clone()
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusForbidden, resp.StatusCode)

	ws := websocket.Dialer{
		TLSClientConfig: a.tlsConfig(t),
		NetDialContext:  dialer.DialContext,
	}
	_, resp, err = ws.DialContext(
		testContext(t), "wss://"+a.Socketd.RESTAddr()+
			"/v1/socket/events", header,
	)
	require.ErrorIs(t, err, websocket.ErrBadHandshake)
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
}

// TestSeveralAddresses has a host whose first addresses are not its own, as it
// is with a router that forwards nothing: it says so, and both ends of a pipe
// come together at the address that works.
func TestSeveralAddresses(t *testing.T) {
	const elsewhere = "240.0.0.1"
	ips := []string{elsewhere, "240.0.0.2", "::1"}
	a, b := startNode(
		t, "--relay.externalip="+ips[0], "--relay.externalip="+ips[1],
		"--relay.externalip="+ips[2], "--relay.offerlocal",
	), shared.b
	require.NoError(t, a.Lnd.ConnectPeer(testContext(t), b.Lnd))

	text := strings.Join(a.info(t).Warnings, "\n")
	for _, ip := range ips[:2] {
		require.Contains(t, text, "relay.externalip="+ip+" is no "+
			"address of this machine, so that a router has to "+
			"forward UDP and TCP 21000-21999 to ")
	}
	require.NotContains(t, text, "::1")
	require.Empty(t, shared.a.info(t).Warnings)

	for _, protocol := range []string{"tcp", "udp"} {
		socket := a.start(t, &socketrpc.StartSocketRequest{
			Protocol: protocol,
		})
		require.Equal(t, elsewhere, socket.Ip)
		require.Equal(t, ips, socket.Ips[:3])
		for _, ip := range socket.Ips[3:] {
			require.True(t, net.ParseIP(ip).IsPrivate(), ip)
		}
		require.Equal(t, socket.Ips,
			a.socketInfo(t, socket.SocketId).Ips)

		onB := b.subscribe(t)
		id := a.send(t, b, socket.SocketId)
		onB.next(t, socketrpc.Event_OFFER_RECEIVED)
		require.Equal(t, socket.Ips, b.offer(t, id).Ips)

		onA := a.subscribe(t)
		if protocol == "udp" {
			pipe := b.pipe(t, id)
			require.NoError(t, pipe.Start())
			pinned := onA.next(t, socketrpc.Event_CLIENT_PINNED)
			require.Contains(t, string(pinned.Data), "[::1]:")
			require.NoError(t, pipe.Process.Kill())
			require.Error(t, pipe.Wait())

			continue
		}

		var got [2]bytes.Buffer
		words := [2]string{"of the host", "of the far end"}
		pipes := [2]*exec.Cmd{a.pipe(t, socket.SocketId), b.pipe(t, id)}
		for i, pipe := range pipes {
			pipe.Stdin = strings.NewReader(words[i])
			pipe.Stdout = &got[i]
			require.NoError(t, pipe.Start())
		}
		for i, pipe := range pipes {
			require.NoError(t, pipe.Wait())
			require.Equal(t, words[1-i], got[i].String())
		}
	}
}
