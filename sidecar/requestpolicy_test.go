package sidecar

import (
	"context"
	"database/sql"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// words returns words as a request has them.
func words(list ...string) *socketrpc.Words {
	return &socketrpc.Words{Words: list}
}

// defaultPolicy returns the policy of a server that was told nothing.
func defaultPolicy() *socketrpc.Policy {
	return &socketrpc.Policy{
		AllowRequests:  []string{"channel"},
		MaxHosted:      50,
		MaxPerNode:     5,
		MaxLifetime:    86400,
		MaxBandwidth:   12_500_000,
		NodeBandwidth:  25_000_000,
		TotalBandwidth: 62_500_000,
	}
}

// requirePolicy requires that a server says that a policy holds, and goes by
// it.
func (s *testServer) requirePolicy(want *socketrpc.Policy, isSet bool) {
	s.t.Helper()

	resp, err := s.rpc.GetPolicy(
		s.t.Context(), &socketrpc.GetPolicyRequest{},
	)
	require.NoError(s.t, err)
	require.True(s.t, proto.Equal(want, resp.Policy), "%v", resp.Policy)
	require.Equal(s.t, isSet, resp.IsSet)
	require.Zero(s.t, resp.NumHosted)
	require.Contains(s.t, resp.RequestsRefused, "channel")

	applied, _ := s.policy.get()
	require.Equal(s.t, applied.RequestPolicy, s.offers.RequestPolicy())
}

// updatePolicy changes the policy, and requires that the response has what
// holds then.
func (s *testServer) updatePolicy(req *socketrpc.UpdatePolicyRequest,
	want *socketrpc.Policy) {

	s.t.Helper()

	resp, err := s.rpc.UpdatePolicy(s.t.Context(), req)
	require.NoError(s.t, err)
	require.True(s.t, proto.Equal(want, resp.Policy), "%v", resp.Policy)
}

// TestUpdatePolicy checks that what is set of the policy holds, and nothing
// else changes, over restarts and until it is reset.
func TestUpdatePolicy(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1)[0]
	s.requirePolicy(defaultPolicy(), false)
	s.restart()
	s.requirePolicy(defaultPolicy(), false)

	// Keys in capitals are the same, and once is enough.
	want := defaultPolicy()
	want.AllowRequests = []string{"channel", testKeys[1], testKeys[2]}
	s.updatePolicy(&socketrpc.UpdatePolicyRequest{
		AllowRequests: words(
			testKeys[1], "channel", testKeys[2],
			strings.ToUpper(testKeys[1]),
		),
	}, want)
	s.requirePolicy(want, true)

	for _, c := range []struct {
		req    *socketrpc.UpdatePolicyRequest
		change func()
	}{
		{&socketrpc.UpdatePolicyRequest{
			OpenFor: words(testKeys[1]),
		}, func() { want.OpenFor = []string{testKeys[1]} }},
		{&socketrpc.UpdatePolicyRequest{
			MaxHosted: proto.Uint32(math.MaxInt32),
		}, func() { want.MaxHosted = math.MaxInt32 }},
		{&socketrpc.UpdatePolicyRequest{
			MaxPerNode: proto.Uint32(1),
		}, func() { want.MaxPerNode = 1 }},
		{&socketrpc.UpdatePolicyRequest{
			MaxLifetime: proto.Uint64(604800),
		}, func() { want.MaxLifetime = 604800 }},
		{&socketrpc.UpdatePolicyRequest{
			MaxBandwidth: proto.Uint64(0),
		}, func() { want.MaxBandwidth = 0 }},
		{&socketrpc.UpdatePolicyRequest{
			NodeBandwidth: proto.Uint64(math.MaxInt64),
		}, func() { want.NodeBandwidth = math.MaxInt64 }},
		{&socketrpc.UpdatePolicyRequest{
			TotalBandwidth: proto.Uint64(1000),
		}, func() { want.TotalBandwidth = 1000 }},
	} {
		c.change()
		s.updatePolicy(c.req, want)
		s.requirePolicy(want, true)
	}

	s.restart()
	s.requirePolicy(want, true)

	want.AllowRequests, want.OpenFor = []string{"none"}, nil
	want.MaxLifetime = 1
	s.updatePolicy(&socketrpc.UpdatePolicyRequest{
		AllowRequests: words("none"),
		OpenFor:       words(),
		MaxLifetime:   proto.Uint64(1),
	}, want)
	s.restart()
	s.requirePolicy(want, true)

	// It is no error if there is nothing to reset.
	reset := &socketrpc.UpdatePolicyRequest{Reset_: true}
	for range 2 {
		s.updatePolicy(reset, defaultPolicy())
		s.requirePolicy(defaultPolicy(), false)
	}
	s.restart()
	s.requirePolicy(defaultPolicy(), false)
}

