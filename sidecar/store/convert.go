package store

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
)

// toMicros returns a time as it is kept.
func toMicros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}

	return t.UnixMicro()
}

// fromMicros returns a time that is kept.
func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}

	return time.UnixMicro(n)
}

// toBytes returns an id, key or token as it is kept, nil if it is zero.
func toBytes(b []byte) []byte {
	for _, c := range b {
		if c != 0 {
			return b
		}
	}

	return nil
}

// toArray reads an id, key or token that is kept into one of the same length.
// None leaves it as it is, which is zero.
func toArray(to, from []byte) error {
	if from != nil && len(from) != len(to) {
		return fmt.Errorf("%w: %d bytes where there must be %d",
			ErrDamaged, len(from), len(to))
	}
	copy(to, from)

	return nil
}

// arrays reads several ids, keys and tokens, of which each is a pair of where
// it goes and what is kept.
func arrays(pairs ...[2][]byte) error {
	for _, pair := range pairs {
		if err := toArray(pair[0], pair[1]); err != nil {
			return err
		}
	}

	return nil
}

// toCount returns a number as it is kept. The error wraps ErrInvalid if it is
// too large.
func toCount(n uint64) (int64, error) {
	if n > math.MaxInt64 {
		return 0, fmt.Errorf("%w: %d is too large", ErrInvalid, n)
	}

	return int64(n), nil
}

// join returns addresses or networks as they are kept.
func join[T fmt.Stringer](values []T) string {
	texts := make([]string, 0, len(values))
	for _, v := range values {
		texts = append(texts, v.String())
	}

	return strings.Join(texts, " ")
}

// split returns addresses or networks that are kept, nil for none.
func split[T any](text string, parse func(string) (T, error)) ([]T, error) {
	var values []T
	for field := range strings.FieldsSeq(text) {
		v, err := parse(field)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		values = append(values, v)
	}

	return values, nil
}

// parseAddrPort returns an address and port that is kept, the zero one for
// none.
func parseAddrPort(text string) (netip.AddrPort, error) {
	if text == "" {
		return netip.AddrPort{}, nil
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return addr, fmt.Errorf("%w: %w", ErrDamaged, err)
	}

	return addr, nil
}

// formatAddr returns an address as it is kept, empty for none.
func formatAddr(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}

	return addr.String()
}

// parseAddr returns an address that is kept, the zero one for none.
func parseAddr(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("%w: %w", ErrDamaged, err)
	}

	return addr, nil
}
