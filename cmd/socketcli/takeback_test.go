package main

import (
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestMeetInterrupted checks that ^C takes back what was made, whatever that is
// by then.
func TestMeetInterrupted(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		server := newTestServer(t)
		server.fail(sendMethod, status.Error(
			codes.InvalidArgument, "lifetime: too long",
		))
		r := server.meet(t)
		r.waitAsk(t)

		require.Equal(t, result{
			code: exitFailed,
			stderr: lineAsking + "[socketcli] lifetime: too " +
				"long (invalid argument)\n",
		}, <-r.done)
		r.noCall(t)
	})

	t.Run("request", func(t *testing.T) {
		r := newTestServer(t).meet(t)
		r.waitAsk(t)
		r.cancel()

		r.waitMethod(t, withdrawMethod,
			&socketrpc.WithdrawOfferRequest{Id: idA})
		require.Equal(t, result{
			code:   exitFailed,
			stderr: lineAsking + lineTaken + lineBrokenUp,
		}, <-r.done)
		r.noCall(t)
	})

	t.Run("request under way", func(t *testing.T) {
		server := newTestServer(t)
		open := server.gate(sendMethod)
		r := server.meet(t)
		r.waitAsk(t)
		r.cancel()
		open()

		r.waitMethod(t, withdrawMethod,
			&socketrpc.WithdrawOfferRequest{Id: idA})
		require.Equal(t, result{
			code:   exitFailed,
			stderr: lineAsking + lineTaken + lineBrokenUp,
		}, <-r.done)
	})

	t.Run("socket", func(t *testing.T) {
		r := newTestServer(t).meet(t)
		r.hosted(t)
		r.cancel()

		r.waitMethod(t, stopMethod,
			&socketrpc.StopSocketRequest{SocketId: idFar})
		require.Equal(t, result{
			code: exitFailed,
			stderr: lineAsking + lineHosted + linePassing +
				lineEnded + lineBrokenUp,
		}, <-r.done)
		r.noCall(t)
	})
}

// TestMeetAnswered checks that a request that was answered at the very moment
// in which it is taken back leaves no socket.
func TestMeetAnswered(t *testing.T) {
	server := newTestServer(t)
	server.fail(withdrawMethod, status.Error(
		codes.FailedPrecondition, "it is ACCEPTED",
	))
	server.respond(offersMethod, &socketrpc.ListOffersResponse{
		Offers: []*socketrpc.Offer{{
			Id:        idA,
			Direction: socketrpc.Offer_OUTGOING,
			State:     socketrpc.Offer_ACCEPTED,
			IsRequest: true,
		}, {
			Id:        idTwo,
			State:     socketrpc.Offer_ACCEPTED,
			ReplyToId: idOne,
			SocketId:  idOne,
		}, {
			Id:        idThree,
			State:     socketrpc.Offer_ACCEPTED,
			ReplyToId: idA,
			SocketId:  idFar,
		}},
	})

	r := server.meet(t)
	r.waitAsk(t)
	r.cancel()

	require.Equal(t, withdrawMethod, r.waitCall(t).method)
	require.Equal(t, offersMethod, r.waitCall(t).method)
	r.waitMethod(t, stopMethod,
		&socketrpc.StopSocketRequest{SocketId: idFar})
	require.Equal(t, result{
		code:   exitFailed,
		stderr: lineAsking + lineEnded + lineBrokenUp,
	}, <-r.done)
}

// TestMeetNotTakenBack checks that the command says what is left, and how to
// end it, if it cannot do that itself.
func TestMeetNotTakenBack(t *testing.T) {
	refused := status.Error(codes.PermissionDenied, "no")

	server := newTestServer(t)
	server.fail(withdrawMethod, refused)
	r := server.meet(t)
	r.waitAsk(t)
	r.cancel()
	require.Equal(t, withdrawMethod, r.waitCall(t).method)
	require.Equal(t, lineAsking+"[socketcli] cannot take the request "+
		"back: no (permission denied); `socketcli withdraw "+
		"0a0a0a0a` does it\n"+lineBrokenUp, (<-r.done).stderr)

	server = newTestServer(t)
	server.fail(stopMethod, refused)
	r = server.meet(t)
	r.hosted(t)
	r.cancel()
	require.Equal(t, stopMethod, r.waitCall(t).method)
	require.Equal(t, lineAsking+lineHosted+linePassing+"[socketcli] "+
		"cannot end the socket: no (permission denied); `socketcli "+
		"stop 55555555` does it\n"+lineBrokenUp, (<-r.done).stderr)

	// What is not there any more need not be ended.
	server = newTestServer(t)
	server.fail(stopMethod, status.Error(codes.NotFound, "no such"))
	r = server.meet(t)
	r.hosted(t)
	r.cancel()
	require.Equal(t, stopMethod, r.waitCall(t).method)
	require.Equal(t, lineAsking+lineHosted+linePassing+lineBrokenUp,
		(<-r.done).stderr)
}

// TestMeetStepFails checks that a step that socketd refuses ends what the steps
// before it made.
func TestMeetStepFails(t *testing.T) {
	refused := status.Error(codes.FailedPrecondition, "it is CLOSED")
	const text = "[socketcli] it is CLOSED (failed precondition)\n"

	server := newTestServer(t)
	server.fail(acceptMethod, refused)
	r := server.meet(t)
	r.waitAsk(t)
	r.answer(t)
	r.waitMethod(t, stopMethod,
		&socketrpc.StopSocketRequest{SocketId: idFar})
	require.Equal(t, result{
		code: exitFailed, stderr: lineAsking + lineEnded + text,
	}, <-r.done)

	server = newTestServer(t)
	r = server.meet(t)
	r.waitAsk(t)
	server.fail(sendMethod, refused)
	r.answer(t)
	require.Equal(t, sendMethod, r.waitCall(t).method)
	r.waitMethod(t, stopMethod,
		&socketrpc.StopSocketRequest{SocketId: idFar})
	require.Equal(t, result{
		code: exitFailed,
		stderr: lineAsking + lineHosted + linePassing + lineEnded +
			text,
	}, <-r.done)

	// The stream ends before the peer has decided.
	server = newTestServer(t)
	r = server.meet(t)
	r.hosted(t)
	close(server.events)
	r.waitMethod(t, stopMethod,
		&socketrpc.StopSocketRequest{SocketId: idFar})
	require.Equal(t, result{
		code: exitFailed,
		stderr: lineAsking + lineHosted + linePassing + lineEnded +
			"[socketcli] " + errStreamEnded.Error() + "\n",
	}, <-r.done)
}
