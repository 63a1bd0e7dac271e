package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

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

	// There is a token for each leg that needs one, and no other.
	if o, ok := msg.(*Offer); ok {
		for i, token := range o.Tokens {
			needed := o.Admission == AdmissionToken &&
				o.Legs.Has(Leg1<<i)
			require.Equal(t, needed, !token.IsZero())
		}
	}

	// Limits are for the protocol that has them, and nothing asks for none.
	if r, ok := msg.(*Request); ok {
		if r.Protocol == ProtocolTCP {
			require.Zero(t, r.Limits.Packets)
		} else {
			require.Zero(t, r.Limits.Pairs)
		}
	}

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

// FuzzAddrs fuzzes the addresses of an offer, without the offer around them.
func FuzzAddrs(f *testing.F) {
	for _, seed := range []string{
		"", "04cb007107", "0620010db8000000000000000000000001",
		"04cb00710704cb007108", "04cb007107047f0000", "05cb007107",
		"0600000000000000000000ffffcb007107", "04", "00", "ff",
	} {
		f.Add(unhex(f, seed))
	}
	f.Add(bytes.Repeat([]byte{4, 203, 0, 113, 7}, MaxAddrs+1))

	f.Fuzz(func(t *testing.T, value []byte) {
		var addrs []netip.Addr
		read := addrsField(&addrs)
		err := read.Decode(
			bytes.NewReader(value), uint64(len(value)),
		)
		if err != nil || checkAddrs(addrs) != nil {
			return
		}
		require.NotEmpty(t, addrs)
		require.LessOrEqual(t, len(addrs), MaxAddrs)

		var b bytes.Buffer
		write := addrsField(&addrs)
		require.NoError(t, write.Encode(&b))
		require.Equal(t, value, b.Bytes())
	})
}

// FuzzHost fuzzes the key of a host, without the offer around it.
func FuzzHost(f *testing.F) {
	key := bytes.Repeat([]byte{keyOdd}, PubKeySize)
	for _, seed := range [][]byte{
		nil, key, key[1:], append(key, 0), make([]byte, PubKeySize),
		bytes.Repeat([]byte{4}, PubKeySize),
	} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, value []byte) {
		var host PubKey
		read := hostField(&host)
		err := read.Decode(
			bytes.NewReader(value), uint64(len(value)),
		)
		good := len(value) == PubKeySize &&
			(value[0] == keyEven || value[0] == keyOdd)
		require.Equal(t, good, err == nil, "%v", err)
		if err != nil {
			return
		}

		var b bytes.Buffer
		write := hostField(&host)
		require.NoError(t, write.Encode(&b))
		require.Equal(t, value, b.Bytes())
	})
}

// FuzzLimit fuzzes a limit of a request, without the request around it.
func FuzzLimit(f *testing.F) {
	for _, seed := range [][]byte{
		nil, {1}, make([]byte, 8), {7: 1}, {8: 1},
		bytes.Repeat([]byte{0xff}, 8),
	} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, value []byte) {
		var limit uint64
		read := limitField(recBandwidth, &limit)
		err := read.Decode(
			bytes.NewReader(value), uint64(len(value)),
		)
		good := len(value) == 8 && !bytes.Equal(value, make([]byte, 8))
		require.Equal(t, good, err == nil, "%v", err)
		if err != nil {
			return
		}
		require.Equal(t, binary.BigEndian.Uint64(value), limit)

		var b bytes.Buffer
		write := limitField(recBandwidth, &limit)
		require.NoError(t, write.Encode(&b))
		require.Equal(t, value, b.Bytes())
	})
}

// FuzzToken fuzzes a token, without the offer around it.
func FuzzToken(f *testing.F) {
	for _, seed := range [][]byte{
		nil, make([]byte, TokenSize), {TokenSize - 1: 1},
		{TokenSize: 1}, {TokenSize - 2: 1},
	} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, value []byte) {
		var token Token
		read := tokenField(recToken1, &token)
		err := read.Decode(
			bytes.NewReader(value), uint64(len(value)),
		)
		good := len(value) == TokenSize && Token(value) != Token{}
		require.Equal(t, good, err == nil, "%v", err)
		if err != nil {
			return
		}

		var b bytes.Buffer
		write := tokenField(recToken1, &token)
		require.NoError(t, write.Encode(&b))
		require.Equal(t, value, b.Bytes())
	})
}

