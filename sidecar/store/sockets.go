package store

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store/sqlc"
)

// SocketState is how a socket is.
type SocketState uint8

const (
	// SocketActive is a socket that is open whenever the daemon runs.
	SocketActive SocketState = 0

	// SocketFailed is a socket whose ports could not be had again.
	SocketFailed SocketState = 1
)

// String returns the state's name.
func (s SocketState) String() string {
	switch s {
	case SocketActive:
		return "ACTIVE"

	case SocketFailed:
		return "FAILED"
	}

	return strconv.Itoa(int(s))
}

// Limits bound what passes through a socket. 0 is no limit.
type Limits struct {
	// Bandwidth is bytes per second in each direction.
	Bandwidth uint64

	// Packets is datagrams per second in each direction.
	Packets uint64

	// TotalBytes is bytes in the life of the socket.
	TotalBytes uint64

	// Pairs is pairs of connections.
	Pairs int
}

// Socket is a socket of this node, as it was started. What has two values has
// that of leg 1 and that of leg 2.
type Socket struct {
	ID        offer.ID
	Protocol  offer.Protocol
	Admission offer.Admission
	Ports     [2]uint16
	Label     string

	// Default tells that it is the socket that an empty request starts.
	Default bool

	// Allow has the networks that clients may come from, none for all.
	Allow [2][]netip.Prefix

	Limits Limits

	// IdleTimeout is after how much time without traffic it ends, 0 for
	// never.
	IdleTimeout time.Duration

	CreatedAt time.Time

	// ExpiresAt is when it ends, zero for never.
	ExpiresAt time.Time

	// Tokens are the legs' own tokens, zero if the socket is OPEN.
	Tokens offer.Tokens

	State SocketState

	// Reason is why it is FAILED, or empty.
	Reason string

	// Account is whom it is counted against, or empty.
	Account string
}

// Pin is the client of a leg.
type Pin struct {
	SocketID offer.ID

	// Leg is 1 or 2.
	Leg uint8

	// Client is where the client is. The zero value is no client.
	Client netip.AddrPort

	// Local is the address of ours that the client came to, the zero value
	// if it is not known.
	Local netip.Addr

	// Token is the token that the client proved to hold, zero if the socket
	// is OPEN.
	Token offer.Token

	// At is when the leg took the client.
	At time.Time
}

// Counters is what a leg had counted at some time.
type Counters struct {
	SocketID offer.ID

	// Leg is 1 or 2.
	Leg uint8

	PacketsIn  uint64
	BytesIn    uint64
	PacketsOut uint64
	BytesOut   uint64

	// Accepted and Resets count connections.
	Accepted uint64
	Resets   uint64

	// Drops is what was dropped, by reason. A reason is lower-case letters
	// and underscores. What is 0 is not kept.
	Drops map[string]uint64

	// LastSeen is when the client was last heard, zero for never.
	LastSeen time.Time
}

// Kept is all that is known of a socket after a restart.
type Kept struct {
	Socket

	// Pins are the clients of the legs. A leg without a client has the zero
	// value.
	Pins [2]Pin

	// Counters is what the legs had counted when it was last written, the
	// zero value if it never was.
	Counters [2]Counters
}

// Batch is what happened to sockets and is written together: all of it, or
// nothing. A pin or counters of a socket that is not there are left out.
type Batch struct {
	// Sockets are new, or replace the one of the same id. The pins and
	// counters of one that was there stay.
	Sockets []Socket

	// Ended are sockets that are not to be there any more, with their pins
	// and counters. It is no error if one is not.
	Ended []offer.ID

	// Pins are the clients that legs have now.
	Pins []Pin

	// Counters replace those of the same leg.
	Counters []Counters

	// Events are what is told, in order, as their reader decodes it.
	Events [][]byte
}

// Write writes a batch.
func (d *DB) Write(ctx context.Context, b Batch) error {
	sockets := make([]sqlc.PutSocketParams, 0, len(b.Sockets))
	for i := range b.Sockets {
		row, err := socketRow(&b.Sockets[i])
		if err != nil {
			return err
		}
		sockets = append(sockets, row)
	}
	for i := range b.Pins {
		if leg := b.Pins[i].Leg; leg != 1 && leg != 2 {
			return fmt.Errorf("%w: leg %d", ErrInvalid, leg)
		}
	}
	counters := make([]sqlc.PutCountersParams, 0, len(b.Counters))
	for i := range b.Counters {
		row, err := counterRow(&b.Counters[i])
		if err != nil {
			return err
		}
		counters = append(counters, row)
	}

	return d.write(ctx, b.Events, func(ctx context.Context,
		q *sqlc.Queries) error {

		for _, row := range sockets {
			if err := q.PutSocket(ctx, row); err != nil {
				return fmt.Errorf("put socket: %w", err)
			}
		}
		for i := range b.Ended {
			err := q.DeleteSocket(ctx, b.Ended[i][:])
			if err != nil {
				return fmt.Errorf("delete socket: %w", err)
			}
		}
		for i := range b.Pins {
			if err := writePin(ctx, q, &b.Pins[i]); err != nil {
				return fmt.Errorf("write pin: %w", err)
			}
		}
		for _, row := range counters {
			if err := q.PutCounters(ctx, row); err != nil {
				return fmt.Errorf("put counters: %w", err)
			}
		}

		return nil
	})
}

// writePin writes the client of a leg, or that it has none.
func writePin(ctx context.Context, q *sqlc.Queries, p *Pin) error {
	if !p.Client.IsValid() {
		return q.DeletePin(ctx, sqlc.DeletePinParams{
			SocketID: p.SocketID[:],
			Leg:      int16(p.Leg),
		})
	}

	return q.PutPin(ctx, sqlc.PutPinParams{
		SocketID:   p.SocketID[:],
		Leg:        int16(p.Leg),
		ClientAddr: p.Client.String(),
		LocalAddr:  formatAddr(p.Local),
		Token:      toBytes(p.Token[:]),
		PinnedAt:   toMicros(p.At),
	})
}

// Sockets returns all sockets, oldest first.
func (d *DB) Sockets(ctx context.Context) ([]Kept, error) {
	rows, err := d.queries.ListSockets(ctx)
	if err != nil {
		return nil, fmt.Errorf("read sockets: %w", mapError(err))
	}

	sockets := make([]Kept, 0, len(rows))
	at := make(map[offer.ID]int, len(rows))
	for _, row := range rows {
		s, err := socketOf(row)
		if err != nil {
			return nil, fmt.Errorf("read socket: %w", err)
		}
		at[s.ID] = len(sockets)
		sockets = append(sockets, Kept{Socket: s})
	}

	pins, err := d.queries.ListPins(ctx)
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", mapError(err))
	}
	for _, row := range pins {
		p, err := pinOf(row)
		if err != nil {
			return nil, fmt.Errorf("read pin: %w", err)
		}
		if i, ok := at[p.SocketID]; ok {
			sockets[i].Pins[p.Leg-1] = p
		}
	}

	counters, err := d.queries.ListCounters(ctx)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", mapError(err))
	}
	for _, row := range counters {
		c, err := countersOf(row)
		if err != nil {
			return nil, fmt.Errorf("read counters: %w", err)
		}
		if i, ok := at[c.SocketID]; ok {
			sockets[i].Counters[c.Leg-1] = c
		}
	}

	return sockets, nil
}
