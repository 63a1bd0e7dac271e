package offer

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lightningnetwork/lnd/tlv"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// stream returns the body that has these records, whether it is a message or
// not.
func stream(t *testing.T, records map[uint64][]byte) []byte {
	t.Helper()

	s, err := tlv.NewStream(tlv.MapToRecords(records)...)
	require.NoError(t, err)

	var b bytes.Buffer
	require.NoError(t, s.Encode(&b))

	return b.Bytes()
}

// rejectOf returns the reject that is expected as the answer to a message.
func rejectOf(id ID, code wire.RejectCode) wire.Message {
	return &wire.Reject{ReplyTo: id, Code: code}
}

// ackOf returns the ack that is expected as the answer to a message.
func ackOf(id ID) wire.Message {
	return &wire.Ack{ReplyTo: id}
}

// requireAnswers requires that a node has sent these messages to another, whose
// own ids do not matter, and nothing else.
func (w *world) requireAnswers(from *node, to PubKey, want ...wire.Message) {
	w.t.Helper()

	// If an answer were sent again, it would be by now.
	time.Sleep(time.Second)
	sent := w.takeSent(from.key)
	require.Len(w.t, sent, len(want))
	for i, p := range sent {
		require.Equal(w.t, to, p.to)
		msg := p.msg(w.t)
		switch msg := msg.(type) {
		case *wire.Ack:
			require.False(w.t, msg.ID.IsZero())
			msg.ID = ID{}

		case *wire.Reject:
			require.False(w.t, msg.ID.IsZero())
			msg.ID = ID{}
		}
		require.Equal(w.t, want[i], msg)
	}
}

// TestUnreadable checks what is answered to messages that cannot be read, that
// each is counted, and that nothing is kept.
func TestUnreadable(t *testing.T) {
	id := testID(1)
	version := func(v byte) map[uint64][]byte {
		return map[uint64][]byte{0: {v}, 2: id[:]}
	}
	reply := func(v byte) map[uint64][]byte {
		records := version(v)
		other := testID(2)
		records[4] = other[:]

		return records
	}
	with := func(records map[uint64][]byte, typ uint64,
		value ...byte) map[uint64][]byte {

		records[typ] = value

		return records
	}

	tests := []struct {
		name    string
		typ     wire.MsgType
		records map[uint64][]byte
		body    []byte
		counted string
		answer  wire.Message
	}{
		{
			name: "empty body", typ: wire.TypeOffer,
			body: []byte{}, counted: "malformed",
		},
		{
			name: "garbage", typ: wire.TypeAccept,
			body: []byte("garbage"), counted: "malformed",
		},
		{
			name: "2049 bytes", typ: wire.TypeOffer,
			body:    make([]byte, wire.MaxSize+1),
			counted: "oversized",
		},
		{
			name: "65533 bytes", typ: wire.TypeAck,
			body: make([]byte, 65533), counted: "oversized",
		},
		{
			name: "offer of a header only", typ: wire.TypeOffer,
			records: version(1), counted: "malformed",
			answer: rejectOf(id, wire.CodeMalformed),
		},
		{
			name: "accept of nothing", typ: wire.TypeAccept,
			records: version(1), counted: "malformed",
			answer: rejectOf(id, wire.CodeMalformed),
		},
		{
			name: "close of nothing", typ: wire.TypeClose,
			records: version(1), counted: "malformed",
			answer: rejectOf(id, wire.CodeMalformed),
		},
		{
			name: "reject of nothing", typ: wire.TypeReject,
			records: version(1), counted: "malformed",
			answer: ackOf(id),
		},
		{
			name: "ack of nothing", typ: wire.TypeAck,
			records: version(1), counted: "malformed",
		},
		{
			name: "offer of version 2", typ: wire.TypeOffer,
			records: version(2), counted: "version",
			answer: rejectOf(id, wire.CodeVersion),
		},
		{
			name: "request of version 2", typ: wire.TypeRequest,
			records: version(2), counted: "version",
			answer: rejectOf(id, wire.CodeVersion),
		},
		{
			name: "reject of version 2", typ: wire.TypeReject,
			records: reply(2), counted: "version",
			answer: ackOf(id),
		},
		{
			name: "ack of version 2", typ: wire.TypeAck,
			records: reply(2), counted: "version",
		},
		{
			name: "request of a header only",
			typ:  wire.TypeRequest, records: version(1),
			counted: "malformed",
			answer:  rejectOf(id, wire.CodeMalformed),
		},
		{
			name: "close with a record to be understood",
			typ:  wire.TypeClose, records: with(reply(1), 22, 1),
			counted: "unsupported",
			answer:  rejectOf(id, wire.CodeUnsupported),
		},
		{
			name: "reject with a record to be understood",
			typ:  wire.TypeReject, counted: "unsupported",
			records: with(with(reply(1), 22, 1), 6, 0, 1),
			answer:  ackOf(id),
		},
		{
			name: "ack with a record to be understood",
			typ:  wire.TypeAck, records: with(reply(1), 22, 1),
			counted: "unsupported",
		},
		{
			name: "type of somebody else", typ: 50502,
			records: version(1),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				a, _ := w.add(alice), w.addStranger(bob)
				body := test.body
				if body == nil {
					body = stream(t, test.records)
				}
				a.Receive(bob, uint32(test.typ), body)

				var want []wire.Message
				if test.answer != nil {
					want = append(want, test.answer)
				}
				w.requireAnswers(a, bob, want...)

				counts := make(map[string]uint64)
				if test.counted != "" {
					counts[test.counted] = 1
				}
				w.requireCounts(a, counts)
				w.requireNone(a)
				require.Empty(t, a.takeEvents())
			})
		})
	}
}

