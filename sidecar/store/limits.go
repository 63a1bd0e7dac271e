package store

import (
	"fmt"

	"github.com/socketd/socketd/sidecar/offer"
)

// requestLimits are the limits that a request may ask for, by the name that
// they are kept under. They are kept as text: another node chooses them, from
// all that 64 bits can say.
var requestLimits = map[string]func(*offer.SocketLimits) *uint64{
	"bandwidth": func(l *offer.SocketLimits) *uint64 {
		return &l.Bandwidth
	},
	"packets": func(l *offer.SocketLimits) *uint64 {
		return &l.Packets
	},
	"total_bytes": func(l *offer.SocketLimits) *uint64 {
		return &l.TotalBytes
	},
	"idle_timeout": func(l *offer.SocketLimits) *uint64 {
		return &l.IdleTimeout
	},
	"lifetime": func(l *offer.SocketLimits) *uint64 {
		return &l.Lifetime
	},
	"pairs": func(l *offer.SocketLimits) *uint64 {
		return &l.Pairs
	},
}

// joinLimits returns the limits of a request as they are kept.
func joinLimits(l offer.SocketLimits) string {
	counts := make(map[string]uint64, len(requestLimits))
	for name, limit := range requestLimits {
		counts[name] = *limit(&l)
	}

	return joinCounts(counts)
}

// splitLimits returns the limits of a request that are kept.
func splitLimits(text string) (offer.SocketLimits, error) {
	var l offer.SocketLimits
	counts, err := splitCounts(text)
	if err != nil {
		return l, err
	}
	for name, n := range counts {
		limit, ok := requestLimits[name]
		if !ok {
			return l, fmt.Errorf("%w: unknown limit %q", ErrDamaged,
				name)
		}
		*limit(&l) = n
	}

	return l, nil
}
