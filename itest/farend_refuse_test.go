//go:build itest

package itest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/socketd/socketd/internal/regtest"
	"github.com/stretchr/testify/require"
)

// answerPause is when a message is sent again whose answer did not come. The
// first ones come before the subscription to answers is live.
const answerPause = 500 * time.Millisecond

// The types of the messages, as docs/protocol.md has them.
const (
	typeOffer   = 50501
	typeRequest = 50503
	typeAccept  = 50505
	typeReject  = 50507
	typeClose   = 50509
	typeAck     = 50511
)

// tlv is a record of a message whose type and length take one byte each.
func tlv(recordType byte, value ...byte) []byte {
	return append([]byte{recordType, byte(len(value))}, value...)
}

// randomID returns an id that nobody has.
func randomID() []byte {
	id := make([]byte, 32)
	_, _ = rand.Read(id)

	return id
}

// offerBody returns an offer of an OPEN socket with a new id and an expiry.
// extra is put behind it, and replyTo, if there is any, where it belongs.
func offerBody(expiry time.Time, replyTo []byte, extra ...byte) []byte {
	unix := binary.BigEndian.AppendUint64(nil, uint64(expiry.Unix()))
	if replyTo != nil {
		replyTo = tlv(4, replyTo...)
	}

	return bytes.Join([][]byte{
		tlv(0, 1), tlv(2, randomID()...), replyTo, tlv(6, 1),
		tlv(8, 4, 127, 0, 0, 1), tlv(10, 0x52, 0x08),
		tlv(12, 0x55, 0xef), tlv(14, 2), tlv(16, 0),
		tlv(18, unix...), tlv(20, randomID()...), extra,
	}, nil)
}

// answerBody returns a message about another.
func answerBody(extra ...byte) []byte {
	return bytes.Join([][]byte{
		tlv(0, 1), tlv(2, randomID()...),
		tlv(4, randomID()...), extra,
	}, nil)
}

// testFarEndRefuses checks what the far end answers to messages that it must
// not act on.
func testFarEndRefuses(t *testing.T, host *node, lnd *regtest.Lnd) {
	t.Helper()

	own, err := hex.DecodeString(lnd.PubKey())
	require.NoError(t, err)
	request := bytes.Join([][]byte{
		tlv(0, 1), tlv(2, randomID()...), tlv(6, 1),
		tlv(14, 2), tlv(16, 1), tlv(18, binary.BigEndian.
			AppendUint64(nil, uint64(time.Now().Unix()+60))...),
	}, nil)
	later := time.Now().Add(time.Hour)
	strange := append(tlv(6, 0, 1), tlv(8)...)
	far := startFarEnd(t, lnd)
	from := host.subscribeCustom(t)

	// A code of 0 is an ack.
	for _, test := range []struct {
		name    string
		msgType uint32
		body    []byte
		code    uint16
	}{
		{"another version", typeOffer, append(
			[]byte{0, 1, 2, 2, 32}, randomID()...,
		), 2},
		{"no records", typeOffer, append(
			[]byte{0, 1, 1, 2, 32}, randomID()...,
		), 3},
		{"expiry too far", typeOffer,
			offerBody(later.Add(7*24*time.Hour), nil), 3},
		{"expired", typeOffer,
			offerBody(later.Add(-2*time.Hour), nil), 5},
		{"even record", typeOffer, offerBody(
			later, nil, tlv(38)...,
		), 7},
		{"host is itself", typeOffer, offerBody(
			later, nil, tlv(27, own...)...,
		), 8},
		{"not asked", typeOffer, offerBody(later, randomID()), 6},
		{"request", typeRequest, request, 8},
		{"accept", typeAccept, answerBody(), 6},
		{"reject", typeReject, answerBody(tlv(6, 0, 1)...), 0},
		{"reject with an even record", typeReject,
			answerBody(strange...), 0},
		{"close", typeClose, answerBody(), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			code := host.answerTo(
				t, from, own, test.msgType, test.body,
			)
			require.Equal(t, test.code, code)
		})
	}

	// What is good is acknowledged, each copy. The host knows nothing of
	// it, and refuses the accept: so it is over.
	good := offerBody(later, nil)
	for range 2 {
		host.sendRaw(t, own, typeOffer, good)
		code, ok := farEndAnswer(testContext(t), from, good)
		require.True(t, ok)
		require.Zero(t, code)
	}
	ended := far.next(t, "ended", hex.EncodeToString(good[5:37]))
	require.Equal(t, "CLOSED", ended.State)
}

// subscribeCustom returns the custom messages that come to the node's lnd.
func (n *node) subscribeCustom(t *testing.T) <-chan *lnrpc.CustomMessage {
	t.Helper()

	ctx, cancel := context.WithCancel(t.Context())
	stream, err := n.Lnd.Client().SubscribeCustomMessages(
		ctx, &lnrpc.SubscribeCustomMessagesRequest{},
	)
	require.NoError(t, err)

	messages := make(chan *lnrpc.CustomMessage)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			message, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case messages <- message:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})

	return messages
}

// sendRaw has the node's lnd send a message once.
func (n *node) sendRaw(t *testing.T, peer []byte, msgType uint32,
	body []byte) {

	t.Helper()

	_, err := n.Lnd.Client().SendCustomMessage(
		testContext(t), &lnrpc.SendCustomMessageRequest{
			Peer: peer, Type: msgType, Data: body,
		},
	)
	require.NoError(t, err)
}

// answerTo sends a message until it is answered, and returns the code of the
// reject, 0 for an ack.
func (n *node) answerTo(t *testing.T, from <-chan *lnrpc.CustomMessage,
	peer []byte, msgType uint32, body []byte) uint16 {

	t.Helper()

	for ctx := testContext(t); ; {
		n.sendRaw(t, peer, msgType, body)
		waiting, cancel := context.WithTimeout(ctx, answerPause)
		code, ok := farEndAnswer(waiting, from, body)
		cancel()
		if ok {
			return code
		}
		require.NoError(t, ctx.Err(), "no answer")
	}
}

// farEndAnswer waits for the ack or reject of a message, and returns the code
// of the reject, 0 for an ack.
func farEndAnswer(ctx context.Context, from <-chan *lnrpc.CustomMessage,
	body []byte) (code uint16, ok bool) {

	for {
		select {
		case got := <-from:
			data := got.Data
			if len(data) < 71 ||
				!bytes.Equal(data[39:71], body[5:37]) {

				continue
			}
			switch {
			case got.Type == typeAck:
				return 0, true

			case got.Type == typeReject && len(data) >= 75:
				return binary.BigEndian.Uint16(data[73:]), true
			}

		case <-ctx.Done():
			return 0, false
		}
	}
}
