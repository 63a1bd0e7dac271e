package client

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// patienceShare is the part of a keep-alive interval within which the
	// relay has to answer: 1 / patienceShare, but maxPatience at most. Then
	// something else is tried.
	patienceShare = 3
	maxPatience   = 5 * time.Second
)

// keeping is what the keeper and those who ask it for something share. It is
// guarded by the connection's mu.
type keeping struct {
	// boundFrom is when the last handshake began that the relay has
	// confirmed, and movedFrom the last one of them by a new path.
	boundFrom, movedFrom time.Time

	// changed is closed, and replaced, when these change.
	changed chan struct{}

	// movers counts the calls of Migrate that wait, and moveFrom is when
	// the last one came. isMoveNext tells that this was after the last
	// attempt began.
	movers     int
	moveFrom   time.Time
	isMoveNext bool

	// stopAttempt ends the attempt that is under way, and isMoving tells
	// that the relay may change to its path at any moment.
	stopAttempt context.CancelFunc
	isMoving    bool
}

// Rebind binds again now, and returns when the relay has confirmed it, or when
// the context ends. A program can tell by it that it is still the leg's client,
// or become it again. It is done from the same local port, unless nobody
// answers there, which has the same consequence as with a keep-alive.
func (c *PacketConn) Rebind(ctx context.Context) error {
	since := time.Now()

	return c.wrap("rebind", c.ask(ctx, func() bool {
		return c.boundFrom.After(since)
	}))
}

// Migrate takes a new local port, binds from it, and goes on there. It is for
// programs that know that their network has changed; the connection finds out
// by itself, but only when a Write or the next keep-alive fails. Nothing is
// lost but what is on its way by a path that is gone: what comes by the old
// port is read for some time, and Writes wait for the moment of the change. If
// the context ends first the connection goes on as it was.
func (c *PacketConn) Migrate(ctx context.Context) error {
	since := time.Now()

	c.beginMove(since)
	err := c.ask(ctx, func() bool {
		return c.movedFrom.After(since)
	})
	c.endMove(err)

	return c.wrap("migrate", err)
}

// beginMove makes a new path the first thing that the keeper tries from now on.
func (c *PacketConn) beginMove(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.movers++
	c.isMoveNext = true
	if now.After(c.moveFrom) {
		c.moveFrom = now
	}
	if c.stopAttempt != nil && !c.isMoving {
		c.stopAttempt()
	}
}

// endMove takes the wish for a new path back. If nobody else has it, the keeper
// stops trying to fulfil it.
func (c *PacketConn) endMove(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.movers--
	if c.movers > 0 {
		return
	}

	c.isMoveNext = false
	if err != nil && c.stopAttempt != nil {
		c.stopAttempt()
	}
}

// ask makes the keeper bind again and waits until something has come about. The
// condition is asked with mu held.
func (c *PacketConn) ask(ctx context.Context, isDone func() bool) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}

	select {
	case c.asked <- struct{}{}:
	default:
	}

	for {
		c.mu.Lock()
		isOver, changed := isDone(), c.changed
		c.mu.Unlock()

		if isOver {
			return nil
		}

		select {
		case <-changed:
		case <-c.life.Done():
			return context.Cause(c.life)

		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// tellTrouble makes the keeper bind again, because the path in use seems to be
// gone.
func (c *PacketConn) tellTrouble() {
	select {
	case c.trouble <- struct{}{}:
	default:
	}
}

// keep keeps the bind alive until the connection ends. It is the only one who
// does handshakes once the connection is there.
func (c *PacketConn) keep() {
	timer := time.NewTimer(c.cfg.KeepAlive)
	defer timer.Stop()

	for {
		select {
		case <-timer.C:
		case <-c.asked:
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

// renew binds again by the path in use, or by a new one if a program wants
// that. If nobody answers it tries both by turns until somebody does. It fails
// when the connection has ended, and when it has to end because nobody answers
// for too long.
func (c *PacketConn) renew() error {
	aliveAt := time.Now()
	move, pause := false, time.Duration(0)
	for {
		var err error
		move, err = c.attempt(move)
		switch {
		case c.life.Err() != nil:
			return context.Cause(c.life)

		// It is there by the old path, and a program wants a new one.
		case err == nil && !move && c.isMoveWanted():
			aliveAt = time.Now()

		case err == nil:
			return nil

		// It was stopped for what is to be done now.
		case errors.Is(err, context.Canceled):
			move = false

			continue

		case time.Since(aliveAt) < c.cfg.Timeout:

		case errors.Is(err, ErrUnbound):
			return fmt.Errorf("%w: no keep-alive was answered for "+
				"%v", ErrUnbound, c.cfg.Timeout)

		default:
			return fmt.Errorf("%w: no keep-alive could be sent "+
				"for %v: %w", ErrUnbound, c.cfg.Timeout, err)
		}
		move = !move

		// An attempt that ran out of time has waited long enough.
		if !errors.Is(err, ErrUnbound) {
			c.wait(pause)
			pause = min(max(2*pause, firstWait), maxWait)
		}
	}
}

// attempt does one handshake, by a new path if that is the turn or if a program
// wants it now, and tells which it was. It must not take long.
func (c *PacketConn) attempt(move bool) (bool, error) {
	began := time.Now()
	patience := min(c.cfg.KeepAlive/patienceShare, maxPatience)
	ctx, cancel := context.WithTimeout(c.life, patience)
	defer cancel()

	c.mu.Lock()
	move = move || c.isMoveNext
	c.isMoveNext = false
	c.stopAttempt = cancel
	c.mu.Unlock()

	shake := c.rebind
	if move {
		shake = c.migrate
	}
	err := shake(ctx)

	c.mu.Lock()
	defer c.mu.Unlock()

	c.stopAttempt, c.isMoving = nil, false
	if err != nil {
		return move, err
	}

	c.boundFrom = began
	if move {
		c.movedFrom = began
	}
	close(c.changed)
	c.changed = make(chan struct{})

	return move, nil
}

// isMoveWanted tells whether a program waits for a new path and does not have
// it yet.
func (c *PacketConn) isMoveWanted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.movers > 0 && !c.movedFrom.After(c.moveFrom)
}

// beginMoving notes that the relay may change to another path from now on.
func (c *PacketConn) beginMoving() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.isMoving = true
}

// wait waits, unless the connection ends or a program asks for something.
func (c *PacketConn) wait(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()

	select {
	case <-timer.C:
	case <-c.asked:
	case <-c.life.Done():
	}
}
