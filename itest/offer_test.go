//go:build itest

package itest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

// connection is the data of an offer's events.
type connection struct {
	Protocol string `json:"protocol"`
	IP       string `json:"ip"`
	Port1    string `json:"port1"`
	Port2    string `json:"port2"`
	SocketID string `json:"socket_id"`
	Leg      uint32 `json:"leg"`
	Label    string `json:"label"`
}

// TestOfferAccepted goes the way of an offer that is accepted, as both sides
// see it, and ends with the stop of its socket.
func TestOfferAccepted(t *testing.T) {
	a, b := shared.a, shared.b
	socket := a.startSocket(t, "for b")
	onA, onB := a.subscribe(t), b.subscribe(t)

	id := a.send(t, b, socket.SocketId)
	require.Len(t, id, 64)

	received := onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	require.Equal(t, id, received.Id)
	require.Empty(t, received.ReplyToId)
	require.Equal(t, a.pubkey(), received.FromPubkey)
	require.Equal(t, "socket", received.ServiceType)
	var conn connection
	require.NoError(t, json.Unmarshal(received.Data, &conn))
	require.Equal(t, connection{
		Protocol: "udp", IP: "127.0.0.1", Port1: socket.Port1,
		Port2: socket.Port2, SocketID: socket.SocketId, Leg: 2,
		Label: "for b",
	}, conn)

	delivered := onA.next(t, socketrpc.Event_OFFER_DELIVERED)
	require.Equal(t, id, delivered.ReplyToId)
	require.Equal(t, socketrpc.Offer_PENDING, a.offer(t, id).State)

	offer := b.offer(t, id)
	require.Equal(t, socketrpc.Offer_INCOMING, offer.Direction)
	require.Equal(t, socketrpc.Offer_PENDING, offer.State)
	require.Equal(t, a.pubkey(), offer.PeerPubkey)
	require.Equal(t, a.pubkey(), offer.HostPubkey)
	require.Equal(t, "for b", offer.Label)
	require.Equal(t, uint32(2), offer.Leg)
	require.InDelta(t, time.Now().Add(time.Hour).Unix(), offer.ExpiresAt,
		testTimeout.Seconds())

	accepted, err := b.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
	)
	require.NoError(t, err)
	require.Len(t, accepted.Id, 64)
	require.Equal(t, socketrpc.Offer_ACCEPTED, accepted.Offer.State)

	again, err := b.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
	)
	require.NoError(t, err)
	require.Equal(t, accepted.Id, again.Id)

	event := onA.next(t, socketrpc.Event_OFFER_ACCEPTED)
	require.Equal(t, accepted.Id, event.Id)
	require.Equal(t, id, event.ReplyToId)
	require.Equal(t, b.pubkey(), event.FromPubkey)
	require.Equal(t, socketrpc.Offer_ACCEPTED, a.offer(t, id).State)

	// The end of the socket is the end of the offer, on both sides.
	_, err = a.client.StopSocket(
		testContext(t), &socketrpc.StopSocketRequest{
			SocketId: socket.SocketId,
		},
	)
	require.NoError(t, err)
	require.Equal(t, "stopped", onA.next(
		t, socketrpc.Event_SOCKET_STOPPED,
	).Reason)
	closed := onB.next(t, socketrpc.Event_OFFER_CLOSED)
	require.Equal(t, a.pubkey(), closed.FromPubkey)
	require.Equal(t, socketrpc.Offer_CLOSED, b.offer(t, id).State)
	require.Equal(t, socketrpc.Offer_CLOSED, a.offer(t, id).State)

	_, err = b.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
	)
	requireCode(t, err, codes.FailedPrecondition, "CLOSED")
}

