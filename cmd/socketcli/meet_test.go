package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The methods that a meeting calls.
const (
	getInfoMethod   = socketrpc.Socket_GetInfo_FullMethodName
	subscribeMethod = socketrpc.Socket_SubscribeEvents_FullMethodName
	sendMethod      = socketrpc.Socket_SendSocket_FullMethodName
	acceptMethod    = socketrpc.Socket_AcceptOffer_FullMethodName
	withdrawMethod  = socketrpc.Socket_WithdrawOffer_FullMethodName
	stopMethod      = socketrpc.Socket_StopSocket_FullMethodName
	offersMethod    = socketrpc.Socket_ListOffers_FullMethodName
)

// hostR is the key of the node to meet on, and cutB and cutR are the two keys
// as a line has them. The peer is pubkey.
var (
	hostR = "03" + strings.Repeat("cd", 32)
	cutB  = "02ababab…"
	cutR  = "03cdcdcd…"
)

// Lines that a meeting tells.
var (
	lineAsking = "[socketcli] asking " + cutR + " to host a udp socket\n"
	lineHas    = "[socketcli] " + cutR + " has the request\n"
	lineHosted = "[socketcli] hosted: socket 55555555 at 203.0.113.7, " +
		"ports 21003 and 21004\n"
	linePassing  = "[socketcli] passing leg 2 on to " + cutB + "\n"
	lineDecides  = "[socketcli] " + cutB + " has the offer, and decides\n"
	lineAccepted = "[socketcli] accepted: run `socketcli pipe 33333333` " +
		"here, and the other node `socketcli pipe 55555555`\n"
	lineEnds  = "[socketcli] the socket at " + cutR + " ends\n"
	lineTaken = "[socketcli] taken back: the request to " + cutR + "\n"
	lineEnded = "[socketcli] taken back: socket 55555555 at " + cutR +
		"\n"
	lineBrokenUp = "[socketcli] " + errMeetInterrupted.Error() + "\n"
)

// meetRun is a socketcli that meets pubkey on hostR.
type meetRun struct {
	*testServer
	cancel context.CancelFunc
	done   chan result
}

// meet starts the command, and looks at how it begins: it listens before it
// asks.
func (s *testServer) meet(t *testing.T, args ...string) *meetRun {
	t.Helper()

	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)

	s.live, s.passedOn = true, idB
	s.respond(sendMethod, &socketrpc.SendSocketResponse{Id: idA})
	r := &meetRun{
		testServer: s, cancel: cancel, done: make(chan result, 1),
	}
	go func() {
		r.done <- runArgs(ctx, append([]string{
			"--rpcserver=" + s.addr, "--socketdir=" + s.dir,
			"meet", pubkey, "--via", hostR,
		}, args...)...)
	}()

	require.Equal(t, getInfoMethod, s.waitCall(t).method)
	require.Equal(t, subscribeMethod, s.waitCall(t).method)

	return r
}

// waitMethod waits for the next call, which is of a method and asks for
// something.
func (r *meetRun) waitMethod(t *testing.T, method string, req proto.Message) {
	t.Helper()

	got := r.waitCall(t)
	require.Equal(t, method, got.method)
	require.Truef(t, proto.Equal(req, got.req), "%v, not %v", got.req, req)
}

// waitAsk waits for the request to the host.
func (r *meetRun) waitAsk(t *testing.T) {
	t.Helper()

	require.Equal(t, sendMethod, r.waitCall(t).method)
}

// event lets something happen that is about an offer or request of ours.
func (r *meetRun) event(kind socketrpc.Event_Type, replyTo, reason string) {
	r.events <- &socketrpc.Event{
		Id:        idThree,
		ReplyToId: replyTo,
		Type:      kind,
		SocketId:  idFar,
		Reason:    reason,
	}
}

// hosted lets the host answer, and the command go on to the peer's offer,
// whose id is idB.
func (r *meetRun) hosted(t *testing.T) {
	t.Helper()

	r.waitAsk(t)
	r.answer(t)
	require.Equal(t, sendMethod, r.waitCall(t).method)
}

// answer lets the host answer, and waits until the offer is accepted.
func (r *meetRun) answer(t *testing.T) {
	t.Helper()

	r.respond(acceptMethod, &socketrpc.AcceptOfferResponse{
		Offer: &socketrpc.Offer{
			Id:        idThree,
			SocketId:  idFar,
			Protocol:  "udp",
			Ip:        "203.0.113.7",
			Ips:       []string{"203.0.113.7", "2001:db8::7"},
			Port1:     "21003",
			Port2:     "21004",
			Leg:       1,
			BothLegs:  true,
			Admission: "token",
			ExpiresAt: time.Now().Add(30 * time.Minute).Unix(),
		},
		Token1: tokenA,
		Token2: strings.Repeat("0d", 16),
	})
	r.event(socketrpc.Event_OFFER_RECEIVED, idA, "answers our request")
	r.waitMethod(t, acceptMethod,
		&socketrpc.AcceptOfferRequest{Id: idThree})
}

