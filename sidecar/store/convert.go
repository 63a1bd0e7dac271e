package store

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
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

// join returns addresses, networks or public keys as they are kept.
func join[T fmt.Stringer](values []T) string {
	texts := make([]string, 0, len(values))
	for _, v := range values {
		texts = append(texts, v.String())
	}

	return strings.Join(texts, " ")
}

// split returns addresses, networks or public keys that are kept, nil for none.
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

// joinCounts returns numbers by name as they are kept, without those that are
// 0.
func joinCounts(counts map[string]uint64) string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[name]; n > 0 {
			texts = append(texts, name+"="+
				strconv.FormatUint(n, 10))
		}
	}

	return strings.Join(texts, " ")
}

// splitCounts returns numbers by name that are kept, nil for none.
func splitCounts(text string) (map[string]uint64, error) {
	var counts map[string]uint64
	for field := range strings.FieldsSeq(text) {
		name, n, _ := strings.Cut(field, "=")
		count, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: number of %q: %w",
				ErrDamaged, name, err)
		}
		if counts == nil {
			counts = make(map[string]uint64)
		}
		counts[name] = count
	}

	return counts, nil
}

// parseKey returns a public key that is kept in hex.
func parseKey(text string) (offer.PubKey, error) {
	var key offer.PubKey
	raw, err := hex.DecodeString(text)
	if err != nil {
		return key, fmt.Errorf("public key: %w", err)
	}
	if len(raw) != len(key) {
		return key, fmt.Errorf("public key of %d bytes", len(raw))
	}

	return offer.PubKey(raw), nil
}
