package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

// maxDatagram is the longest payload of a UDP datagram, in bytes.
const maxDatagram = 1<<16 - 1

// maxReplies is how many messages of the handshake may wait for whoever asked.
const maxReplies = 4

// errKicked means that whoever read was told to stop.
var errKicked = errors.New("kicked")

// past is a deadline that is over.
var past = time.Unix(0, 1)

// buffers lends buffers of maxDatagram bytes.
var buffers = sync.Pool{New: func() any {
	return new([maxDatagram]byte)
}}

// path is one way to the relay: a local port, connected to one address of the
// leg, so that the system lets nothing in that comes from elsewhere.
//
// A program's Read reads from the socket itself, and takes messages of the
// handshake out of what comes. While no Read is under way somebody else has to,
// or no answer would be seen: that is the pump, which keeps the payloads for
// later. Whoever reads holds mu. A pump gives way to a Read.
type path struct {
	// udp and remote are immutable.
	udp    *net.UDPConn
	remote netip.AddrPort

	// replies has the messages that a Read found.
	replies chan bind.Message

	// waiting counts the Reads that want mu, and pumping tells that a pump
	// has it.
	waiting atomic.Int32
	pumping atomic.Bool

	// mu guards key and short, and is held by whoever reads from udp.
	mu sync.Mutex

	// key authenticates what comes.
	key *bind.Key

	// short is where Read receives for a program that has no room for a
	// whole message, and one byte more to see that it is none.
	short [bind.Size + 1]byte

	// The connection's mu guards the following fields, and the deadlines of
	// udp.

	// readKick ends what waits to read from udp, and writeKick what waits
	// to write to it.
	readKick, writeKick bool

	// until is the deadline of the pump.
	until time.Time

	// asking tells that a message of the handshake is being sent, which no
	// deadline of the program's holds up.
	asking bool
}

// openPath connects a new local port to an address of the leg.
func (c *PacketConn) openPath(ctx context.Context,
	addr netip.AddrPort) (*path, error) {

	var dialer net.Dialer
	conn, err := dialer.DialUDP(ctx, "udp", netip.AddrPort{}, addr)
	switch {
	case err == nil:

	case ctx.Err() != nil:
		return nil, ended(ctx)

	default:
		return nil, err
	}

	if c.cfg.Buffer > 0 {
		// The system gives what it allows.
		_ = conn.SetReadBuffer(c.cfg.Buffer)
		_ = conn.SetWriteBuffer(c.cfg.Buffer)
	}

	p := &path{
		udp:     conn,
		remote:  addr,
		replies: make(chan bind.Message, maxReplies),
		key:     bind.NewKey(c.cfg.Leg, c.cfg.Token),
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	c.paths[p] = struct{}{}

	return p, nil
}

// closePath closes a path that nobody reads from any more.
func (c *PacketConn) closePath(p *path) {
	c.mu.Lock()
	defer c.mu.Unlock()

	delete(c.paths, p)
	c.left = slices.DeleteFunc(c.left, func(left *path) bool {
		return left == p
	})
	_ = p.udp.Close()
}

// setReadDeadline sets the deadline of who reads from a path. The connection's
// mu is held. A path that is closed has none.
func (c *PacketConn) setReadDeadline(p *path) {
	deadline := c.readDeadline
	switch {
	case p.readKick:
		deadline = past

	case p.pumping.Load():
		deadline = p.until
	}

	_ = p.udp.SetReadDeadline(deadline)
}

// setWriteDeadline sets the deadline of who writes to a path. The connection's
// mu is held.
func (c *PacketConn) setWriteDeadline(p *path) {
	deadline := c.writeDeadline
	switch {
	case p.asking:
		deadline = time.Time{}

	case p.writeKick:
		deadline = past
	}

	_ = p.udp.SetWriteDeadline(deadline)
}

// kick makes whoever reads from a path look for what is new. If nobody reads,
// it is the next one who does.
func (c *PacketConn) kick(p *path) {
	c.mu.Lock()
	defer c.mu.Unlock()

	p.readKick = true
	c.setReadDeadline(p)
}

// enter makes the caller the one who reads from the path in use. It gives that
// up by unlocking the path's mu.
func (c *PacketConn) enter() *path {
	p := c.current.Load()

	// Either the pump sees that somebody waits, or it is seen here.
	p.waiting.Add(1)
	if p.pumping.Load() {
		c.kick(p)
	}
	p.mu.Lock()
	p.waiting.Add(-1)

	return p
}

// beginPump makes the holder of a path's mu its pump, until a time or until it
// is kicked. It reports false if it should not be.
func (c *PacketConn) beginPump(ctx context.Context, p *path,
	until time.Time) bool {

	c.mu.Lock()
	defer c.mu.Unlock()

	// Kicks were for others before. The one that follows the context's end
	// comes later, or it has ended already.
	p.readKick = false
	p.until = until
	p.pumping.Store(true)
	if p.waiting.Load() > 0 || ctx.Err() != nil {
		p.pumping.Store(false)
		c.setReadDeadline(p)

		return false
	}
	c.setReadDeadline(p)

	return true
}

// endPump ends what beginPump began.
func (c *PacketConn) endPump(p *path) {
	c.mu.Lock()
	defer c.mu.Unlock()

	p.pumping.Store(false)
	c.setReadDeadline(p)
}

// pump reads from a path, of which the caller holds mu, until a message of the
// handshake comes, and keeps the payloads. It fails with errSilent when the
// time is over, and with errKicked when a Read wants to go on or the context
// has ended, which the caller has to see to.
func (c *PacketConn) pump(ctx context.Context, p *path,
	until time.Time) (bind.Message, error) {

	if !c.beginPump(ctx, p, until) {
		return bind.Message{}, errKicked
	}
	defer c.endPump(p)

	buffer := buffers.Get().(*[maxDatagram]byte)
	defer buffers.Put(buffer)

	for {
		n, err := p.udp.Read(buffer[:])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if time.Now().Before(until) {
				return bind.Message{}, errKicked
			}

			return bind.Message{}, errSilent

		case err != nil && isBroken(err):
			return bind.Message{}, err

		case err != nil:
			continue
		}

		if m, ok := authentic(p.key, buffer[:n]); ok {
			return m, nil
		}

		c.queue.push(buffer[:n])
		c.tellQueued(p)
	}
}

