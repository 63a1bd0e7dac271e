package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
)

// host opens the sockets that other nodes request. It is immutable once the
// server is put together.
type host struct {
	sockets  *sockets
	accounts *accounts
}

// A compile-time check that host is what the offers need.
var _ offer.Host = (*host)(nil)

// Open opens a socket that a request asks for, unless it is open already.
func (h *host) Open(_ context.Context, order offer.Order) (offer.Hosted,
	error) {

	id := relay.ID(order.SocketID)
	socket, err := h.sockets.find(id)
	if errors.Is(err, errNoSocket) {
		opts := h.sockets.defaults.hosted(&order, time.Now())
		opts.ID = id
		socket, err = h.sockets.start(opts, order.Label)
	}
	switch {
	case isNoRoom(err):
		return offer.Hosted{}, fmt.Errorf("%w: %w", offer.ErrNoRoom,
			err)

	case err != nil:
		return offer.Hosted{}, err
	}

	h.accounts.charge(socket, order.Peer)

	// Before it is offered: the far end may use it at once.
	for _, leg := range legsOf(order.Legs) {
		socket.Watch(leg)
	}

	return offer.Hosted{
		Addrs:     h.sockets.addrs,
		Port1:     socket.Port(relay.Leg1),
		Port2:     socket.Port(relay.Leg2),
		ExpiresAt: socket.Options().ExpiresAt,
	}, nil
}

// Close ends a socket, if it is there.
func (h *host) Close(ctx context.Context, socketID offer.ID) error {
	err := h.sockets.stop(ctx, relay.ID(socketID))
	if errors.Is(err, errNoSocket) {
		return nil
	}

	return err
}

// hosted returns the options of a socket that a request asks for. What it does
// not say is as in a socket of our own. No limit is above the policy's, or
// where that has none, above that of a socket of our own.
func (d *socketDefaults) hosted(order *offer.Order,
	now time.Time) relay.Options {

	asked := order.Limits
	protocol := relay.Protocol(order.Protocol)
	most := d.limits(protocol)

	// How fast and how long is for the policy to say: who is asked to come
	// may take longer than a socket of our own would wait.
	bandwidth := cmp.Or(asked.Bandwidth, most.Bandwidth)
	idle := cmp.Or(asked.IdleTimeout, uint64(d.idle/time.Second))
	lifetime := cmp.Or(asked.Lifetime, uint64(d.lifetime/time.Second))

	limits := relay.Limits{
		Bandwidth:  within(bandwidth, order.MaxBandwidth),
		Packets:    within(asked.Packets, most.Packets),
		TotalBytes: within(asked.TotalBytes, most.TotalBytes),
	}
	if protocol == relay.TCP {
		limits.Pairs = int(within(asked.Pairs, uint64(d.maxPairs)))
	}

	return relay.Options{
		Protocol:    protocol,
		Admission:   relay.Admission(order.Admission),
		Limits:      limits,
		IdleTimeout: withinTime(idle, order.MaxLifetime),
		ExpiresAt:   now.Add(withinTime(lifetime, order.MaxLifetime)),
	}
}

// within returns a limit that was asked for, but no more than there may be. 0
// is none in both cases.
func within(asked, most uint64) uint64 {
	switch {
	case asked == 0:
		return most

	case most == 0:
		return asked
	}

	return min(asked, most)
}

// withinTime is within for a time that is asked for in seconds.
func withinTime(asked uint64, most time.Duration) time.Duration {
	seconds := min(asked, maxSeconds)

	return time.Duration(within(
		uint64(time.Duration(seconds)*time.Second), uint64(most),
	))
}