// meetJSON is the response.
var meetJSON = `{
    "socket_id": "` + idFar + `",
    "offer_id": "` + idThree + `",
    "passed_on_id": "` + idB + `",
    "host_pubkey": "` + hostR + `",
    "peer_pubkey": "` + pubkey + `",
    "protocol": "udp",
    "ip": "203.0.113.7",
    "ips": [
        "203.0.113.7",
        "2001:db8::7"
    ],
    "port1": "21003",
    "port2": "21004",
    "admission": "token",
    "leg": 1,
    "token1": "` + tokenA + `"
}
`

// TestMeet checks all that the command asks for, tells and prints if all goes
// well, and that it passes over what is not about it.
func TestMeet(t *testing.T) {
	server := newTestServer(t)
	before := time.Now().Unix()
	r := server.meet(t, "--label=game", "--lifetime=2h", "--timeout=20m")

	asked := r.waitCall(t).req.(*socketrpc.SendSocketRequest)
	require.InDelta(t, before+1200, asked.GetExpiry(), 60)
	require.Truef(t, proto.Equal(&socketrpc.SendSocketRequest{
		Pubkey:   hostR,
		Mode:     socketrpc.SendSocketRequest_REQUEST,
		BothLegs: true,
		Label:    "game",
		Limits: &socketrpc.SocketLimits{
			Lifetime:    proto.Uint64(7200),
			IdleTimeout: proto.Uint64(1200),
		},
		Expiry: asked.GetExpiry(),
	}, asked), "%v", asked)

	// Others ask and are answered as well.
	r.event(socketrpc.Event_OFFER_RECEIVED, "", "")
	r.event(socketrpc.Event_OFFER_RECEIVED, idTwo, "")
	r.event(socketrpc.Event_REQUEST_REJECTED, idTwo, "no")
	r.event(socketrpc.Event_OFFER_DELIVERED, idA, "")
	r.answer(t)

	r.waitMethod(t, sendMethod, &socketrpc.SendSocketRequest{
		Pubkey:   pubkey,
		SocketId: idFar,
		Leg:      2,
		Expiry:   asked.GetExpiry(),
	})
	r.event(socketrpc.Event_OFFER_ACCEPTED, idTwo, "")
	r.event(socketrpc.Event_OFFER_REJECTED, idTwo, "")
	r.event(socketrpc.Event_OFFER_DELIVERED, idB, "")
	r.event(socketrpc.Event_OFFER_ACCEPTED, idB, "")

	require.Equal(t, result{
		stdout: meetJSON,
		stderr: lineAsking + lineHas + lineHosted + linePassing +
			lineDecides + lineAccepted,
	}, <-r.done)
	r.noCall(t)
}

// TestMeetNoWait checks that the command ends once leg 2 is passed on, and that
// the offer ends no later than the host's.
func TestMeetNoWait(t *testing.T) {
	server := newTestServer(t)
	r := server.meet(t, "--no_wait", "--timeout=20h", "--protocol=tcp")
	r.waitAsk(t)
	r.answer(t)

	passed := r.waitCall(t).req.(*socketrpc.SendSocketRequest)
	require.InDelta(t, time.Now().Add(30*time.Minute).Unix(),
		passed.GetExpiry(), 60)

	res := <-r.done
	require.Equal(t, exitDone, res.code)
	require.JSONEq(t, meetJSON, res.stdout)
	require.Equal(t, strings.Replace(lineAsking, "udp", "tcp", 1)+
		lineHosted+linePassing+"[socketcli] not waiting until "+cutB+
		" accepts: `socketcli offers` shows what becomes of offer "+
		"0b0b0b0b\n", res.stderr)
	r.noCall(t)
}

