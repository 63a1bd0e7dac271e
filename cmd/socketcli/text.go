package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"

	"golang.org/x/text/width"
)

const (
	// ellipsis stands for what was cut off a text.
	ellipsis = "…"

	// maxMarks is how many combining marks one character may carry. No
	// script needs more; a pile of them would cover the lines around it.
	maxMarks = 3
)

// visible returns text with everything in it that is no letter, mark, number,
// symbol or plain space as \uXXXX, as JSON writes it. Labels, aliases and
// reasons are a stranger's. A terminal obeys control characters, and format
// characters (Unicode's Cf) reorder what is next to them, or are not seen.
func visible(text string) string {
	var (
		out strings.Builder

		// At the beginning a mark has no character to sit on.
		marks = maxMarks
	)
	for _, r := range text {
		switch {
		case unicode.Is(unicode.M, r):
			marks++

		// Nor has it one after a space.
		case r == ' ':
			marks = maxMarks

		default:
			marks = 0
		}

		if unicode.IsPrint(r) && marks <= maxMarks {
			out.WriteRune(r)
		} else {
			writeEscaped(&out, r)
		}
	}

	return out.String()
}

// writeEscaped writes r as \uXXXX, or as two of them, a surrogate pair, if it
// has more than four digits.
func writeEscaped(out *strings.Builder, r rune) {
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		fmt.Fprintf(out, `\u%04x\u%04x`, high, low)

		return
	}

	fmt.Fprintf(out, `\u%04x`, r)
}

// textWidth returns how many columns of a terminal text takes. It must be
// visible.
func textWidth(text string) int {
	columns := 0
	for _, r := range text {
		columns += runeWidth(r)
	}

	return columns
}

// runeWidth returns how many columns of a terminal r takes: two if Unicode's
// annex 11 calls it wide, none if it sits on the character before it.
func runeWidth(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0

	// The vowels and finals of Hangul complete the syllable before them.
	case r >= 0x1160 && r <= 0x11ff, r >= 0xd7b0 && r <= 0xd7ff:
		return 0
	}

	kind := width.LookupRune(r).Kind()
	if kind == width.EastAsianWide || kind == width.EastAsianFullwidth {
		return 2
	}

	return 1
}

// clip returns text cut to at most limit columns, of which the last is then
// an ellipsis.
func clip(text string, limit int) string {
	if textWidth(text) <= limit {
		return text
	}

	columns := 0
	for at, r := range text {
		columns += runeWidth(r)
		if columns > limit-1 {
			return strings.TrimRight(text[:at], " ") + ellipsis
		}
	}

	return text
}
