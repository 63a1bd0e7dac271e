//go:build !portable

package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxAccepts is how many connections are taken from a port before the
	// others of the loop get their turn.
	maxAccepts = 64

	// pauseTime is how long a port takes no connection after the system had
	// no descriptor for one.
	pauseTime = 100 * time.Millisecond
)

// tcpCarrier carries the connections of one socket: it accepts them at both
// ports, joins the first that waits at one with the first at the other, and so
// on. The loop's lock guards everything that changes.
type tcpCarrier struct {
	// The following fields are immutable.

	plane    *plane
	socket   *Socket
	legs     [2]tcpLeg
	maxPairs int

	// loop serves the socket from start to stop. It is nil before.
	loop *loop

	// pairs is the number of pairs that are joined.
	pairs int

	// makingRoom is set while one leg lets the other accept, so that
	// connections keep their order.
	makingRoom bool

	// joined holds the connections that have a partner and do not wait for
	// bandwidth, and those that outlive their partner.
	joined connList
}

// tcpLeg accepts connections at one leg.
type tcpLeg struct {
	// The following fields are set by newTCPCarrier and start, and never
	// change after.

	*leg
	carrier *tcpCarrier
	other   *tcpLeg

	// slot is the leg's place in the loop.
	slot int32

	// watching tells that the loop waits for the port, and paused that it
	// waits for nothing that happens there.
	watching, paused bool

	// failures is the number of accepts that failed one after the other,
	// and short tells that the last one failed for want of a descriptor.
	failures int
	short    bool

	// queue holds the connections that wait for a partner, the first to
	// come in front.
	queue connList

	// unbound holds the connections that have yet to bind, the first to
	// come in front.
	unbound connList

	// pacer lets connections wait for bandwidth.
	pacer pacer

	// madeRoom is the time of the turn that makeRoom was called in last.
	madeRoom instant
}

// newTCPCarrier returns the carrier of a TCP socket.
func newTCPCarrier(p *plane, s *Socket) *tcpCarrier {
	c := &tcpCarrier{plane: p, socket: s, maxPairs: s.maxPairs()}
	for i := range c.legs {
		c.legs[i] = tcpLeg{
			leg:     s.legs[i],
			carrier: c,
			other:   &c.legs[1-i],
		}
		c.legs[i].pacer.leg = &c.legs[i]
	}

	return c
}

// start begins to accept.
func (c *tcpCarrier) start() error {
	loop, err := c.plane.pick()
	if err != nil {
		return err
	}

	loop.mu.Lock()
	defer loop.mu.Unlock()

	c.loop = loop
	for i := range c.legs {
		t := &c.legs[i]

		t.slot, err = loop.watch(t.port.fd, unix.EPOLLIN, t)
		if err != nil {
			return err
		}
		t.watching = true
	}

	return nil
}

// stop ends the ports and the connections. Those whose bytes have not all
// passed are reset, so that no client takes a part for the whole.
func (c *tcpCarrier) stop() error {
	if c.loop == nil {
		return c.close()
	}
	defer c.plane.leave(c.loop)

	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()

	at := c.plane.relay.moment()
	for _, list := range c.lists() {
		list.abort(at, func(*conn) bool { return true })
	}

	return errors.Join(c.close(), c.loop.trimPipes())
}

// close closes the ports.
func (c *tcpCarrier) close() error {
	var failed error
	for i := range c.legs {
		t := &c.legs[i]

		if c.loop != nil {
			c.loop.timer.drop(t)
			c.loop.timer.drop(&t.pacer)
		}
		t.unwatch()
		failed = errors.Join(failed, t.port.close())
	}

	return failed
}

// unwatch makes the loop wait for the port no longer.
func (t *tcpLeg) unwatch() {
	if t.watching {
		t.carrier.loop.unwatch(t.slot)
		t.watching = false
	}
}