// tellQueued tells a Read that waits at another path than the one which a
// payload came by. One that waits at this path is let in soon.
func (c *PacketConn) tellQueued(from *path) {
	if current := c.current.Load(); current != nil && current != from {
		c.kick(current)
	}
}

// wire carries the messages of a handshake over a path.
type wire struct {
	conn *PacketConn
	path *path
}

// send sends a message. That nobody is at the relay's port is no error: it may
// be back soon.
func (w wire) send(message []byte) error {
	w.setAsking(true)
	_, err := w.path.udp.Write(message)
	w.setAsking(false)

	if isRefused(err) {
		return nil
	}

	return err
}

// setAsking says that a message is being sent.
func (w wire) setAsking(asking bool) {
	w.conn.mu.Lock()
	defer w.conn.mu.Unlock()

	w.path.asking = asking
	w.conn.setWriteDeadline(w.path)
}

// receive waits for the next authentic message: from a Read if one is under
// way, else as the pump.
func (w wire) receive(ctx context.Context, until time.Time) (bind.Message,
	error) {

	c, p := w.conn, w.path

	defer context.AfterFunc(ctx, func() { c.kick(p) })()

	if p.mu.TryLock() {
		m, err := w.receiveSelf(ctx, until)
		p.mu.Unlock()
		if !errors.Is(err, errKicked) {
			return m, err
		}
	}

	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()

	select {
	case m := <-p.replies:
		return m, nil

	case <-timer.C:
		return bind.Message{}, errSilent

	case <-ctx.Done():
		return bind.Message{}, ended(ctx)
	}
}

// receiveSelf is receive for the holder of the path's mu.
func (w wire) receiveSelf(ctx context.Context, until time.Time) (bind.Message,
	error) {

	select {
	// The last Read has found it.
	case m := <-w.path.replies:
		return m, nil

	default:
		return w.conn.pump(ctx, w.path, until)
	}
}

// drain reads what still comes by a path that was left, for some time, and
// closes it.
func (c *PacketConn) drain(p *path) {
	until := time.Now().Add(linger)
	for {
		p.mu.Lock()
		_, err := c.pump(c.life, p, until)
		p.mu.Unlock()

		if err != nil && (!errors.Is(err, errKicked) ||
			c.life.Err() != nil) {

			break
		}
	}

	c.closePath(p)
}
