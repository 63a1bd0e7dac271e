//go:build !portable

package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// pacer lets the connections of a leg wait for bandwidth. They get it in the
// order in which they came to wait, and those that wait cost nothing meanwhile,
// however many they are. The loop's lock guards it.
type pacer struct {
	// leg is immutable.
	leg *tcpLeg

	// waits holds the connections that wait, and turn is the one whose turn
	// it is.
	waits connList
	turn  *conn
}

// allowance returns how many bytes may be read from a connection now. If it is
// none, the connection waits, or was reset.
func (p *pacer) allowance(c *conn) int64 {
	now := c.now().now
	allowed, wait := p.leg.allowance(now)

	switch {
	case allowed == 0:

	// Who waits already comes first.
	case p.waits.count > 0 && p.turn != c:
		p.leg.drop(DropBandwidth, 1)

	default:
		return allowed
	}

	c.pace()
	if c.paced {
		p.wake(now, wait)
	}

	return 0
}

// wake gives those that wait their turn when the wait is over.
func (p *pacer) wake(now instant, wait time.Duration) {
	// It is over at the same time for many legs: each time the timer looks
	// at all.
	const step = instant(pacePause)
	end := (now.add(wait) + step - 1) / step * step

	p.leg.carrier.loop.timer.set(p, now, end)
}

// hurry ends all waits now.
func (l *loop) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()

	now := l.relay.moment().now
	for a := range l.timer.alarms {
		if p, ok := a.(*pacer); ok {
			l.timer.set(p, now, now)
		}
	}
}

// ring is called when the wait is over.
func (p *pacer) ring(instant) instant {
	loop := p.leg.carrier.loop
	loop.again = append(loop.again, p)

	return 0
}

// ready gives the connections that wait their turn, until nothing may pass any
// more. Each of them can have come to wait again then.
func (p *pacer) ready(uint32) {
	now := p.leg.carrier.loop.at.now
	for range p.waits.count {
		c := p.waits.first
		if c == nil {
			return
		}

		if wait := p.leg.noneFor(now); wait > 0 {
			p.wake(now, max(wait, pacePause))

			return
		}

		c.unpace()
		p.turn = c
		c.pump()
		p.turn = nil
	}
}

// pace lets the connection wait for bandwidth. One that was reset does not.
func (c *conn) pace() {
	c.givePipe()
	if c.abortFailed() {
		return
	}

	c.leg.carrier.joined.remove(c)
	c.leg.pacer.waits.append(c)
	c.paced = true
}

// unpace lets the connection wait no longer.
func (c *conn) unpace() {
	if !c.paced {
		return
	}

	c.leg.pacer.waits.remove(c)
	c.leg.carrier.joined.append(c)
	c.paced = false
}

// read counts bytes that were read. It reports false if they must not be passed
// on: the socket has passed all that it may, and ends.
func (c *conn) read(n int) bool {
	at := c.now()
	if !c.leg.consumed(n, at.now) {
		c.pace()

		return false
	}

	c.leg.countIn(0, uint64(n), at)

	return true
}

// abortFailed resets a connection that is not read for a while, and its
// partner, if it was reset or is given up: what it has sent before is not
// waited for. It reports whether it did.
func (c *conn) abortFailed() bool {
	if !c.failed {
		return false
	}
	c.failed = false

	// Nobody is told of the error after this. EPIPE means that the client
	// had closed the connection, so that the end is a clean one.
	errno, err := unix.GetsockoptInt(
		c.fd, unix.SOL_SOCKET, unix.SO_ERROR,
	)
	if err != nil || errno == 0 || unix.Errno(errno) == unix.EPIPE {
		return false
	}

	c.broken = true
	c.abort(c.now())

	return true
}
