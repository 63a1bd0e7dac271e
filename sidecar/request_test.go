package sidecar

import (
	"math"
	"testing"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// askFor returns what asks a node for both legs of a socket.
func askFor(node *testServer) *socketrpc.SendSocketRequest {
	return &socketrpc.SendSocketRequest{
		Pubkey: node.key(), BothLegs: true,
		Mode: socketrpc.SendSocketRequest_REQUEST,
	}
}

// request asks a node for a socket, and returns the id of the request and the
// event of the answer.
func (s *testServer) request(
	req *socketrpc.SendSocketRequest) (string, *socketrpc.Event) {

	s.t.Helper()

	after := s.hub.cursor()
	resp, err := s.rpc.SendSocket(s.t.Context(), req)
	require.NoError(s.t, err)

	return resp.Id, s.await(after, func(e *socketrpc.Event) bool {
		return e.ReplyToId == resp.Id &&
			e.Type != socketrpc.Event_OFFER_DELIVERED
	})
}

// offer returns an offer or request that a server has.
func (s *testServer) offer(id string) *socketrpc.Offer {
	s.t.Helper()

	list, err := s.rpc.ListOffers(
		s.t.Context(), &socketrpc.ListOffersRequest{},
	)
	require.NoError(s.t, err)
	for _, o := range list.Offers {
		if o.Id == id {
			return o
		}
	}
	require.Fail(s.t, "no such offer", id)

	return nil
}

// TestRequest checks a socket that is hosted on a request: it is as it was
// asked for, within the host's bounds, counted against the node that asked, and
// ends with StopSocket there.
func TestRequest(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2, "--offer.allowrequests=any",
		"--offer.maxlifetime=1h", "--relay.socketpackets=1000",
		"--relay.idletimeout=5m")
	host, asker := servers[0], servers[1]
	req := askFor(host)
	req.Label = "asked"
	req.Limits = &socketrpc.SocketLimits{
		Bandwidth: proto.Uint64(1_000_000),
		Packets:   proto.Uint64(5000),
		Lifetime:  proto.Uint64(600),
	}
	id, event := asker.request(req)
	require.Equal(t, socketrpc.Event_OFFER_RECEIVED, event.Type)
	require.Equal(t, "answers our request", event.Reason)

	request := asker.offer(id)
	require.True(t, request.IsRequest)
	require.Equal(t, socketrpc.Offer_ACCEPTED, request.State)
	require.Equal(t, host.key(), request.HostPubkey)
	require.EqualValues(t, 1_000_000, request.Limits.GetBandwidth())
	require.Nil(t, request.Limits.TotalBytes)
	require.Empty(t, request.Ip)
	require.Empty(t, request.Port1)
	require.Empty(t, request.Next)

	accepted := asker.accept(event.Id)
	require.Equal(t, id, accepted.Offer.ReplyToId)
	require.True(t, accepted.Offer.BothLegs)
	require.Equal(t, "token", accepted.Offer.Admission)
	requireToken(t, accepted.Token1)
	requireToken(t, accepted.Token2)
	require.NotEqual(t, accepted.Token1, accepted.Token2)
	requireNoTokens(
		t, []string{accepted.Token1, accepted.Token2},
		append(host.shown(), asker.shown()...)...,
	)

	info := host.info(event.SocketId)
	require.Equal(t, "asked", info.Label)
	require.Equal(t, asker.key(), info.PeerPubkey)
	require.Equal(t, id, info.RequestId)
	require.EqualValues(t, 1_000_000, info.Limits.GetBandwidth())
	require.EqualValues(t, 1000, info.Limits.GetPackets())
	require.EqualValues(t, 300, info.Limits.GetIdleTimeout())
	require.EqualValues(t, 600, info.Limits.GetLifetime())
	require.Equal(t, info.ExpiresAt, accepted.Offer.ExpiresAt)
	require.True(t, host.offer(id).IsRequest)
	require.Equal(t, socketrpc.Event_REQUEST_RECEIVED,
		host.await(0, func(e *socketrpc.Event) bool {
			return e.Id == id
		}).Type)

	// It is stopped where it was asked for.
	after := host.hub.cursor()
	asker.stop(event.SocketId)
	host.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_SOCKET_STOPPED &&
			e.SocketId == event.SocketId
	})
	require.Empty(t, host.infos())
	_, err := asker.rpc.StopSocket(t.Context(),
		&socketrpc.StopSocketRequest{SocketId: event.SocketId})
	requireStatus(t, err, codes.NotFound, "socket_id: no open socket")
}