// TestOtherTypes checks that messages of other protocols are not even counted.
func TestOtherTypes(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		body, err := wire.Encode(offerMsg(testID(1)))
		require.NoError(t, err)
		for _, typ := range []uint32{
			0, 32768, 50500, 50502, 50512, 50513,
			uint32(wire.TypeOffer) + 1<<16, 1<<32 - 1,
		} {
			a.Receive(bob, typ, body)
		}
		w.requireCounts(a, nil)
		w.requireNone(a)
	})
}

// TestBodyIsCopied checks that the caller may use the body again.
func TestBodyIsCopied(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		body, err := wire.Encode(offerMsg(testID(1)))
		require.NoError(t, err)
		a.Receive(bob, uint32(wire.TypeOffer), body)
		clear(body)
		w.requireState(a, testID(1), StatePending)
	})
}

// TestExpiryAtReceipt checks which offers are taken in, and for how long.
func TestExpiryAtReceipt(t *testing.T) {
	const never = wire.RejectCode(0)

	tests := []struct {
		name  string
		ahead time.Duration
		code  wire.RejectCode
		ends  time.Duration
	}{
		{name: "second", ahead: time.Second, ends: time.Second},
		{name: "now", ahead: 0, ends: Slack},
		{
			name:  "within slack",
			ahead: -Slack + time.Second, ends: time.Second,
		},
		{name: "slack ago", ahead: -Slack, code: wire.CodeExpired},
		{
			name:  "long ago",
			ahead: -1000 * time.Hour, code: wire.CodeExpired,
		},
		{name: "week", ahead: MaxLifetime, ends: MaxLifetime},
		{
			name:  "week and slack",
			ahead: MaxLifetime + Slack, ends: MaxLifetime + Slack,
		},
		{
			name:  "more than a week",
			ahead: MaxLifetime + Slack + time.Second,
			code:  wire.CodeMalformed,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				a, _ := w.add(alice), w.addStranger(bob)
				msg := offerMsg(testID(1))
				msg.Expiry = uint64(
					time.Now().Add(test.ahead).Unix(),
				)
				start := time.Now()
				w.inject(a, bob, msg)

				if test.code != never {
					w.requireNone(a)
					w.requireCounts(a, map[string]uint64{
						"malformed": 1,
					})
					w.requireAnswers(
						a, bob,
						rejectOf(msg.ID, test.code),
					)

					return
				}

				o := w.get(a, msg.ID)
				require.Equal(
					t, test.ends, o.ExpiresAt.Sub(start),
				)
				time.Sleep(test.ends)
				w.requireState(a, msg.ID, StateExpired)
				time.Sleep(Slack)
				w.requireNone(a)
			})
		})
	}

	// Numbers at which an int64 or a time.Time ends.
	inWorld(t, func(w *world) {
		a, _ := w.add(alice), w.addStranger(bob)
		for i, expiry := range []uint64{
			1<<64 - 1, 1 << 63, 1<<63 - 1, 1<<63 - 62135596801, 0,
		} {
			msg := offerMsg(testID(byte(i + 1)))
			msg.Expiry = expiry
			code := wire.CodeMalformed
			if expiry == 0 {
				code = wire.CodeExpired
			}
			w.inject(a, bob, msg)
			w.requireAnswers(a, bob, rejectOf(msg.ID, code))
		}
		w.requireNone(a)
	})
}

