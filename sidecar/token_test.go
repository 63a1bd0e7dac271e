package sidecar

import (
	"encoding/base64"
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// requireToken checks that a text is a token.
func requireToken(t *testing.T, text string) {
	t.Helper()

	raw, err := hex.DecodeString(text)
	require.NoError(t, err)
	require.Len(t, raw, 16)
}

// spellings returns the ways in which a token could be shown.
func spellings(t *testing.T, token string) []string {
	t.Helper()

	raw, err := hex.DecodeString(token)
	require.NoError(t, err)

	return []string{
		token, strings.ToUpper(token), string(raw),
		strings.TrimRight(base64.StdEncoding.EncodeToString(raw), "="),
		base64.RawURLEncoding.EncodeToString(raw),
	}
}

// requireNoTokens checks that messages hold none of the tokens, neither as they
// travel nor as JSON.
func requireNoTokens(t *testing.T, tokens []string, msgs ...proto.Message) {
	t.Helper()

	for _, msg := range msgs {
		raw, err := proto.Marshal(msg)
		require.NoError(t, err)
		json, err := protojson.Marshal(msg)
		require.NoError(t, err)

		for _, token := range tokens {
			for _, text := range spellings(t, token) {
				require.NotContains(t, string(raw), text)
				require.NotContains(t, string(json), text)
			}
		}
	}
}

// shown returns all that a server shows to whoever may only read.
func (s *testServer) shown() []proto.Message {
	s.t.Helper()

	ctx := s.t.Context()
	sockets, err := s.rpc.ListSockets(ctx, &socketrpc.ListSocketsRequest{})
	require.NoError(s.t, err)
	offers, err := s.rpc.ListOffers(ctx, &socketrpc.ListOffersRequest{})
	require.NoError(s.t, err)
	info, err := s.rpc.GetInfo(ctx, &socketrpc.GetInfoRequest{})
	require.NoError(s.t, err)

	msgs := []proto.Message{sockets, offers, info}
	for _, event := range s.events() {
		msgs = append(msgs, event)
	}

	return msgs
}

// TestTokens checks who is told which tokens: whoever starts a socket those of
// both legs, whoever accepts an offer that of the leg that it grants, and
// nobody else.
func TestTokens(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2)
	a, b := servers[0], servers[1]
	socket := a.start(&socketrpc.StartSocketRequest{Label: "token"})
	tokens := []string{socket.Token1, socket.Token2}

	one, err := a.send(b, socket.SocketId, 1)
	require.NoError(t, err)
	two := a.mustSend(b, socket.SocketId)
	require.NotEqual(t, one, two)

	first, second := b.accept(one), b.accept(two)
	require.Equal(t, "token", first.Offer.Admission)
	require.Empty(t, first.Token2)
	require.Empty(t, second.Token1)
	tokens = append(tokens, first.Token1, second.Token2)

	// Asked again, they say the same.
	again := b.accept(two)
	again.Offer.Next = second.Offer.Next
	require.True(t, proto.Equal(second, again), "%v\n%v", second, again)
	require.True(t, proto.Equal(
		socket, a.start(&socketrpc.StartSocketRequest{
			SocketId: socket.SocketId,
		}),
	))

	// All of them are different: what ends one does not end another.
	seen := make(map[string]bool)
	for _, token := range tokens {
		requireToken(t, token)
		require.False(t, seen[token])
		seen[token] = true
	}

	requireNoTokens(t, tokens, a.shown()...)
	requireNoTokens(t, tokens, b.shown()...)
	requireNoTokens(t, tokens, first.Offer, second.Offer)

	// An OPEN socket has none to tell.
	open := a.start(&socketrpc.StartSocketRequest{Admission: "open"})
	require.Empty(t, open.Token1)
	require.Empty(t, open.Token2)
	accepted := b.accept(a.mustSend(b, open.SocketId))
	require.Equal(t, "open", accepted.Offer.Admission)
	require.Empty(t, accepted.Token1)
	require.Empty(t, accepted.Token2)
}

