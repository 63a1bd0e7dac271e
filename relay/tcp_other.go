//go:build !linux || portable

package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// pauseTime is how long a port takes no connection after the system had
	// no descriptor for one.
	pauseTime = 100 * time.Millisecond

	// sweepTime is how often a leg looks whether connections that wait have
	// hung up.
	sweepTime = time.Second
)

// openTCP opens a TCP port that listens.
func openTCP(addr netip.Addr, num uint16, keepAlive time.Duration) (*port,
	error) {

	// The system asks after the first time, and three times in the second.
	const probes = 3

	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable:   true,
		Idle:     keepAlive,
		Interval: max(keepAlive/probes, time.Second),
		Count:    probes,
	}}
	listener, err := config.Listen(
		context.Background(), networkOf(TCP, addr),
		listenAddr(addr, num),
	)
	if err != nil {
		return nil, err
	}

	return &port{num: num, tcp: listener.(*net.TCPListener)}, nil
}

// tcpCarrier carries the connections of one socket: it accepts them at both
// ports, joins the first that waits at one with the first at the other, and so
// on. One goroutine per leg accepts; a pair has three.
//
// It does what the one for Linux does, with these differences. That a
// connection which waits has hung up is found out within sweepTime, and not at
// all where the system cannot be asked without reading. A client whose partner
// is gone gets everything and then an end, and what it still sends goes nowhere
// for a while; on Linux it is reset as soon as it has got everything. That a
// client has reset a connection which waits for bandwidth is found out when all
// that it has sent before was read; on Linux it is at once. And those that wait
// have no order.
type tcpCarrier struct {
	// The following fields are immutable.

	relay    *Relay
	socket   *Socket
	legs     [2]tcpLeg
	maxPairs int

	// done is closed by stop.
	done chan struct{}

	// group counts the goroutines.
	group sync.WaitGroup

	// mu guards the following fields, and the queues of the legs. No call
	// that waits is made with it held.
	mu sync.Mutex

	// pairs is the number of pairs that are joined.
	pairs int

	// conns holds the open connections. It is nil after the end.
	conns map[*tcpConn]struct{}
}

// tcpLeg accepts connections at one leg.
type tcpLeg struct {
	// The following fields are immutable.

	*leg
	carrier *tcpCarrier
	other   *tcpLeg

	// queue holds the connections that wait for a partner, the first to
	// come in front, and unbound those that have yet to bind.
	queue   []*tcpConn
	unbound []*tcpConn

	// sweptAt is when the queue was swept last. Only the goroutine that
	// accepts touches it.
	sweptAt time.Time
}

// newTCPCarrier returns the carrier of a TCP socket.
func newTCPCarrier(r *Relay, s *Socket) *tcpCarrier {
	c := &tcpCarrier{
		relay:    r,
		socket:   s,
		maxPairs: s.maxPairs(),
		done:     make(chan struct{}),
		conns:    make(map[*tcpConn]struct{}),
	}
	for i := range c.legs {
		c.legs[i] = tcpLeg{
			leg:     s.legs[i],
			carrier: c,
			other:   &c.legs[1-i],
		}
	}

	return c
}

// start begins to accept.
func (c *tcpCarrier) start() error {
	for i := range c.legs {
		c.group.Go(c.legs[i].serve)
	}

	return nil
}

// stop ends the ports and the connections. Those whose bytes have not all
// passed are reset, so that no client takes a part for the whole.
func (c *tcpCarrier) stop() error {
	close(c.done)
	err := closeLegs(c.socket)

	c.mu.Lock()
	for i := range c.legs {
		t := &c.legs[i]
		for len(t.queue) > 0 {
			t.unqueue().abort()
		}
		for len(t.unbound) > 0 {
			t.unbound[0].refuse()
		}
	}

	// The goroutines of the pairs see to the rest.
	for conn := range c.conns {
		conn.reset()
	}
	c.conns = nil
	c.mu.Unlock()

	c.group.Wait()

	return err
}

// serve accepts connections at the leg, until its port is closed or dead.
func (t *tcpLeg) serve() {
	for failures := 0; ; {
		t.planSweep()
		conn, err := t.port.tcp.AcceptTCP()
		switch {
		case err == nil:
			failures = 0
			t.accepted(conn)

			continue

		case errors.Is(err, net.ErrClosed):
			return

		case errors.Is(err, os.ErrDeadlineExceeded):
			t.sweep()

			continue

		case isShortage(err):
			t.drop(DropLimit, 1)
			t.pause()

			continue
		}

		failures++
		if failures == maxReadFailures {
			t.carrier.socket.fail(t.port, fmt.Errorf(
				"%d accepts failed: %w", failures, err,
			))

			return
		}
	}
}

// isShortage tells whether the system has no room for a connection, which stays
// where it is.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM)
}

// pause waits until there may be room again.
func (t *tcpLeg) pause() {
	select {
	case <-time.After(pauseTime):
	case <-t.carrier.done:
	}
}

// planSweep makes the goroutine that accepts come back when the queue is to be
// swept.
func (t *tcpLeg) planSweep() {
	t.carrier.mu.Lock()
	defer t.carrier.mu.Unlock()

	t.planSweepLocked()
}