// TestOfferRejected goes the way of an offer that is turned down.
func TestOfferRejected(t *testing.T) {
	a, b := shared.a, shared.b
	socket := a.startSocket(t, "")
	onA, onB := a.subscribe(t), b.subscribe(t)

	id := a.send(t, b, socket.SocketId)
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)

	rejected, err := b.client.RejectOffer(
		testContext(t), &socketrpc.RejectOfferRequest{
			Id: id, Reason: "not today",
		},
	)
	require.NoError(t, err)

	event := onA.next(t, socketrpc.Event_OFFER_REJECTED)
	require.Equal(t, rejected.Id, event.Id)
	require.Equal(t, id, event.ReplyToId)
	require.Contains(t, event.Reason, "not today")
	require.Equal(t, socketrpc.Offer_REJECTED, a.offer(t, id).State)

	_, err = b.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
	)
	requireCode(t, err, codes.FailedPrecondition, "REJECTED")
}

// TestOfferExpires checks that time ends an offer that nobody used, and that
// it is too late to accept it then.
func TestOfferExpires(t *testing.T) {
	a, b := shared.a, shared.b
	socket := a.startSocket(t, "")
	onA, onB := a.subscribe(t), b.subscribe(t)

	resp, err := a.client.SendSocket(
		testContext(t), &socketrpc.SendSocketRequest{
			Pubkey:   b.pubkey(),
			SocketId: socket.SocketId,
			Expiry:   time.Now().Add(2 * time.Second).Unix(),
		},
	)
	require.NoError(t, err)
	require.Equal(t, resp.Id, onA.next(
		t, socketrpc.Event_OFFER_EXPIRED,
	).ReplyToId)
	require.Equal(t, resp.Id, onB.next(
		t, socketrpc.Event_OFFER_EXPIRED,
	).Id)

	_, err = b.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: resp.Id},
	)
	requireCode(t, err, codes.FailedPrecondition, "EXPIRED")
}

// TestOfferAcceptedByUse checks that the first packet on the granted leg counts
// as acceptance, for a far end that never says so.
func TestOfferAcceptedByUse(t *testing.T) {
	a, b := shared.a, shared.b
	socket := a.startSocket(t, "")
	onA := a.subscribe(t)

	resp, err := a.client.SendSocket(
		testContext(t), &socketrpc.SendSocketRequest{
			Pubkey: b.pubkey(), SocketId: socket.SocketId, Leg: 1,
		},
	)
	require.NoError(t, err)
	require.Equal(t, uint32(1), a.offer(t, resp.Id).Leg)

	sendTo(t, dialLeg(t, socket.Port1), []byte("hello"))
	event := onA.next(t, socketrpc.Event_OFFER_ACCEPTED)
	require.Equal(t, resp.Id, event.ReplyToId)
	require.Equal(t, b.pubkey(), event.FromPubkey)
	require.Equal(t, socketrpc.Offer_ACCEPTED, a.offer(t, resp.Id).State)
}

// TestThirdNodeLearnsNothing checks that an offer from A to B shows nowhere at
// C, whose lnd is a peer of both.
func TestThirdNodeLearnsNothing(t *testing.T) {
	a, b, c := shared.a, shared.b, shared.c
	socket := a.startSocket(t, "secret label")
	onB, onC := b.subscribe(t), c.subscribe(t)

	id := a.send(t, b, socket.SocketId)
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	_, err := b.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
	)
	require.NoError(t, err)

	// What C sees next is what A sends to it afterwards.
	toC := a.send(t, c, a.startSocket(t, "").SocketId)
	event, err := onC.stream.Recv()
	require.NoError(t, err)
	require.Equal(t, toC, event.Id)

	list, err := c.client.ListOffers(
		testContext(t), &socketrpc.ListOffersRequest{},
	)
	require.NoError(t, err)
	for _, offer := range list.Offers {
		require.NotEqual(t, id, offer.Id)
		require.NotEqual(t, socket.SocketId, offer.SocketId)
	}
	_, err = c.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
	)
	requireCode(t, err, codes.NotFound, "id")
	require.NotContains(t, string(readFile(t, c.Socketd.LogPath())), id)
}

