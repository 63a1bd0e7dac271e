package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var (
	// Three ids: the first two have ten digits in common.
	idOne   = "abcdef0123" + strings.Repeat("1", 54)
	idTwo   = "abcdef0123" + strings.Repeat("2", 54)
	idThree = "3333333333" + strings.Repeat("3", 54)

	// idOut is the id of an outgoing offer.
	idOut = "4444444444" + strings.Repeat("4", 54)

	// idFar is the id of a socket that another node hosts, and idNotYet
	// begins as it does.
	idFar    = "5555555555" + strings.Repeat("5", 54)
	idNotYet = "5555555556" + strings.Repeat("6", 54)
)

// newListServer starts a server with sockets and offers of these ids.
func newListServer(t *testing.T) *testServer {
	t.Helper()

	var (
		sockets = &socketrpc.ListSocketsResponse{}
		offers  = &socketrpc.ListOffersResponse{
			Offers: []*socketrpc.Offer{{
				Id:        idOut,
				Direction: socketrpc.Offer_OUTGOING,
			}},
		}
	)
	for _, id := range []string{idOne, idTwo, idThree} {
		sockets.Sockets = append(
			sockets.Sockets, &socketrpc.SocketInfo{SocketId: id},
		)
		offers.Offers = append(offers.Offers, &socketrpc.Offer{Id: id})
	}

	// Another node sent an offer with the id of the third.
	offers.Offers = append(offers.Offers, &socketrpc.Offer{Id: idThree})

	// A socket that another node hosts, of which an older offer is over;
	// one of an offer that was not accepted, and one of what is no offer
	// to this node.
	offers.Offers = append(offers.Offers, &socketrpc.Offer{
		SocketId: idFar, State: socketrpc.Offer_CLOSED,
	}, &socketrpc.Offer{
		SocketId: idFar, State: socketrpc.Offer_ACCEPTED,
	}, &socketrpc.Offer{
		SocketId: idNotYet, State: socketrpc.Offer_PENDING,
	}, &socketrpc.Offer{
		SocketId: idNotYet, State: socketrpc.Offer_ACCEPTED,
		IsRequest: true,
	}, &socketrpc.Offer{
		SocketId: idNotYet, State: socketrpc.Offer_ACCEPTED,
		Direction: socketrpc.Offer_OUTGOING,
	})

	server := newTestServer(t)
	server.respond(socketrpc.Socket_ListSockets_FullMethodName, sockets)
	server.respond(socketrpc.Socket_ListOffers_FullMethodName, offers)

	return server
}

// TestPrefix checks that a prefix becomes the id that begins with it.
func TestPrefix(t *testing.T) {
	server := newListServer(t)

	var (
		sockets = []string{
			socketrpc.Socket_ListSockets_FullMethodName,
		}
		offers    = []string{socketrpc.Socket_ListOffers_FullMethodName}
		anySocket = slices.Concat(sockets, offers)
	)

	tests := []struct {
		name string
		args []string
		list []string
		req  proto.Message
	}{{
		name: "stop with 8 digits",
		args: []string{"stop", "33333333"},
		list: anySocket,
		req:  &socketrpc.StopSocketRequest{SocketId: idThree},
	}, {
		name: "stop with upper case",
		args: []string{"stop", "ABCDEF01231"},
		list: anySocket,
		req:  &socketrpc.StopSocketRequest{SocketId: idOne},
	}, {
		name: "stop with 63 digits",
		args: []string{"stop", idTwo[:63]},
		list: anySocket,
		req:  &socketrpc.StopSocketRequest{SocketId: idTwo},
	}, {
		name: "send",
		args: []string{"send", pubkey, "--socket_id", "abcdef01232"},
		list: anySocket,
		req: &socketrpc.SendSocketRequest{
			Pubkey:   pubkey,
			SocketId: idTwo,
		},
	}, {
		name: "stop one of another node",
		args: []string{"stop", "55555555"},
		list: anySocket,
		req:  &socketrpc.StopSocketRequest{SocketId: idFar},
	}, {
		name: "send one of another node",
		args: []string{
			"send", pubkey, "--leg=1", "--socket_id", "55555555",
		},
		list: anySocket,
		req: &socketrpc.SendSocketRequest{
			Pubkey:   pubkey,
			SocketId: idFar,
			Leg:      1,
		},
	}, {
		name: "start",
		args: []string{"start", "--socket_id", "abcdef01232"},
		list: sockets,
		req:  &socketrpc.StartSocketRequest{SocketId: idTwo},
	}, {
		name: "accept",
		args: []string{"accept", "abcdef01231"},
		list: offers,
		req:  &socketrpc.AcceptOfferRequest{Id: idOne},
	}, {
		name: "accept with one id of two nodes",
		args: []string{"accept", "33333333"},
		list: offers,
		req:  &socketrpc.AcceptOfferRequest{Id: idThree},
	}, {
		name: "reject",
		args: []string{"reject", "abcdef01232", "--reason", "no"},
		list: offers,
		req: &socketrpc.RejectOfferRequest{
			Id:     idTwo,
			Reason: "no",
		},
	}, {
		name: "withdraw an outgoing offer",
		args: []string{"withdraw", "44444444"},
		list: offers,
		req:  &socketrpc.WithdrawOfferRequest{Id: idOut},
	}, {
		name: "withdraw an incoming offer",
		args: []string{"withdraw", "33333333", "--reason", "over"},
		list: offers,
		req: &socketrpc.WithdrawOfferRequest{
			Id:     idThree,
			Reason: "over",
		},
	}}

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			res := server.runCLI(t, test.args...)
			require.Equal(t, exitDone, res.code, res.stderr)

			for _, method := range test.list {
				list := server.waitCall(t)
				require.Equal(t, method, list.method)
				require.Equal(t, 0, proto.Size(list.req))
			}

			got := server.waitCall(t)
			require.Truef(t, proto.Equal(test.req, got.req),
				"%v, not %v", got.req, test.req)

			server.noCall(t)
		})
	}
}