// TestDuplicateOffer checks that an offer that comes again is answered the same
// and acted on once, whatever happened to it.
func TestDuplicateOffer(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		b, _ := w.add(bob), w.addStranger(alice)
		msg := offerMsg(testID(1))
		w.inject(b, alice, msg)
		w.requireAnswers(b, alice, ackOf(msg.ID))
		before := w.get(b, msg.ID)
		require.Len(t, b.takeEvents(), 1)

		// The first one counts, whatever the second one says.
		again := *msg
		again.Port1++
		again.Port2++
		w.inject(b, alice, &again)
		w.requireAnswers(b, alice, ackOf(msg.ID))
		require.Equal(t, before, w.get(b, msg.ID))

		_, err := b.Reject(t.Context(), msg.ID, "")
		require.NoError(t, err)
		reject := w.takeSent(bob)[0].msg(t).(*wire.Reject)
		w.inject(b, alice, &wire.Ack{ID: testID(2), ReplyTo: reject.ID})
		w.inject(b, alice, msg)
		w.requireAnswers(b, alice, ackOf(msg.ID))
		w.requireState(b, msg.ID, StateRejected)

		// As late as it is remembered, and after that.
		time.Sleep(time.Until(before.ExpiresAt) + Slack - 2*time.Second)
		w.inject(b, alice, msg)
		w.requireAnswers(b, alice, ackOf(msg.ID))
		w.requireState(b, msg.ID, StateRejected)
		time.Sleep(time.Second)
		w.requireNone(b)
		w.inject(b, alice, msg)
		w.requireAnswers(b, alice, rejectOf(msg.ID, wire.CodeExpired))
		w.requireNone(b)

		require.Empty(t, b.takeEvents())
		w.requireCounts(b, map[string]uint64{
			"duplicate": 3, "malformed": 1,
		})
	})
}

// TestIDOfAnother checks that an id counts for whoever used it first, and that
// others get no answer.
func TestIDOfAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		w.addStranger(carol)
		w.inject(a, bob, offerMsg(testID(1)))
		out := w.sendOffer(a, proposal(bob))
		before, err := a.List(t.Context())
		require.NoError(t, err)
		a.takeEvents()
		w.inject(a, bob, &wire.Ack{ID: testID(2), ReplyTo: out.ID})
		w.takeSent(alice)
		a.takeEvents()

		w.inject(a, carol, offerMsg(testID(1)))
		w.inject(a, carol, offerMsg(out.ID))
		w.inject(a, bob, offerMsg(out.ID))
		w.requireAnswers(a, bob)
		w.requireCounts(a, map[string]uint64{"duplicate": 3})
		require.Empty(t, a.takeEvents())
		after, err := a.List(t.Context())
		require.NoError(t, err)
		require.Len(t, after, len(before))
		w.requireState(a, out.ID, StatePending)
	})
}

// TestLogLevel checks that nothing that a stranger does is logged above debug
// level, and that no body is.
func TestLogLevel(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{
		Level: slog.LevelDebug,
	}))
	secret := []byte("secret in a body")

	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		a.deps.Logger = logger
		for typ := wire.TypeOffer; typ <= wire.TypeAck; typ += 2 {
			a.Receive(bob, uint32(typ), secret)
			a.Receive(bob, uint32(typ), stream(t, map[uint64][]byte{
				0: {1}, 2: bytes.Repeat([]byte{1}, 32),
				4: bytes.Repeat([]byte{2}, 32), 7: secret,
			}))
			a.Receive(bob, uint32(typ), make([]byte, 5000))
		}
		for range 50 {
			a.Receive(bob, uint32(wire.TypeAck), nil)
		}
		w.failing(context.DeadlineExceeded)
		synctest.Wait()
		a.stop()
	})

	require.NotEmpty(t, log.String())
	require.NotContains(t, log.String(), string(secret))
	require.Contains(t, log.String(), "level=DEBUG")
	for _, level := range []string{"INFO", "WARN", "ERROR"} {
		require.NotContains(t, log.String(), "level="+level)
	}
}