// FuzzText fuzzes the texts that strangers send and people see.
func FuzzText(f *testing.F) {
	for _, seed := range []string{
		"", "a", "Grüße", "\U0001f4e1", "a\nb", "\x1b[31m", "\u202e",
		"\xff", "\xc0\xaf", "\xed\xa0\x80", "\u200d", "\u2028",
		strings.Repeat("a", MaxText+1),
		strings.Repeat("\U0001f4e1", MaxText),
	} {
		f.Add([]byte(seed))
	}

	f.Fuzz(func(t *testing.T, value []byte) {
		var text string
		read := textField(&text)
		err := read.Decode(
			bytes.NewReader(value), uint64(len(value)),
		)
		if err != nil {
			require.Greater(t, len(value), MaxText)
			require.Empty(t, text)

			return
		}
		require.Equal(t, string(value), text)
		if err := CheckText(text); err != nil {
			require.ErrorIs(t, err, ErrMalformed)

			return
		}

		// Whoever shows it may count on this.
		require.True(t, utf8.ValidString(text))
		require.LessOrEqual(t, utf8.RuneCountInString(text), MaxText)
		for _, r := range text {
			require.False(t, unicode.IsControl(r), "%U", r)
		}
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

// genTokens generates an admission, and the tokens that go with it.
func genTokens(t *rapid.T, legs Legs) (Admission, Tokens) {
	var tokens Tokens
	if rapid.Bool().Draw(t, "open") {
		return AdmissionOpen, tokens
	}

	for i := range tokens {
		if legs.Has(Leg1 << i) {
			b := rapid.SliceOfN(
				rapid.Byte(), TokenSize, TokenSize,
			).Draw(t, "token")
			b[0] |= 1
			tokens[i] = Token(b)
		}
	}

	return AdmissionToken, tokens
}

// genHost generates the host of an offer, or none.
func genHost(t *rapid.T) PubKey {
	if rapid.Bool().Draw(t, "hosts itself") {
		return PubKey{}
	}

	key := PubKey(rapid.SliceOfN(
		rapid.Byte(), PubKeySize, PubKeySize,
	).Draw(t, "host"))
	key[0] = byte(rapid.IntRange(keyEven, keyOdd).Draw(t, "y"))

	return key
}

// genRequest generates requests.
func genRequest(t *rapid.T, id ID) *Request {
	limit := func(name string) uint64 {
		return rapid.Uint64().Draw(t, name)
	}
	r := &Request{
		ID:        id,
		Protocol:  Protocol(rapid.IntRange(1, 2).Draw(t, "p")),
		Label:     genText(t),
		Legs:      Legs(rapid.IntRange(1, 3).Draw(t, "legs")),
		Admission: Admission(rapid.IntRange(0, 1).Draw(t, "admission")),
		Expiry:    rapid.Uint64().Draw(t, "expiry"),
		Limits: SocketLimits{
			Bandwidth:   limit("bandwidth"),
			TotalBytes:  limit("total bytes"),
			IdleTimeout: limit("idle timeout"),
			Lifetime:    limit("lifetime"),
		},
	}
	if r.Protocol == ProtocolUDP {
		r.Limits.Packets = limit("packets")
	} else {
		r.Limits.Pairs = limit("pairs")
	}

	return r
}

// genMessage generates messages of every type.
func genMessage(t *rapid.T) Message {
	id, replyTo := genID(t, "id"), genID(t, "reply to")

	switch rapid.IntRange(0, 5).Draw(t, "type") {
	case 0:
		if rapid.Bool().Draw(t, "answers nothing") {
			replyTo = ID{}
		}
		port := rapid.Uint16Range(1, 65534).Draw(t, "port")
		legs := Legs(rapid.IntRange(1, 3).Draw(t, "legs"))
		admission, tokens := genTokens(t, legs)

		return &Offer{
			ID:        id,
			ReplyTo:   replyTo,
			Protocol:  Protocol(rapid.IntRange(1, 2).Draw(t, "p")),
			Addrs:     genAddrs(t),
			Port1:     port,
			Port2:     port + 1,
			Legs:      legs,
			Admission: admission,
			Tokens:    tokens,
			Expiry:    rapid.Uint64().Draw(t, "expiry"),
			SocketID:  genID(t, "socket"),
			Label:     genText(t),
			Host:      genHost(t),
		}

	case 1:
		return &Accept{ID: id, ReplyTo: replyTo}

	case 4:
		return genRequest(t, id)

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
