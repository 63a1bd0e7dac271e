package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	// holdTime is how long Writes wait for the relay to change to another
	// path. It does so within one round trip if the network is well.
	holdTime = 250 * time.Millisecond

	// linger is how long a path that was left is read from: what the relay
	// sent before it changed may be on its way.
	linger = 2 * time.Second

	// patience is the part of a keep-alive interval within which the relay
	// has to answer: 1 / patience. Then another path is tried.
	patience = 3
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
// before the others. Only one path ever binds, or the relay would not know
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
	c.confirmed(g.handshake)

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
	if !c.closed {
		c.workers.Go(func() { c.drain(old) })
	}
}

// confirmed notes what the relay has confirmed.
func (c *PacketConn) confirmed(h *handshake) {
	addr := h.observed()
	c.observed.Store(&addr)

	c.mu.Lock()
	defer c.mu.Unlock()

	c.boundAt = time.Now()
}

// Rebind binds again now, from the same local port, and returns when the relay
// has confirmed it, or when the context ends. A program can tell by it that it
// is still the leg's client, or become it again. If it fails the connection
// goes on as it was.
func (c *PacketConn) Rebind(ctx context.Context) error {
	return c.wrap("rebind", c.inTurn(ctx, c.rebind))
}

// Migrate takes a new local port, binds from it, and goes on there. It is for
// programs that know that their network has changed; the connection finds out
// by itself, but only when the next keep-alive fails. Nothing is lost but what
// is on its way by a path that is gone: what comes by the old port is read for
// some time, and Writes wait for the moment of the change. If it fails the
// connection goes on as it was.
func (c *PacketConn) Migrate(ctx context.Context) error {
	return c.wrap("migrate", c.inTurn(ctx, c.migrate))
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
	c.shutGate()
	timer := time.AfterFunc(holdTime, c.openGate)

	err = g.finish(ctx)

	if !timer.Stop() {
		c.shutGate()
	}
	if err == nil {
		c.use(g)
	}
	c.openGate()

	// The relay may have changed to the new path, and its answer be lost.
	if err != nil {
		c.tellTrouble()
	}

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

// inTurn does a handshake for the program, when no other is under way. One of
// the keeper makes room for it.
func (c *PacketConn) inTurn(ctx context.Context,
	shake func(context.Context) error) error {

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.life, func() {
		cancel(context.Cause(c.life))
	})()

	c.ask(1)
	var err error
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		err = ended(ctx)
	}
	c.ask(-1)

	if err != nil {
		return err
	}
	defer func() { <-c.turn }()

	return shake(ctx)
}

// ask counts those who want their turn.
func (c *PacketConn) ask(change int) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.asking += change
	if change > 0 && c.stopAttempt != nil {
		c.stopAttempt()
	}
}

// tellTrouble makes the keeper bind again now.
func (c *PacketConn) tellTrouble() {
	select {
	case c.trouble <- struct{}{}:
	default:
	}
}

// keep keeps the bind alive until the connection ends.
func (c *PacketConn) keep() {
	defer c.workers.Done()

	timer := time.NewTimer(c.cfg.KeepAlive)
	defer timer.Stop()

	for {
		select {
		case <-timer.C:
		case <-c.trouble:
		case <-c.life.Done():
			return
		}

		if err := c.renew(); err != nil {
			c.end(err)

			return
		}
		timer.Reset(c.cfg.KeepAlive)
	}
}

// renew binds again by the path in use, and if that fails by new ones until it
// succeeds. It fails when the connection has ended, and when it has to end
// because nobody answers.
func (c *PacketConn) renew() error {
	began := time.Now()
	shake, pause := c.rebind, time.Duration(0)
	for {
		err := c.attempt(shake, began)
		switch {
		case c.life.Err() != nil:
			return context.Cause(c.life)

		case err == nil:
			c.forgetTrouble()

			return nil

		case time.Since(began) < c.cfg.Timeout:

		case errors.Is(err, ErrUnbound):
			return fmt.Errorf("%w: no keep-alive was answered for "+
				"%v", ErrUnbound, c.cfg.Timeout)

		default:
			return fmt.Errorf("%w: no keep-alive could be sent "+
				"for %v: %w", ErrUnbound, c.cfg.Timeout, err)
		}
		shake = c.migrate

		// An attempt that ran out of time has waited long enough.
		if !errors.Is(err, ErrUnbound) {
			c.wait(pause)
			pause = min(max(2*pause, firstWait), maxWait)
		}
	}
}

// forgetTrouble forgets what was told of a path before it was confirmed or
// left.
func (c *PacketConn) forgetTrouble() {
	select {
	case <-c.trouble:
	default:
	}
}

// attempt does a handshake for the keeper, which must not take long. None is
// needed if the program has done one since the keeper began.
func (c *PacketConn) attempt(shake func(context.Context) error,
	began time.Time) error {

	ctx, cancel := context.WithTimeout(c.life, c.cfg.KeepAlive/patience)
	defer cancel()

	// The program's handshake is not answered either, while it lasts.
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ended(ctx)
	}
	defer func() { <-c.turn }()

	if c.isBoundSince(began) {
		return nil
	}
	if !c.setAttempt(cancel) {
		return context.Canceled
	}
	defer c.setAttempt(nil)

	return shake(ctx)
}

// setAttempt says how to end the keeper's handshake. It reports false if there
// should be none.
func (c *PacketConn) setAttempt(stop context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.stopAttempt = stop

	return c.asking == 0
}

// isBoundSince tells whether the relay has confirmed a bind since some time.
func (c *PacketConn) isBoundSince(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.boundAt.After(since)
}

// wait waits, unless the connection ends.
func (c *PacketConn) wait(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()

	select {
	case <-timer.C:
	case <-c.life.Done():
	}
}
