package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// vector is an entry of testdata/vectors.json.
type vector struct {
	Name string  `json:"name"`
	Type MsgType `json:"type"`
	Hex  string  `json:"hex"`

	// Header is null if it cannot be read.
	Header *struct {
		Version   uint8  `json:"version"`
		MessageID string `json:"message_id"`
	} `json:"header"`

	// Fields is there if the message is valid, and Error if it is not.
	Fields *vectorFields `json:"fields"`
	Error  string        `json:"error"`

	// Canonical is the message as we encode it, if that is not Hex.
	Canonical string `json:"canonical"`
}

// vectorFields has the fields of all types of messages.
type vectorFields struct {
	MessageID string       `json:"message_id"`
	ReplyToID string       `json:"reply_to_id"`
	Protocol  string       `json:"protocol"`
	Addresses []netip.Addr `json:"addresses"`
	Port1     uint16       `json:"port1"`
	Port2     uint16       `json:"port2"`
	Legs      Legs         `json:"legs"`
	Admission Admission    `json:"admission"`
	Expiry    uint64       `json:"expiry,string"`
	SocketID  string       `json:"socket_id"`
	Token1    string       `json:"token1"`
	Token2    string       `json:"token2"`
	Host      string       `json:"host"`
	Label     string       `json:"label"`
	Code      RejectCode   `json:"code"`
	Text      string       `json:"text"`

	// The limits of a request.
	Bandwidth   uint64 `json:"bandwidth,string"`
	Packets     uint64 `json:"packets,string"`
	TotalBytes  uint64 `json:"total_bytes,string"`
	IdleTimeout uint64 `json:"idle_timeout,string"`
	Lifetime    uint64 `json:"lifetime,string"`
	Pairs       uint64 `json:"pairs,string"`
}

