package wire

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// secrets has tokens in the places where something may hold them.
type secrets struct {
	Token   Token
	Pointer *Token
	Tokens  Tokens
	Map     map[string]Token
	Offer   Offer
}

// TestTokenHidden checks that nothing prints a token by mistake.
func TestTokenHidden(t *testing.T) {
	token := testToken(0xa7)
	offer := testOffer()
	offer.Admission = AdmissionToken
	offer.Tokens[1] = token

	// An address has a pointer inside, whose digits are anything.
	offer.Addrs = nil
	all := secrets{
		Token: token, Pointer: &token, Tokens: Tokens{token, token},
		Map: map[string]Token{"a": token}, Offer: *offer,
	}

	// What a leak would look like, in one form or another.
	leaks := []string{
		"a7", "A7", "167", "247", "1010011", string(token[:2]), "§",
	}
	check := func(how, printed string) {
		t.Helper()
		require.Contains(t, printed, hidden, how)
		for _, leak := range leaks {
			require.NotContains(t, printed, leak, how)
		}
	}
	for _, v := range []any{
		token, &token, all, &all, all.Tokens, *offer, offer,
		[]Token{token},
	} {
		// All but %T and %p, which fmt does not ask anybody about.
		for _, verb := range "vsdqxXbcoOUeEfFgGt" {
			for _, flag := range []string{"", "+", "#", " ", "-9"} {
				format := "%" + flag + string(verb)
				check(format, fmt.Sprintf(format, v))
			}
		}

		var text, json bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("", "v", v)
		check("text", strings.SplitN(text.String(), "v=", 2)[1])
		slog.New(slog.NewJSONHandler(&json, nil)).Info("", "v", v)
		check("json", strings.SplitN(json.String(), `"v":`, 2)[1])
	}

	// Whoever wants it has to say so.
	require.Equal(t, strings.Repeat("a7", TokenSize), token.Hex())
	require.False(t, token.IsZero())
	require.True(t, Token{}.IsZero())
}

// TestTokenErrors checks that no error about an offer has its token.
func TestTokenErrors(t *testing.T) {
	token := testToken(0xa7)
	for _, v := range readVectors(t) {
		if v.Type != TypeOffer {
			continue
		}

		// Whatever is wrong with it, or not, there is a token now.
		body := unhex(t, v.Hex)
		body = append(body, byte(recToken1), TokenSize)
		body = append(body, token[:]...)
		_, err := Decode(TypeOffer, body)
		if err == nil {
			continue
		}
		for _, secret := range []string{
			token.Hex(), "167 167", string(token[:]),
		} {
			require.NotContains(t, err.Error(), secret)
		}
	}
}

// TestTokenRecords checks where the tokens of an offer are, byte by byte.
func TestTokenRecords(t *testing.T) {
	open, err := Encode(testOffer())
	require.NoError(t, err)

	for legs, want := range map[Legs]string{
		Leg1: "1610" + strings.Repeat("11", TokenSize),
		Leg2: "1810" + strings.Repeat("22", TokenSize),
		BothLegs: "1610" + strings.Repeat("11", TokenSize) +
			"1810" + strings.Repeat("22", TokenSize),
	} {
		o := testOffer()
		o.Admission, o.Legs = AdmissionToken, legs
		if legs.Has(Leg1) {
			o.Tokens[0] = testToken(0x11)
		}
		if legs.Has(Leg2) {
			o.Tokens[1] = testToken(0x22)
		}
		body, err := Encode(o)
		require.NoError(t, err)
		require.Len(t, body, len(open)+len(want)/2)
		require.True(t, bytes.HasSuffix(body, unhex(t, want)))
	}
}