// TestAutoRequests checks that a node that cannot host requests a socket when
// it is not told otherwise, and says what to set when it is told to offer one.
func TestAutoRequests(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2, "--offer.allowrequests=any")
	host := servers[0]

	// The options of a private network fill in an address.
	asker := servers[1]
	asker.sockets().addrs = nil
	id, event := asker.request(&socketrpc.SendSocketRequest{
		Pubkey: host.key(),
	})
	require.Equal(t, socketrpc.Event_OFFER_RECEIVED, event.Type)
	o := asker.offer(event.Id)
	require.Equal(t, id, o.ReplyToId)
	require.EqualValues(t, 2, o.Leg)
	require.False(t, o.BothLegs)

	_, err := asker.rpc.SendSocket(t.Context(),
		&socketrpc.SendSocketRequest{
			Pubkey: host.key(),
			Mode:   socketrpc.SendSocketRequest_OFFER,
		})
	requireStatus(t, err, codes.FailedPrecondition, "set relay.externalip")
}

// TestCannotHostRequests checks that a node without an address refuses every
// request, and says why.
func TestCannotHostRequests(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2, "--relay.externalip=",
		"--offer.allowrequests=any")
	_, event := servers[1].request(askFor(servers[0]))
	require.Equal(t, socketrpc.Event_REQUEST_REJECTED, event.Type)
	require.Equal(t, "policy none: this node cannot host sockets",
		event.Reason)
}

// TestRequestOfSilent checks a hosted socket whose requester says nothing more:
// it is counted against it at once, and its use is the acceptance of the offer.
func TestRequestOfSilent(t *testing.T) {
	t.Parallel()

	silent, err := parsePubKey(testKeys[1], offer.PubKey{})
	require.NoError(t, err)
	host := newServers(t, 1, "--offer.allowrequests=any",
		"--offer.openfor="+testKeys[1])[0]
	body, err := wire.Encode(&wire.Request{
		ID: wire.ID{1}, Protocol: wire.ProtocolUDP, Legs: wire.Leg2,
		Expiry: uint64(time.Now().Add(time.Hour).Unix()),
	})
	require.NoError(t, err)
	host.offers.Receive(silent, uint32(wire.TypeRequest), body)
	started := host.await(0, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_SOCKET_STARTED
	})

	// The offer is made after the socket is told of.
	var info *socketrpc.SocketInfo
	require.Eventually(t, func() bool {
		info = host.info(started.SocketId)

		return info.RequestId != ""
	}, testTimeout, time.Millisecond)
	require.Equal(t, testKeys[1], info.PeerPubkey)

	_, err = host.dialLeg(info.Leg2.Port).Write(nil)
	require.NoError(t, err)
	used := host.await(0, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_ACCEPTED
	})
	require.Equal(t, started.SocketId, used.SocketId)
}

// sockets returns the sockets of a server.
func (s *testServer) sockets() *sockets {
	return s.rpc.sockets
}

// TestRequestRefused checks what a host refuses, and in which words, over the
// whole way to the one who asked.
func TestRequestRefused(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2, "--offer.allowrequests="+testKeys[1],
		"--offer.maxlifetime=1h", "--offer.maxbandwidth=1k",
		"--offer.maxhosted=1", "--relay.nodesockets=2")
	host, asker := servers[0], servers[1]
	for want, change := range map[string]func(
		*socketrpc.SendSocketRequest){

		"policy open: sockets here need tokens": func(
			r *socketrpc.SendSocketRequest) {

			r.Admission = "open"
		},
		"policy lifetime: at most 3600 s": func(
			r *socketrpc.SendSocketRequest) {

			r.Limits = &socketrpc.SocketLimits{
				Lifetime: proto.Uint64(3601),
			}
		},
		"policy bandwidth: at most 1000 bytes/s": func(
			r *socketrpc.SendSocketRequest) {

			r.Limits = &socketrpc.SocketLimits{
				Bandwidth: proto.Uint64(1001),
			}
		},
	} {
		req := askFor(host)
		change(req)
		id, event := asker.request(req)
		require.Equal(t, socketrpc.Event_REQUEST_REJECTED, event.Type)
		require.Equal(t, want, event.Reason)
		require.Equal(t, want, asker.offer(id).Reason)
	}
	require.Empty(t, host.infos())

	_, event := asker.request(askFor(host))
	require.Equal(t, socketrpc.Event_OFFER_RECEIVED, event.Type)
	_, event = asker.request(askFor(host))
	require.Equal(t, "policy hosted: as many as we allow are hosted",
		event.Reason)

	// The relay has no room.
	_, err := host.rpc.UpdatePolicy(
		t.Context(), &socketrpc.UpdatePolicyRequest{
			MaxHosted:  proto.Uint32(1000),
			MaxPerNode: proto.Uint32(1000),
		},
	)
	require.NoError(t, err)
	for host.relay.NumSockets() < host.cfg.Relay.MaxSockets {
		host.start(&socketrpc.StartSocketRequest{Protocol: "udp"})
	}
	_, event = asker.request(askFor(host))
	require.Equal(t, socketrpc.Event_REQUEST_REJECTED, event.Type)
	require.Equal(t, "limit: there is no room for another socket",
		event.Reason)

	policy, err := host.rpc.GetPolicy(
		t.Context(), &socketrpc.GetPolicyRequest{},
	)
	require.NoError(t, err)
	require.Equal(t, map[string]uint64{
		"none": 0, "channel": 0, "list": 0, "open": 1, "node": 0,
		"hosted": 1, "lifetime": 1, "bandwidth": 1, "limit": 1,
	}, policy.RequestsRefused)
	require.EqualValues(t, 1, policy.NumHosted)
}

