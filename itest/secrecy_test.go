//go:build itest

package itest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// shown is what was shown to somebody who is not to see tokens, by where.
type shown map[string][]byte

// add notes a message, as it travels and as JSON.
func (s shown) add(t *testing.T, where string, msg proto.Message) {
	t.Helper()

	raw, err := proto.Marshal(msg)
	require.NoError(t, err)
	text, err := protojson.Marshal(msg)
	require.NoError(t, err)
	s.addText(where, raw, text)
}

// addText notes texts.
func (s shown) addText(where string, texts ...[]byte) {
	for _, text := range texts {
		s[where] = append(s[where], text...)
		s[where] = append(s[where], '\n')
	}
}

// addError notes a refusal, which there has to be.
func (s shown) addError(t *testing.T, where string, err error) {
	t.Helper()

	require.Error(t, err)
	s.addText(where, []byte(err.Error()))
}

// spellings returns the ways in which a token may be written, by name.
func spellings(t *testing.T, token string) map[string]string {
	t.Helper()

	raw, err := hex.DecodeString(token)
	require.NoError(t, err)
	quoted := fmt.Sprintf("%q", raw)
	source := strings.TrimPrefix(fmt.Sprintf("%#v", raw), "[]byte{")

	return map[string]string{
		"hex":        token,
		"upper hex":  strings.ToUpper(token),
		"spaced hex": fmt.Sprintf("% x", raw),
		"bytes":      string(raw),
		"quoted":     quoted[1 : len(quoted)-1],
		"decimal":    strings.Trim(fmt.Sprintf("%d", raw), "[]"),
		"Go":         strings.TrimSuffix(source, "}"),
		"base64":     base64.RawStdEncoding.EncodeToString(raw),
		"base64url":  base64.RawURLEncoding.EncodeToString(raw),
	}
}

// find returns where a token is shown, in any spelling.
func (s shown) find(t *testing.T, token string) []string {
	t.Helper()

	var found []string
	for how, spelling := range spellings(t, token) {
		for where, text := range s {
			if bytes.Contains(text, []byte(spelling)) {
				found = append(found, where+" in "+how)
			}
		}
	}

	return found
}

// TestSpellings checks that a token would be found.
func TestSpellings(t *testing.T) {
	const token = "00ff1b27e37a1d0e5bfb3e9acd51a97c"
	raw, err := hex.DecodeString(token)
	require.NoError(t, err)

	for where, text := range map[string]string{
		"JSON":    `{"token2":"` + token + `"}`,
		"upper":   strings.ToUpper(token),
		"%x":      fmt.Sprintf("% x", raw),
		"wire":    "\x1a\x10" + string(raw),
		"%q":      fmt.Sprintf("token=%q", raw),
		"%v":      fmt.Sprintf("%v", raw),
		"%v [16]": fmt.Sprintf("%v", [16]byte(raw)),
		"%#v":     fmt.Sprintf("%#v", raw),
		"%#v 16":  fmt.Sprintf("%#v", [16]byte(raw)),
		"bytes":   `"` + base64.StdEncoding.EncodeToString(raw) + `"`,
		"url":     base64.URLEncoding.EncodeToString(raw),
	} {
		require.NotEmpty(t, shown{where: []byte(text)}.find(t, token),
			where)
	}
	require.Empty(t, shown{"id": []byte("00ff1b27")}.find(t, token))
}

// olderStreams are the older streams of a node's events, over gRPC and over
// REST, from when they were opened.
type olderStreams struct {
	grpc grpc.ServerStreamingClient[socketrpc.SubscribeResponse]
	rest io.Reader
}

// subscribeOlder opens the older streams and waits until both are live.
func (n *node) subscribeOlder(t *testing.T) *olderStreams {
	t.Helper()

	stream, err := socketrpc.NewWebsocketClient(n.conn).Subscribe(
		testContext(t), &socketrpc.SubscribeRequest{},
	)
	require.NoError(t, err)
	_, err = stream.Header()
	require.NoError(t, err)

	return &olderStreams{
		grpc: stream, rest: n.restBody(t, "/v1/subscribe"),
	}
}

// restBody makes a call that is to succeed and returns the body of its answer.
func (n *node) restBody(t *testing.T, path string) io.Reader {
	t.Helper()

	resp := n.restRequest(t, http.MethodGet, path, "", http.Header{
		macaroonHTTPHeader: {n.macaroonHex(t)},
	})
	require.Equal(t, http.StatusOK, resp.StatusCode)

	return resp.Body
}

