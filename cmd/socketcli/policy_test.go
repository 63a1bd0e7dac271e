package main

import (
	"strings"
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// TestPolicyShown checks that the command without flags only asks, and what it
// prints.
func TestPolicyShown(t *testing.T) {
	server := newTestServer(t)
	server.respond(
		socketrpc.Socket_GetPolicy_FullMethodName,
		&socketrpc.GetPolicyResponse{
			Policy: &socketrpc.Policy{
				AllowRequests: []string{"channel", pubkey},
				MaxHosted:     50,
				MaxLifetime:   86_400,
			},
			NumHosted:       2,
			RequestsRefused: map[string]uint64{"channel": 3},
		},
	)

	for _, args := range []string{"policy", "policy --reset=false"} {
		res := server.runCLI(t, strings.Fields(args)...)
		require.Equal(t, result{stdout: `{
    "policy": {
        "allow_requests": [
            "channel",
            "` + pubkey + `"
        ],
        "open_for": [],
        "max_hosted": 50,
        "max_per_node": 0,
        "max_lifetime": "86400",
        "max_bandwidth": "0",
        "node_bandwidth": "0",
        "total_bandwidth": "0"
    },
    "is_set": false,
    "num_hosted": 2,
    "requests_refused": {
        "channel": "3"
    }
}
`}, res)

		got := server.waitCall(t)
		require.Equal(t, socketrpc.Socket_GetPolicy_FullMethodName,
			got.method)
		server.noCall(t)
	}
}

// TestPolicyChanged checks what the flags ask for: what is not given is not
// set, which is something else than an empty list or a zero.
func TestPolicyChanged(t *testing.T) {
	server := newTestServer(t)
	server.respond(
		socketrpc.Socket_UpdatePolicy_FullMethodName,
		&socketrpc.UpdatePolicyResponse{Policy: &socketrpc.Policy{
			AllowRequests: []string{"any"},
		}},
	)

	words := func(words ...string) *socketrpc.Words {
		return &socketrpc.Words{Words: words}
	}

	for args, want := range map[string]*socketrpc.UpdatePolicyRequest{
		"--reset": {Reset_: true},
		"--allow_requests any --reset=false": {
			AllowRequests: words("any"),
		},
		"--allow_requests channel," + pubkey + " --allow_requests " +
			peerB: {
			AllowRequests: words("channel", pubkey, peerB),
		},
		"--open_for=":         {OpenFor: words()},
		"--open_for " + peerB: {OpenFor: words(peerB)},
		"--max_hosted 0 --max_per_node 7 --max_lifetime 6h " +
			"--max_bandwidth 25M --node_bandwidth 50k " +
			"--total_bandwidth 0": {
			MaxHosted:      proto.Uint32(0),
			MaxPerNode:     proto.Uint32(7),
			MaxLifetime:    proto.Uint64(21_600),
			MaxBandwidth:   proto.Uint64(25_000_000),
			NodeBandwidth:  proto.Uint64(50_000),
			TotalBandwidth: proto.Uint64(0),
		},

		// As it is printed.
		"--max_lifetime 86400": {MaxLifetime: proto.Uint64(86_400)},
	} {
		t.Run(args, func(t *testing.T) {
			res := server.runCLI(t, append(
				[]string{"policy"}, strings.Fields(args)...,
			)...)
			require.Equal(t, exitDone, res.code, res.stderr)
			require.Contains(t, res.stdout, `"any"`)

			got := server.waitCall(t)
			require.Equal(
				t, socketrpc.Socket_UpdatePolicy_FullMethodName,
				got.method,
			)
			require.Truef(t, proto.Equal(want, got.req),
				"%v, not %v", got.req, want)
			server.noCall(t)
		})
	}
}