// TestPrefixRefused checks that a prefix that names nothing, or several, is
// an error, and that nothing but the list is asked for.
func TestPrefixRefused(t *testing.T) {
	server := newListServer(t)

	const several = "begin with abcdef01, give more digits: "

	tests := []struct {
		name   string
		args   []string
		stderr string
	}{{
		name:   "stop none",
		args:   []string{"stop", "99999999"},
		stderr: "socket_id: no socket begins with 99999999",
	}, {
		name: "stop several",
		args: []string{"stop", "abcdef01"},
		stderr: "socket_id: 2 sockets " + several + idOne + ", " +
			idTwo,
	}, {
		name:   "send none",
		args:   []string{"send", pubkey, "--socket_id=99999999"},
		stderr: "--socket_id: no socket begins with 99999999",
	}, {
		name: "send several",
		args: []string{"send", pubkey, "--socket_id=abcdef01"},
		stderr: "--socket_id: 2 sockets " + several + idOne + ", " +
			idTwo,
	}, {
		name:   "start one of another node",
		args:   []string{"start", "--socket_id=55555555"},
		stderr: "--socket_id: no socket begins with 55555555",
	}, {
		name:   "stop not accepted",
		args:   []string{"stop", "5555555556"},
		stderr: "socket_id: no socket begins with 5555555556",
	}, {
		name:   "accept none",
		args:   []string{"accept", "99999999"},
		stderr: "id: no incoming offer begins with 99999999",
	}, {
		name: "accept several",
		args: []string{"accept", "abcdef01"},
		stderr: "id: 2 incoming offers " + several + idOne + ", " +
			idTwo,
	}, {
		name:   "accept outgoing",
		args:   []string{"accept", "44444444"},
		stderr: "id: no incoming offer begins with 44444444",
	}, {
		name:   "reject outgoing",
		args:   []string{"reject", "44444444"},
		stderr: "id: no incoming offer begins with 44444444",
	}, {
		name:   "withdraw none",
		args:   []string{"withdraw", "99999999"},
		stderr: "id: no offer begins with 99999999",
	}, {
		name: "withdraw several",
		args: []string{"withdraw", "abcdef01"},
		stderr: "id: 2 offers " + several + idOne + ", " +
			idTwo,
	}}

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			res := server.runCLI(t, test.args...)
			require.Equal(t, result{
				code:   exitFailed,
				stderr: "[socketcli] " + test.stderr + "\n",
			}, res)

			// Only the lists are asked for.
			got := server.waitCall(t)
			if test.args[0] == "stop" || test.args[0] == "send" {
				got = server.waitCall(t)
			}
			require.Contains(t, got.method, "/List")
			server.noCall(t)
		})
	}
}

// TestPrefixListFails checks that the error of the look says what it was for.
func TestPrefixListFails(t *testing.T) {
	server := newTestServer(t)
	refused := status.Error(codes.PermissionDenied, "permission denied")
	server.fail(socketrpc.Socket_ListSockets_FullMethodName, refused)
	server.fail(socketrpc.Socket_ListOffers_FullMethodName, refused)

	const text = " to find 99999999: permission denied " +
		"(permission denied)\n"

	for args, stderr := range map[string]string{
		"stop 99999999":               "socket_id: list the sockets",
		"send x --socket_id 99999999": "--socket_id: list the sockets",
		"accept 99999999":             "id: list the offers",
		"reject 99999999":             "id: list the offers",
		"withdraw 99999999":           "id: list the offers",
	} {
		require.Equal(t, result{
			code:   exitFailed,
			stderr: "[socketcli] " + stderr + text,
		}, server.runCLI(t, strings.Fields(args)...))
	}

	// One of the two lists is not enough.
	server.fail(socketrpc.Socket_ListSockets_FullMethodName, nil)
	require.Equal(t, result{
		code:   exitFailed,
		stderr: "[socketcli] socket_id: list the offers" + text,
	}, server.runCLI(t, "stop", "99999999"))
}

// TestShorten checks how many digits of ids are shown, and that each is taken
// for the id that it was cut from.
func TestShorten(t *testing.T) {
	ids := []string{idTwo, idThree, idOne, idThree, idOut, "", "abc"}
	short := shorten(ids)
	require.Equal(t, []string{
		"abcdef01232", "33333333", "abcdef01231", "33333333",
		"44444444", "", "abc",
	}, short)

	for i, id := range ids[:5] {
		got, err := matchID("id", short[i], "offer", ids)
		require.NoError(t, err)
		require.Equal(t, id, got)
	}

	// To the last digit.
	last := idThree[:idDigits-1] + "4"
	require.Equal(t, []string{idThree, last}, shorten(
		[]string{idThree, last},
	))
	require.Empty(t, shorten(nil))
}
