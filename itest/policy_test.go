//go:build itest

package itest

import (
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// policy returns the policy of a node, and whether it was set at run time.
func (n *node) policy(t *testing.T) (*socketrpc.Policy, bool) {
	t.Helper()

	resp, err := n.client.GetPolicy(
		testContext(t), &socketrpc.GetPolicyRequest{},
	)
	require.NoError(t, err)
	require.Zero(t, resp.NumHosted)
	for _, reason := range []string{
		"none", "channel", "list", "open", "node", "hosted",
		"lifetime", "bandwidth", "limit",
	} {
		require.Contains(t, resp.RequestsRefused, reason)
	}

	return resp.Policy, resp.IsSet
}

// requirePolicy requires that a node has a policy.
func (n *node) requirePolicy(t *testing.T, want *socketrpc.Policy,
	isSet bool) {

	t.Helper()

	got, gotSet := n.policy(t)
	require.True(t, proto.Equal(want, got), "%v", got)
	require.Equal(t, isSet, gotSet)
}

// updatePolicy changes the policy of a node.
func (n *node) updatePolicy(t *testing.T, req *socketrpc.UpdatePolicyRequest,
	want *socketrpc.Policy) {

	t.Helper()

	resp, err := n.client.UpdatePolicy(testContext(t), req)
	require.NoError(t, err)
	require.True(t, proto.Equal(want, resp.Policy), "%v", resp.Policy)
	n.requirePolicy(t, want, true)
}

// restart starts the node's socketd anew and connects to it.
func (n *node) restart(t *testing.T) *node {
	t.Helper()

	require.NoError(t, n.Socketd.Restart(testContext(t)))
	again, err := newNode(n.Node)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, again.close()) })

	return again
}

// TestPolicy checks that the policy of a node is what its options say, that it
// changes without a restart, is there after one in the place of the options,
// and gone after a reset.
func TestPolicy(t *testing.T) {
	n := startNode(t, "--offer.maxhosted=7")
	fromOptions := &socketrpc.Policy{
		AllowRequests:  []string{"channel"},
		MaxHosted:      7,
		MaxPerNode:     5,
		MaxLifetime:    86400,
		MaxBandwidth:   12_500_000,
		NodeBandwidth:  25_000_000,
		TotalBandwidth: 62_500_000,
	}
	n.requirePolicy(t, fromOptions, false)

	want := proto.CloneOf(fromOptions)
	want.AllowRequests = []string{"channel", shared.a.pubkey()}
	want.MaxLifetime, want.TotalBandwidth = 3600, 0
	n.updatePolicy(t, &socketrpc.UpdatePolicyRequest{
		AllowRequests: &socketrpc.Words{
			Words: []string{shared.a.pubkey(), "channel"},
		},
		MaxLifetime:    proto.Uint64(3600),
		TotalBandwidth: proto.Uint64(0),
	}, want)
	want.OpenFor = []string{shared.b.pubkey()}
	n.updatePolicy(t, &socketrpc.UpdatePolicyRequest{
		OpenFor: &socketrpc.Words{Words: want.OpenFor},
	}, want)

	n = n.restart(t)
	n.requirePolicy(t, want, true)
	require.Contains(
		t, strings.Join(n.info(t).Warnings, "\n"),
		"offer.maxhosted=7",
	)

	// REST says the same, and changes it as well.
	const path = "/v1/socket/policy"
	n.rest(
		t, http.MethodPost, path, `{"open_for": {}, "max_hosted": 8}`,
	)
	want.OpenFor, want.MaxHosted = nil, 8
	n.requirePolicy(t, want, true)
	body := n.rest(t, http.MethodGet, path, "")
	requireKeys(
		t, body, "policy", "is_set", "num_hosted", "requests_refused",
	)
	requireKeys(
		t, body["policy"], "allow_requests", "open_for", "max_hosted",
		"max_per_node", "max_lifetime", "max_bandwidth",
		"node_bandwidth", "total_bandwidth",
	)

	resp, err := n.client.UpdatePolicy(
		testContext(t), &socketrpc.UpdatePolicyRequest{Reset_: true},
	)
	require.NoError(t, err)
	require.True(t, proto.Equal(fromOptions, resp.Policy), "%v", resp)
	n.requirePolicy(t, fromOptions, false)
	require.NotContains(
		t, strings.Join(n.info(t).Warnings, "\n"), "offer.maxhosted",
	)
	n = n.restart(t)
	n.requirePolicy(t, fromOptions, false)
}

// TestPolicyInvalid checks that what is wrong with a change of the policy is
// named by its field, and changes nothing.
func TestPolicyInvalid(t *testing.T) {
	a := shared.a
	before, wasSet := a.policy(t)
	words := func(list ...string) *socketrpc.Words {
		return &socketrpc.Words{Words: list}
	}
	for _, c := range []struct {
		req  *socketrpc.UpdatePolicyRequest
		text string
	}{
		{&socketrpc.UpdatePolicyRequest{}, "nothing to change"},
		{&socketrpc.UpdatePolicyRequest{
			Reset_: true, MaxHosted: proto.Uint32(1),
		}, "reset"},
		{&socketrpc.UpdatePolicyRequest{AllowRequests: words()},
			"allow_requests"},
		{&socketrpc.UpdatePolicyRequest{
			AllowRequests: words("none", shared.b.pubkey()),
		}, "allow_requests"},
		{&socketrpc.UpdatePolicyRequest{
			AllowRequests: words(a.pubkey()),
		}, "allow_requests"},
		{&socketrpc.UpdatePolicyRequest{OpenFor: words("channel")},
			"open_for"},
		{&socketrpc.UpdatePolicyRequest{MaxHosted: proto.Uint32(0)},
			"max_hosted"},
		{&socketrpc.UpdatePolicyRequest{MaxPerNode: proto.Uint32(0)},
			"max_per_node"},
		{&socketrpc.UpdatePolicyRequest{
			MaxLifetime: proto.Uint64(604801),
		}, "max_lifetime"},
		{&socketrpc.UpdatePolicyRequest{
			MaxBandwidth: proto.Uint64(math.MaxUint64),
		}, "max_bandwidth"},
		{&socketrpc.UpdatePolicyRequest{
			NodeBandwidth: proto.Uint64(math.MaxUint64),
		}, "node_bandwidth"},
		{&socketrpc.UpdatePolicyRequest{
			MaxHosted:      proto.Uint32(1),
			TotalBandwidth: proto.Uint64(math.MaxUint64),
		}, "total_bandwidth"},
	} {
		_, err := a.client.UpdatePolicy(testContext(t), c.req)
		requireCode(t, err, codes.InvalidArgument, c.text)
		a.requirePolicy(t, before, wasSet)
	}
}