// readVectors returns the test vectors.
func readVectors(tb testing.TB) []vector {
	tb.Helper()

	raw, err := os.ReadFile("testdata/vectors.json")
	require.NoError(tb, err)

	var file struct {
		ProtocolVersion uint8    `json:"protocol_version"`
		Vectors         []vector `json:"vectors"`
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	require.NoError(tb, dec.Decode(&file))
	require.Equal(tb, Version, file.ProtocolVersion)
	require.Greater(tb, len(file.Vectors), 100)

	return file.Vectors
}

// unhex returns the bytes of a hex string.
func unhex(tb testing.TB, s string) []byte {
	tb.Helper()

	b, err := hex.DecodeString(s)
	require.NoError(tb, err)

	return b
}

// parseID returns the id in a hex string, zero for an empty one.
func parseID(tb testing.TB, s string) ID {
	tb.Helper()

	if s == "" {
		return ID{}
	}

	return ID(unhex(tb, s))
}

// parseToken returns the token in a hex string, zero for an empty one.
func parseToken(tb testing.TB, s string) Token {
	tb.Helper()

	if s == "" {
		return Token{}
	}

	return Token(unhex(tb, s))
}

// parsePubKey returns the key in a hex string, zero for an empty one.
func parsePubKey(tb testing.TB, s string) PubKey {
	tb.Helper()

	if s == "" {
		return PubKey{}
	}

	return PubKey(unhex(tb, s))
}

// limits returns the limits of a request that has these fields.
func (f *vectorFields) limits() SocketLimits {
	return SocketLimits{
		Bandwidth:   f.Bandwidth,
		Packets:     f.Packets,
		TotalBytes:  f.TotalBytes,
		IdleTimeout: f.IdleTimeout,
		Lifetime:    f.Lifetime,
		Pairs:       f.Pairs,
	}
}

// message returns the message that has these fields.
func (f *vectorFields) message(tb testing.TB, typ MsgType) Message {
	tb.Helper()

	id, replyTo := parseID(tb, f.MessageID), parseID(tb, f.ReplyToID)
	protocols := map[string]Protocol{
		"udp": ProtocolUDP,
		"tcp": ProtocolTCP,
	}

	switch typ {
	case TypeOffer:
		return &Offer{
			ID:        id,
			ReplyTo:   replyTo,
			Protocol:  protocols[f.Protocol],
			Addrs:     f.Addresses,
			Port1:     f.Port1,
			Port2:     f.Port2,
			Legs:      f.Legs,
			Admission: f.Admission,
			Tokens: Tokens{
				parseToken(tb, f.Token1),
				parseToken(tb, f.Token2),
			},
			Expiry:   f.Expiry,
			SocketID: parseID(tb, f.SocketID),
			Label:    f.Label,
			Host:     parsePubKey(tb, f.Host),
		}

	case TypeRequest:
		return &Request{
			ID:        id,
			Protocol:  protocols[f.Protocol],
			Label:     f.Label,
			Legs:      f.Legs,
			Admission: f.Admission,
			Expiry:    f.Expiry,
			Limits:    f.limits(),
		}

	case TypeAccept:
		return &Accept{ID: id, ReplyTo: replyTo}

	case TypeReject:
		return &Reject{
			ID: id, ReplyTo: replyTo, Code: f.Code, Text: f.Text,
		}

	case TypeClose:
		return &Close{ID: id, ReplyTo: replyTo, Text: f.Text}

	case TypeAck:
		return &Ack{ID: id, ReplyTo: replyTo}

	default:
		tb.Fatalf("no message of type %v", typ)

		return nil
	}
}

// kinds are the errors by their names in the test vectors.
var kinds = map[string]error{
	"too_large":   ErrTooLarge,
	"malformed":   ErrMalformed,
	"version":     ErrVersion,
	"unsupported": ErrUnsupported,
}

// requireKind requires that an error is of one kind, and of no other.
func requireKind(t *testing.T, name string, err error) {
	t.Helper()

	require.Contains(t, kinds, name)
	for other, kind := range kinds {
		require.Equal(
			t, other == name, errors.Is(err, kind), "%s: %v",
			other, err,
		)
	}
}

// TestVectors decodes and encodes every test vector.
func TestVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			body := unhex(t, v.Hex)

			header, err := DecodeHeader(body)
			if v.Header == nil {
				requireKind(t, v.Error, err)
				require.Zero(t, header)
			} else {
				require.NoError(t, err)
				require.Equal(t, Header{
					Version: v.Header.Version,
					ID:      parseID(t, v.Header.MessageID),
				}, header)
			}

			msg, err := Decode(v.Type, body)
			if v.Fields == nil {
				requireKind(t, v.Error, err)
				require.Nil(t, msg)

				return
			}

			require.NoError(t, err)
			require.Empty(t, v.Error)
			require.Equal(t, v.Type, msg.Type())

			want := v.Fields.message(t, v.Type)
			require.Equal(t, want, msg)

			canonical := v.Hex
			if v.Canonical != "" {
				canonical = v.Canonical
			}
			encoded, err := Encode(want)
			require.NoError(t, err)
			require.Equal(t, canonical, hex.EncodeToString(encoded))
		})
	}
}

// TestVectorsCover checks that every type of message has valid vectors and
// invalid ones, that every kind of error occurs, that offers with each set of
// tokens are among them, and requests with each limit alone.
func TestVectorsCover(t *testing.T) {
	valid := make(map[MsgType]int)
	invalid := make(map[MsgType]int)
	errs := make(map[string]int)
	tokens := make(map[[2]bool]int)
	limits := make(map[SocketLimits]int)
	codes := make(map[RejectCode]int)
	for _, v := range readVectors(t) {
		if v.Fields == nil {
			invalid[v.Type]++
			errs[v.Error]++

			continue
		}
		valid[v.Type]++
		codes[v.Fields.Code]++
		tokens[[2]bool{
			v.Fields.Token1 != "", v.Fields.Token2 != "",
		}]++
		limits[v.Fields.limits()]++
	}

	for typ := range msgTypeNames {
		require.Contains(t, valid, typ)
		require.Contains(t, invalid, typ)
	}
	for kind := range kinds {
		require.Contains(t, errs, kind)
	}
	for code := range codeNames {
		require.Contains(t, codes, code)
	}
	require.Len(t, tokens, 4)
	for _, alone := range []SocketLimits{
		{}, {Bandwidth: 125000}, {Packets: 1000}, {TotalBytes: 1 << 30},
		{IdleTimeout: 60}, {Lifetime: 3600}, {Pairs: 10},
	} {
		require.Contains(t, limits, alone)
	}
}
