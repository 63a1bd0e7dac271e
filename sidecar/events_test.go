package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// testOffer returns an offer with every field set.
func testOffer(direction offer.Direction) offer.Offer {
	return offer.Offer{
		ID:        offer.ID{1},
		Peer:      offer.PubKey{2},
		Direction: direction,
		State:     offer.StatePending,
		Host:      offer.PubKey{3},
		Protocol:  wire.ProtocolUDP,
		Addrs: []netip.Addr{
			netip.MustParseAddr("2001:db8::1"),
			netip.MustParseAddr("192.0.2.1"),
		},
		Port1:     21000,
		Port2:     21001,
		Legs:      wire.Leg2,
		Admission: offer.ByToken,
		Label:     "label",
		SocketID:  offer.ID{4},
		CreatedAt: time.Unix(100, 0),
		ExpiresAt: time.Unix(200, 0),
		Reason:    "why",
	}
}

// TestOfferEvent checks whose ids an event about an offer carries.
func TestOfferEvent(t *testing.T) {
	t.Parallel()

	in := offerEvent(offer.Event{
		Kind: offer.EventReceived, MessageID: offer.ID{1},
		Offer: testOffer(offer.Incoming),
	})
	require.Equal(t, socketrpc.Event_OFFER_RECEIVED, in.Type)
	require.Equal(t, offer.ID{1}.String(), in.Id)
	require.Empty(t, in.ReplyToId)
	require.Equal(t, offer.PubKey{2}.String(), in.FromPubkey)
	require.Equal(t, offer.ID{4}.String(), in.SocketId)

	var data map[string]any
	require.NoError(t, json.Unmarshal(in.Data, &data))
	require.Equal(t, map[string]any{
		"protocol": "udp", "ip": "2001:db8::1", "port1": "21000",
		"port2": "21001", "socket_id": offer.ID{4}.String(),
		"admission": "token", "leg": 2.0, "label": "label",
		"expires_at":  200.0,
		"ips":         []any{"2001:db8::1", "192.0.2.1"},
		"host_pubkey": offer.PubKey{3}.String(),
	}, data)

	// Of ours: the accept has an id of its own and answers the offer's.
	out := offerEvent(offer.Event{
		Kind: offer.EventAccepted, MessageID: offer.ID{9},
		Offer: testOffer(offer.Outgoing), Reason: "reason",
	})
	require.Equal(t, socketrpc.Event_OFFER_ACCEPTED, out.Type)
	require.Equal(t, offer.ID{9}.String(), out.Id)
	require.Equal(t, offer.ID{1}.String(), out.ReplyToId)
	require.Equal(t, "reason", out.Reason)

	// No message caused it: the offer's own id stands in for it.
	expired := offerEvent(offer.Event{
		Kind: offer.EventExpired, Offer: testOffer(offer.Outgoing),
	})
	require.Equal(t, socketrpc.Event_OFFER_EXPIRED, expired.Type)
	require.Equal(t, offer.ID{1}.String(), expired.Id)
	require.Equal(t, offer.ID{1}.String(), expired.ReplyToId)

	for kind, want := range map[offer.EventKind]socketrpc.Event_Type{
		offer.EventDelivered: socketrpc.Event_OFFER_DELIVERED,
		offer.EventRejected:  socketrpc.Event_OFFER_REJECTED,
		offer.EventClosed:    socketrpc.Event_OFFER_CLOSED,
	} {
		require.Equal(t, want, offerEvent(offer.Event{
			Kind: kind, Offer: testOffer(offer.Outgoing),
		}).Type)
	}
}

// TestMarshalOffer checks every field of an offer, and that the names of
// states and directions are the same on both sides of the API.
func TestMarshalOffer(t *testing.T) {
	t.Parallel()

	o := testOffer(offer.Outgoing)
	got := marshalOffer(&o)
	require.Equal(t, offer.ID{1}.String(), got.Id)
	require.Equal(t, socketrpc.Offer_OUTGOING, got.Direction)
	require.Equal(t, offer.PubKey{2}.String(), got.PeerPubkey)
	require.Equal(t, offer.PubKey{3}.String(), got.HostPubkey)
	require.Equal(t, "udp", got.Protocol)
	require.Equal(t, "2001:db8::1", got.Ip)
	require.Equal(t, "21000", got.Port1)
	require.Equal(t, "21001", got.Port2)
	require.Equal(t, uint32(2), got.Leg)
	require.Equal(t, "label", got.Label)
	require.Empty(t, got.ReplyToId)
	require.Equal(t, offer.ID{4}.String(), got.SocketId)
	require.Equal(t, "why", got.Reason)
	require.Equal(t, "token", got.Admission)
	require.Equal(t, []int64{100, 200}, []int64{
		got.CreatedAt, got.ExpiresAt,
	})

	for state, name := range socketrpc.Offer_State_name {
		require.Equal(t, name, offer.State(state).String())
	}
	for direction, name := range socketrpc.Offer_Direction_name {
		require.Equal(t, name, offer.Direction(direction).String())
	}
}

