//go:build itest

package itest

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// tryTime is how long a test waits before it tries again what may be lost.
const tryTime = 100 * time.Millisecond

// requestOf returns a request for both legs of a TOKEN socket, within an hour.
func requestOf() *wire.Request {
	return &wire.Request{
		ID:        hostileID(),
		Protocol:  wire.ProtocolUDP,
		Legs:      wire.BothLegs,
		Admission: wire.AdmissionToken,
		Expiry:    uint64(time.Now().Add(time.Hour).Unix()),
	}
}

// goodAnswer returns an offer that answers a request as it should, with
// addresses.
func goodAnswer(request *wire.Request, addrs ...string) *wire.Offer {
	o := &wire.Offer{
		ID:        hostileID(),
		ReplyTo:   request.ID,
		Protocol:  request.Protocol,
		Port1:     21000,
		Port2:     21001,
		Legs:      request.Legs,
		Admission: request.Admission,
		Expiry:    request.Expiry,
		SocketID:  hostileID(),
		Tokens:    wire.Tokens{{1}, {2}},
	}
	for _, addr := range addrs {
		o.Addrs = append(o.Addrs, netip.MustParseAddr(addr))
	}

	return o
}

// TestHostRefuses has a node without a channel ask a host with the default
// policy, and then one that the policy names ask for more than is allowed, for
// what is not known, and a thousand times: the answer says why, and nothing is
// left behind.
func TestHostRefuses(t *testing.T) {
	host := startNode(t)
	stranger := startSpeaker(t, host)
	refused := func(spoil func(*wire.Request)) *wire.Reject {
		t.Helper()

		request := requestOf()
		spoil(request)
		stranger.say(t, request)

		return stranger.requireReject(t, request.ID)
	}
	reject := refused(func(*wire.Request) {})
	require.Equal(t, wire.CodePolicy, reject.Code)
	require.Equal(t, "policy channel: we have no channel with you",
		reject.Text)

	_, err := host.client.UpdatePolicy(
		testContext(t), &socketrpc.UpdatePolicyRequest{
			AllowRequests: &socketrpc.Words{
				Words: []string{stranger.lnd.PubKey()},
			},
			MaxLifetime:  proto.Uint64(60),
			MaxBandwidth: proto.Uint64(1000),
		},
	)
	require.NoError(t, err)
	for text, spoil := range map[string]func(*wire.Request){
		"policy lifetime: at most 60 s": func(r *wire.Request) {
			r.Limits.Lifetime = math.MaxUint64
		},
		"policy bandwidth: at most 1000 bytes/s": func(
			r *wire.Request) {

			r.Limits.Bandwidth = math.MaxUint64
		},
		"policy open: sockets here need tokens": func(
			r *wire.Request) {

			r.Admission = wire.AdmissionOpen
		},
	} {
		reject := refused(spoil)
		require.Equal(t, wire.CodePolicy, reject.Code)
		require.Equal(t, text, reject.Text)
	}
	require.Equal(t, wire.CodeExpired, refused(func(r *wire.Request) {
		r.Expiry = 1
	}).Code)
	require.Equal(t, wire.CodeMalformed, refused(func(r *wire.Request) {
		r.Expiry = math.MaxUint64
	}).Code)

	// The protocol is the value of the third record.
	request := requestOf()
	body, err := wire.Encode(request)
	require.NoError(t, err)
	require.EqualValues(t, 6, body[37])
	body[39] = 17
	stranger.sayRaw(t, wire.TypeRequest, body)
	require.Equal(t, wire.CodeUnsupported,
		stranger.requireReject(t, request.ID).Code)

	// Faster than lnd lets through what is read.
	for range 1000 {
		request := requestOf()
		request.Admission = wire.AdmissionOpen
		stranger.say(t, request)
	}
	require.Eventually(t, func() bool {
		return host.info(t).MessagesRefused["rate"] > 900
	}, testTimeout, tryTime)

	sockets, err := host.client.ListSockets(
		testContext(t), &socketrpc.ListSocketsRequest{},
	)
	require.NoError(t, err)
	require.Empty(t, sockets.Sockets)
	offers, err := host.client.ListOffers(
		testContext(t), &socketrpc.ListOffersRequest{},
	)
	require.NoError(t, err)
	require.Empty(t, offers.Offers)
	policy, err := host.client.GetPolicy(
		testContext(t), &socketrpc.GetPolicyRequest{},
	)
	require.NoError(t, err)
	require.EqualValues(t, 1, policy.RequestsRefused["channel"])
	require.EqualValues(t, 1, policy.RequestsRefused["lifetime"])
	require.Greater(t, policy.RequestsRefused["open"], uint64(1))
	require.NotContains(
		t, string(readFile(t, host.Socketd.LogPath())), "[ERR]",
	)
}