// TestSendInvalid checks what SendSocket refuses, and that the error names the
// field.
func TestSendInvalid(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2)
	host, asker := servers[0], servers[1]
	socket := asker.start(&socketrpc.StartSocketRequest{Protocol: "tcp"})
	request := socketrpc.SendSocketRequest_REQUEST
	limits := func(
		l *socketrpc.SocketLimits) *socketrpc.SendSocketRequest {

		return &socketrpc.SendSocketRequest{Mode: request, Limits: l}
	}
	for text, req := range map[string]*socketrpc.SendSocketRequest{
		"leg: must not be set": {BothLegs: true, Leg: 1},
		"mode: 7":              {Mode: 7},
		"socket_id: must not be set": {
			Mode: request, SocketId: socket.SocketId,
		},
		"protocol: ":          {Mode: request, Protocol: "sctp"},
		"admission: ":         {Mode: request, Admission: "no"},
		"label: ":             {Mode: request, Label: "a\nb"},
		"protocol: is for a":  {Protocol: "udp"},
		"label: is for a":     {Label: "x"},
		"admission: is for a": {Admission: "open"},
		"limits: is for a":    {Limits: &socketrpc.SocketLimits{}},
		"limits.bandwidth: 0 is no": limits(&socketrpc.SocketLimits{
			Bandwidth: proto.Uint64(0),
		}),
		"limits.total_bytes: ": limits(&socketrpc.SocketLimits{
			TotalBytes: proto.Uint64(math.MaxUint64),
		}),
		"limits.pairs: ": limits(&socketrpc.SocketLimits{
			Pairs: proto.Uint32(1),
		}),
		"limits.packets: ": {
			Mode: request, Protocol: "tcp",
			Limits: &socketrpc.SocketLimits{
				Packets: proto.Uint64(1),
			},
		},
		"expiry: is in the past": {Mode: request, Expiry: 1},
	} {
		req.Pubkey = host.key()
		_, err := asker.rpc.SendSocket(t.Context(), req)
		requireStatus(t, err, codes.InvalidArgument, text)
	}
	_, err := asker.rpc.SendSocket(t.Context(),
		&socketrpc.SendSocketRequest{
			Pubkey: host.key(), SocketId: offer.ID{7}.String(),
		})
	requireStatus(t, err, codes.NotFound, "socket_id: ")
	list, err := asker.rpc.ListOffers(
		t.Context(), &socketrpc.ListOffersRequest{},
	)
	require.NoError(t, err)
	require.Empty(t, list.Offers)
}