// planSweepLocked is planSweep for a caller who holds the carrier's lock.
func (t *tcpLeg) planSweepLocked() {
	at := time.Time{}
	if len(t.queue) > 0 {
		at = t.queue[0].since.Add(t.relay.cfg.WaitTimeout)
		if next := t.sweptAt.Add(sweepTime); next.Before(at) {
			at = next
		}
	}

	// It fails if the port is closed, which the goroutine is told anyway.
	_ = t.port.tcp.SetDeadline(at)
}

// sweep drops the connections that have waited for too long, or hung up.
func (t *tcpLeg) sweep() {
	t.carrier.mu.Lock()
	defer t.carrier.mu.Unlock()

	t.sweptAt = time.Now()
	t.queue = slices.DeleteFunc(t.queue, func(c *tcpConn) bool {
		waited := t.sweptAt.Sub(c.since)
		if waited < t.relay.cfg.WaitTimeout && isAlive(c.TCPConn) {
			return false
		}

		t.traffic.waiting.Add(-1)
		t.drop(DropNoClient, 1)
		c.abort()

		return true
	})
}

// accepted decides on a connection that was accepted.
func (t *tcpLeg) accepted(tcp *net.TCPConn) {
	c := t.carrier

	c.mu.Lock()
	defer c.mu.Unlock()

	src := tcp.RemoteAddr().(*net.TCPAddr).AddrPort()
	conn := &tcpConn{
		TCPConn: tcp, leg: t, since: time.Now(),
		src: netip.AddrPortFrom(src.Addr().Unmap(), src.Port()),
	}
	if c.conns == nil {
		conn.reset()

		return
	}

	at := t.relay.moment()
	t.relay.conns.Add(1)
	if why, ok := t.check(conn, at); !ok {
		t.drop(why, 1)
		t.relay.conns.Add(-1)
		conn.reset()

		return
	}

	c.conns[conn] = struct{}{}
	if t.keys != nil {
		t.await(conn)
	} else {
		t.admit(conn, at)
	}
}

// check tells whether a connection that is counted already is admitted, or has
// to bind, and if not why.
func (t *tcpLeg) check(conn *tcpConn, at moment) (DropReason, bool) {
	// Whoever may not be the client does not learn whether there is room.
	why, ok := t.mayCome(conn.src)
	if ok && t.keys == nil {
		why, ok = t.mayJoin(conn.src, at.now)
	}
	if !ok {
		return why, false
	}

	if t.relay.conns.Load() > int64(t.relay.cfg.MaxConns) {
		return DropLimit, false
	}

	if t.keys != nil {
		return DropLimit, t.countUnbound(conn.src) < maxUnboundPerAddr
	}

	if !isAlive(conn.TCPConn) {
		return DropNoClient, false
	}

	return DropLimit, t.hasRoom()
}

// hasRoom tells whether there is a partner or a place for a connection. The
// carrier's lock is held.
func (t *tcpLeg) hasRoom() bool {
	// Who came here before comes first.
	joins := len(t.queue) == 0 &&
		t.carrier.pairs < t.carrier.maxPairs && t.other.hasNext()

	return joins || len(t.queue) < t.relay.cfg.MaxWaiting
}

// admit admits a connection. The carrier's lock is held.
func (t *tcpLeg) admit(conn *tcpConn, at moment) {
	t.admitConn(conn.src, conn.key, at)

	t.queue = append(t.queue, conn)
	t.traffic.waiting.Add(1)
	t.carrier.joinWaiting()
}

// hasNext tells whether a connection waits that has not hung up, and drops
// those before it that have. The carrier's lock is held.
func (t *tcpLeg) hasNext() bool {
	for len(t.queue) > 0 {
		if isAlive(t.queue[0].TCPConn) {
			return true
		}

		t.drop(DropNoClient, 1)
		t.unqueue().abort()
	}

	return false
}

// unqueue takes the first connection out of the queue. The carrier's lock is
// held.
func (t *tcpLeg) unqueue() *tcpConn {
	first := t.queue[0]
	t.queue = slices.Delete(t.queue, 0, 1)
	t.traffic.waiting.Add(-1)

	// An accept for nothing would fail where there are no descriptors.
	if len(t.queue) == 0 {
		_ = t.port.tcp.SetDeadline(time.Time{})
	}

	return first
}

// joinWaiting joins connections that wait at both legs. The lock is held.
func (c *tcpCarrier) joinWaiting() {
	t1, t2 := &c.legs[0], &c.legs[1]
	for c.pairs < c.maxPairs && t1.hasNext() && t2.hasNext() {
		a, b := t1.unqueue(), t2.unqueue()
		a.peer, b.peer = b, a
		c.pairs++

		c.group.Go(func() {
			c.servePair(a, b)
		})
	}
}

// servePair relays between two connections until both have ended.
func (c *tcpCarrier) servePair(a, b *tcpConn) {
	var group sync.WaitGroup
	group.Go(a.copy)
	group.Go(b.copy)
	group.Wait()

	c.mu.Lock()
	c.pairs--
	c.joinWaiting()
	c.mu.Unlock()

	for _, conn := range []*tcpConn{a, b} {
		conn.linger()

		c.mu.Lock()
		conn.forget()
		c.mu.Unlock()
	}
}