// TestGrantedOnce checks that a TOKEN leg is granted to one node at a time, and
// to the next one with another token once its offer has ended.
func TestGrantedOnce(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 3)
	a, b, c := servers[0], servers[1], servers[2]
	socket := a.start(&socketrpc.StartSocketRequest{Label: "x"}).SocketId

	id := a.mustSend(b, socket)
	refused := func() {
		t.Helper()

		_, err := a.send(c, socket, 2)
		requireStatus(t, err, codes.FailedPrecondition,
			"leg 2 is granted already, to "+b.key())
	}
	refused()

	// The same node has it already, and the other leg is free.
	again, err := a.send(b, socket, 2)
	require.NoError(t, err)
	require.Equal(t, id, again)
	_, err = a.send(c, socket, 1)
	require.NoError(t, err)

	token := b.accept(id).Token2
	refused()
	b.close(id, a)
	toC := a.mustSend(c, socket)
	require.NotEqual(t, token, c.accept(toC).Token2)

	// An OPEN socket may be offered to anybody.
	open := a.start(
		&socketrpc.StartSocketRequest{Admission: "open"},
	).SocketId
	require.NotEqual(t, a.mustSend(b, open), a.mustSend(c, open))
}

// TestNodeSockets checks that relay.nodesockets bounds how many sockets a node
// is offered at once.
func TestNodeSockets(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 3, "--relay.nodesockets=1")
	a, b, c := servers[0], servers[1], servers[2]
	first := a.start(&socketrpc.StartSocketRequest{Label: "1"}).SocketId
	second := a.start(&socketrpc.StartSocketRequest{Label: "2"}).SocketId

	a.mustSend(b, first)
	_, err := a.send(b, second, 2)
	requireStatus(t, err, codes.ResourceExhausted, "at most 1")
	a.mustSend(c, second)
}

// TestOpener checks what the offers are told of a socket that they cannot
// open.
func TestOpener(t *testing.T) {
	t.Parallel()

	a := newServers(t, 1)[0]
	o := opener{a.relay}
	token := offer.Token{1}

	require.ErrorIs(t, o.Grant(offer.ID{1}, 2, token), errNoSocket)
	o.Revoke(offer.ID{1}, 2, token)

	open := a.start(&socketrpc.StartSocketRequest{})
	id, err := parseID("socket_id", open.SocketId)
	require.NoError(t, err)
	require.ErrorIs(t, o.Grant(id, 2, token), relay.ErrGrant)
	o.Revoke(id, 2, token)
}

// dialLeg returns a client of a UDP leg that has pinned it.
func (s *testServer) dialLeg(port string) net.Conn {
	s.t.Helper()

	conn, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", port))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(testTimeout)))

	after := s.hub.cursor()
	_, err = conn.Write(nil)
	require.NoError(s.t, err)
	s.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_CLIENT_PINNED
	})

	return conn
}

// TestLimitEvents checks that a limit that bites is told and counted, and that
// a socket whose bytes are used up stops and says why.
func TestLimitEvents(t *testing.T) {
	t.Parallel()

	a := newServers(t, 1)[0]
	socket := a.start(&socketrpc.StartSocketRequest{
		Admission: "open",
		Limits: &socketrpc.SocketLimits{
			Packets:    proto.Uint64(1),
			TotalBytes: proto.Uint64(100),
		},
	})
	a.dialLeg(socket.Port2)
	one := a.dialLeg(socket.Port1)

	// The first to come uses up what may pass in a second.
	after := a.hub.cursor()
	for range 100 {
		_, err := one.Write([]byte("x"))
		require.NoError(t, err)
	}
	limit := a.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_LIMIT
	})
	require.Equal(t, socket.SocketId, limit.SocketId)
	require.Equal(t, "packets", limit.Reason)
	require.JSONEq(t, `{"leg":1,"limit":"packets"}`, string(limit.Data))
	require.Equal(t, "socket", limit.ServiceType)
	require.NotZero(t, a.info(socket.SocketId).Leg1.Drops["packets"])

	// With a limit of its own bytes another one ends.
	total := a.start(&socketrpc.StartSocketRequest{
		Admission: "open",
		Limits: &socketrpc.SocketLimits{
			TotalBytes: proto.Uint64(100),
		},
	})
	a.dialLeg(total.Port2)
	one = a.dialLeg(total.Port1)
	for range 2 {
		_, err := one.Write(make([]byte, 60))
		require.NoError(t, err)
	}
	stopped := a.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_SOCKET_STOPPED
	})
	require.Equal(t, total.SocketId, stopped.SocketId)
	require.Equal(t, "bytes", stopped.Reason)
}
