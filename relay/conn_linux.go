//go:build !portable

package relay

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// chunkSize is how many bytes are copied from one connection to the
	// other with two system calls. A pipe pays for more than that.
	chunkSize = 16 << 10

	// pulls is how often a connection is read before the others of the loop
	// get their turn.
	pulls = 8

	// connEvents is what a loop waits for at a connection, and fullEvents
	// what it waits for at one that took no more bytes. Each is told once,
	// so that a connection needs no call to wait again, and none while its
	// partner is not there or slow.
	connEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
	fullEvents = connEvents | unix.EPOLLOUT

	// hangUps are the events of a connection that has ended on one side at
	// least.
	hangUps = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

	// fullHints are the events of a connection that may take bytes again,
	// or never will.
	fullHints = unix.EPOLLOUT | unix.EPOLLHUP | unix.EPOLLERR
)

// connState is where a connection is in its life.
type connState uint8

const (
	// connUnbound means that the connection has yet to bind.
	connUnbound connState = iota

	// connWaiting means that the connection waits for a partner. Nothing is
	// read from it.
	connWaiting

	// connJoined means that it has a partner.
	connJoined

	// connLingers means that its partner is gone, and that it has not yet
	// got all that the partner has sent.
	connLingers

	// connClosed means that it is closed.
	connClosed
)

// conn is a connection at a leg. What it sends goes to its partner, which is at
// the other leg. The loop's lock guards it.
type conn struct {
	// The following fields never change.

	leg  *tcpLeg
	fd   int
	slot int32

	// src is where the connection came from.
	src netip.AddrPort

	// left is, of a connection that outlives its partner, how many bytes
	// its client had not taken when it was looked at last. This and what
	// follows changes.
	left int32

	// since is when the connection came, when it was bound, or when its
	// client last took something after its partner had gone.
	since instant

	state connState

	// handshake is how far the connection is with binding, nil if it has
	// not to, and key what it was bound by; nil if the leg is OPEN.
	handshake *connHandshake
	key       *legKey

	// peer is the partner, set while joined.
	peer *conn

	// prev and next are the neighbours in the one list that has it.
	prev, next *conn

	// pipe and rest hold what was read from the connection and did not yet
	// go to the partner: one of them at most. The pipe is borrowed.
	pipe *pipe
	rest []byte

	// readable tells that there may be something to read, hungUp that the
	// end is what comes after it, and failed that it may be no clean one.
	readable, hungUp, failed bool

	// bulk tells that bytes come in numbers that are worth a pipe, and
	// piped is how many went through one since there was nothing to read.
	bulk  bool
	piped int

	// full tells that the partner took no more.
	full bool

	// polled tells that the loop waits until the connection takes more.
	polled bool

	// queued tells that the loop comes back to the connection by itself,
	// and paced that it does when bandwidth allows.
	queued, paced bool

	// ended tells that everything was read from the connection and its
	// partner was told of the end.
	ended bool

	// gone tells that the connection takes nothing any more, and broken
	// that it ended by a reset or a silence, not by its client's close.
	gone, broken bool
}

// ready handles what happened to the connection.
func (c *conn) ready(events uint32) {
	if events&(unix.EPOLLIN|hangUps) != 0 {
		c.readable = true
	}
	if events&unix.EPOLLERR != 0 && !c.hungUp {
		c.failed = true
	}
	if events&hangUps != 0 {
		c.hungUp = true
	}

	switch c.state {
	case connUnbound:
		c.shakeHands()
		if c.state == connWaiting {
			c.readyWaiting()
		}

	case connWaiting:
		c.readyWaiting()

	case connJoined:
		c.readyJoined(events)

	case connLingers, connClosed:
	}
}

// readyWaiting is ready for a connection that waits for a partner.
func (c *conn) readyWaiting() {
	if c.hungUp && !isAlive(c.fd) {
		c.leg.drop(DropNoClient, 1)
		c.abort(c.now())
	}
}

// readyJoined is ready for a connection that has a partner.
func (c *conn) readyJoined(events uint32) {
	if events == 0 {
		c.queued = false
	}

	if c.paced && c.abortFailed() {
		return
	}

	if peer := c.peer; peer.full && events&fullHints != 0 {
		peer.full = false
		peer.pump()
	}

	if c.state == connJoined && !c.queued {
		c.pump()
	}
}

// now returns the time of the turn.
func (c *conn) now() moment {
	return c.leg.carrier.loop.at
}

// pump moves bytes from the connection to its partner, until there are no more,
// or the partner takes no more, or it is time for others.
func (c *conn) pump() {
	for range pulls {
		if c.ended || c.full || c.paced || c.peer.gone || !c.push() {
			return
		}

		if !c.readable {
			c.givePipe()

			return
		}

		if !c.pull() {
			return
		}
	}

	if !c.queued {
		loop := c.leg.carrier.loop
		loop.again = append(loop.again, c)
		c.queued = true
	}
}

// push moves what is held to the partner. It reports false if the partner did
// not take all of it.
func (c *conn) push() bool {
	for c.pipe != nil && c.pipe.held > 0 {
		n, err := c.pipe.drain(c.peer.fd)
		if !c.pushed(n, err) {
			return false
		}
	}

	for len(c.rest) > 0 {
		n, err := send(c.peer.fd, c.rest)
		if !c.pushed(n, err) {
			return false
		}
		c.rest = c.rest[n:]
	}
	c.rest = nil

	return true
}

