package client

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	// holdTime is how long Writes wait at most for the relay to change to
	// another path. It does so within one round trip, or little more if a
	// message is lost.
	holdTime = time.Second

	// linger is how long a path that was left is read from: what the relay
	// sent before it changed may be on its way. maxLeft is how many of them
	// there may be.
	linger  = 2 * time.Second
	maxLeft = 4
)

// greeted is a path by which the relay has challenged this program.
type greeted struct {
	*path

	conn      *PacketConn
	handshake *handshake
}

// Close closes the path.
func (g *greeted) Close() error {
	g.conn.closePath(g.path)

	return nil
}

// finish binds. If it fails the path is closed.
func (g *greeted) finish(ctx context.Context) error {
	err := g.handshake.finish(ctx, wire{g.conn, g.path})
	if err != nil {
		g.conn.closePath(g.path)

		return fmt.Errorf("%v: %w", g.remote, err)
	}

	return nil
}

// greet opens a path to an address and says hello until it is challenged.
func (c *PacketConn) greet(ctx context.Context, addr netip.AddrPort) (*greeted,
	error) {

	p, err := c.openPath(ctx, addr)
	if err != nil {
		return nil, err
	}

	h := newHandshake(c.cfg.Leg, c.cfg.Token)
	if err := h.ask(ctx, wire{c, p}, 0); err != nil {
		c.closePath(p)

		return nil, err
	}

	return &greeted{path: p, conn: c, handshake: h}, nil
}

// reach opens a path to the address that answers first. The one in use is tried
// before the others, as RFC 8305, section 4, wants it of who knows one that has
// worked. Only one path ever binds, or the relay would not know
// which of them is meant.
func (c *PacketConn) reach(ctx context.Context) (*greeted, error) {
	addrs := c.cfg.Addrs
	if p := c.current.Load(); p != nil && p.remote != addrs[0] {
		addrs = slices.DeleteFunc(slices.Clone(addrs),
			func(addr netip.AddrPort) bool {
				return addr == p.remote
			})
		addrs = slices.Insert(addrs, 0, p.remote)
	}

	return race(ctx, addrs, c.greet)
}

// use makes a path, by which the relay has confirmed the bind, the one in use.
// The one before is read from for some time.
func (c *PacketConn) use(g *greeted) {
	c.mu.Lock()
	defer c.mu.Unlock()

	old := c.current.Swap(g.path)
	c.setReadDeadline(g.path)
	c.setWriteDeadline(g.path)

	if old == nil {
		return
	}

	old.readKick = true
	c.setReadDeadline(old)

	// Close has closed all paths otherwise.
	if c.closed {
		return
	}

	c.left = append(c.left, old)
	if len(c.left) > maxLeft {
		// That ends its drain.
		oldest := c.left[0]
		_ = oldest.udp.Close()
		delete(c.paths, oldest)
		c.left = slices.Delete(c.left, 0, 1)
	}
	c.workers.Go(func() { c.drain(old) })
}

// confirmed notes what a handshake, which the relay has confirmed, has told.
func (c *PacketConn) confirmed(h *handshake) {
	addr := h.observed()
	c.observed.Store(&addr)
}

// rebind binds again by the path in use.
func (c *PacketConn) rebind(ctx context.Context) error {
	w := wire{c, c.current.Load()}
	h := newHandshake(c.cfg.Leg, c.cfg.Token)

	err := h.ask(ctx, w, 0)
	if err == nil {
		err = h.finish(ctx, w)
	}
	if err != nil {
		return err
	}

	c.confirmed(h)

	return nil
}

// migrate binds by a new path and makes it the one in use.
func (c *PacketConn) migrate(ctx context.Context) error {
	g, err := c.reach(ctx)
	if err != nil {
		return err
	}

	// What is written from here on goes by the new path, if that is
	// confirmed soon.
	c.beginMoving()
	c.shutGate()
	timer := time.AfterFunc(holdTime, c.openGate)

	err = g.finish(ctx)

	if !timer.Stop() {
		c.shutGate()
	}
	if err == nil {
		c.confirmed(g.handshake)
		c.use(g)
	}
	c.openGate()

	return err
}

// shutGate makes Writes wait, also one that waits for room already.
func (c *PacketConn) shutGate() {
	p := c.current.Load()

	c.mu.Lock()
	p.writeKick = true
	c.setWriteDeadline(p)
	c.mu.Unlock()

	c.gate.Lock()

	c.mu.Lock()
	p.writeKick = false
	c.setWriteDeadline(p)
	c.mu.Unlock()
}

// openGate lets Writes go on.
func (c *PacketConn) openGate() {
	c.gate.Unlock()
}
