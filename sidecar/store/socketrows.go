package store

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store/sqlc"
)

// socketRow returns a socket as it is kept. The error wraps ErrInvalid.
func socketRow(s *Socket) (sqlc.PutSocketParams, error) {
	row := sqlc.PutSocketParams{
		SocketID:    s.ID[:],
		Protocol:    int16(s.Protocol),
		Admission:   int16(s.Admission),
		Port1:       int32(s.Ports[0]),
		Port2:       int32(s.Ports[1]),
		Label:       s.Label,
		IsDefault:   s.Default,
		Allow1:      join(s.Allow[0]),
		Allow2:      join(s.Allow[1]),
		Pairs:       int32(s.Limits.Pairs),
		IdleTimeout: int64(s.IdleTimeout),
		CreatedAt:   toMicros(s.CreatedAt),
		ExpiresAt:   toMicros(s.ExpiresAt),
		Token1:      toBytes(s.Tokens[0][:]),
		Token2:      toBytes(s.Tokens[1][:]),
		State:       int16(s.State),
		Reason:      s.Reason,
		Account:     s.Account,
	}

	return row, toCounts(
		count{s.Limits.Bandwidth, &row.Bandwidth, "bandwidth"},
		count{s.Limits.Packets, &row.Packets, "packets"},
		count{s.Limits.TotalBytes, &row.TotalBytes, "total bytes"},
	)
}

// socketOf returns a socket that is kept.
func socketOf(row sqlc.Socket) (Socket, error) {
	s := Socket{
		Protocol:  offer.Protocol(row.Protocol),
		Admission: offer.Admission(row.Admission),
		Ports:     [2]uint16{uint16(row.Port1), uint16(row.Port2)},
		Label:     row.Label,
		Default:   row.IsDefault,
		Limits: Limits{
			Bandwidth:  uint64(row.Bandwidth),
			Packets:    uint64(row.Packets),
			TotalBytes: uint64(row.TotalBytes),
			Pairs:      int(row.Pairs),
		},
		IdleTimeout: time.Duration(row.IdleTimeout),
		CreatedAt:   fromMicros(row.CreatedAt),
		ExpiresAt:   fromMicros(row.ExpiresAt),
		State:       SocketState(row.State),
		Reason:      row.Reason,
		Account:     row.Account,
	}

	err := arrays(
		[2][]byte{s.ID[:], row.SocketID},
		[2][]byte{s.Tokens[0][:], row.Token1},
		[2][]byte{s.Tokens[1][:], row.Token2},
	)
	if err != nil {
		return s, err
	}
	for i, text := range []string{row.Allow1, row.Allow2} {
		s.Allow[i], err = split(text, netip.ParsePrefix)
		if err != nil {
			return s, err
		}
	}

	return s, nil
}

// pinOf returns a pin that is kept.
func pinOf(row sqlc.Pin) (Pin, error) {
	p := Pin{Leg: uint8(row.Leg), At: fromMicros(row.PinnedAt)}
	if err := checkLeg(row.Leg); err != nil {
		return p, err
	}

	err := arrays(
		[2][]byte{p.SocketID[:], row.SocketID},
		[2][]byte{p.Token[:], row.Token},
	)
	if err != nil {
		return p, err
	}
	p.Client, err = parseAddrPort(row.ClientAddr)
	if err != nil {
		return p, err
	}
	p.Local, err = parseAddr(row.LocalAddr)

	return p, err
}

// checkLeg tells whether there is such a leg.
func checkLeg(leg int16) error {
	if leg != 1 && leg != 2 {
		return fmt.Errorf("%w: leg %d", ErrDamaged, leg)
	}

	return nil
}

// counterRow returns counters as they are kept. The error wraps ErrInvalid.
func counterRow(c *Counters) (sqlc.PutCountersParams, error) {
	if c.Leg != 1 && c.Leg != 2 {
		return sqlc.PutCountersParams{}, fmt.Errorf("%w: leg %d",
			ErrInvalid, c.Leg)
	}
	row := sqlc.PutCountersParams{
		SocketID: c.SocketID[:],
		Leg:      int16(c.Leg),
		Drops:    joinCounts(c.Drops),
		LastSeen: toMicros(c.LastSeen),
	}

	return row, toCounts(
		count{c.PacketsIn, &row.PacketsIn, "packets in"},
		count{c.BytesIn, &row.BytesIn, "bytes in"},
		count{c.PacketsOut, &row.PacketsOut, "packets out"},
		count{c.BytesOut, &row.BytesOut, "bytes out"},
		count{c.Accepted, &row.Accepted, "accepted"},
		count{c.Resets, &row.Resets, "resets"},
	)
}

// countersOf returns counters that are kept.
func countersOf(row sqlc.Counter) (Counters, error) {
	c := Counters{
		Leg:        uint8(row.Leg),
		PacketsIn:  uint64(row.PacketsIn),
		BytesIn:    uint64(row.BytesIn),
		PacketsOut: uint64(row.PacketsOut),
		BytesOut:   uint64(row.BytesOut),
		Accepted:   uint64(row.Accepted),
		Resets:     uint64(row.Resets),
		LastSeen:   fromMicros(row.LastSeen),
	}
	if err := checkLeg(row.Leg); err != nil {
		return c, err
	}
	if err := toArray(c.SocketID[:], row.SocketID); err != nil {
		return c, err
	}

	var err error
	c.Drops, err = splitCounts(row.Drops)

	return c, err
}

// count is a number to be kept.
type count struct {
	from uint64
	to   *int64
	name string
}

// toCounts sets numbers as they are kept. The error wraps ErrInvalid if one is
// too large.
func toCounts(counts ...count) error {
	for _, c := range counts {
		n, err := toCount(c.from)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		*c.to = n
	}

	return nil
}
