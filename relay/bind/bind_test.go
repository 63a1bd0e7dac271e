package bind

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testLeg and testToken are those of the vectors.
var (
	testLeg = Leg{
		SocketID: [32]byte{0: 0x40, 31: 0x5f}, Num: 2, Protocol: 1,
	}
	testToken = Token{0: 0xa0, 15: 0xaf}
)

// testMessage returns a message with something in every field.
func testMessage(typ Type) Message {
	return Message{
		Type:   typ,
		Addr:   netip.MustParseAddrPort("203.0.113.7:40000"),
		Nonce:  Nonce{0: 1, 15: 2},
		Cookie: Cookie{0: 3, 23: 4},
	}
}

// TestLayout checks the places of the fields against their sizes.
func TestLayout(t *testing.T) {
	t.Parallel()

	require.Len(t, Magic, offVersion-offMagic)
	require.Equal(t, offType, offVersion+1)
	require.Equal(t, offAddr, offType+1)
	require.Equal(t, offPort, offAddr+16)
	require.Equal(t, offNonce, offPort+2)
	require.Equal(t, offCookie, offNonce+NonceSize)
	require.Equal(t, offMAC, offCookie+CookieSize)
	require.Equal(t, Size, offMAC+MACSize)
}

// TestRoundTrip checks that what is written is read.
func TestRoundTrip(t *testing.T) {
	t.Parallel()

	key := NewKey(testLeg, testToken)
	messages := []Message{
		{Type: Hello, Nonce: Nonce{1}},
		testMessage(Challenge), testMessage(Bind), testMessage(Bound),
	}
	for _, addr := range []string{
		"[2001:db8::1]:1", "0.0.0.0:1", "255.255.255.255:65535",
	} {
		m := testMessage(Bind)
		m.Addr = netip.MustParseAddrPort(addr)
		if addr != "0.0.0.0:1" {
			messages = append(messages, m)
		}
	}

	for _, m := range messages {
		raw := m.Append([]byte("before"), key)[len("before"):]
		require.Len(t, raw, Size)
		require.True(t, IsMessage(raw))
		require.True(t, key.Verify(raw))

		got, err := Decode(raw)
		require.NoError(t, err)
		require.Equal(t, m, got)
		require.Equal(t, m.Type == Hello || m.Type == Bind,
			m.Type.FromClient())
	}

	// A mapped address is the IPv4 address, and a zone stays at home.
	m := testMessage(Bind)
	m.Addr = netip.MustParseAddrPort("[::ffff:203.0.113.7]:40000")
	got, err := Decode(m.Append(nil, key))
	require.NoError(t, err)
	require.Equal(t, testMessage(Bind), got)

	m.Addr = netip.MustParseAddrPort("[fe80::1%eth0]:1")
	got, err = Decode(m.Append(nil, key))
	require.NoError(t, err)
	require.Equal(t, "[fe80::1]:1", got.Addr.String())
}

// TestKey checks that a code counts for one leg, token and message only.
func TestKey(t *testing.T) {
	t.Parallel()

	m := testMessage(Bind)
	raw := m.Append(nil, NewKey(testLeg, testToken))

	leg1, tcp, other := testLeg, testLeg, testLeg
	leg1.Num, tcp.Protocol, other.SocketID[7] = 1, 2, 1
	for _, leg := range []Leg{leg1, tcp, other} {
		require.False(t, NewKey(leg, testToken).Verify(raw))
	}
	require.False(t, NewKey(testLeg, Token{}).Verify(raw))

	key := NewKey(testLeg, testToken)
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 0x10
		require.False(t, key.Verify(changed), "byte %d", i)
	}
	require.True(t, key.Verify(raw))
	require.False(t, key.Verify(raw[:Size-1]))
	require.False(t, key.Verify(append(raw, 0)))
	require.False(t, key.Verify(nil))
}

// TestNoAllocation checks that verifying and answering allocate nothing.
func TestNoAllocation(t *testing.T) {
	key := NewKey(testLeg, testToken)
	m := testMessage(Bind)
	raw := m.Append(nil, key)

	var answer [Size]byte
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !key.Verify(raw) {
			t.Fatal("not authentic")
		}
		got, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		got.Type = Bound
		got.Append(answer[:0], key)
	}))
}

// TestTokenHidden checks that no way of printing shows a token.
func TestTokenHidden(t *testing.T) {
	t.Parallel()

	token := Token([]byte("0123456789abcdef"))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "token", token)

	for _, verb := range []string{
		"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d",
	} {
		fmt.Fprintf(&log, verb, token)
		fmt.Fprintf(&log, verb, struct{ T Token }{token})
		fmt.Fprintf(&log, verb, []Token{token})
	}
	raw, err := json.Marshal(struct{ T Token }{token})
	require.NoError(t, err)
	log.Write(raw)

	require.Contains(t, log.String(), hidden)
	for _, secret := range []string{
		"0123456789", token.Hex(), strings.ToUpper(token.Hex()),
		"48 49 50", "48,49,50",
	} {
		require.NotContains(t, log.String(), secret)
	}
}

// TestParseToken reads tokens, and what is none.
func TestParseToken(t *testing.T) {
	t.Parallel()

	for _, text := range []string{
		testToken.Hex(), strings.ToUpper(testToken.Hex()),
	} {
		token, err := ParseToken(text)
		require.NoError(t, err)
		require.Equal(t, testToken.Hex(), token.Hex())
	}

	for _, bad := range []string{
		"", "00", testToken.Hex()[1:], testToken.Hex() + "00",
		"g" + testToken.Hex()[1:],
	} {
		_, err := ParseToken(bad)
		require.ErrorIs(t, err, ErrToken)
		if bad != "" {
			require.NotContains(t, err.Error(), bad)
		}
	}

	require.True(t, Token{}.IsZero())
	require.False(t, testToken.IsZero())
}
