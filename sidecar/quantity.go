package sidecar

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// maxQuantity is the largest quantity: what is reckoned with it has to fit into
// 64 bits with a sign.
const maxQuantity = math.MaxInt64

// Quantity is a number of bytes or packets, or of those in a second, as an
// option has it. It is written as a whole number, with k, M or G behind it for
// thousands, millions or billions; the suffixes are decimal, as bandwidths are.
type Quantity uint64

// quantityUnits are the suffixes of a quantity, the largest one first.
var quantityUnits = []struct {
	suffix string
	unit   uint64
}{
	{"G", 1_000_000_000},
	{"M", 1_000_000},
	{"k", 1_000},
}

// UnmarshalFlag reads a quantity from the text of an option.
func (q *Quantity) UnmarshalFlag(text string) error {
	digits, unit := text, uint64(1)
	for _, u := range quantityUnits {
		if before, ok := strings.CutSuffix(text, u.suffix); ok {
			digits, unit = before, u.unit

			break
		}
	}

	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return fmt.Errorf("%q is not a whole number, with k, M or G "+
			"behind it or without", text)
	}

	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > maxQuantity/unit {
		return fmt.Errorf("%q is too large, at most %d is possible",
			text, int64(maxQuantity))
	}
	*q = Quantity(n * unit)

	return nil
}

// MarshalFlag writes the quantity as UnmarshalFlag reads it.
func (q Quantity) MarshalFlag() (string, error) {
	return q.String(), nil
}

// String returns the quantity with the largest suffix that leaves it whole.
func (q Quantity) String() string {
	for _, u := range quantityUnits {
		if q > 0 && uint64(q)%u.unit == 0 {
			n := strconv.FormatUint(uint64(q)/u.unit, 10)

			return n + u.suffix
		}
	}

	return strconv.FormatUint(uint64(q), 10)
}