// pushed counts bytes that the partner took. It reports false if it takes no
// more.
func (c *conn) pushed(n int, err error) bool {
	switch {
	case err == nil:
		c.leg.countOut(0, uint64(n), c.now())

		return true

	case errors.Is(err, unix.EINTR):
		return true

	case errors.Is(err, unix.EAGAIN):
		c.full = true
		c.peer.poll()

	default:
		c.leg.drop(DropSendError, 1)
		c.peer.lost(err)
	}

	return false
}

// poll makes the loop wait until the connection takes more.
func (c *conn) poll() {
	if c.polled {
		return
	}

	loop := c.leg.carrier.loop
	if err := loop.rewatch(c.fd, c.slot, fullEvents); err != nil {
		c.abort(c.now())

		return
	}
	c.polled = true
}

// pull reads from the connection. It reports false if the pair has changed, and
// there is nothing to do for the caller.
func (c *conn) pull() bool {
	allowed := c.leg.pacer.allowance(c)
	if allowed == 0 {
		return false
	}

	if c.bulk && c.takePipe() {
		n, err := c.pipe.fill(c.fd, int(min(allowed, fillSize)))
		if err == nil && n > 0 {
			c.piped += n

			return c.read(n)
		}

		// Small pieces are copied again.
		c.bulk = c.piped > chunkSize
		c.piped = 0

		return c.pulled(err)
	}

	chunk := c.leg.carrier.loop.bytes()
	chunk = chunk[:min(allowed, int64(len(chunk)))]
	n, err := receive(c.fd, chunk, 0)
	if err != nil || n == 0 {
		return c.pulled(err)
	}

	if !c.read(n) {
		return false
	}

	// A read that leaves room has read all there was, and what comes later
	// is told; but an end that was told already is not told again.
	c.bulk = n == len(chunk)
	c.readable = c.bulk || c.hungUp

	taken, err := send(c.peer.fd, chunk[:n])
	if taken < n {
		c.rest = slices.Clone(chunk[taken:n])
	}

	return c.pushed(taken, err)
}

// pulled handles a read that gave nothing.
func (c *conn) pulled(err error) bool {
	switch {
	case errors.Is(err, unix.EAGAIN):
		c.readable = false

		return true

	case errors.Is(err, unix.EINTR):
		return true

	case err != nil || c.broken:
		c.broken = true
		c.abort(c.now())

	default:
		c.end()
	}

	return false
}

// takePipe borrows a pipe unless there is one. It reports false if none is to
// be had.
func (c *conn) takePipe() bool {
	if c.pipe == nil {
		c.pipe, _ = c.leg.carrier.loop.pipes.get()
	}

	return c.pipe != nil
}

// givePipe gives a borrowed pipe back.
func (c *conn) givePipe() {
	if c.pipe != nil {
		c.leg.carrier.loop.pipes.put(c.pipe)
		c.pipe = nil
	}
}

// end tells the partner that the connection has sent everything. The bytes have
// all been passed on.
func (c *conn) end() {
	c.ended = true
	c.givePipe()

	if !c.settle() {
		// It fails if the partner is gone, which its own reads or
		// writes tell.
		_ = unix.Shutdown(c.peer.fd, unix.SHUT_WR)
	}
}

// lost handles that a write to the connection failed: it takes nothing any
// more. What it has sent before is passed on all the same.
//
// EPIPE means that its client had closed it, so that the end of what it sent is
// a clean one (Linux, tcp_reset). Any other error is told once, and would look
// like a clean end to the next read.
func (c *conn) lost(err error) {
	c.gone = true
	c.broken = c.broken || !errors.Is(err, unix.EPIPE)
	c.peer.rest = nil
	c.peer.givePipe()

	if !c.settle() {
		c.readable = true
		c.pump()
	}
}

// settle ends the pair if nothing can pass in either direction any more, and
// reports whether it did.
func (c *conn) settle() bool {
	a, b := c, c.peer
	if !a.ended && !b.gone || !b.ended && !a.gone {
		return false
	}

	c.leg.carrier.part(a, b)
	for _, conn := range []*conn{a, b} {
		other := a
		if conn == a {
			other = b
		}

		if other.gone && !conn.gone {
			conn.linger()
		} else {
			conn.close(c.now())
		}
	}

	return true
}

// abort resets the connection, and its partner if it has one.
func (c *conn) abort(at moment) {
	if peer := c.peer; peer != nil {
		c.leg.carrier.part(c, peer)
		reset(peer.fd)
		peer.forget(at)
	} else {
		c.leave()
	}

	reset(c.fd)
	c.forget(at)
}

// close closes the connection. What it was given goes on its way.
func (c *conn) close(at moment) {
	_ = unix.Close(c.fd)
	c.forget(at)
}

// leave takes a connection without a partner out of the list that has it.
func (c *conn) leave() {
	switch c.state {
	case connUnbound:
		c.leg.unawait(c)

	case connWaiting:
		c.leg.unqueue(c)

	default:
		c.leg.carrier.joined.remove(c)
	}
}

// forget counts the end of a connection that was closed.
func (c *conn) forget(at moment) {
	loop := c.leg.carrier.loop
	loop.unwatch(c.slot)
	loop.conns--

	c.givePipe()
	c.rest = nil
	if c.broken {
		c.leg.traffic.resets.Add(1)
	}
	if c.state == connLingers {
		loop.timer.drop(c)
	}

	// One that has not bound was not admitted.
	if c.state != connUnbound {
		c.leg.connClosed(at)
	}
	c.state = connClosed
	c.leg.relay.conns.Add(-1)
}
