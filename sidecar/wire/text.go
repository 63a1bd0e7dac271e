package wire

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lightningnetwork/lnd/tlv"
)

// MaxText is how many characters a label or other text may have. Each takes up
// to four bytes.
const MaxText = 64

// errLength is returned for a record whose length its contents cannot have.
var errLength = errors.New("record has a wrong length")

// unprintable has the characters that do not show themselves, and change how
// the ones around them show: control characters, format characters (among them
// those that turn the direction of writing), and separators of lines and
// paragraphs.
var unprintable = []*unicode.RangeTable{
	unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp,
}

// CheckText returns an error that wraps ErrMalformed unless s is valid UTF-8 of
// at most MaxText characters, none of which is a control, format or separator
// character (Unicode's categories Cc, Cf, Zl and Zp). An empty text is fine.
func CheckText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: text is not UTF-8", ErrMalformed)
	}
	if n := utf8.RuneCountInString(s); n > MaxText {
		return fmt.Errorf("%w: text has %d characters, at most %d are "+
			"allowed", ErrMalformed, n, MaxText)
	}
	for _, r := range s {
		if unicode.In(r, unprintable...) {
			return fmt.Errorf("%w: text has the control "+
				"character %U", ErrMalformed, r)
		}
	}

	return nil
}

// CleanText returns what of a text CheckText allows: it leaves out what is not
// UTF-8 and the characters that do not show themselves, and cuts it to MaxText
// characters. It is for what a stranger says elsewhere than in a message.
func CleanText(s string) string {
	var (
		b strings.Builder
		n int
	)
	for i, r := range s {
		// What is not UTF-8 comes as a replacement of one byte.
		_, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 ||
			unicode.In(r, unprintable...) {

			continue
		}
		if n == MaxText {
			break
		}
		b.WriteRune(r)
		n++
	}

	return b.String()
}

// textField returns the optional record that has a text.
func textField(text *string) field {
	size := func() uint64 { return uint64(len(*text)) }

	encode := func(w io.Writer, _ any, _ *[8]byte) error {
		_, err := io.WriteString(w, *text)

		return err
	}

	decode := func(r io.Reader, _ any, _ *[8]byte, length uint64) error {
		if length > MaxText*utf8.UTFMax {
			return fmt.Errorf("%w: text of %d bytes", errLength,
				length)
		}

		b := make([]byte, length)
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		*text = string(b)

		return nil
	}

	return field{
		Record: tlv.MakeDynamicRecord(
			recText, nil, size, encode, decode,
		),
		optional: true,
		empty:    *text == "",
	}
}