// TestRelayQueueFull checks what becomes of the relay's events when nobody
// takes them: the data path never waits, the end of a socket is never lost,
// and a leg that was used is asked again.
func TestRelayQueueFull(t *testing.T) {
	t.Parallel()

	options := DefaultConfig().Relay
	options.MaxConns = 2
	cfg, err := options.relayConfig(nil, nil)
	require.NoError(t, err)
	r, err := relay.New(cfg, nil)
	require.NoError(t, err)

	events := newRelayEvents(nil, btclog.Disabled)
	events.sockets = &sockets{relay: r}
	for range relayQueue {
		events.notify(relay.EventPinned{})
	}

	// These return although the queue is full.
	events.notify(relay.EventPinned{})
	events.notify(relay.EventUsed{Leg: relay.Leg1})
	require.Len(t, events.queue, relayQueue)
	require.EqualValues(t, 2, events.missed.Load())

	told := make(chan struct{})
	go func() {
		defer close(told)
		events.notify(relay.EventClosed{Reason: relay.CloseIdle})
	}()
	<-events.queue
	<-told
	require.Len(t, events.queue, relayQueue)

	// Once nothing takes events any more, nobody waits.
	close(events.done)
	events.notify(relay.EventClosed{Reason: relay.CloseShutdown})
}

// TestRelayConfig checks that every option of the relay reaches it.
func TestRelayConfig(t *testing.T) {
	t.Parallel()

	options := RelayConfig{
		Listen: "::ffff:192.0.2.1", Ports: "20000-20999",
		MaxSockets: 1, PinTimeout: 2, MaxPairs: 3, MaxWaiting: 4,
		WaitTimeout: 5, KeepAlive: 6, MaxConns: 7, Bandwidth: 8,
		NodeBandwidth: 9,
	}
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.2")}
	cfg, err := options.relayConfig(addrs, nil)
	require.NoError(t, err)
	require.Equal(t, relay.Config{
		Listen: netip.MustParseAddr("192.0.2.1"), SelfAddrs: addrs,
		Ports:    relay.PortRange{Low: 20000, High: 20999},
		PortRest: portRest, MaxSockets: 1, PinTimeout: 2, MaxPairs: 3,
		MaxWaiting: 4, WaitTimeout: 5, KeepAlive: 6, MaxConns: 7,
		Bandwidth: 8, AccountBandwidth: 9,
	}, cfg)
}

// TestMarshalLeg checks every counter of a leg.
func TestMarshalLeg(t *testing.T) {
	t.Parallel()

	got := marshalLeg(&relay.LegStats{
		Port: 1, Client: netip.MustParseAddrPort("192.0.2.1:2"),
		PacketsIn: 3, BytesIn: 4, PacketsOut: 5, BytesOut: 6,
		Drops:    map[relay.DropReason]uint64{relay.DropLimit: 7},
		Accepted: 8, Open: 9, Waiting: 10, Resets: 11,
		LastSeen: time.Unix(12, 0), Unbound: 13,
	}, []netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("2001:db8::1/128"),
	})
	require.True(t, proto.Equal(&socketrpc.Leg{
		Port: "1", ClientAddr: "192.0.2.1:2", PacketsIn: 3, BytesIn: 4,
		PacketsOut: 5, BytesOut: 6, Accepted: 8, Open: 9, Waiting: 10,
		Resets: 11, LastSeen: 12,
		Drops: map[string]uint64{"limit": 7}, Unbound: 13,
		Allow: []string{"192.0.2.0/24", "2001:db8::1/128"},
	}, got), "%v", got)
}

// TestParseProtocol checks which names of protocols are taken.
func TestParseProtocol(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]relay.Protocol{
		"": relay.UDP, "udp": relay.UDP, "tcp": relay.TCP,
	} {
		got, err := parseProtocol(text)
		require.NoError(t, err)
		require.Equal(t, want, got)

		// Offers have the relay's numbers.
		require.Equal(t, got.String(), wire.Protocol(got).String())
	}

	for _, text := range []string{"TCP", "Udp", "sctp", " udp"} {
		_, err := parseProtocol(text)
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.ErrorContains(t, err, `use "udp" or "tcp"`)
	}
}

// TestErrorCodes checks which code each error of the parts below becomes.
func TestErrorCodes(t *testing.T) {
	t.Parallel()

	for err, want := range map[error]codes.Code{
		offer.ErrNotFound: codes.NotFound,
		offer.ErrState:    codes.FailedPrecondition,
		offer.ErrLimit:    codes.ResourceExhausted,
		offer.ErrInvalid:  codes.InvalidArgument,
		offer.ErrStopped:  codes.Unavailable,
		offer.ErrGranted:  codes.FailedPrecondition,
		relay.ErrGrant:    codes.FailedPrecondition,
		errNoSocket:       codes.NotFound,
		context.Canceled:  codes.Canceled,
		errEnded:          codes.Internal,
	} {
		err = fmt.Errorf("wrapped: %w", err)
		require.Equal(
			t, want, status.Code(offerError(err)),
			"%v", err,
		)
	}

	for err, want := range map[error]codes.Code{
		errCannotHost:           codes.FailedPrecondition,
		relay.ErrTooManySockets: codes.ResourceExhausted,
		relay.ErrNoFreePort:     codes.ResourceExhausted,
		relay.ErrClosed:         codes.Unavailable,
		relay.ErrOptions:        codes.InvalidArgument,
		syscall.EMFILE:          codes.ResourceExhausted,
		syscall.ENFILE:          codes.ResourceExhausted,
		errEnded:                codes.Internal,
	} {
		err = fmt.Errorf("wrapped: %w", err)
		require.Equal(t, want, status.Code(socketError(err)), "%v", err)
	}

	// What is a status already stays as it is.
	require.Equal(
		t, codes.InvalidArgument,
		status.Code(socketError(invalid("label", "too long"))),
	)
}
