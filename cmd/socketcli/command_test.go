package main

import (
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

var (
	idA = strings.Repeat("0a", 32)
	idB = strings.Repeat("0b", 32)

	// tokenA is a token as a response has it.
	tokenA = strings.Repeat("0c", 16)

	// pubkey is what a test sends to. Whether it is a key is socketd's
	// business.
	pubkey = "02" + strings.Repeat("ab", 32)
)

// TestRequests checks what every command asks of socketd, and that it asks
// with the macaroon and a time limit.
func TestRequests(t *testing.T) {
	server := newTestServer(t)

	tests := []struct {
		args   string
		method string
		req    proto.Message
	}{{
		args:   "start",
		method: socketrpc.Socket_StartSocket_FullMethodName,
		req:    &socketrpc.StartSocketRequest{},
	}, {
		args:   "start --protocol udp --label game",
		method: socketrpc.Socket_StartSocket_FullMethodName,
		req: &socketrpc.StartSocketRequest{
			Protocol: "udp",
			Label:    "game",
		},
	}, {
		args:   "start --protocol=tcp",
		method: socketrpc.Socket_StartSocket_FullMethodName,
		req:    &socketrpc.StartSocketRequest{Protocol: "tcp"},
	}, {
		args:   "start --admission token",
		method: socketrpc.Socket_StartSocket_FullMethodName,
		req:    &socketrpc.StartSocketRequest{Admission: "token"},
	}, {
		args: "start --admission open --allow1 192.0.2.0/24 --allow1 " +
			"2001:db8::/32 --allow2 198.51.100.7,203.0.113.0/24",
		method: socketrpc.Socket_StartSocket_FullMethodName,
		req: &socketrpc.StartSocketRequest{
			Admission: "open",
			Allow1:    []string{"192.0.2.0/24", "2001:db8::/32"},
			Allow2:    []string{"198.51.100.7", "203.0.113.0/24"},
		},
	}, {
		args: "start --bandwidth 12500k --packets 50k --total_bytes " +
			"100G --idle_timeout 10m --lifetime 24h --pairs 7",
		method: socketrpc.Socket_StartSocket_FullMethodName,
		req: &socketrpc.StartSocketRequest{
			Limits: &socketrpc.SocketLimits{
				Bandwidth:   proto.Uint64(12_500_000),
				Packets:     proto.Uint64(50_000),
				TotalBytes:  proto.Uint64(100_000_000_000),
				IdleTimeout: proto.Uint64(600),
				Lifetime:    proto.Uint64(86_400),
				Pairs:       proto.Uint32(7),
			},
		},
	}, {
		// No limit is something else than a limit that is not set.
		args: "start --bandwidth 0 --packets 0M --total_bytes=0 " +
			"--idle_timeout 0 --lifetime 0s --pairs 0",
		method: socketrpc.Socket_StartSocket_FullMethodName,
		req: &socketrpc.StartSocketRequest{
			Limits: &socketrpc.SocketLimits{
				Bandwidth:   proto.Uint64(0),
				Packets:     proto.Uint64(0),
				TotalBytes:  proto.Uint64(0),
				IdleTimeout: proto.Uint64(0),
				Lifetime:    proto.Uint64(0),
				Pairs:       proto.Uint32(0),
			},
		},
	}, {
		args:   "start --socket_id " + strings.ToUpper(idA),
		method: socketrpc.Socket_StartSocket_FullMethodName,
		req:    &socketrpc.StartSocketRequest{SocketId: idA},
	}, {
		args:   "stop",
		method: socketrpc.Socket_StopSocket_FullMethodName,
		req:    &socketrpc.StopSocketRequest{},
	}, {
		args:   "stop " + strings.ToUpper(idA),
		method: socketrpc.Socket_StopSocket_FullMethodName,
		req:    &socketrpc.StopSocketRequest{SocketId: idA},
	}, {
		args:   "list",
		method: socketrpc.Socket_ListSockets_FullMethodName,
		req:    &socketrpc.ListSocketsRequest{},
	}, {
		args:   "send " + pubkey,
		method: socketrpc.Socket_SendSocket_FullMethodName,
		req:    &socketrpc.SendSocketRequest{Pubkey: pubkey},
	}, {
		args: "send --mode offer --socket_id " + idB +
			" --expiry 2000000000 --leg 1 " + pubkey,
		method: socketrpc.Socket_SendSocket_FullMethodName,
		req: &socketrpc.SendSocketRequest{
			Pubkey:   pubkey,
			SocketId: idB,
			Mode:     socketrpc.SendSocketRequest_OFFER,
			Expiry:   2000000000,
			Leg:      1,
		},
	}, {
		args:   "send " + pubkey + " --mode request --leg=2",
		method: socketrpc.Socket_SendSocket_FullMethodName,
		req: &socketrpc.SendSocketRequest{
			Pubkey: pubkey,
			Mode:   socketrpc.SendSocketRequest_REQUEST,
			Leg:    2,
		},
	}, {
		args:   "send " + pubkey + " --mode auto",
		method: socketrpc.Socket_SendSocket_FullMethodName,
		req:    &socketrpc.SendSocketRequest{Pubkey: pubkey},
	}, {
		args:   "send " + pubkey + " --both_legs",
		method: socketrpc.Socket_SendSocket_FullMethodName,
		req: &socketrpc.SendSocketRequest{
			Pubkey:   pubkey,
			BothLegs: true,
		},
	}, {
		args: "send " + pubkey + " --mode request --both_legs " +
			"--protocol tcp --label game --admission open " +
			"--bandwidth 1M --packets 5k --total_bytes 1G " +
			"--idle_timeout 5m --lifetime 2h --pairs 3",
		method: socketrpc.Socket_SendSocket_FullMethodName,
		req: &socketrpc.SendSocketRequest{
			Pubkey:    pubkey,
			Mode:      socketrpc.SendSocketRequest_REQUEST,
			BothLegs:  true,
			Protocol:  "tcp",
			Label:     "game",
			Admission: "open",
			Limits: &socketrpc.SocketLimits{
				Bandwidth:   proto.Uint64(1_000_000),
				Packets:     proto.Uint64(5_000),
				TotalBytes:  proto.Uint64(1_000_000_000),
				IdleTimeout: proto.Uint64(300),
				Lifetime:    proto.Uint64(7_200),
				Pairs:       proto.Uint32(3),
			},
		},
	}, {
		// Whether this node asks or offers is for socketd to say.
		args:   "send " + pubkey + " --protocol udp",
		method: socketrpc.Socket_SendSocket_FullMethodName,
		req: &socketrpc.SendSocketRequest{
			Pubkey:   pubkey,
			Protocol: "udp",
		},
	}, {
		args:   "offers",
		method: socketrpc.Socket_ListOffers_FullMethodName,
		req:    &socketrpc.ListOffersRequest{},
	}, {
		args:   "offers --pending_only",
		method: socketrpc.Socket_ListOffers_FullMethodName,
		req:    &socketrpc.ListOffersRequest{PendingOnly: true},
	}, {
		args:   "accept " + idA,
		method: socketrpc.Socket_AcceptOffer_FullMethodName,
		req:    &socketrpc.AcceptOfferRequest{Id: idA},
	}, {
		args:   "reject " + idA,
		method: socketrpc.Socket_RejectOffer_FullMethodName,
		req:    &socketrpc.RejectOfferRequest{Id: idA},
	}, {
		args:   "reject " + idA + " --reason busy",
		method: socketrpc.Socket_RejectOffer_FullMethodName,
		req: &socketrpc.RejectOfferRequest{
			Id:     idA,
			Reason: "busy",
		},
	}, {
		args:   "withdraw " + idA,
		method: socketrpc.Socket_WithdrawOffer_FullMethodName,
		req:    &socketrpc.WithdrawOfferRequest{Id: idA},
	}, {
		args:   "withdraw " + idA + " --reason over",
		method: socketrpc.Socket_WithdrawOffer_FullMethodName,
		req: &socketrpc.WithdrawOfferRequest{
			Id:     idA,
			Reason: "over",
		},
	}, {
		args:   "getinfo",
		method: socketrpc.Socket_GetInfo_FullMethodName,
		req:    &socketrpc.GetInfoRequest{},
	}}

	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			res := server.runCLI(t, strings.Fields(test.args)...)
			require.Equal(t, exitDone, res.code, res.stderr)
			require.Empty(t, res.stderr)

			got := server.waitCall(t)
			require.Equal(t, test.method, got.method)
			require.Truef(t, proto.Equal(test.req, got.req),
				"%v, not %v", got.req, test.req)
			require.Equal(t, []string{server.macaroon},
				got.macaroon)
			require.LessOrEqual(t, got.deadline, callTimeout)
			require.Greater(t, got.deadline, callTimeout/2)

			server.noCall(t)
		})
	}
}

