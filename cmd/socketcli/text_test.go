package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestVisible checks what becomes of what a stranger may have written.
func TestVisible(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]string{
		"":              "",
		"plain, text.":  "plain, text.",
		"Zürich 東京 🎮":   "Zürich 東京 🎮",
		"e\u0301":       "e\u0301",
		`back\slash`:    `back\slash`,
		"\x1b[31mred":   `\u001b[31mred`,
		"a\nb\tc\rd":    `a\u000ab\u0009c\u000dd`,
		"del\x7f":       `del\u007f`,
		"csi\u009b2J":   `csi\u009b2J`,
		"a\u202eb":      `a\u202eb`,
		"a\u2066b":      `a\u2066b`,
		"zero\u200bw":   `zero\u200bw`,
		"\ufeffbom":     `\ufeffbom`,
		"no\u00a0break": `no\u00a0break`,
		"line\u2028sep": `line\u2028sep`,
		"private\ue000": `private\ue000`,
		"tag\U000e0041": `tag\udb40\udc41`,
		"bad\xff":       "bad\ufffd",

		// Marks without a character, and more of them than a script
		// has.
		"\u0301a": `\u0301a`,
		"a\u0301\u0302\u0303\u0304": "a\u0301\u0302\u0303" +
			`\u0304`,
	} {
		require.Equal(t, want, visible(text), "%q", text)
	}
}

// TestVisibleAny checks for any text that nothing is left that a terminal
// obeys, that what is visible stays as it is, and that JSON means the same.
func TestVisibleAny(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.OneOf(
			rapid.Rune(), rapid.RuneFrom(
				nil, unicode.Cc, unicode.Cf, unicode.Mn,
			),
		)).Draw(t, "text"))

		got := visible(text)
		for _, r := range got {
			require.False(t, unicode.In(
				r, unicode.C, unicode.Zl, unicode.Zp,
			), "%q", got)
		}
		require.Equal(t, got, visible(got))

		raw, err := json.Marshal(text)
		require.NoError(t, err)
		var back string
		require.NoError(t, json.Unmarshal(
			[]byte(visible(string(raw))), &back,
		))
		require.Equal(t, text, back)
	})
}

// TestTextWidth checks how many columns texts take.
func TestTextWidth(t *testing.T) {
	t.Parallel()

	for text, columns := range map[string]int{
		"":             0,
		"abc":          3,
		"Zürich":       6,
		"e\u0301":      1,
		"東京":           4,
		"ＡＢ":           4,
		"ｱ":            1,
		"🎮":            2,
		"한글":           4,
		"\u1112\u1161": 2,
		"…":            1,
		"שלום":         4,
	} {
		require.Equal(t, columns, textWidth(text), text)
	}
}

// TestClip checks where a text is cut.
func TestClip(t *testing.T) {
	t.Parallel()

	for _, test := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abcde", 5, "abcde"},
		{"abcdef", 5, "abcd…"},
		{"abcdef", 1, "…"},
		{"ab   cdef", 5, "ab…"},
		{"東京都", 6, "東京都"},
		{"東京都", 5, "東京…"},
		{"東京都", 4, "東…"},
		{"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
		{"e\u0301e\u0301e\u0301e", 3, "e\u0301e\u0301…"},
	} {
		require.Equal(t, test.want, clip(test.text, test.limit))
	}

	rapid.Check(t, func(t *rapid.T) {
		text := visible(rapid.String().Draw(t, "text"))
		limit := rapid.IntRange(1, 80).Draw(t, "limit")

		got := clip(text, limit)
		require.LessOrEqual(t, textWidth(got), limit)
		require.True(t, strings.HasPrefix(
			text, strings.TrimSuffix(got, ellipsis),
		))
	})
}
