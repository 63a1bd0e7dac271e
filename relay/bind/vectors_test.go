package bind

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// vector is an example of docs/relay-protocol.md.
type vector struct {
	Name     string `json:"name"`
	SocketID string `json:"socket_id"`
	Leg      uint8  `json:"leg"`
	Protocol uint8  `json:"protocol"`
	Token    string `json:"token"`
	Hex      string `json:"hex"`

	// Fields is what the message says, or Error why it is refused: format,
	// version or mac.
	Fields *struct {
		Type   uint8  `json:"type"`
		Addr   string `json:"addr"`
		Nonce  string `json:"nonce"`
		Cookie string `json:"cookie"`
	} `json:"fields"`
	Error string `json:"error"`
}

// readVectors reads the examples.
func readVectors(tb testing.TB) []vector {
	tb.Helper()

	raw, err := os.ReadFile("testdata/vectors.json")
	require.NoError(tb, err)
	var vectors []vector
	require.NoError(tb, json.Unmarshal(raw, &vectors))
	require.NotEmpty(tb, vectors)

	return vectors
}

// unhex reads hex digits.
func unhex(tb testing.TB, text string) []byte {
	tb.Helper()

	raw, err := hex.DecodeString(text)
	require.NoError(tb, err)

	return raw
}

// TestVectors reads the examples as a receiver does, and writes the valid ones.
func TestVectors(t *testing.T) {
	t.Parallel()

	seen := make(map[string]int)
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			token, err := ParseToken(v.Token)
			require.NoError(t, err)
			key := NewKey(Leg{
				SocketID: [32]byte(unhex(t, v.SocketID)),
				Num:      v.Leg, Protocol: v.Protocol,
			}, token)
			raw := unhex(t, v.Hex)

			m, err := Decode(raw)
			switch v.Error {
			case "format":
				require.ErrorIs(t, err, ErrFormat)
				require.Nil(t, v.Fields)

			case "version":
				require.ErrorIs(t, err, ErrVersion)
				require.Nil(t, v.Fields)

			case "mac":
				require.NoError(t, err)
				require.False(t, key.Verify(raw))

			default:
				require.Empty(t, v.Error)
				require.NoError(t, err)
				require.True(t, key.Verify(raw))
				require.Equal(t, v.message(t), m)
				require.Equal(t, raw, m.Append(nil, key))
			}
		})
		seen[v.Error]++
	}

	for _, kind := range []string{"", "format", "version", "mac"} {
		require.NotZero(t, seen[kind], kind)
	}
}

// message returns what the fields say.
func (v *vector) message(tb testing.TB) Message {
	tb.Helper()

	m := Message{
		Type:   Type(v.Fields.Type),
		Nonce:  Nonce(unhex(tb, v.Fields.Nonce)),
		Cookie: Cookie(unhex(tb, v.Fields.Cookie)),
	}
	if v.Fields.Addr != "" {
		m.Addr = netip.MustParseAddrPort(v.Fields.Addr)
	}

	return m
}

// FuzzDecode checks that nothing that a stranger sends is taken for anything
// else than what its bytes say.
func FuzzDecode(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(unhex(f, v.Hex))
	}

	f.Fuzz(func(t *testing.T, raw []byte) {
		key := NewKey(testLeg, testToken)
		authentic := key.Verify(raw)

		m, err := Decode(raw)
		if err != nil {
			return
		}
		require.True(t, IsMessage(raw))

		again := m.Append(nil, key)
		require.Len(t, again, len(raw))
		require.Equal(t, authentic, string(again) == string(raw))

		got, err := Decode(again)
		require.NoError(t, err)
		require.Equal(t, m, got)
	})
}