// TestPolicyOptions checks that the options count until a policy is set, and
// that whoever changes them then is told that they do not.
func TestPolicyOptions(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1, "--offer.maxhosted=7", "--relay.bandwidth=1M")[0]
	want := defaultPolicy()
	want.MaxHosted, want.TotalBandwidth = 7, 1_000_000
	s.requirePolicy(want, false)
	require.Empty(t, s.warnings())

	want.MaxHosted = 8
	s.updatePolicy(&socketrpc.UpdatePolicyRequest{
		MaxHosted: proto.Uint32(8),
	}, want)
	require.Len(t, s.warnings(), 1)
	require.Contains(t, s.warnings()[0], "offer.maxhosted=7")
	require.Contains(t, s.warnings()[0], "socketcli policy --reset")

	s.cfg.Offer.MaxLifetime = time.Hour
	s.restart()
	s.requirePolicy(want, true)
	require.Contains(t, s.warnings()[0], "offer.maxlifetime=1h0m0s")

	want.MaxHosted, want.MaxLifetime = 7, 3600
	s.updatePolicy(&socketrpc.UpdatePolicyRequest{Reset_: true}, want)
	s.requirePolicy(want, false)
	require.Empty(t, s.warnings())

	// What nobody has chosen is not missed.
	defaults := DefaultConfig()
	s.cfg.Offer, s.cfg.Relay.Bandwidth = defaults.Offer,
		defaults.Relay.Bandwidth
	s.restart()
	want = defaultPolicy()
	want.MaxPerNode = 6
	s.updatePolicy(&socketrpc.UpdatePolicyRequest{
		MaxPerNode: proto.Uint32(6),
	}, want)
	require.Empty(t, s.warnings())
}

// warnings returns what the server tells its operator.
func (s *testServer) warnings() []string {
	s.t.Helper()

	info, err := s.rpc.GetInfo(s.t.Context(), &socketrpc.GetInfoRequest{})
	require.NoError(s.t, err)

	return info.Warnings
}