// ready accepts the connections that have arrived at the port.
func (t *tcpLeg) ready(uint32) {
	var buffer [unix.SizeofSockaddrInet6]byte

	for range maxAccepts {
		fd, name, err := accept(t.port.fd, buffer[:])
		switch {
		case err == nil:
			t.failures, t.short = 0, false
			t.accepted(fd, name)

		case errors.Is(err, unix.EAGAIN):
			return

		case isShortage(err):
			// Once for each shortage: nobody is refused.
			if !t.short {
				t.drop(DropLimit, 1)
			}
			t.short = true
			t.pause()

			return

		case t.failed(err):
			return
		}
	}
}

// failed counts an accept that failed, and reports whether the port is dead. It
// is after many: before that a client may have gone away, or was told by ICMP
// to.
func (t *tcpLeg) failed(err error) bool {
	t.failures++
	if t.failures < maxReadFailures {
		return false
	}

	port := t.port
	_ = t.carrier.loop.control(unix.EPOLL_CTL_DEL, port.fd, t.slot, 0)
	t.unwatch()

	t.carrier.socket.fail(port, fmt.Errorf("%d accepts failed: %w",
		t.failures, err))

	return true
}

// isShortage tells whether the system has no room for a connection, which stays
// where it is.
func isShortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) ||
		errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// pause stops accepting for a while: the loop would find the port ready again
// and again.
func (t *tcpLeg) pause() {
	loop := t.carrier.loop
	if err := loop.rewatch(t.port.fd, t.slot, 0); err != nil {
		return
	}

	t.paused = true
	loop.timer.set(t, loop.at.now, loop.at.now.add(pauseTime))
}

// ring ends a pause, and the waits that took too long.
func (t *tcpLeg) ring(now instant) instant {
	loop := t.carrier.loop

	if t.paused {
		t.paused = false
		_ = loop.rewatch(t.port.fd, t.slot, unix.EPOLLIN)
	}

	return sooner(
		t.unbound.expire(now, bindTimeout, DropBadBind),
		t.queue.expire(now, t.relay.cfg.WaitTimeout, DropNoClient),
	)
}

// sooner returns the earlier of two times, of which 0 is none.
func sooner(a, b instant) instant {
	if a == 0 || b != 0 && b < a {
		return b
	}

	return a
}

// accepted decides on a connection that was accepted.
func (t *tcpLeg) accepted(fd int, name []byte) {
	src, err := parseName(name)
	if err != nil {
		t.drop(DropStranger, 1)
		reset(fd)

		return
	}

	// Whoever may not be the client does not learn whether there is room.
	t.relay.conns.Add(1)
	if why, ok := t.check(src); !ok {
		t.refuse(fd, why)

		return
	}

	if t.relay.conns.Load() > int64(t.relay.cfg.MaxConns) {
		t.refuse(fd, DropLimit)

		return
	}

	if t.keys != nil {
		t.await(fd, src)

		return
	}

	if !isAlive(fd) {
		t.refuse(fd, DropNoClient)

		return
	}

	partner, ok := t.place()
	if !ok {
		t.refuse(fd, DropLimit)

		return
	}

	if conn := t.add(fd, src, connWaiting); conn != nil {
		t.admit(conn, partner)
	}
}

// check tells whether a connection from an address may be the client's, or has
// to show it, and if not why.
func (t *tcpLeg) check(src netip.AddrPort) (DropReason, bool) {
	if t.keys != nil {
		return t.mayCome(src)
	}

	return t.mayJoin(src, t.carrier.loop.at.now)
}

// place returns the partner of a new connection, nil if it has to wait for one,
// and false if it may not do that either.
func (t *tcpLeg) place() (*conn, bool) {
	partner := t.partner()
	if partner == nil && t.isFull() {
		t.makeRoom()
		partner = t.partner()
	}

	return partner, partner != nil || !t.isFull()
}

// isFull tells whether as many connections as may wait at the leg do.
func (t *tcpLeg) isFull() bool {
	return t.queue.count >= t.relay.cfg.MaxWaiting
}

