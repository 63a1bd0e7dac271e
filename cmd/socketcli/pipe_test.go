package main

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var (
	// pipeOffer is the id of an incoming offer, and pipeSocket that of its
	// socket. ownSocket is the id of a socket of this node. The first two
	// have eight digits in common with nothing else.
	pipeOffer  = "0ffe0ffe" + strings.Repeat("1", 56)
	pipeSocket = "50c050c0" + strings.Repeat("2", 56)
	ownSocket  = "30303030" + strings.Repeat("3", 56)

	loopback = netip.MustParseAddr("127.0.0.1")
)

// pipeWorld is a socketd with an incoming offer and a socket of its own, which
// both lead to one leg that the test plays.
type pipeWorld struct {
	*testServer

	offer *socketrpc.Offer
	token bind.Token
}

// newPipeWorld starts a server whose leg has the address.
func newPipeWorld(t *testing.T, protocol, admission string,
	leg netip.AddrPort) *pipeWorld {

	t.Helper()

	port := strconv.Itoa(int(leg.Port()))
	w := &pipeWorld{
		testServer: newTestServer(t),
		offer: &socketrpc.Offer{
			Id: pipeOffer, SocketId: pipeSocket,
			State: socketrpc.Offer_PENDING, Leg: 2,
			Protocol: protocol, Ip: leg.Addr().String(),
			Port1: "1", Port2: port, Admission: admission,
		},
	}
	own := &socketrpc.StartSocketResponse{
		SocketId: ownSocket, Protocol: protocol,
		Ip: leg.Addr().String(), Port1: port, Port2: "1",
		Admission: admission,
	}
	accepted := &socketrpc.AcceptOfferResponse{Offer: w.offer}
	if admission == admissionToken {
		_, _ = rand.Read(w.token[:])
		own.Token1 = w.token.Hex()
		own.Token2 = strings.Repeat("ee", bind.TokenSize)
		accepted.Token2 = w.token.Hex()
	}

	w.respond(socketrpc.Socket_ListSockets_FullMethodName,
		&socketrpc.ListSocketsResponse{
			Sockets: []*socketrpc.SocketInfo{{
				SocketId: ownSocket, Protocol: protocol,
			}},
		})
	w.offers(w.offer)
	w.respond(socketrpc.Socket_AcceptOffer_FullMethodName, accepted)
	w.respond(socketrpc.Socket_StartSocket_FullMethodName, own)
	w.respond(socketrpc.Socket_GetInfo_FullMethodName,
		&socketrpc.GetInfoResponse{ExternalIp: ownIP})

	return w
}

// offers sets the offers that there are.
func (w *pipeWorld) offers(offers ...*socketrpc.Offer) {
	w.respond(socketrpc.Socket_ListOffers_FullMethodName,
		&socketrpc.ListOffersResponse{Offers: offers})
}

// leg returns what a client of the leg binds to, if it is named by this id.
func (w *pipeWorld) leg(t *testing.T, id string, protocol uint8) bind.Leg {
	t.Helper()

	leg := bind.Leg{Num: 2, Protocol: protocol}
	socketID := pipeSocket
	if strings.HasPrefix(ownSocket, id) {
		leg.Num, socketID = 1, ownSocket
	}
	raw, err := hex.DecodeString(socketID)
	require.NoError(t, err)
	leg.SocketID = [32]byte(raw)

	return leg
}

// checkCalls checks what a pipe that was given an id asked of socketd.
func (w *pipeWorld) checkCalls(t *testing.T, id string) {
	t.Helper()

	for _, method := range []string{
		socketrpc.Socket_ListSockets_FullMethodName,
		socketrpc.Socket_ListOffers_FullMethodName,
	} {
		require.Equal(t, method, w.waitCall(t).method)
	}

	var want proto.Message = &socketrpc.AcceptOfferRequest{Id: pipeOffer}
	if strings.HasPrefix(ownSocket, id) {
		want = &socketrpc.StartSocketRequest{SocketId: ownSocket}
	}
	got := w.waitCall(t)
	require.Truef(t, proto.Equal(want, got.req), "%v, not %v", got.req,
		want)
	w.noCall(t)
}