// TestUpdatePolicyInvalid checks that a mistake is named by its field, and that
// nothing of the request is done then.
func TestUpdatePolicyInvalid(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1)[0]
	for _, c := range []struct {
		req  *socketrpc.UpdatePolicyRequest
		text string
	}{
		{&socketrpc.UpdatePolicyRequest{}, "nothing to change"},
		{&socketrpc.UpdatePolicyRequest{
			Reset_: true, MaxHosted: proto.Uint32(1),
		}, "reset: no other field"},
		{&socketrpc.UpdatePolicyRequest{
			Reset_: true, OpenFor: words(),
		}, "reset: no other field"},
		{&socketrpc.UpdatePolicyRequest{AllowRequests: words()},
			"allow_requests: is empty"},
		{&socketrpc.UpdatePolicyRequest{AllowRequests: words("all")},
			`allow_requests: "all" is no public key`},
		{&socketrpc.UpdatePolicyRequest{AllowRequests: words("")},
			`allow_requests: ""`},
		{&socketrpc.UpdatePolicyRequest{
			AllowRequests: words("none", "none"),
		}, `allow_requests: "none" stands alone`},
		{&socketrpc.UpdatePolicyRequest{
			AllowRequests: words("channel", "any"),
		}, `allow_requests: "any" stands alone`},
		{&socketrpc.UpdatePolicyRequest{
			AllowRequests: words("channel", testKeys[1][2:]),
		}, "allow_requests: "},
		{&socketrpc.UpdatePolicyRequest{
			AllowRequests: words(s.key()),
		}, "is the public key of this node"},
		{&socketrpc.UpdatePolicyRequest{
			OpenFor: words(testKeys[1], "any"),
		}, `open_for: "any" is no public key`},
		{&socketrpc.UpdatePolicyRequest{OpenFor: words(s.key())},
			"open_for: "},
		{&socketrpc.UpdatePolicyRequest{MaxHosted: proto.Uint32(0)},
			"max_hosted: 0 is less than 1"},
		{&socketrpc.UpdatePolicyRequest{
			MaxHosted: proto.Uint32(math.MaxUint32),
		}, "max_hosted: 4294967295 is too large"},
		{&socketrpc.UpdatePolicyRequest{MaxPerNode: proto.Uint32(0)},
			"max_per_node: 0 is less than 1"},
		{&socketrpc.UpdatePolicyRequest{MaxLifetime: proto.Uint64(0)},
			"max_lifetime: 0 is not from 1 to 604800 s"},
		{&socketrpc.UpdatePolicyRequest{
			MaxLifetime: proto.Uint64(604801),
		}, "max_lifetime: 604801"},
		{&socketrpc.UpdatePolicyRequest{
			MaxLifetime: proto.Uint64(math.MaxUint64),
		}, "max_lifetime: "},
		{&socketrpc.UpdatePolicyRequest{
			MaxBandwidth: proto.Uint64(math.MaxInt64 + 1),
		}, "max_bandwidth: 9223372036854775808 is too large"},
		{&socketrpc.UpdatePolicyRequest{
			NodeBandwidth: proto.Uint64(math.MaxUint64),
		}, "node_bandwidth: "},
		{&socketrpc.UpdatePolicyRequest{
			TotalBandwidth: proto.Uint64(math.MaxUint64),
		}, "total_bandwidth: "},

		// What is right before it is not done either.
		{&socketrpc.UpdatePolicyRequest{
			AllowRequests:  words("any"),
			MaxHosted:      proto.Uint32(1),
			TotalBandwidth: proto.Uint64(math.MaxUint64),
		}, "total_bandwidth: "},
	} {
		_, err := s.rpc.UpdatePolicy(t.Context(), c.req)
		requireStatus(t, err, codes.InvalidArgument, c.text)
		s.requirePolicy(defaultPolicy(), false)
	}
}