// TestPassOn checks that a leg of a socket that another node hosts is passed on
// to a third one, who learns from whom and as whose, and that either end of it
// is the end of all.
func TestPassOn(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 3, "--offer.allowrequests=any")
	host, asker, friend := servers[0], servers[1], servers[2]
	_, event := asker.request(askFor(host))
	hosted := asker.accept(event.Id)

	passed := asker.mustSend(friend, event.SocketId)
	o := asker.offer(passed)
	require.Equal(t, event.Id, o.ParentId)
	require.Equal(t, host.key(), o.HostPubkey)
	got := friend.accept(passed)
	asker.await(0, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_ACCEPTED &&
			e.ReplyToId == passed
	})
	require.Equal(t, "ends with the host's offer", asker.offer(passed).Next)
	require.Equal(t, hosted.Token2, got.Token2)
	require.Empty(t, got.Token1)
	require.Equal(t, asker.key(), got.Offer.PeerPubkey)
	require.Equal(t, host.key(), got.Offer.HostPubkey)
	require.Empty(t, got.Offer.ParentId)
	require.Equal(t, hosted.Offer.Ips, got.Offer.Ips)
	require.LessOrEqual(t, got.Offer.ExpiresAt, hosted.Offer.ExpiresAt)

	// Not with a longer life, not twice, and not both legs.
	for want, req := range map[string]*socketrpc.SendSocketRequest{
		"expiry is after that of the host's": {
			Leg: 1, Expiry: hosted.Offer.ExpiresAt + 1,
			Pubkey: friend.key(),
		},
		"both_legs: one leg": {BothLegs: true, Pubkey: friend.key()},
		"peer is the host":   {Leg: 1, Pubkey: host.key()},
	} {
		req.SocketId = event.SocketId
		_, err := asker.rpc.SendSocket(t.Context(), req)
		requireStatus(t, err, codes.InvalidArgument, want)
	}
	again, err := asker.send(friend, event.SocketId, 2)
	require.NoError(t, err)
	require.Equal(t, passed, again)
	_, err = friend.send(asker, event.SocketId, 2)
	requireStatus(t, err, codes.FailedPrecondition, "has passed it on")

	// The friend's end is the host's.
	after := host.hub.cursor()
	friend.stop(event.SocketId)
	host.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_SOCKET_STOPPED &&
			e.SocketId == event.SocketId
	})
	asker.await(0, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_CLOSED &&
			e.ReplyToId == passed
	})
	_, err = asker.send(friend, event.SocketId, 2)
	requireStatus(t, err, codes.NotFound, "socket_id: ")
}

// TestHostedRestart checks that a hosted socket and what it is hosted for are
// the same after a restart of the host, and that it ends with its offer then.
func TestHostedRestart(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2, "--offer.allowrequests=any")
	host, asker := servers[0], servers[1]
	id, event := asker.request(askFor(host))
	before := host.info(event.SocketId)
	host.restart()
	after := host.info(event.SocketId)
	require.Equal(t, before.Leg1.Port, after.Leg1.Port)
	require.Equal(t, asker.key(), after.PeerPubkey)
	require.Equal(t, id, after.RequestId)

	cursor := host.hub.cursor()
	asker.stop(event.SocketId)
	host.await(cursor, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_SOCKET_STOPPED
	})
}

// TestHostedOptions checks what a socket that is hosted on a request is opened
// with: what was asked for, and else what the host's own have, within the
// policy's bounds.
func TestHostedOptions(t *testing.T) {
	t.Parallel()

	now := time.Now()
	defaults := socketDefaults{
		bandwidth: 1000, packets: 100, totalBytes: 0,
		idle: 10 * time.Minute, lifetime: 2 * time.Hour, maxPairs: 50,
	}
	order := offer.Order{
		Protocol: offer.UDP, MaxLifetime: time.Hour, MaxBandwidth: 2000,
	}
	opts := defaults.hosted(&order, now)
	require.Equal(t, relay.Options{
		Protocol:    relay.UDP,
		Limits:      relay.Limits{Bandwidth: 1000, Packets: 100},
		IdleTimeout: 10 * time.Minute, ExpiresAt: now.Add(time.Hour),
	}, opts)

	order.Limits = offer.SocketLimits{
		Bandwidth: 1500, Packets: 1000, TotalBytes: 7, IdleTimeout: 60,
		Lifetime: 30,
	}
	opts = defaults.hosted(&order, now)
	require.Equal(t, relay.Limits{
		Bandwidth: 1500, Packets: 100, TotalBytes: 7,
	}, opts.Limits)
	require.Equal(t, time.Minute, opts.IdleTimeout)
	require.Equal(t, now.Add(30*time.Second), opts.ExpiresAt)

	// No number is too large.
	order.Limits = offer.SocketLimits{
		Bandwidth: math.MaxUint64, IdleTimeout: math.MaxUint64,
		Lifetime: math.MaxUint64, Pairs: math.MaxUint64,
	}
	order.Protocol, order.MaxBandwidth = offer.TCP, 0
	defaults.idle = 0
	opts = defaults.hosted(&order, now)
	require.Equal(t, 50, opts.Limits.Pairs)
	require.Zero(t, opts.Limits.Packets)
	require.Equal(t, time.Hour, opts.IdleTimeout)
	require.Equal(t, now.Add(time.Hour), opts.ExpiresAt)

	// What has no limit here has the policy's.
	defaults.bandwidth, defaults.lifetime = 0, 0
	order.Limits, order.MaxBandwidth = offer.SocketLimits{}, 2000
	opts = defaults.hosted(&order, now)
	require.EqualValues(t, 2000, opts.Limits.Bandwidth)
	require.Equal(t, time.Hour, opts.IdleTimeout)
	require.Equal(t, now.Add(time.Hour), opts.ExpiresAt)
}