// makeRoom looks once in a turn whether the connections that wait still have
// to: some may have hung up, and partners of others may have arrived at the
// other leg as long ago as the one that finds no room here.
func (t *tcpLeg) makeRoom() {
	c, now := t.carrier, t.carrier.loop.at.now
	if t.madeRoom == now || c.makingRoom {
		return
	}
	t.madeRoom = now

	var next *conn
	for conn := t.queue.first; conn != nil; conn = next {
		next = conn.next
		if !isAlive(conn.fd) {
			t.drop(DropNoClient, 1)
			conn.abort(c.loop.at)
		}
	}

	// What arrives here meanwhile is younger than the one that needs room.
	c.makingRoom = true
	t.other.ready(0)
	c.makingRoom = false
}

// refuse resets a connection that is not admitted.
func (t *tcpLeg) refuse(fd int, why DropReason) {
	t.drop(why, 1)
	t.relay.conns.Add(-1)
	reset(fd)
}

// add makes the loop wait for a connection. It returns nil if that failed, and
// the connection was refused.
func (t *tcpLeg) add(fd int, src netip.AddrPort, state connState) *conn {
	loop := t.carrier.loop

	conn := &conn{
		fd: fd, leg: t, src: src, state: state, since: loop.at.now,
	}
	slot, err := loop.watch(fd, connEvents, conn)
	if err != nil {
		t.refuse(fd, DropLimit)

		return nil
	}
	conn.slot = slot
	loop.conns++

	return conn
}

// admit admits a connection, and joins it with its partner, or lets it wait if
// there is none.
func (t *tcpLeg) admit(conn, partner *conn) {
	conn.state = connWaiting
	t.admitConn(conn.src, conn.key, t.carrier.loop.at)

	if partner == nil {
		t.wait(conn)

		return
	}

	t.other.unqueue(partner)
	t.carrier.join(partner, conn)
}

// wait puts a connection at the end of the queue.
func (t *tcpLeg) wait(conn *conn) {
	loop := t.carrier.loop

	t.queue.append(conn)
	t.traffic.waiting.Add(1)

	end := conn.since.add(t.relay.cfg.WaitTimeout)
	loop.timer.set(t, loop.at.now, end)
}

// unqueue takes a connection out of the queue.
func (t *tcpLeg) unqueue(conn *conn) {
	t.queue.remove(conn)
	t.traffic.waiting.Add(-1)
}

// partner returns the connection at the other leg that a new one here is to be
// joined with; nil if it has to wait. Those that have hung up are dropped.
func (t *tcpLeg) partner() *conn {
	if t.carrier.pairs >= t.carrier.maxPairs {
		return nil
	}

	// Who came here before comes first.
	if t.queue.count > 0 {
		return nil
	}

	return t.other.next()
}

// next returns the first connection that waits and has not hung up; nil if
// there is none.
func (t *tcpLeg) next() *conn {
	for conn := t.queue.first; conn != nil; conn = t.queue.first {
		if isAlive(conn.fd) {
			return conn
		}

		t.drop(DropNoClient, 1)
		conn.abort(t.carrier.loop.at)
	}

	return nil
}

// join makes two connections a pair.
func (c *tcpCarrier) join(a, b *conn) {
	a.peer, b.peer = b, a
	a.state, b.state = connJoined, connJoined
	c.joined.append(a)
	c.joined.append(b)
	c.pairs++

	// What came early will not be told of again.
	a.pump()
	if b.state == connJoined {
		b.pump()
	}
}

// part makes two connections a pair no longer. They are in no list then.
func (c *tcpCarrier) part(a, b *conn) {
	a.peer, b.peer = nil, nil
	for _, conn := range []*conn{a, b} {
		conn.unpace()
		c.joined.remove(conn)
	}
	c.pairs--

	// Those who wait because there were too many pairs can be joined, but
	// not from within what ends this one.
	if c.legs[0].queue.count > 0 && c.legs[1].queue.count > 0 {
		c.loop.again = append(c.loop.again, c)
	}
}

// ready joins connections that wait at both legs because there were too many
// pairs.
func (c *tcpCarrier) ready(uint32) {
	for c.pairs < c.maxPairs {
		a, b := c.legs[0].next(), c.legs[1].next()
		if a == nil || b == nil {
			return
		}

		c.legs[0].unqueue(a)
		c.legs[1].unqueue(b)
		c.join(a, b)
	}
}
