//go:build itest

package itest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// dialWebSocket opens a WebSocket to a path of the node. With asProtocol the
// macaroon travels as lnd's browser clients send it.
func (n *node) dialWebSocket(t *testing.T, path, macaroon string,
	asProtocol bool, header http.Header) (*websocket.Conn, *http.Response,
	error) {

	t.Helper()

	dialer := websocket.Dialer{TLSClientConfig: n.tlsConfig(t)}
	if header == nil {
		header = http.Header{}
	}
	switch {
	case macaroon == "":

	case asProtocol:
		dialer.Subprotocols = []string{
			macaroonHTTPHeader + "+" + macaroon,
		}

	default:
		header.Set(macaroonHTTPHeader, macaroon)
	}

	conn, resp, err := dialer.DialContext(
		testContext(t), "wss://"+n.Socketd.RESTAddr()+path, header,
	)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetReadDeadline(
			time.Now().Add(testTimeout),
		))
	}
	if resp != nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}

	return conn, resp, err
}

// nextResult reads the next message of a WebSocket.
func nextResult(t *testing.T, conn *websocket.Conn) map[string]any {
	t.Helper()

	var msg map[string]any
	require.NoError(t, conn.ReadJSON(&msg))
	require.NotContains(t, msg, "error")

	return msg["result"].(map[string]any)
}

// TestWebSocketEvents reads our own stream, in both ways to send the macaroon
// and with the method parameter of lnd's clients.
func TestWebSocketEvents(t *testing.T) {
	a := shared.a
	for path, asProtocol := range map[string]bool{
		"/v1/socket/events":            false,
		"/v1/socket/events?method=GET": true,
	} {
		conn, _, err := a.dialWebSocket(
			t, path, a.macaroonHex(t), asProtocol, nil,
		)
		require.NoError(t, err)
		if asProtocol {
			require.NotEmpty(t, conn.Subprotocol())
		}

		// lnd's clients send the request as the first message.
		require.NoError(t, conn.WriteMessage(
			websocket.TextMessage, []byte("{}"),
		))

		socket := a.startSocket(t, "")
		event := nextResult(t, conn)
		require.Equal(t, "SOCKET_STARTED", event["type"])
		require.Equal(t, socket.SocketId, event["socket_id"])
		require.Contains(t, event, "reply_to_id")
	}
}

// TestWebSocketOlder reads the older stream: camelCase, and only the events
// that carry connection information.
func TestWebSocketOlder(t *testing.T) {
	a, b := shared.a, shared.b
	socket := a.startSocket(t, "")

	onA, _, err := a.dialWebSocket(
		t, "/v1/subscribe", a.macaroonHex(t), true, nil,
	)
	require.NoError(t, err)
	onB, _, err := b.dialWebSocket(
		t, "/v1/subscribe", b.macaroonHex(t), false, nil,
	)
	require.NoError(t, err)

	id := a.send(t, b, socket.SocketId)
	event := nextResult(t, onB)
	requireKeys(
		t, event, "id", "replyToId", "fromPubkey", "data",
		"serviceType", "amount",
	)
	require.Equal(t, id, event["id"])
	require.Equal(t, a.pubkey(), event["fromPubkey"])
	require.Equal(t, "socket", event["serviceType"])

	var data []byte
	raw, err := json.Marshal(event["data"])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &data))
	var conn connection
	require.NoError(t, json.Unmarshal(data, &conn))
	require.Equal(t, socket.Port2, conn.Port2)

	accepted, err := b.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
	)
	require.NoError(t, err)
	event = nextResult(t, onA)
	require.Equal(t, accepted.Id, event["id"])
	require.Equal(t, id, event["replyToId"])
}

// TestWebSocketRefused checks what is refused before the upgrade, and that a
// client cannot send too much after it.
func TestWebSocketRefused(t *testing.T) {
	a := shared.a
	mac := a.macaroonHex(t)
	foreign := http.Header{"Origin": {"https://evil.example"}}

	tests := []struct {
		name, path, macaroon string
		header               http.Header
		code                 int
	}{
		{"no macaroon", "/v1/socket/events", "", nil,
			http.StatusUnauthorized},
		{"garbage", "/v1/subscribe", "abcd", nil,
			http.StatusUnauthorized},
		{"foreign page", "/v1/subscribe", mac, foreign,
			http.StatusForbidden},
		{"no stream", "/v1/socket/getinfo", mac, nil,
			http.StatusBadRequest},
		{"unknown cursor", "/v1/socket/events?after=999999999", mac,
			nil, http.StatusBadRequest},
		{"bad cursor", "/v1/socket/events?after=x", mac, nil,
			http.StatusBadRequest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, resp, err := a.dialWebSocket(
				t, test.path, test.macaroon, false, test.header,
			)
			require.ErrorIs(t, err, websocket.ErrBadHandshake)
			require.Equal(t, test.code, resp.StatusCode)
		})
	}

	conn, _, err := a.dialWebSocket(
		t, "/v1/socket/events", mac, false, nil,
	)
	require.NoError(t, err)
	require.NoError(t, conn.WriteMessage(
		websocket.BinaryMessage, bytes.Repeat([]byte("x"), 70<<10),
	))
	_, _, err = conn.ReadMessage()
	require.True(t, websocket.IsCloseError(
		err, websocket.CloseMessageTooBig,
	), "%v", err)
}