// TestPipeUsage checks what is wrong with a command line.
func TestPipeUsage(t *testing.T) {
	w := newPipeWorld(
		t, "tcp", "open", netip.AddrPortFrom(loopback, 1),
	)

	for _, test := range []struct {
		args   string
		stderr string
	}{
		{"pipe", "missing argument <id>"},
		{"pipe " + pipeOffer + " x", `unexpected argument "x"`},
		{"pipe 0ffe", `id: "0ffe" is too short`},
		{"pipe nothexatall", `id: "nothexatall" is not hex`},
		{"pipe 0ffe0ffe --leg=3", `--leg: "3" is neither 1 nor 2`},
		{"pipe 0ffe0ffe --leg=", "--leg: the value is empty"},
		{"pipe 0ffe0ffe --listen=", "--listen: the value is empty"},
		{"pipe 0ffe0ffe --listen=here", `--listen: "here" is not an ` +
			"IP address and a port, as in 127.0.0.1:5000"},
		{"pipe 0ffe0ffe --listen=:5000", `--listen: ":5000" is not`},
	} {
		res := w.runCLI(t, strings.Fields(test.args)...)
		require.Equal(t, exitUsage, res.code, test.args)
		require.Empty(t, res.stdout)
		require.Contains(t, res.stderr, test.stderr)
		require.Contains(t, res.stderr, "(see socketcli pipe --help)")
	}
	w.noCall(t)

	// This one shows when it is known what is meant, and before anything
	// is done about it.
	res := w.runCLI(t, "pipe", pipeOffer, "--listen=127.0.0.1:0")
	require.Equal(t, exitUsage, res.code)
	require.Contains(t, res.stderr, "--listen is for udp: offer "+
		pipeOffer+" is of tcp")
	w.waitCall(t)
	w.waitCall(t)
	w.noCall(t)
}

// TestPipeMatch checks what an id may mean.
func TestPipeMatch(t *testing.T) {
	t.Parallel()

	const prefix = "abcdef01"
	id := func(digit string) string {
		return prefix + strings.Repeat(digit, 56)
	}
	other := strings.Repeat("9", 64)

	offer := func(id, socket string, state socketrpc.Offer_State,
	) *socketrpc.Offer {

		return &socketrpc.Offer{
			Id: id, SocketId: socket, State: state, Protocol: "udp",
		}
	}
	const (
		pending  = socketrpc.Offer_PENDING
		accepted = socketrpc.Offer_ACCEPTED
		closed   = socketrpc.Offer_CLOSED
	)
	outgoing := offer(id("1"), id("2"), accepted)
	outgoing.Direction = socketrpc.Offer_OUTGOING
	request := offer(id("1"), "", pending)
	request.IsRequest = true

	for name, test := range map[string]struct {
		sockets []string
		offers  []*socketrpc.Offer
		want    string
		err     string
	}{
		"nothing": {
			sockets: []string{other},
			offers: []*socketrpc.Offer{
				offer(other, other, accepted), outgoing,
				request,
			},
			err: "id: no incoming offer and no socket begins " +
				"with abcdef01",
		},
		"socket": {
			sockets: []string{other, id("1")},
			want:    "socket " + id("1"),
		},
		"offer": {
			sockets: []string{other},
			offers: []*socketrpc.Offer{
				outgoing, offer(id("3"), other, pending),
			},
			want: "offer " + id("3"),
		},
		"offer that is over": {
			offers: []*socketrpc.Offer{
				offer(id("3"), other, closed),
			},
			want: "offer " + id("3"),
		},
		"offer and its socket": {
			offers: []*socketrpc.Offer{
				offer(id("3"), id("4"), pending),
			},
			want: "offer " + id("3"),
		},
		"one id of two nodes": {
			offers: []*socketrpc.Offer{
				offer(id("3"), other, pending),
				offer(id("3"), id("4"), pending),
			},
			want: "offer " + id("3"),
		},
		"socket of an offer": {
			offers: []*socketrpc.Offer{
				offer(other, id("4"), closed),
				offer(id("5")[8:]+prefix, id("4"), accepted),
			},
			want: "offer " + id("5")[8:] + prefix,
		},
		"socket of offers that are over": {
			offers: []*socketrpc.Offer{
				offer(other, id("4"), closed),
			},
			err: "id: offer " + other + " of the socket is over: " +
				"CLOSED",
		},
		"several": {
			sockets: []string{id("1")},
			offers: []*socketrpc.Offer{
				offer(id("3"), other, pending),
				offer(other, id("4"), accepted),
			},
			err: "id: 3 offers and sockets match abcdef01, give " +
				"more digits, or the id of one: socket " +
				id("1") + ", offer " + id("3") + ", offer " +
				other,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var sockets []*socketrpc.SocketInfo
			for _, id := range test.sockets {
				sockets = append(sockets, &socketrpc.SocketInfo{
					SocketId: id, Protocol: "udp",
				})
			}

			got, err := matchPipe(prefix, sockets, test.offers)
			if test.err != "" {
				require.EqualError(t, err, test.err)

				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got.String())
			require.Equal(t, "udp", got.protocol)
		})
	}
}

