//go:build itest

package itest

import (
	"encoding/hex"
	"testing"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// speaker is an lnd without a socketd, for which the test speaks the protocol
// to one node, rightly or wrongly.
type speaker struct {
	lnd    *regtest.Lnd
	to     []byte
	stream lnrpc.Lightning_SubscribeCustomMessagesClient
}

// startSpeaker starts an lnd that is a peer of a node.
func startSpeaker(t *testing.T, n *node) *speaker {
	t.Helper()

	lnd := startLnd(t)
	require.NoError(t, lnd.ConnectPeer(testContext(t), n.Lnd))
	to, err := hex.DecodeString(n.pubkey())
	require.NoError(t, err)
	stream, err := lnd.Client().SubscribeCustomMessages(
		testContext(t), &lnrpc.SubscribeCustomMessagesRequest{},
	)
	require.NoError(t, err)

	s := &speaker{lnd: lnd, to: to, stream: stream}
	s.awaitLive(t)

	return s
}

// awaitLive waits until what the node sends arrives: a subscription is not live
// yet when it is made. An ack of nothing asks for no answer, so that the node
// is asked with a close of nothing.
func (s *speaker) awaitLive(t *testing.T) {
	t.Helper()

	heard := make(chan error, 1)
	go func() {
		_, err := s.stream.Recv()
		heard <- err
	}()
	require.Eventually(t, func() bool {
		s.say(t, &wire.Close{ID: hostileID(), ReplyTo: hostileID()})
		select {
		case err := <-heard:
			return err == nil

		default:
			return false
		}
	}, testTimeout, tryTime)
}

// say sends a message to the node.
func (s *speaker) say(t *testing.T, msg wire.Message) {
	t.Helper()

	body, err := wire.Encode(msg)
	require.NoError(t, err)
	s.sayRaw(t, msg.Type(), body)
}

// sayRaw sends a message of any contents to the node.
func (s *speaker) sayRaw(t *testing.T, typ wire.MsgType, body []byte) {
	t.Helper()

	_, err := s.lnd.Client().SendCustomMessage(
		testContext(t), &lnrpc.SendCustomMessageRequest{
			Peer: s.to, Type: uint32(typ), Data: body,
		},
	)
	require.NoError(t, err)
}

// hear waits for a message that fits, passing over others.
func (s *speaker) hear(t *testing.T,
	fits func(wire.Message) bool) wire.Message {

	t.Helper()

	for {
		in, err := s.stream.Recv()
		require.NoError(t, err)
		typ, ok := wire.ParseMsgType(in.Type)
		if !ok {
			continue
		}
		msg, err := wire.Decode(typ, in.Data)
		require.NoError(t, err)
		if fits(msg) {
			return msg
		}
	}
}

// requireReject waits until the node has rejected a message, and returns the
// reject.
func (s *speaker) requireReject(t *testing.T, id wire.ID) *wire.Reject {
	t.Helper()

	return s.hear(t, func(msg wire.Message) bool {
		reject, ok := msg.(*wire.Reject)

		return ok && reject.ReplyTo == id
	}).(*wire.Reject)
}

// requireAck waits until the node has acknowledged a message.
func (s *speaker) requireAck(t *testing.T, id wire.ID) {
	t.Helper()

	s.hear(t, func(msg wire.Message) bool {
		ack, ok := msg.(*wire.Ack)

		return ok && ack.ReplyTo == id
	})
}
