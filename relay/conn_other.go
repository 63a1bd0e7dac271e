//go:build !linux || portable

package relay

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// copySize is how many bytes are copied from one connection to the
	// other at once.
	copySize = 32 << 10

	// maxPause is how long a connection that was closed, and a limit that
	// was changed, may go unnoticed while bandwidth does not allow to read.
	maxPause = 100 * time.Millisecond

	// lingerTime is how long a connection outlives its partner at most.
	lingerTime = 30 * time.Second
)

// tcpConn is a connection at a leg. What it sends goes to its partner, which is
// at the other leg.
type tcpConn struct {
	// The following fields never change.

	*net.TCPConn
	leg   *tcpLeg
	src   netip.AddrPort
	since time.Time

	// key is what it was bound by; nil if the leg is OPEN. It is set when
	// the connection is admitted.
	key *legKey

	// peer is the partner. It is set when they are joined.
	peer *tcpConn

	// ended tells that everything was read from the connection and its
	// partner was told of the end. Only the goroutine that copies from it
	// writes it.
	ended bool

	// writing is held while bytes are sent to the client. It guards the
	// following fields.
	writing sync.Mutex

	// gone tells that the connection takes nothing any more, and broken
	// that it ended by a reset or a silence, not by its client's close.
	gone, broken bool
}

// copy passes on what the client sends, until it ends or its partner takes no
// more.
func (c *tcpConn) copy() {
	buffer := make([]byte, copySize)
	for {
		n, err := c.Read(buffer[:c.awaitAllowance()])
		if n == 0 {
			c.finish(err)

			return
		}

		at := c.leg.relay.moment()
		if !c.leg.consumed(n, at.now) {
			c.reset()
			c.peer.reset()

			return
		}
		c.leg.countIn(0, uint64(n), at)

		n, err = c.peer.send(buffer[:n])
		if n > 0 {
			at = c.leg.relay.moment()
			c.leg.countOut(0, uint64(n), at)
		}
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				c.leg.drop(DropSendError, 1)
			}

			return
		}
	}
}

// awaitAllowance waits until bandwidth allows to read from the connection, or
// it is closed, and returns how many bytes may be read.
func (c *tcpConn) awaitAllowance() int {
	for {
		allowed, wait := c.leg.allowance(c.leg.relay.moment().now)
		if allowed > 0 {
			return int(min(allowed, copySize))
		}

		if !c.pause(wait) {
			// The read tells that it is closed.
			return copySize
		}
	}
}

// pause waits for so long, or until there is bandwidth because a limit was
// changed. It reports false if the connection is closed.
func (c *tcpConn) pause(wait time.Duration) bool {
	for wait > 0 {
		select {
		case <-time.After(min(wait, maxPause)):
		case <-c.leg.carrier.done:
			c.reset()

			return false
		}

		// This does nothing but tell.
		if c.SetReadDeadline(time.Time{}) != nil {
			return false
		}

		owed := c.leg.noneFor(c.leg.relay.moment().now)
		wait = min(wait-maxPause, owed)
	}

	return true
}

// finish handles that there is nothing more to read. Everything that was read
// has been passed on.
func (c *tcpConn) finish(err error) {
	if errors.Is(err, io.EOF) && !c.isBroken() {
		c.ended = true

		// It fails if the partner is gone, which its own reads or
		// writes tell.
		_ = c.peer.CloseWrite()

		return
	}

	if !errors.Is(err, net.ErrClosed) {
		c.writing.Lock()
		c.broken = true
		c.writing.Unlock()
	}

	// The other goroutine of the pair ends by it.
	c.reset()
	c.peer.reset()
}

// isBroken tells whether a write was told that the connection was reset. Then
// the reads are not, and see what looks like a clean end.
func (c *tcpConn) isBroken() bool {
	// A write that waits for room would not give the lock.
	_ = c.SetWriteDeadline(time.Unix(1, 0))
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.SetWriteDeadline(time.Time{})

	return c.broken
}

// send sends bytes to the client, and returns how many it took.
func (c *tcpConn) send(data []byte) (int, error) {
	for sent := 0; ; {
		n, err := c.trySend(data[sent:])
		sent += n

		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return sent, err
		}
	}
}

// trySend is send until isBroken wants to know.
func (c *tcpConn) trySend(data []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()

	n, err := c.Write(data)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, net.ErrClosed) {

		return n, err
	}

	// EPIPE means that the client had closed the connection, so that the
	// end of what it sent is a clean one.
	c.gone = true
	c.broken = c.broken || !errors.Is(err, syscall.EPIPE)

	return n, err
}

// linger keeps a connection whose partner is gone until the client has got
// everything. A close right now would be answered to the client's bytes by a
// reset at once, in which what is on its way is lost. Nobody copies any more.
func (c *tcpConn) linger() {
	if !c.peer.gone || c.gone || c.ended {
		return
	}

	err := c.SetReadDeadline(time.Now().Add(lingerTime))
	if err == nil {
		_, err = io.Copy(io.Discard, c.TCPConn)
	}
	if err != nil {
		c.reset()
	}
}

// abort resets the connection, which has no partner. The carrier's lock is
// held.
func (c *tcpConn) abort() {
	c.reset()
	c.forget()
}

// refuse resets the connection, which has to bind. The carrier's lock is held.
func (c *tcpConn) refuse() {
	t := c.leg
	t.unbound = slices.DeleteFunc(t.unbound, func(other *tcpConn) bool {
		return other == c
	})
	t.traffic.unbound.Add(-1)

	c.reset()
	delete(t.carrier.conns, c)
	t.relay.conns.Add(-1)
}

// reset closes the connection so that its client is told of an error, not of an
// end.
func (c *tcpConn) reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// forget closes the connection, if it is not yet, and counts its end. The
// carrier's lock is held.
func (c *tcpConn) forget() {
	_ = c.Close()
	delete(c.leg.carrier.conns, c)

	if c.broken {
		c.leg.traffic.resets.Add(1)
	}

	c.leg.connClosed(c.leg.relay.moment())
	c.leg.relay.conns.Add(-1)
}
