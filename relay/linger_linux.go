//go:build !portable

package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lingerTick is how often a connection that outlives its partner is
	// looked at, and lingerTime for how long at most after its client last
	// took something.
	lingerTick = 100 * time.Millisecond
	lingerTime = 30 * time.Second
)

// linger keeps a connection whose partner is gone until it has got everything
// that the partner has sent, and resets it then: its own bytes are not wanted.
// A close right now would be answered to them by a reset at once, in which what
// is on its way is lost.
func (c *conn) linger() {
	c.state = connLingers
	c.givePipe()
	c.rest = nil
	c.leg.carrier.joined.append(c)

	loop := c.leg.carrier.loop
	c.since = loop.at.now
	if at := c.ring(loop.at.now); at != 0 {
		loop.timer.set(c, loop.at.now, at)
	}
}

// ring looks whether a connection that lingers has got everything.
func (c *conn) ring(now instant) instant {
	left, err := unix.IoctlGetInt(c.fd, unix.SIOCOUTQ)
	if left < int(c.left) {
		c.since = now
	}
	c.left = int32(left)

	if err == nil && left > 0 && now.sub(c.since) < lingerTime {
		return now.add(lingerTick)
	}

	c.abort(c.now())

	return 0
}