// TestDefaultSocket checks what requests without fields mean.
func TestDefaultSocket(t *testing.T) {
	a, b := shared.a, shared.b
	a.stopDefault(t)

	first, err := a.client.StartSocket(
		testContext(t), &socketrpc.StartSocketRequest{},
	)
	require.NoError(t, err)
	require.Equal(t, "udp", first.Protocol)
	require.Equal(t, "127.0.0.1", first.Ip)
	require.Empty(t, first.Token1+first.Token2)

	second, err := a.client.StartSocket(
		testContext(t), &socketrpc.StartSocketRequest{},
	)
	require.NoError(t, err)
	require.Equal(t, first.String(), second.String())

	further := a.startSocket(t, "")
	require.NotEqual(t, first.SocketId, further.SocketId)

	info := a.socketInfo(t, first.SocketId)
	require.True(t, info.IsDefault)
	require.Zero(t, info.ExpiresAt)

	// SendSocket without an id offers it, and starts it if need be.
	require.Equal(t, first.SocketId, a.offer(
		t, a.send(t, b, ""),
	).SocketId)

	a.stopDefault(t)
	a.stopDefault(t)
	id := a.send(t, b, "")
	restarted, err := a.client.StartSocket(
		testContext(t), &socketrpc.StartSocketRequest{},
	)
	require.NoError(t, err)
	require.Equal(t, restarted.SocketId, a.offer(t, id).SocketId)
	require.NotEqual(t, first.SocketId, restarted.SocketId)
	require.NotEqual(t, first.Port1, restarted.Port1)
	a.stopDefault(t)
}