// TestUpdatePolicyConcurrent checks that changes that are made at the same time
// do not undo each other.
func TestUpdatePolicyConcurrent(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1)[0]
	reqs := []*socketrpc.UpdatePolicyRequest{
		{AllowRequests: words("any")},
		{OpenFor: words(testKeys[1])},
		{MaxHosted: proto.Uint32(1)},
		{MaxPerNode: proto.Uint32(2)},
		{MaxLifetime: proto.Uint64(3)},
		{MaxBandwidth: proto.Uint64(4)},
		{NodeBandwidth: proto.Uint64(5)},
		{TotalBandwidth: proto.Uint64(6)},
	}
	var running sync.WaitGroup
	for _, req := range reqs {
		running.Go(func() {
			_, err := s.rpc.UpdatePolicy(t.Context(), req)
			if err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()

	want := &socketrpc.Policy{
		AllowRequests: []string{"any"},
		OpenFor:       []string{testKeys[1]},
		MaxHosted:     1, MaxPerNode: 2, MaxLifetime: 3,
		MaxBandwidth: 4, NodeBandwidth: 5, TotalBandwidth: 6,
	}
	s.requirePolicy(want, true)
	s.restart()
	s.requirePolicy(want, true)
}

// TestUpdatePolicyNotWritten checks that a policy that could not be written
// does not hold.
func TestUpdatePolicyNotWritten(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1)[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, req := range []*socketrpc.UpdatePolicyRequest{
		{MaxHosted: proto.Uint32(1)}, {Reset_: true},
	} {
		_, err := s.rpc.UpdatePolicy(ctx, req)
		requireStatus(t, err, codes.Canceled, "canceled")
		s.requirePolicy(defaultPolicy(), false)
	}

	// The database of a server that has ended is closed.
	s.end()
	_, err := s.rpc.UpdatePolicy(
		t.Context(), &socketrpc.UpdatePolicyRequest{
			AllowRequests: words("any"),
		},
	)
	requireStatus(t, err, codes.Internal, "write policy")
	_, err = s.rpc.UpdatePolicy(
		t.Context(), &socketrpc.UpdatePolicyRequest{Reset_: true},
	)
	requireStatus(t, err, codes.Internal, "remove policy")
	s.requirePolicy(defaultPolicy(), false)
}

// TestUpdatePolicyChannels checks that the channels are known as soon as a
// policy goes by them, and not asked for before.
func TestUpdatePolicyChannels(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1, "--offer.allowrequests=none")[0]
	node := testNode(2)
	s.lnd.(*testLnd).channels = []offer.PubKey{node}
	s.Server.peers.refreshChannels(t.Context())
	require.False(t, s.Server.peers.HasChannel(node))

	update := &socketrpc.UpdatePolicyRequest{
		AllowRequests: words("channel"),
	}
	_, err := s.rpc.UpdatePolicy(t.Context(), update)
	require.NoError(t, err)
	require.True(t, s.Server.peers.HasChannel(node))

	// From then on they are.
	s.lnd.(*testLnd).channels = nil
	s.Server.peers.refreshChannels(t.Context())
	require.False(t, s.Server.peers.HasChannel(node))

	// A reset may begin to go by them as well.
	s.cfg.Offer.AllowRequests = []string{"channel"}
	s.restart()
	update.AllowRequests = words("none")
	_, err = s.rpc.UpdatePolicy(t.Context(), update)
	require.NoError(t, err)
	s.lnd.(*testLnd).channels = []offer.PubKey{node}
	_, err = s.rpc.UpdatePolicy(
		t.Context(), &socketrpc.UpdatePolicyRequest{Reset_: true},
	)
	require.NoError(t, err)
	require.True(t, s.Server.peers.HasChannel(node))
}

// TestPolicyCannotHost checks that a node that hosts for nobody does not look
// for channels on account of requests.
func TestPolicyCannotHost(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1, "--relay.externalip=")[0]
	node := testNode(2)
	s.lnd.(*testLnd).channels = []offer.PubKey{node}
	s.requirePolicy(defaultPolicy(), false)
	s.Server.peers.refreshChannels(t.Context())
	for _, word := range []string{"none", "channel"} {
		_, err := s.rpc.UpdatePolicy(
			t.Context(), &socketrpc.UpdatePolicyRequest{
				AllowRequests: words(word),
			},
		)
		require.NoError(t, err)
	}
	require.False(t, s.Server.peers.HasChannel(node))
}

// TestPolicyPrepare checks that nothing is judged before it is known by what.
func TestPolicyPrepare(t *testing.T) {
	t.Parallel()

	node := testNode(2)
	lnd := &peerLnd{channels: []offer.PubKey{node}}
	k := &policyKeeper{
		peers: newPeers(
			lnd, btclog.Disabled, func() bool { return true }, "",
			nil, nil,
		),
		loaded: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	k.prepare(ctx)
	require.False(t, k.peers.HasChannel(node))

	close(k.loaded)
	k.prepare(t.Context())
	require.True(t, k.peers.HasChannel(node))
}

// TestPolicyDamaged checks that no policy holds that cannot have been meant.
func TestPolicyDamaged(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1)[0]
	_, err := s.rpc.UpdatePolicy(
		t.Context(), &socketrpc.UpdatePolicyRequest{
			AllowRequests: words(testKeys[1]),
		},
	)
	require.NoError(t, err)
	s.end()

	file, err := sql.Open("sqlite", s.cfg.databasePath())
	require.NoError(t, err)
	_, err = file.ExecContext(
		t.Context(), "UPDATE policy SET nodes = 'x'",
	)
	require.NoError(t, err)
	require.NoError(t, file.Close())

	db, err := store.Open(
		t.Context(), store.Config{Path: s.cfg.databasePath()},
		slog.New(slog.DiscardHandler),
	)
	require.NoError(t, err)
	defer db.Close()
	s.policy = newPolicyKeeper(s.Server, db, s.policy.config)
	require.ErrorIs(t, s.runSockets(t.Context()), store.ErrDamaged)
	_, isSet := s.policy.get()
	require.False(t, isSet)
	select {
	case <-s.policy.loaded:
		require.Fail(t, "requests are judged")
	default:
	}
}
