package wire

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"unicode"

	"github.com/lightningnetwork/lnd/tlv"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testID returns an id that is easy to tell from others.
func testID(b byte) ID {
	return ID(bytes.Repeat([]byte{b}, IDSize))
}

// testToken returns a token that is easy to tell from others.
func testToken(b byte) Token {
	return Token(bytes.Repeat([]byte{b}, TokenSize))
}

// testOffer returns an offer that is valid.
func testOffer() *Offer {
	return &Offer{
		ID:       testID(1),
		Protocol: ProtocolUDP,
		Addrs:    []netip.Addr{netip.MustParseAddr("203.0.113.7")},
		Port1:    21000,
		Port2:    21001,
		Legs:     Leg2,
		Expiry:   1767225600,
		SocketID: testID(2),
	}
}

// longMessage is a message with a record that no message of version 1 has: none
// of these can be too long.
type longMessage struct {
	Ack

	value []byte
}

// fields returns the records of the message.
func (m *longMessage) fields() []field {
	return append(m.Ack.fields(), field{
		Record: tlv.MakePrimitiveRecord(1001, &m.value),
	})
}

// TestEncodeTooLarge checks that no body over MaxSize leaves the encoder, and
// that one of MaxSize does.
func TestEncodeTooLarge(t *testing.T) {
	encode := func(size int) ([]byte, error) {
		return Encode(&longMessage{
			Ack:   Ack{ID: testID(1), ReplyTo: testID(2)},
			value: make([]byte, size),
		})
	}

	small, err := encode(0)
	require.NoError(t, err)

	// The length of a long value takes two bytes more than that of none.
	room := MaxSize - len(small) - 2
	body, err := encode(room)
	require.NoError(t, err)
	require.Len(t, body, MaxSize)

	_, err = encode(room + 1)
	requireKind(t, "too_large", err)
}

// TestEncodeOrder checks that records out of order are not encoded.
func TestEncodeOrder(t *testing.T) {
	var id ID
	fields := []field{idField(4, &id), idField(2, &id)}

	_, err := encodeFields(fields)
	require.ErrorIs(t, err, tlv.ErrStreamNotCanonical)

	err = decodeFields(nil, fields)
	require.ErrorIs(t, err, tlv.ErrStreamNotCanonical)

	// A record that cannot encode its value.
	fail := func(io.Writer, any, *[8]byte) error { return os.ErrInvalid }
	_, err = encodeFields([]field{{
		Record: tlv.MakeStaticRecord(0, nil, 0, fail, nil),
	}})
	require.ErrorIs(t, err, os.ErrInvalid)
}

// failingWriter takes a number of writes and fails the next.
type failingWriter int

// Write implements io.Writer.
func (w *failingWriter) Write(b []byte) (int, error) {
	if *w == 0 {
		return 0, os.ErrClosed
	}
	*w--

	return len(b), nil
}

// TestEncodeWriter checks that the encoders of our own report what a writer
// says.
func TestEncodeWriter(t *testing.T) {
	offer := testOffer()
	offer.Label = "label"
	offer.Tokens[1] = testToken(1)
	offer.Host = PubKey{keyEven}
	for _, f := range []field{
		addrsField(&offer.Addrs), textField(&offer.Label),
		tokenField(recToken2, &offer.Tokens[1]),
		hostField(&offer.Host),
	} {
		var w failingWriter
		require.ErrorIs(t, f.Encode(&w), os.ErrClosed)
	}
}

// TestDecodeBound checks that what a decoder allocates does not follow from
// what a body claims.
func TestDecodeBound(t *testing.T) {
	const limit = 512 << 10

	header, err := Encode(&Ack{ID: testID(1), ReplyTo: testID(2)})
	require.NoError(t, err)

	// As many records as fit, and records that claim more than is there.
	many := bytes.Clone(header)
	for typ := uint16(0xfe01); len(many) <= MaxSize-4; typ += 2 {
		many = append(many, 0xfd, byte(typ>>8), byte(typ), 0)
	}
	bodies := [][]byte{many}
	for typ := byte(5); typ < 40; typ++ {
		for _, length := range []string{
			"fdffff", "fe00010000", "feffffffff",
			"ff7fffffffffffffff", "ffffffffffffffffff",
		} {
			body := append(bytes.Clone(header), typ)
			bodies = append(
				bodies, append(body, unhex(t, length)...),
			)
		}
	}
	bodies = append(bodies, make([]byte, 16<<20))

	for typ := range msgTypeNames {
		for _, body := range bodies {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Decode(typ, body)
			runtime.ReadMemStats(&after)

			if typ != TypeAck || &body[0] != &many[0] {
				require.Error(t, err)
			}
			require.Less(
				t, after.TotalAlloc-before.TotalAlloc,
				uint64(limit), "%v %x", typ, body[:80],
			)
		}
	}
}