// collect adds the next events of both streams.
func (o *olderStreams) collect(t *testing.T, s shown, name string, count int) {
	t.Helper()

	lines := json.NewDecoder(o.rest)
	for range count {
		event, err := o.grpc.Recv()
		require.NoError(t, err)
		s.add(t, name+": older events", event)
		s.addLine(t, name+": older events over REST", lines)
	}
}

// addLine notes the next line of a stream over REST, and the data in it, which
// is in base64 there. It returns the event's cursor, if it has one.
func (s shown) addLine(t *testing.T, where string,
	lines *json.Decoder) string {

	t.Helper()

	var line json.RawMessage
	require.NoError(t, lines.Decode(&line))
	var event struct {
		Result struct {
			Data   []byte `json:"data"`
			Cursor string `json:"cursor"`
		} `json:"result"`
	}
	require.NoError(t, json.Unmarshal(line, &event))
	s.addText(where, line, event.Result.Data)

	return event.Result.Cursor
}

// collect adds all that a node shows to whoever may only read, and what its
// daemon writes. The cursor is that of its last event.
func (n *node) collect(t *testing.T, s shown, name string, cursor uint64) {
	t.Helper()

	ctx := testContext(t)
	sockets, err := n.client.ListSockets(
		ctx, &socketrpc.ListSocketsRequest{},
	)
	require.NoError(t, err)
	require.NotEmpty(t, sockets.Sockets)
	s.add(t, name+": ListSockets", sockets)
	offers, err := n.client.ListOffers(ctx, &socketrpc.ListOffersRequest{})
	require.NoError(t, err)
	require.NotEmpty(t, offers.Offers)
	s.add(t, name+": ListOffers", offers)
	s.add(t, name+": GetInfo", n.info(t))

	for _, path := range []string{"sockets", "offers", "getinfo"} {
		body, err := io.ReadAll(n.restBody(t, "/v1/socket/"+path))
		require.NoError(t, err)
		s.addText(name+": REST "+path, body)
	}
	for _, command := range []string{"list", "offers", "getinfo"} {
		out, err := n.trySocketcli(t, command)
		require.NoError(t, err)
		s.addText(name+": socketcli "+command, out)
	}

	// What happened, from the second event on.
	stream, err := n.client.SubscribeEvents(
		ctx, &socketrpc.SubscribeEventsRequest{After: 1},
	)
	require.NoError(t, err)
	for last := uint64(1); last < cursor; {
		event, err := stream.Recv()
		require.NoError(t, err)
		s.add(t, name+": events", event)
		last = event.Cursor
	}
	lines := json.NewDecoder(n.restBody(t, "/v1/socket/events?after=1"))
	for last := ""; last != strconv.FormatUint(cursor, 10); {
		last = s.addLine(t, name+": events over REST", lines)
	}

	out, err := n.Socketd.Output()
	require.NoError(t, err)
	s.addText(name+": log", readFile(t, n.Socketd.LogPath()), []byte(out))
	require.Contains(t, out, "[TRC]")
}

