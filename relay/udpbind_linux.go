//go:build !portable

package relay

import (
	"errors"

	"github.com/socketd/socketd/relay/bind"
)

// hasSize tells whether a datagram of the message has this size.
func (a *arrival) hasSize(size int) bool {
	return a.segment == size || len(a.payload)%max(a.segment, 1) == size
}

// relayApart relays a message in which there may be messages of the handshake.
// It is taken apart only if one of its datagrams looks like one: what a client
// sends quickly one after the other, its bind too, arrives as one message if
// the sizes are the same.
func (u *udpLeg) relayApart(p *passage, a *arrival) {
	done := 0
	for at := 0; at < len(a.payload); at += a.segment {
		end := min(at+a.segment, len(a.payload))
		if !bind.IsMessage(a.payload[at:end]) {
			continue
		}

		// What came before goes first: it was sent before.
		u.relayPart(p, a, done, at)
		if !u.shakeHands(p, a, a.payload[at:end]) {
			u.relayPart(p, a, at, end)
		}
		done = end
	}

	u.relayPart(p, a, done, len(a.payload))
}

// relayPart relays a part of a message, whole datagrams or nothing.
func (u *udpLeg) relayPart(p *passage, a *arrival, from, to int) {
	if from == to {
		return
	}

	// A batch has room for as many messages as it was received in.
	if p.engine.numIov == len(p.engine.outIov) {
		u.forward(p)
	}

	part := *a
	part.payload = a.payload[from:to]
	u.relayMessage(p, &part, true)
}

// shakeHands answers a datagram that may be a message of the handshake. It
// reports false if it is payload: of the leg's client, and not authentic.
func (u *udpLeg) shakeHands(p *passage, a *arrival, raw []byte) bool {
	src, err := a.source()
	if err != nil {
		u.drop(DropStranger, 1)

		return true
	}

	isClient := p.known != nil && p.known.src == src.addr
	if why, ok := u.mayBind(src); !ok && !isClient {
		u.drop(why, 1)

		return true
	}

	// Those that came before were counted before anybody hears of this
	// one.
	u.flush(&p.in, p.at)

	reply, err := u.leg.shakeHands(raw, src, p.at, p.engine.answer[:0])
	switch {
	case errors.Is(err, errPayload) && isClient:
		return false

	case err != nil:
		u.drop(DropBadBind, 1)

		return true
	}

	p.known = u.pin.Load()
	p.engine.reply(u.port.fd, u.port.route(src), reply)

	return true
}
