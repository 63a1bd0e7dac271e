//go:build !portable

package relay

import (
	"errors"
	"net/netip"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"golang.org/x/sys/unix"
)

// connHandshake is the handshake of a connection. Nothing beyond its messages
// is read before the connection is bound.
type connHandshake struct {
	handshake

	// buffer holds the first bytes of the message that comes next.
	buffer [bind.Size]byte
	filled int
}

// await takes a connection that has to bind.
func (t *tcpLeg) await(fd int, src netip.AddrPort) {
	if t.countUnbound(src) >= maxUnboundPerAddr {
		t.refuse(fd, DropLimit)

		return
	}

	// Whoever keeps the places without binding loses them, the one that had
	// the most time first.
	if t.unbound.count >= maxUnbound {
		t.drop(DropBadBind, 1)
		t.unbound.first.abort(t.carrier.loop.at)
	}

	conn := t.add(fd, src, connUnbound)
	if conn == nil {
		return
	}

	conn.handshake = &connHandshake{}
	t.unbound.append(conn)
	t.traffic.unbound.Add(1)

	loop := t.carrier.loop
	loop.timer.set(t, loop.at.now, conn.since.add(bindTimeout))
}

// countUnbound returns how many connections from a client's network have to
// bind.
func (t *tcpLeg) countUnbound(src netip.AddrPort) int {
	count := 0
	for conn := t.unbound.first; conn != nil; conn = conn.next {
		if clientNet(conn.src) == clientNet(src) {
			count++
		}
	}

	return count
}

// unawait takes a connection out of those that have to bind.
func (t *tcpLeg) unawait(conn *conn) {
	t.unbound.remove(conn)
	t.traffic.unbound.Add(-1)
	conn.handshake = nil
}

// shakeHands reads messages of the handshake from the connection and answers
// them, until there are no more or it is bound.
func (c *conn) shakeHands() {
	for c.state == connUnbound {
		h := c.handshake

		n, err := receive(c.fd, h.buffer[h.filled:], 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return

		case errors.Is(err, unix.EINTR):
			continue

		case err != nil || n == 0:
			c.refuse(DropBadBind)

			return
		}

		h.filled += n
		if h.filled < len(h.buffer) {
			continue
		}
		h.filled = 0

		if !c.answer() {
			c.refuse(DropBadBind)
		}
	}
}

// refuse resets the connection, which has to bind.
func (c *conn) refuse(why DropReason) {
	c.leg.drop(why, 1)
	c.abort(c.now())
}

// answer answers the message that was received. It reports false if it is not
// the one that has to come.
func (c *conn) answer() bool {
	h := c.handshake

	var answer [bind.Size]byte
	if h.key == nil {
		reply, err := c.leg.hello(
			&h.handshake, h.buffer[:], c.src, c.now().now,
			answer[:0],
		)

		return err == nil && c.tell(reply)
	}

	reply, err := c.leg.bind(&h.handshake, h.buffer[:], answer[:0])
	if err != nil {
		return false
	}

	partner, ok := c.leg.place()
	if !ok {
		c.refuse(DropLimit)

		return true
	}
	if !c.tell(reply) {
		return false
	}

	c.key = h.key
	c.since = c.now().now
	c.leg.unawait(c)
	c.leg.admit(c, partner)

	return true
}

// tell sends an answer to the client. A connection that has no room for it was
// sent nothing else, and its client does not want it.
func (c *conn) tell(reply []byte) bool {
	n, err := send(c.fd, reply)

	return err == nil && n == len(reply)
}

// expel resets the connections of a leg that were bound by a key.
func (c *tcpCarrier) expel(l *leg, key *legKey) {
	if c.loop == nil {
		return
	}

	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()

	t := &c.legs[l.num-Leg1]
	at := c.plane.relay.moment()
	for _, list := range c.lists() {
		list.abort(at, func(conn *conn) bool {
			h := conn.handshake

			return conn.leg == t && (conn.key == key ||
				h != nil && h.key == key)
		})
	}
}

// abort resets the connections of the list that are meant, and the partners of
// those that have one.
func (l *connList) abort(at moment, isMeant func(*conn) bool) {
	for conn := l.first; conn != nil; {
		if !isMeant(conn) {
			conn = conn.next

			continue
		}

		// The end of a pair takes the partner out too, which may be the
		// next one.
		conn.abort(at)
		conn = l.first
	}
}

// expire resets the connections at the front of the list that came too long
// ago, and returns when the next one has; 0 if there is none.
func (l *connList) expire(now instant, timeout time.Duration,
	why DropReason) instant {

	for conn := l.first; conn != nil; conn = l.first {
		if end := conn.since.add(timeout); end > now {
			return end
		}

		conn.leg.drop(why, 1)
		conn.abort(conn.now())
	}

	return 0
}