// TestTokensStaySecret uses TOKEN sockets in every way, and then looks for
// their tokens in all that is not to show them.
func TestTokensStaySecret(t *testing.T) {
	a := startNode(t, "--debuglevel=trace")
	b := startNode(t, "--debuglevel=trace")
	c := shared.c
	ctx := testContext(t)
	require.NoError(t, a.Lnd.ConnectPeer(ctx, b.Lnd))
	require.NoError(t, a.Lnd.ConnectPeer(ctx, c.Lnd))

	// No token is in the first event of either.
	for _, n := range []*node{a, b} {
		_, err := n.client.StartSocket(
			ctx, &socketrpc.StartSocketRequest{},
		)
		require.NoError(t, err)
	}
	olderA, olderB := a.subscribeOlder(t), b.subscribeOlder(t)
	onA, onB := a.subscribe(t), b.subscribe(t)

	var (
		seen   = shown{}
		tokens []string
	)
	for _, protocol := range protocols {
		socket := a.start(t, &socketrpc.StartSocketRequest{
			Protocol: protocol, Label: "secret",
		})
		tokens = append(tokens, useSocket(t, a, b, c, socket, seen)...)
	}

	// The tokens are those that were told, and different ones.
	require.Len(t, tokens, 8)
	for i, token := range tokens {
		require.Len(t, token, 32)
		require.NotContains(t, tokens[:i], token)
	}

	// What happened last is the end of a socket at A, and of an offer at
	// B.
	last := a.start(t, &socketrpc.StartSocketRequest{Label: "last"})
	tokens = append(tokens, last.Token1, last.Token2)
	id := a.send(t, b, last.SocketId)
	onB.match(t, func(event *socketrpc.Event) bool {
		return event.Id == id
	})
	_, err := a.client.StopSocket(ctx, &socketrpc.StopSocketRequest{
		SocketId: last.SocketId,
	})
	require.NoError(t, err)
	closed := onB.next(t, socketrpc.Event_OFFER_CLOSED)
	ended := onA.next(t, socketrpc.Event_OFFER_CLOSED)
	_, err = b.client.AcceptOffer(
		ctx, &socketrpc.AcceptOfferRequest{Id: id},
	)
	seen.addError(t, "accept of an offer that has ended", err)

	a.collect(t, seen, "A", ended.Cursor)
	b.collect(t, seen, "B", closed.Cursor)
	olderA.collect(t, seen, "A", 4)
	olderB.collect(t, seen, "B", 5)

	for _, token := range tokens {
		require.Empty(t, seen.find(t, token))
	}
}

// useSocket offers both legs of a TOKEN socket of A to B, which accepts and
// uses them, and makes whatever mistakes can be made with it. It returns the
// tokens that were told.
func useSocket(t *testing.T, a, b, c *node,
	socket *socketrpc.StartSocketResponse, seen shown) []string {

	t.Helper()

	// What holds tokens is found to do so.
	ctx := testContext(t)
	tokens := []string{socket.Token1, socket.Token2}
	told := shown{}
	told.add(t, "StartSocket", socket)

	onB := b.subscribe(t)
	for leg := uint32(1); leg <= 2; leg++ {
		sent, err := a.client.SendSocket(
			ctx, &socketrpc.SendSocketRequest{
				Pubkey: b.pubkey(), SocketId: socket.SocketId,
				Leg: leg,
			},
		)
		require.NoError(t, err)
		onB.next(t, socketrpc.Event_OFFER_RECEIVED)
		accepted := b.acceptOffer(t, sent.Id)
		told.add(t, "AcceptOffer", accepted)
		seen.add(t, "offer of AcceptOffer", accepted.Offer)
		tokens = append(tokens, accepted.Token1+accepted.Token2)

		for _, other := range []string{c.pubkey(), a.pubkey(), "02"} {
			_, err := a.client.SendSocket(
				ctx, &socketrpc.SendSocketRequest{
					Pubkey:   other,
					SocketId: socket.SocketId, Leg: leg,
				},
			)
			seen.addError(t, "SendSocket to "+other, err)
		}
	}
	for _, token := range tokens {
		require.NotEmpty(t, told.find(t, token))
	}

	_, err := a.client.StartSocket(ctx, &socketrpc.StartSocketRequest{
		SocketId: socket.SocketId, Label: "x",
	})
	seen.addError(t, "StartSocket", err)
	_, err = b.client.RejectOffer(ctx, &socketrpc.RejectOfferRequest{
		Id: b.lastOffer(t).Id,
	})
	seen.addError(t, "RejectOffer", err)

	// Clients come with each of the tokens, also to the wrong leg.
	protocol := socket.Protocol
	for i, token := range tokens {
		right, wrong := uint8(i%2+1), uint8(2-i%2)
		ports := []string{"", socket.Port1, socket.Port2}
		conn := bindLeg(t, socket.SocketId, protocol, right,
			ports[right], token)
		requireUnbound(t, socket.SocketId, protocol, wrong,
			ports[wrong], token)
		require.NoError(t, conn.Close())
	}

	return tokens
}

// lastOffer returns the offer that a node made or got last.
func (n *node) lastOffer(t *testing.T) *socketrpc.Offer {
	t.Helper()

	list, err := n.client.ListOffers(
		testContext(t), &socketrpc.ListOffersRequest{},
	)
	require.NoError(t, err)
	require.NotEmpty(t, list.Offers)

	return list.Offers[len(list.Offers)-1]
}