// TestPipeLists checks that the error of a look says what it was for.
func TestPipeLists(t *testing.T) {
	refused := status.Error(codes.PermissionDenied, "denied")

	for method, what := range map[string]string{
		socketrpc.Socket_ListSockets_FullMethodName: "sockets",
		socketrpc.Socket_ListOffers_FullMethodName:  "offers",
	} {
		server := newTestServer(t)
		server.fail(method, refused)
		require.Equal(t, result{
			code: exitFailed,
			stderr: "[socketcli] id: list the " + what + " to " +
				"find 99999999: denied (permission denied)\n",
		}, server.runCLI(t, "pipe", "99999999"))
	}

	for method, id := range map[string]string{
		socketrpc.Socket_AcceptOffer_FullMethodName: pipeOffer,
		socketrpc.Socket_StartSocket_FullMethodName: ownSocket,
	} {
		w := newPipeWorld(
			t, "udp", "open", netip.AddrPortFrom(loopback, 1),
		)
		w.fail(method, status.Error(codes.FailedPrecondition, "over"))
		require.Equal(t, result{
			code:   exitFailed,
			stderr: "[socketcli] over (failed precondition)\n",
		}, w.runCLI(t, "pipe", id))
	}
}

// TestPipeTarget checks what cannot be used of what socketd says.
func TestPipeTarget(t *testing.T) {
	good := netip.AddrPortFrom(loopback, 21000)
	offer := "offer " + pipeOffer

	type response = socketrpc.AcceptOfferResponse
	for name, test := range map[string]struct {
		change func(o *socketrpc.Offer, r *response)
		args   string
		stderr string
	}{
		"no such protocol": {
			change: func(o *socketrpc.Offer, _ *response) {
				o.Protocol = "sctp"
			},
			stderr: offer + ` has the protocol "sctp", which ` +
				"this socketcli does not know",
		},
		"no such admission": {
			change: func(o *socketrpc.Offer, _ *response) {
				o.Admission = "list"
			},
			stderr: offer + ` has the admission "list", which ` +
				"this socketcli does not know",
		},
		"no leg": {
			change: func(o *socketrpc.Offer, _ *response) {
				o.Leg = 0
			},
			stderr: offer + " grants leg 0",
		},
		"no address": {
			change: func(o *socketrpc.Offer, _ *response) {
				o.Ip = "example.com"
			},
			stderr: offer + " has no address and port of leg 2: " +
				`"example.com" and "21000"`,
		},
		"no port": {
			change: func(o *socketrpc.Offer, _ *response) {
				o.Port2 = "0"
			},
			stderr: offer + " has no address and port of leg 2: " +
				`"127.0.0.1" and "0"`,
		},
		"another leg": {
			args:   "--leg=1",
			stderr: "--leg: " + offer + " does not grant leg 1",
		},
		"no token": {
			change: func(_ *socketrpc.Offer, r *response) {
				r.Token2 = "c0ffee"
			},
			stderr: "token of leg 2 of " + offer + ": no token: " +
				"want 32 hex digits",
		},
		"no socket id": {
			change: func(o *socketrpc.Offer, _ *response) {
				o.SocketId = "50c0"
			},
			stderr: offer + ` has no socket id: "50c0"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPipeWorld(t, "udp", "token", good)
			resp := &socketrpc.AcceptOfferResponse{
				Offer: w.offer, Token2: w.token.Hex(),
			}
			if test.change != nil {
				test.change(w.offer, resp)
			}
			w.respond(socketrpc.Socket_AcceptOffer_FullMethodName,
				resp)

			args := append([]string{
				"pipe", pipeOffer, "--allow_private",
			}, strings.Fields(test.args)...)
			require.Equal(t, result{
				code:   exitFailed,
				stderr: "[socketcli] " + test.stderr + "\n",
			}, w.runCLI(t, args...))
		})
	}
}