// TestSendExpiry checks that a duration counts from now.
func TestSendExpiry(t *testing.T) {
	server := newTestServer(t)

	before := time.Now().Add(90 * time.Minute).Unix()
	res := server.runCLI(t, "send", pubkey, "--expiry", "1h30m")
	after := time.Now().Add(90 * time.Minute).Unix()
	require.Equal(t, exitDone, res.code, res.stderr)

	req := server.waitCall(t).req.(*socketrpc.SendSocketRequest)
	require.GreaterOrEqual(t, req.GetExpiry(), before)
	require.LessOrEqual(t, req.GetExpiry(), after)
}

// TestOutput checks that a response is printed with the names of the proto
// file, indented, and with every field.
func TestOutput(t *testing.T) {
	server := newTestServer(t)
	server.respond(
		socketrpc.Socket_StartSocket_FullMethodName,
		&socketrpc.StartSocketResponse{
			Protocol: "udp",
			Ip:       "127.0.0.1",
			Port1:    "21001",
			Port2:    "21002",
			SocketId: idA,
			Token1:   tokenA,
		},
	)
	server.respond(
		socketrpc.Socket_ListSockets_FullMethodName,
		&socketrpc.ListSocketsResponse{
			Sockets: []*socketrpc.SocketInfo{{
				Admission: "token",
				Limits: &socketrpc.SocketLimits{
					Bandwidth: proto.Uint64(12_500_000),
					Packets:   proto.Uint64(0),
				},
				Leg1: &socketrpc.Leg{
					Allow:     []string{"192.0.2.0/24"},
					PacketsIn: 7,
					Accepted:  9, Open: 2, Waiting: 1,
					Drops: map[string]uint64{
						"stranger":  2,
						"no_client": 1,
					},
				},
			}},
		},
	)
	server.respond(
		socketrpc.Socket_SendSocket_FullMethodName,
		&socketrpc.SendSocketResponse{Id: idA},
	)
	server.respond(
		socketrpc.Socket_RejectOffer_FullMethodName,
		&socketrpc.RejectOfferResponse{Id: idB},
	)
	server.respond(
		socketrpc.Socket_WithdrawOffer_FullMethodName,
		&socketrpc.WithdrawOfferResponse{Id: idB},
	)
	server.respond(
		socketrpc.Socket_AcceptOffer_FullMethodName,
		&socketrpc.AcceptOfferResponse{Id: idB},
	)
	server.respond(
		socketrpc.Socket_ListOffers_FullMethodName,
		&socketrpc.ListOffersResponse{Offers: []*socketrpc.Offer{{
			Id:        idA,
			Direction: socketrpc.Offer_OUTGOING,
			State:     socketrpc.Offer_PENDING,
			ExpiresAt: 2000000000,
			Leg:       2,
		}}},
	)
	server.respond(
		socketrpc.Socket_GetInfo_FullMethodName,
		&socketrpc.GetInfoResponse{
			CanHost:  true,
			Warnings: []string{"<look>"},
		},
	)

	tests := []struct {
		args   []string
		stdout string
	}{{
		args: []string{"start"},
		stdout: `{
    "protocol": "udp",
    "ip": "127.0.0.1",
    "port1": "21001",
    "port2": "21002",
    "socket_id": "` + idA + `",
    "token1": "` + tokenA + `",
    "token2": "",
    "admission": "",
    "ips": []
}
`,
	}, {
		args:   []string{"stop"},
		stdout: "{}\n",
	}, {
		args: []string{"list"},
		stdout: `{
    "sockets": [
        {
            "socket_id": "",
            "protocol": "",
            "ip": "",
            "label": "",
            "is_default": false,
            "created_at": "0",
            "expires_at": "0",
            "leg1": {
                "port": "",
                "client_addr": "",
                "packets_in": "7",
                "bytes_in": "0",
                "packets_out": "0",
                "bytes_out": "0",
                "drops": {
                    "no_client": "1",
                    "stranger": "2"
                },
                "last_seen": "0",
                "accepted": "9",
                "open": 2,
                "waiting": 1,
                "resets": "0",
                "allow": [
                    "192.0.2.0/24"
                ],
                "unbound": 0
            },
            "leg2": null,
            "admission": "token",
            "limits": {
                "bandwidth": "12500000",
                "packets": "0"
            },
            "state": "ACTIVE",
            "reason": "",
            "ips": [],
            "peer_pubkey": "",
            "request_id": ""
        }
    ]
}
`,
	}, {
		args:   []string{"send", pubkey},
		stdout: "{\n    \"id\": \"" + idA + "\"\n}\n",
	}, {
		args: []string{"offers"},
		stdout: `{
    "offers": [
        {
            "id": "` + idA + `",
            "direction": "OUTGOING",
            "state": "PENDING",
            "is_request": false,
            "peer_pubkey": "",
            "host_pubkey": "",
            "protocol": "",
            "ip": "",
            "port1": "",
            "port2": "",
            "label": "",
            "reply_to_id": "",
            "socket_id": "",
            "created_at": "0",
            "expires_at": "2000000000",
            "reason": "",
            "leg": 2,
            "admission": "",
            "peer_alias": "",
            "next": "",
            "ips": [],
            "both_legs": false,
            "parent_id": "",
            "limits": null
        }
    ]
}
`,
	}, {
		args: []string{"accept", idA},
		stdout: `{
    "id": "` + idB + `",
    "offer": null,
    "token1": "",
    "token2": ""
}
`,
	}, {
		args:   []string{"reject", idA},
		stdout: "{\n    \"id\": \"" + idB + "\"\n}\n",
	}, {
		args: []string{"withdraw", idA},
		stdout: "{\n    \"id\": \"" + idB + "\",\n    \"offer\": " +
			"null\n}\n",
	}, {
		args: []string{"getinfo"},
		stdout: `{
    "version": "",
    "commit": "",
    "node_pubkey": "",
    "alias": "",
    "network": "",
    "lnd_version": "",
    "can_host": true,
    "cannot_host_reason": "",
    "external_ip": "",
    "num_sockets": 0,
    "max_sockets": 0,
    "num_pending_offers": 0,
    "warnings": [
        "<look>"
    ],
    "messages_refused": {}
}
`,
	}}

	for _, test := range tests {
		t.Run(test.args[0], func(t *testing.T) {
			res := server.runCLI(t, test.args...)
			require.Equal(t, exitDone, res.code, res.stderr)
			require.Equal(t, test.stdout, res.stdout)
		})
	}
}

// TestLargeResponse checks that a long list is not too long for the client.
func TestLargeResponse(t *testing.T) {
	server := newTestServer(t)

	const offers = 10000
	resp := &socketrpc.ListOffersResponse{}
	for range offers {
		resp.Offers = append(resp.Offers, &socketrpc.Offer{
			Id:     idA,
			Reason: strings.Repeat("r", 500),
		})
	}
	require.Greater(t, proto.Size(resp), 5<<20)
	server.respond(socketrpc.Socket_ListOffers_FullMethodName, resp)

	res := server.runCLI(t, "offers")
	require.Equal(t, exitDone, res.code, res.stderr)
	require.Equal(t, offers, strings.Count(res.stdout, idA))
}
