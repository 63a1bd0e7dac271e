package sidecar

import (
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
)

// keptSocket returns an open socket as the database keeps it.
func keptSocket(socket *relay.Socket, label string,
	isDefault bool) store.Socket {

	opts, now := socket.Options(), socket.Keep()

	return store.Socket{
		ID:        offer.ID(now.ID),
		Protocol:  offer.Protocol(opts.Protocol),
		Admission: offer.Admission(opts.Admission),
		Ports:     now.Ports,
		Label:     label,
		Default:   isDefault,
		Allow:     opts.Allow,
		Limits: store.Limits{
			Bandwidth:  opts.Limits.Bandwidth,
			Packets:    opts.Limits.Packets,
			TotalBytes: opts.Limits.TotalBytes,
			Pairs:      opts.Limits.Pairs,
		},
		IdleTimeout: opts.IdleTimeout,
		CreatedAt:   now.CreatedAt,
		ExpiresAt:   opts.ExpiresAt,
		Tokens: offer.Tokens{
			offer.Token(now.Tokens[0]), offer.Token(now.Tokens[1]),
		},
	}
}

// socketOptions returns what a socket that is kept is opened with.
func socketOptions(s *store.Socket) relay.Options {
	return relay.Options{
		Protocol:  relay.Protocol(s.Protocol),
		Admission: relay.Admission(s.Admission),
		Allow:     s.Allow,
		Limits: relay.Limits{
			Bandwidth:  s.Limits.Bandwidth,
			Packets:    s.Limits.Packets,
			TotalBytes: s.Limits.TotalBytes,
			Pairs:      s.Limits.Pairs,
		},
		IdleTimeout: s.IdleTimeout,
		ExpiresAt:   s.ExpiresAt,
	}
}

// restoreOptions returns what a socket that is kept is opened again with. Of
// its clients it keeps those whose token still admits.
func restoreOptions(k *store.Kept,
	admits func(offer.Token) bool) relay.Options {

	restore := &relay.Restored{
		ID:          relay.ID(k.ID),
		CreatedAt:   k.CreatedAt,
		Ports:       k.Ports,
		PassedBytes: passedBytes(k),
	}
	for i, pin := range k.Pins {
		restore.Tokens[i] = relay.Token(k.Tokens[i])
		if pin.Token != k.Tokens[i] && !admits(pin.Token) {
			continue
		}

		restore.Clients[i] = relay.RestoredClient{
			Addr:  pin.Client,
			Local: pin.Local,
			Token: relay.Token(pin.Token),
		}
	}

	opts := socketOptions(&k.Socket)
	opts.Restore = restore

	return opts
}

// passedBytes returns how many bytes have passed through a socket that is kept,
// as its limit counts them: datagrams that were sent on, and what was read from
// connections.
func passedBytes(k *store.Kept) uint64 {
	if k.Protocol == offer.TCP {
		return k.Counters[0].BytesIn + k.Counters[1].BytesIn
	}

	return k.Counters[0].BytesOut + k.Counters[1].BytesOut
}

// keptPin returns the client of a leg as the database keeps it.
func keptPin(now *relay.Restored, leg relay.Leg, at time.Time) store.Pin {
	client := now.Clients[leg-relay.Leg1]

	return store.Pin{
		SocketID: offer.ID(now.ID),
		Leg:      uint8(leg),
		Client:   client.Addr,
		Local:    client.Local,
		Token:    offer.Token(client.Token),
		At:       at,
	}
}

// samePin tells whether two pins are of the same client. When it came does not
// count.
func samePin(a, b *store.Pin) bool {
	return a.Client == b.Client && a.Local == b.Local && a.Token == b.Token
}

// keptCounters returns what a leg has counted as the database keeps it. The
// stats include what was counted before the last start.
func keptCounters(id relay.ID, leg relay.Leg,
	stats *relay.LegStats) store.Counters {

	c := store.Counters{
		SocketID:   offer.ID(id),
		Leg:        uint8(leg),
		PacketsIn:  stats.PacketsIn,
		BytesIn:    stats.BytesIn,
		PacketsOut: stats.PacketsOut,
		BytesOut:   stats.BytesOut,
		Accepted:   stats.Accepted,
		Resets:     stats.Resets,
		LastSeen:   stats.LastSeen,
	}
	for reason, n := range stats.Drops {
		if n == 0 {
			continue
		}
		if c.Drops == nil {
			c.Drops = make(map[string]uint64)
		}
		c.Drops[reason.String()] = n
	}

	return c
}

// addCounters adds what a leg had counted before the last start, if it was
// there, to its stats.
func addCounters(stats *relay.LegStats, both *[2]store.Counters,
	leg relay.Leg) {

	if both == nil {
		return
	}
	before := &both[leg-relay.Leg1]

	stats.PacketsIn += before.PacketsIn
	stats.BytesIn += before.BytesIn
	stats.PacketsOut += before.PacketsOut
	stats.BytesOut += before.BytesOut
	stats.Accepted += before.Accepted
	stats.Resets += before.Resets
	for reason := range stats.Drops {
		stats.Drops[reason] += before.Drops[reason.String()]
	}
	if stats.LastSeen.IsZero() {
		stats.LastSeen = before.LastSeen
	}
}
