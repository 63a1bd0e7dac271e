//go:build !linux || portable

package relay

import (
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

// await takes a connection that has to bind. The carrier's lock is held.
func (t *tcpLeg) await(conn *tcpConn) {
	// Whoever keeps the places without binding loses them, the one that had
	// the most time first.
	if len(t.unbound) >= maxUnbound {
		t.drop(DropBadBind, 1)
		t.unbound[0].refuse()
	}

	t.unbound = append(t.unbound, conn)
	t.traffic.unbound.Add(1)
	t.carrier.group.Go(conn.shakeHands)
}

// countUnbound returns how many connections from a client's network have to
// bind. The carrier's lock is held.
func (t *tcpLeg) countUnbound(src netip.AddrPort) int {
	count := 0
	for _, conn := range t.unbound {
		if clientNet(conn.src) == clientNet(src) {
			count++
		}
	}

	return count
}

// shakeHands reads the messages of the handshake from the connection and
// answers them. Nothing beyond them is read.
func (c *tcpConn) shakeHands() {
	h, reply, ok := c.exchange()

	t := c.leg
	t.carrier.mu.Lock()
	defer t.carrier.mu.Unlock()

	// Somebody else took its place, or the end has come.
	if !slices.Contains(t.unbound, c) {
		return
	}

	switch {
	// The token may have been revoked meanwhile.
	case !ok || !t.keys.has(h.key):
		t.drop(DropBadBind, 1)
		c.refuse()

		return

	case !t.hasRoom():
		t.drop(DropLimit, 1)
		c.refuse()

		return
	}

	// It does not wait: nothing else was sent but the challenge.
	_, err := c.Write(reply)
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		t.drop(DropBadBind, 1)
		c.refuse()

		return
	}

	t.unbound = slices.DeleteFunc(t.unbound, func(other *tcpConn) bool {
		return other == c
	})
	t.traffic.unbound.Add(-1)

	c.key = h.key
	c.since = time.Now()
	t.admit(c, t.relay.moment())

	// The goroutine that accepts has planned for a queue without it.
	t.planSweepLocked()
}

// exchange does the handshake up to its last message, which it returns. It
// reports false if the connection is not bound by it.
func (c *tcpConn) exchange() (handshake, []byte, bool) {
	var (
		h   handshake
		raw [bind.Size]byte
	)

	err := c.SetDeadline(c.since.Add(bindTimeout))
	if err == nil {
		_, err = io.ReadFull(c, raw[:])
	}
	if err != nil {
		return h, nil, false
	}

	now := c.leg.relay.moment().now
	reply, err := c.leg.hello(&h, raw[:], c.src, now, nil)
	if err == nil {
		_, err = c.Write(reply)
	}
	if err == nil {
		_, err = io.ReadFull(c, raw[:])
	}
	if err == nil {
		reply, err = c.leg.bind(&h, raw[:], nil)
	}

	return h, reply, err == nil
}

// expel resets the connections of a leg that were bound by a key.
func (c *tcpCarrier) expel(l *leg, key *legKey) {
	c.mu.Lock()
	defer c.mu.Unlock()

	t := &c.legs[l.num-Leg1]
	t.queue = slices.DeleteFunc(t.queue, func(conn *tcpConn) bool {
		if conn.key != key {
			return false
		}

		t.traffic.waiting.Add(-1)
		conn.abort()

		return true
	})

	// The goroutines of the pairs see to the rest.
	for conn := range c.conns {
		if conn.leg == t && conn.key == key {
			conn.reset()
			conn.peer.reset()
		}
	}
}

// has tells whether a key is there.
func (k *keyring) has(key *legKey) bool {
	k.mu.Lock()
	defer k.mu.Unlock()

	return k.find(key.token) == key
}
