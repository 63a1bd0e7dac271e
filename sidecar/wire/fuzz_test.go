package wire

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// fuzz adds the test vectors as seeds and fuzzes the decoder of a type.
func fuzz(f *testing.F, typ MsgType) {
	f.Helper()

	for _, v := range readVectors(f) {
		f.Add(unhex(f, v.Hex))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		checkDecode(t, typ, body)
	})
}

// checkDecode checks what holds for every body.
func checkDecode(t *testing.T, typ MsgType, body []byte) {
	t.Helper()

	msg, err := Decode(typ, body)
	if err != nil {
		require.Nil(t, msg)

		var n int
		for _, kind := range kinds {
			if errors.Is(err, kind) {
				n++
			}
		}
		require.Equal(t, 1, n, "%v", err)

		return
	}

	require.LessOrEqual(t, len(body), MaxSize)
	_, err = DecodeHeader(body)
	require.NoError(t, err)

	// What is encoded again is the same but for what was ignored, and then
	// does not change any more.
	encoded, err := Encode(msg)
	require.NoError(t, err)
	require.LessOrEqual(t, len(encoded), len(body))

	again, err := Decode(typ, encoded)
	require.NoError(t, err)
	require.Equal(t, msg, again)

	stable, err := Encode(again)
	require.NoError(t, err)
	require.Equal(t, encoded, stable)
}

func FuzzDecodeOffer(f *testing.F) {
	fuzz(f, TypeOffer)
}

func FuzzDecodeRequest(f *testing.F) {
	fuzz(f, TypeRequest)
}

func FuzzDecodeAccept(f *testing.F) {
	fuzz(f, TypeAccept)
}

func FuzzDecodeReject(f *testing.F) {
	fuzz(f, TypeReject)
}

func FuzzDecodeClose(f *testing.F) {
	fuzz(f, TypeClose)
}

func FuzzDecodeAck(f *testing.F) {
	fuzz(f, TypeAck)
}

func FuzzDecodeHeader(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(unhex(f, v.Hex))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		header, err := DecodeHeader(body)
		if err != nil {
			require.Zero(t, header)

			return
		}

		// A header has one form: what follows it does not matter.
		require.False(t, header.ID.IsZero())
		prefix := append([]byte{0, 1, header.Version, 2, IDSize},
			header.ID[:]...)
		require.Equal(t, prefix, body[:headerSize])
	})
}

// genID generates ids.
func genID(t *rapid.T, name string) ID {
	b := rapid.SliceOfN(rapid.Byte(), IDSize, IDSize).Draw(t, name)
	id := ID(b)
	if id.IsZero() {
		id[0] = 1
	}

	return id
}

// genText generates texts that people may send.
func genText(t *rapid.T) string {
	return rapid.String().Filter(func(s string) bool {
		return CheckText(s) == nil
	}).Draw(t, "text")
}

// genAddrs generates addresses of both families.
func genAddrs(t *rapid.T) []netip.Addr {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		size := rapid.SampledFrom([]int{size4, size6}).Draw(t, "size")
		b := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "addr")
		addr, ok := netip.AddrFromSlice(b)
		require.True(t, ok)

		return addr.Unmap()
	})

	return rapid.SliceOfNDistinct(
		addr, 1, MaxAddrs, func(a netip.Addr) netip.Addr { return a },
	).Draw(t, "addrs")
}

// genMessage generates messages of every type.
func genMessage(t *rapid.T) Message {
	id, replyTo := genID(t, "id"), genID(t, "reply to")

	switch rapid.IntRange(0, 4).Draw(t, "type") {
	case 0:
		if rapid.Bool().Draw(t, "answers nothing") {
			replyTo = ID{}
		}
		port := rapid.Uint16Range(1, 65534).Draw(t, "port")

		return &Offer{
			ID:       id,
			ReplyTo:  replyTo,
			Protocol: Protocol(rapid.IntRange(1, 2).Draw(t, "p")),
			Addrs:    genAddrs(t),
			Port1:    port,
			Port2:    port + 1,
			Legs:     Legs(rapid.IntRange(1, 3).Draw(t, "legs")),
			Expiry:   rapid.Uint64().Draw(t, "expiry"),
			SocketID: genID(t, "socket"),
			Label:    genText(t),
		}

	case 1:
		return &Accept{ID: id, ReplyTo: replyTo}

	case 2:
		code := rapid.Uint16Min(1).Draw(t, "code")

		return &Reject{
			ID:      id,
			ReplyTo: replyTo,
			Code:    RejectCode(code),
			Text:    genText(t),
		}

	case 3:
		return &Close{ID: id, ReplyTo: replyTo, Text: genText(t)}

	default:
		return &Ack{ID: id, ReplyTo: replyTo}
	}
}

// TestRoundTrip checks that whatever may be sent arrives as it was.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		msg := genMessage(t)
		body, err := Encode(msg)
		require.NoError(t, err)

		decoded, err := Decode(msg.Type(), body)
		require.NoError(t, err)
		require.Equal(t, msg, decoded)

		// A body that is cut short is another message, or none.
		cut := rapid.IntRange(0, len(body)-1).Draw(t, "cut")
		decoded, err = Decode(msg.Type(), body[:cut])
		if err == nil {
			require.NotEqual(t, msg, decoded)
		}
	})
}