// TestCheckText checks the rules for texts that people see.
func TestCheckText(t *testing.T) {
	good := []string{
		"", "a", " a b ", strings.Repeat("a", MaxText),
		strings.Repeat("\U0001f4e1", MaxText), "Grüße", "応接間",
		"e\u0301", "שלום", "\ufffd",
	}
	for _, s := range good {
		require.NoError(t, CheckText(s), "%q", s)
	}

	bad := []string{
		strings.Repeat("a", MaxText+1),
		strings.Repeat("\U0001f4e1", MaxText+1), "\xff", "a\xc3",
	}
	for r := range unicode.MaxRune + 1 {
		if unicode.IsControl(r) || unicode.In(
			r, unicode.Bidi_Control, unicode.Cf, unicode.Zl,
			unicode.Zp,
		) {

			bad = append(bad, fmt.Sprintf("a%cb", r))
		}
	}
	require.Greater(t, len(bad), 65+100)
	for _, s := range bad {
		require.ErrorIs(t, CheckText(s), ErrMalformed, "%q", s)
	}
}

// TestNames checks the names and the parsing of numbers.
func TestNames(t *testing.T) {
	for typ, name := range map[MsgType]string{
		50501: "offer", 50503: "request", 50505: "accept",
		50507: "reject", 50509: "close", 50511: "ack",
	} {
		parsed, ok := ParseMsgType(uint32(typ))
		require.True(t, ok)
		require.Equal(t, typ, parsed)
		require.Equal(t, name, typ.String())
	}
	require.Equal(t, "50502", MsgType(50502).String())

	for _, n := range []uint32{
		0, 50499, 50500, 50502, 50510, 50512, 50513, 65535,
		1<<16 + 50501, 1<<32 - 1,
	} {
		_, ok := ParseMsgType(n)
		require.False(t, ok, n)
	}

	require.Equal(t, "udp", ProtocolUDP.String())
	require.Equal(t, "tcp", ProtocolTCP.String())
	require.Equal(t, "9", Protocol(9).String())
	require.Equal(t, "open", AdmissionOpen.String())
	require.Equal(t, "token", AdmissionToken.String())
	require.Equal(t, "2", Admission(2).String())
	for code, name := range map[RejectCode]string{
		1: "declined", 2: "version", 3: "malformed", 4: "limit",
		5: "expired", 6: "unknown", 7: "unsupported", 8: "policy",
		9: "code 9",
	} {
		require.Equal(t, name, code.String())
	}

	require.Equal(t, strings.Repeat("07", IDSize), testID(7).String())
	require.Equal(t, "02"+strings.Repeat("00", PubKeySize-1),
		PubKey{keyEven}.String())
	require.False(t, PubKey{keyEven}.IsZero())
	require.True(t, PubKey{}.IsZero())
	require.True(t, BothLegs.Has(Leg1))
	require.True(t, BothLegs.Has(BothLegs))
	require.False(t, Leg1.Has(Leg2))
	require.False(t, Leg1.Has(BothLegs))
}

// TestCleanText checks that what is cleaned is allowed, and that what is
// allowed stays.
func TestCleanText(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		"Zoë ⚡ \ufffd":                "Zoë ⚡ \ufffd",
		"\x1b]0;title\x07":            "]0;title",
		"a\u202eb\u2028c\u2029d\x00e": "abcde",
		"bad\xff\xc3utf":              "badutf",
		strings.Repeat("é", 65):       strings.Repeat("é", 64),
	} {
		got := CleanText(text)
		require.Equal(t, want, got, "%q", text)
		require.NoError(t, CheckText(got))
	}
}