// TestMeetOver checks that what ends a meeting ends the command, with the
// reason as it was given, and that there is nothing to take back.
func TestMeetOver(t *testing.T) {
	const reason = "policy none: \x1b[2J"
	shown := `: policy none: \u001b[2J` + "\n"

	tests := []struct {
		name     string
		kind     socketrpc.Event_Type
		isHosted bool
		replyTo  string
		reason   string
		stderr   string
	}{{
		name:    "refused",
		kind:    socketrpc.Event_REQUEST_REJECTED,
		replyTo: idA, reason: reason,
		stderr: "the request to " + cutR + " was turned down" + shown,
	}, {
		name:    "refused without a reason",
		kind:    socketrpc.Event_REQUEST_REJECTED,
		replyTo: idA,
		stderr:  "the request to " + cutR + " was turned down\n",
	}, {
		name:    "not answered",
		kind:    socketrpc.Event_OFFER_EXPIRED,
		replyTo: idA,
		stderr:  "the request to " + cutR + " has expired\n",
	}, {
		name:    "closed before the answer",
		kind:    socketrpc.Event_OFFER_CLOSED,
		replyTo: idA, reason: reason,
		stderr: "the request to " + cutR + " was closed" + shown,
	}, {
		name: "rejected", isHosted: true,
		kind:    socketrpc.Event_OFFER_REJECTED,
		replyTo: idB, reason: reason,
		stderr: "the offer to " + cutB + " was turned down" + shown,
	}, {
		name: "expired", isHosted: true,
		kind:    socketrpc.Event_OFFER_EXPIRED,
		replyTo: idB,
		stderr:  "the offer to " + cutB + " has expired\n",
	}, {
		name: "closed", isHosted: true,
		kind:    socketrpc.Event_OFFER_CLOSED,
		replyTo: idB, reason: reason,
		stderr: "the offer to " + cutB + " was closed" + shown,
	}, {
		name: "closed by the host", isHosted: true,
		kind:    socketrpc.Event_OFFER_CLOSED,
		replyTo: idA, reason: reason,
		stderr: "the socket at " + cutR + " was closed" + shown,
	}}

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := newTestServer(t)
			r := server.meet(t)

			told := lineAsking
			if test.isHosted {
				r.hosted(t)
				told += lineHosted + linePassing
			} else {
				r.waitAsk(t)
			}
			r.event(test.kind, test.replyTo, test.reason)

			if test.replyTo == idB {
				told += lineEnds
			}
			require.Equal(t, result{
				code:   exitFailed,
				stderr: told + "[socketcli] " + test.stderr,
			}, <-r.done)
			r.noCall(t)
		})
	}
}

// TestMeetTimeout checks that the command waits no longer than it was told to,
// and says for whom it waited.
func TestMeetTimeout(t *testing.T) {
	t.Parallel()

	r := newTestServer(t).meet(t, "--timeout=1s")
	r.waitAsk(t)
	r.waitMethod(t, withdrawMethod,
		&socketrpc.WithdrawOfferRequest{Id: idA})
	require.Equal(t, result{
		code: exitFailed,
		stderr: lineAsking + lineTaken + "[socketcli] " + cutR +
			" did not answer within 1s\n",
	}, <-r.done)

	r = newTestServer(t).meet(t, "--timeout=2s")
	r.hosted(t)
	r.waitMethod(t, stopMethod,
		&socketrpc.StopSocketRequest{SocketId: idFar})
	require.Equal(t, result{
		code: exitFailed,
		stderr: lineAsking + lineHosted + linePassing + lineEnded +
			"[socketcli] " + cutB + " did not answer within 2s\n",
	}, <-r.done)
}

// TestMeetRefused checks that nobody is asked for anything if this node is one
// of the other two, or if events cannot be heard.
func TestMeetRefused(t *testing.T) {
	server := newTestServer(t)

	for key, stderr := range map[string]string{
		pubkey: "pubkey: it is that of this node itself",
		hostR:  "--via: it is this node itself",
	} {
		server.respond(getInfoMethod, &socketrpc.GetInfoResponse{
			NodePubkey: key,
		})
		res := server.runCLI(t, "meet", pubkey, "--via", hostR)
		require.Equal(t, exitUsage, res.code)
		require.Empty(t, res.stdout)
		require.Contains(t, res.stderr, stderr)
		require.Equal(t, getInfoMethod, server.waitCall(t).method)
		server.noCall(t)
	}

	server.respond(getInfoMethod, &socketrpc.GetInfoResponse{})
	server.fail(subscribeMethod, status.Error(
		codes.PermissionDenied, "no",
	))
	close(server.events)
	require.Equal(t, result{
		code:   exitFailed,
		stderr: "[socketcli] no (permission denied)\n",
	}, server.runCLI(t, "meet", pubkey, "--via", hostR))

	// A server that does not say when it is live.
	silent := newTestServer(t)
	silent.events <- &socketrpc.Event{}
	require.Equal(t, result{
		code:   exitFailed,
		stderr: "[socketcli] " + errNotLive.Error() + "\n",
	}, silent.runCLI(t, "meet", pubkey, "--via", hostR))
}

// TestWithGrace checks that a call goes on for a moment when it is no longer
// wanted, and no longer than that.
func TestWithGrace(t *testing.T) {
	t.Parallel()

	ctx, cancel := context.WithCancel(t.Context())
	callCtx, done := withGrace(ctx)
	cancel()
	require.NoError(t, callCtx.Err())
	done()
	<-callCtx.Done()

	ctx, cancel = context.WithCancel(t.Context())
	callCtx, done = withGrace(ctx)
	defer done()
	began := time.Now()
	cancel()
	<-callCtx.Done()
	require.GreaterOrEqual(t, time.Since(began), graceTime)
}

// TestPrintValue checks that a value is printed as a message is.
func TestPrintValue(t *testing.T) {
	var out bytes.Buffer
	app := newApp(&out, nil)
	require.NoError(t, printValue(app, &meetResult{Token1: "<&>"}))
	require.True(t, strings.HasPrefix(out.String(), "{\n    \"socket_id\""))
	require.True(t, strings.HasSuffix(
		out.String(), "\"token1\": \"<&>\"\n}\n",
	))
}
