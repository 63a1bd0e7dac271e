//go:build itest

package itest

import (
	"context"
	"encoding/hex"
	"net"
	"net/http"
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