// TestBadInput checks that every mistake has its code, and names the field.
func TestBadInput(t *testing.T) {
	var (
		a, ctx  = shared.a, testContext(t)
		b       = shared.b.pubkey()
		unknown = strings.Repeat("ab", 32)
	)
	send := func(req *socketrpc.SendSocketRequest) error {
		_, err := a.client.SendSocket(ctx, req)

		return err
	}
	start := func(req *socketrpc.StartSocketRequest) error {
		_, err := a.client.StartSocket(ctx, req)

		return err
	}
	tests := []struct {
		name string
		err  error
		code codes.Code
		text string
	}{
		{"no pubkey", send(&socketrpc.SendSocketRequest{}),
			codes.InvalidArgument, "pubkey"},
		{"pubkey not hex", send(&socketrpc.SendSocketRequest{
			Pubkey: strings.Repeat("zz", 33),
		}), codes.InvalidArgument, "pubkey: not hex"},
		{"pubkey short", send(&socketrpc.SendSocketRequest{
			Pubkey: b[:64],
		}), codes.InvalidArgument, "pubkey: 32 bytes"},
		{"pubkey not on curve", send(&socketrpc.SendSocketRequest{
			Pubkey: "02" + strings.Repeat("ff", 32),
		}), codes.InvalidArgument, "pubkey: not a point"},
		{"own pubkey", send(&socketrpc.SendSocketRequest{
			Pubkey: a.pubkey(),
		}), codes.InvalidArgument, "pubkey: this is our own"},
		{"expiry past", send(&socketrpc.SendSocketRequest{
			Pubkey: b, Expiry: 1,
		}), codes.InvalidArgument, "expiry: is in the past"},
		{"expiry far", send(&socketrpc.SendSocketRequest{
			Pubkey: b,
			Expiry: time.Now().Add(170 * time.Hour).Unix(),
		}), codes.InvalidArgument, "expiry: is more than"},
		{"leg", send(&socketrpc.SendSocketRequest{
			Pubkey: b, Leg: 3,
		}), codes.InvalidArgument, "leg: 3"},
		{"mode", send(&socketrpc.SendSocketRequest{
			Pubkey: b, Mode: 9,
		}), codes.InvalidArgument, "mode: 9"},
		{"request of a socket", send(&socketrpc.SendSocketRequest{
			Pubkey: b, Mode: socketrpc.SendSocketRequest_REQUEST,
			SocketId: unknown,
		}), codes.InvalidArgument, "socket_id: must not be set"},
		{"label of an offer", send(&socketrpc.SendSocketRequest{
			Pubkey: b, Label: "label",
		}), codes.InvalidArgument, "label: is for a request"},
		{"bad socket id", send(&socketrpc.SendSocketRequest{
			Pubkey: b, SocketId: "ab",
		}), codes.InvalidArgument, "socket_id: 2 hex digits"},
		{"unknown socket id", send(&socketrpc.SendSocketRequest{
			Pubkey: b, SocketId: unknown,
		}), codes.NotFound, "socket_id"},
		{"protocol", start(&socketrpc.StartSocketRequest{
			Protocol: "sctp",
		}), codes.InvalidArgument, `protocol: "sctp"`},
		{"label long", start(&socketrpc.StartSocketRequest{
			Label: strings.Repeat("é", 65),
		}), codes.InvalidArgument, "label"},
		{"label control", start(&socketrpc.StartSocketRequest{
			Label: "a\x1b[31m",
		}), codes.InvalidArgument, "label"},
	}

	_, err := a.client.StopSocket(ctx, &socketrpc.StopSocketRequest{
		SocketId: unknown,
	})
	requireCode(t, err, codes.NotFound, "socket_id")
	_, err = a.client.StopSocket(ctx, &socketrpc.StopSocketRequest{
		SocketId: "no hex",
	})
	requireCode(t, err, codes.InvalidArgument, "socket_id: not hex")
	_, err = a.client.AcceptOffer(ctx, &socketrpc.AcceptOfferRequest{
		Id: unknown,
	})
	requireCode(t, err, codes.NotFound, "id")
	_, err = a.client.RejectOffer(ctx, &socketrpc.RejectOfferRequest{
		Id: unknown,
	})
	requireCode(t, err, codes.NotFound, "id")
	_, err = a.client.RejectOffer(ctx, &socketrpc.RejectOfferRequest{
		Id: unknown, Reason: "\n",
	})
	requireCode(t, err, codes.InvalidArgument, "reason")
	_, err = a.client.WithdrawOffer(ctx, &socketrpc.WithdrawOfferRequest{
		Id: unknown,
	})
	requireCode(t, err, codes.NotFound, "id")
	_, err = a.client.WithdrawOffer(ctx, &socketrpc.WithdrawOfferRequest{
		Id: unknown, Reason: "\x1b[2J",
	})
	requireCode(t, err, codes.InvalidArgument, "reason")
	_, err = a.client.WithdrawOffer(ctx, &socketrpc.WithdrawOfferRequest{
		Id: "ab",
	})
	requireCode(t, err, codes.InvalidArgument, "id: 2 hex digits")

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			requireCode(t, test.err, test.code, test.text)
		})
	}

	a.stopDefault(t)
}

// TestExhausted checks that a daemon with no room left says so, and loses
// nothing of what is open.
func TestExhausted(t *testing.T) {
	n := startNode(t, "--relay.maxsockets=3", "--relay.ports=30100-30103")

	first := n.startSocket(t, "")
	second := n.startSocket(t, "")
	_, err := n.client.StartSocket(
		testContext(t), &socketrpc.StartSocketRequest{},
	)
	requireCode(t, err, codes.ResourceExhausted, "port")
	require.Equal(t, uint32(2), n.info(t).NumSockets)

	// A freed port rests, so that its last client cannot come back.
	_, err = n.client.StopSocket(
		testContext(t), &socketrpc.StopSocketRequest{
			SocketId: first.SocketId,
		},
	)
	require.NoError(t, err)
	_, err = n.client.StartSocket(
		testContext(t), &socketrpc.StartSocketRequest{},
	)
	requireCode(t, err, codes.ResourceExhausted, "port")
	require.Equal(t, uint32(1), n.info(t).NumSockets)
	n.socketInfo(t, second.SocketId)

	few := startNode(t, "--relay.maxsockets=1")
	few.startSocket(t, "")
	_, err = few.client.StartSocket(
		testContext(t), &socketrpc.StartSocketRequest{},
	)
	requireCode(t, err, codes.ResourceExhausted, "sockets")
}