// TestHostMisbehaves has a node ask hosts that answer somebody else's request,
// answer twice, something else than was asked for, or never.
func TestHostMisbehaves(t *testing.T) {
	asker := startNode(t)
	host, other := startSpeaker(t, asker), startSpeaker(t, asker)
	events := asker.subscribe(t)
	ask := func(expiry int64) (string, *wire.Request) {
		t.Helper()

		sent, err := asker.client.SendSocket(
			testContext(t), &socketrpc.SendSocketRequest{
				Pubkey: host.lnd.PubKey(), BothLegs: true,
				Mode:   socketrpc.SendSocketRequest_REQUEST,
				Expiry: expiry,
			},
		)
		require.NoError(t, err)
		msg := host.hear(t, func(msg wire.Message) bool {
			request, ok := msg.(*wire.Request)

			return ok && request.ID.String() == sent.Id
		})

		return sent.Id, msg.(*wire.Request)
	}

	// The one who was not asked, and then the one who was, twice.
	id, request := ask(0)
	wrong := goodAnswer(request, "203.0.113.7")
	other.say(t, wrong)
	require.Equal(t, wire.CodeUnknown,
		other.requireReject(t, wrong.ID).Code)
	right := goodAnswer(request, "203.0.113.7")
	host.say(t, right)
	event := events.next(t, socketrpc.Event_OFFER_RECEIVED)
	require.Equal(t, id, event.ReplyToId)
	require.Equal(t, right.ID.String(), event.Id)
	second := goodAnswer(request, "203.0.113.8")
	host.say(t, second)
	require.Equal(t, wire.CodeExpired,
		host.requireReject(t, second.ID).Code)
	require.Equal(t, socketrpc.Offer_ACCEPTED,
		asker.offer(t, event.Id).State)

	// Something else than was asked for.
	id, request = ask(0)
	wrong = goodAnswer(request, "203.0.113.7")
	wrong.Protocol = wire.ProtocolTCP
	host.say(t, wrong)
	require.Equal(t, "not what was asked for",
		host.requireReject(t, wrong.ID).Text)
	event = events.next(t, socketrpc.Event_REQUEST_REJECTED)
	require.Equal(t, id, event.ReplyToId)
	require.Equal(t, "the host's answer: not what was asked for",
		event.Reason)

	// Nothing, not even that it arrived.
	id, _ = ask(time.Now().Add(3 * time.Second).Unix())
	event = events.next(t, socketrpc.Event_OFFER_EXPIRED)
	require.Equal(t, id, event.ReplyToId)
	require.Equal(t, socketrpc.Offer_EXPIRED, asker.offer(t, id).State)
	for _, o := range asker.liveOffers(t) {
		require.Equal(t, right.ID.String(), o.Id)
	}
}

// TestHostileAnswer checks that the addresses of an answer are told and nothing
// else: nobody connects to them, wherever they point.
func TestHostileAnswer(t *testing.T) {
	asker := startNode(t)
	host := startSpeaker(t, asker)
	sent, err := asker.client.SendSocket(
		testContext(t), &socketrpc.SendSocketRequest{
			Pubkey: host.lnd.PubKey(), BothLegs: true,
			Mode: socketrpc.SendSocketRequest_REQUEST,
		},
	)
	require.NoError(t, err)
	msg := host.hear(t, func(msg wire.Message) bool {
		_, ok := msg.(*wire.Request)

		return ok
	}).(*wire.Request)

	// Loopback, private, multicast, unspecified; and lnd's own port.
	lnd := netip.MustParseAddrPort(asker.Lnd.P2PAddr())
	answer := goodAnswer(
		msg, "127.0.0.1", "10.0.0.1", "224.0.0.1", "0.0.0.0", "::1",
		"fe80::1",
	)
	answer.Port1 = lnd.Port()
	host.say(t, answer)
	host.requireAck(t, answer.ID)
	got := asker.offer(t, answer.ID.String())
	require.Equal(t, sent.Id, got.ReplyToId)
	require.Equal(t, []string{
		"127.0.0.1", "10.0.0.1", "224.0.0.1", "0.0.0.0", "::1",
		"fe80::1",
	}, got.Ips)
	require.Equal(t, socketrpc.Offer_ACCEPTED, got.State)
}
