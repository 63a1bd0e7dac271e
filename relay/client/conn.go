package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

// PacketConn is a client of a leg of a UDP socket. What is written comes out at
// the client of the other leg, datagram by datagram, and what that one sends is
// read. It is a net.PacketConn and a net.Conn, for programs that want either,
// and has one remote address, the leg's.
//
// It binds again from time to time, and takes another local port when it finds
// that the way to the relay has changed; the program notices neither. While the
// network is away, datagrams are lost. When nobody has answered for the time
// that the Config says, reading and writing fail with ErrUnbound for good.
//
// Its methods may be called by anybody at any time.
type PacketConn struct {
	// cfg and remote are immutable. remote is the address of the leg that
	// was used first.
	cfg    *Config
	remote *net.UDPAddr

	// life ends with the connection, for the reason that cancel was given.
	life   context.Context
	cancel context.CancelCauseFunc

	// over is why the connection has ended, nil while it has not.
	over atomic.Pointer[error]

	// current is the path in use.
	current atomic.Pointer[path]

	// observed is the address that the relay sees this program at.
	observed atomic.Pointer[netip.AddrPort]

	// queue has payloads that wait for a Read.
	queue queue

	// gate is held to read by who writes, and to write for the moment in
	// which the relay changes from one path to another, so that nothing is
	// sent by the one that it has just left.
	gate sync.RWMutex

	// asked tells the keeper that a program asks for something, and trouble
	// that the path in use seems to be gone.
	asked, trouble chan struct{}

	// workers are the goroutines. One is only added with mu held and closed
	// not set.
	workers sync.WaitGroup

	// mu guards the following fields, and those of paths that say so. It is
	// never held during a system call that waits.
	mu sync.Mutex

	// closed is set when Close is called.
	closed bool

	// paths are the paths that are open, and left those of them that are
	// read from for some time yet, the oldest first.
	paths map[*path]struct{}
	left  []*path

	// readDeadline and writeDeadline are the program's.
	readDeadline, writeDeadline time.Time

	keeping
}

// PacketConn is both.
var (
	_ net.PacketConn = (*PacketConn)(nil)
	_ net.Conn       = (*PacketConn)(nil)
)

// DialUDP binds to a leg of a UDP socket. Messages that are lost are sent again
// until the context ends, which ends the dialing only, not the connection; the
// error then wraps ErrUnbound if it ran out of time.
func DialUDP(ctx context.Context, cfg Config) (*PacketConn, error) {
	full, err := cfg.complete(protocolUDP)
	if err != nil {
		return nil, fmt.Errorf("dial a UDP leg: %w", err)
	}

	life, cancel := context.WithCancelCause(context.Background())
	c := &PacketConn{
		cfg:     full,
		life:    life,
		cancel:  cancel,
		asked:   make(chan struct{}, 1),
		trouble: make(chan struct{}, 1),
		paths:   make(map[*path]struct{}),
		keeping: keeping{changed: make(chan struct{})},
	}

	g, err := c.reach(ctx)
	if err == nil {
		err = g.finish(ctx)
	}
	if err != nil {
		return nil, errors.Join(
			fmt.Errorf("dial a UDP leg: %w", err), c.Close(),
		)
	}

	c.remote = net.UDPAddrFromAddrPort(g.remote)
	c.confirmed(g.handshake)
	c.use(g)
	c.workers.Go(c.keep)

	return c, nil
}

// Read waits for the next datagram and copies it to b; what does not fit is
// lost.
func (c *PacketConn) Read(b []byte) (int, error) {
	p := c.enter()
	for {
		n, isDone, err := c.readFrom(p, b)
		if isDone {
			p.mu.Unlock()

			return n, c.wrap("read", err)
		}

		if c.current.Load() != p {
			p.mu.Unlock()
			p = c.enter()
		}
	}
}

// readFrom reads once from the queue or from a path, of which the caller holds
// mu. It reports false if there was nothing for the program.
func (c *PacketConn) readFrom(p *path, b []byte) (int, bool, error) {
	if n, ok := c.queue.pop(b); ok {
		return n, true, nil
	}
	if over := c.over.Load(); over != nil {
		return 0, true, *over
	}

	// Nobody but the path's drain reads from one that was left.
	if c.current.Load() != p {
		return 0, false, nil
	}

	into := b
	if len(b) <= bind.Size {
		into = p.short[:]
	}

	n, err := p.udp.Read(into)
	if err != nil {
		err = c.readFailed(p, err)

		return 0, err != nil, err
	}

	if m, ok := authentic(p.key, into[:n]); ok {
		select {
		case p.replies <- m:
		// Nobody waits for so many.
		default:
		}

		return 0, false, nil
	}

	if len(b) <= bind.Size {
		n = copy(b, into[:n])
	}

	return n, true, nil
}

// readFailed returns what a failure to read from a path is to the program: nil
// if it is nothing.
func (c *PacketConn) readFailed(p *path, err error) error {
	switch {
	// It is about a path that was left.
	case c.current.Load() != p:
		return nil

	case errors.Is(err, os.ErrDeadlineExceeded):
		c.mu.Lock()
		defer c.mu.Unlock()

		if p.readKick {
			p.readKick = false
			c.setReadDeadline(p)

			return nil
		}

		return err

	case isGone(err):
		c.tellTrouble()
	}

	if isBroken(err) {
		return err
	}

	return nil
}

// Write sends a datagram. One that the system cannot send for want of a way to
// the relay is lost, as others are in the network, and another way is looked
// for.
func (c *PacketConn) Write(b []byte) (int, error) {
	for {
		n, isDone, err := c.tryWrite(b)
		if isDone {
			return n, c.wrap("write", err)
		}
	}
}

// tryWrite sends a datagram by the path in use. It reports false if it has to
// be tried again.
func (c *PacketConn) tryWrite(b []byte) (int, bool, error) {
	c.gate.RLock()
	defer c.gate.RUnlock()

	if over := c.over.Load(); over != nil {
		return 0, true, *over
	}

	p := c.current.Load()
	n, err := p.udp.Write(b)
	if err != nil && isRefused(err) {
		// That was about an earlier datagram. This one was not sent.
		n, err = p.udp.Write(b)
	}

	switch {
	case err == nil:
		return n, true, nil

	case isRefused(err):
		return len(b), true, nil

	case isGone(err):
		c.tellTrouble()

		return len(b), true, nil

	case errors.Is(err, os.ErrDeadlineExceeded):
		c.mu.Lock()
		defer c.mu.Unlock()

		// A kick has made room for whoever waits for the gate.
		return 0, !p.writeKick, err

	default:
		return 0, true, err
	}
}

// ReadFrom is Read. The address is always RemoteAddr.
func (c *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)

	return n, c.remote, err
}

// WriteTo is Write. The address has to be one of the leg's.
func (c *PacketConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	if !c.isLeg(addr) {
		return 0, c.wrap("write", fmt.Errorf("%v is not the leg", addr))
	}

	return c.Write(b)
}

// isLeg tells whether an address is one of the leg's.
func (c *PacketConn) isLeg(addr net.Addr) bool {
	to, ok := addr.(*net.UDPAddr)
	if !ok || to == nil {
		return false
	}
	if to == c.remote {
		return true
	}

	plain := to.AddrPort()
	plain = netip.AddrPortFrom(plain.Addr().Unmap(), plain.Port())
	for _, leg := range c.cfg.Addrs {
		if leg == plain {
			return true
		}
	}

	return false
}

// wrap says what an error is about, as package net does. It costs nothing if
// there is none.
func (c *PacketConn) wrap(op string, err error) error {
	if err == nil {
		return nil
	}

	return c.wrapError(op, err)
}

// wrapError is wrap for an error that is not nil.
func (c *PacketConn) wrapError(op string, err error) error {
	var known *net.OpError
	if errors.As(err, &known) {
		return err
	}

	return &net.OpError{
		Op: op, Net: "udp", Source: c.LocalAddr(), Addr: c.remote,
		Err: err,
	}
}

// LocalAddr returns the local address in use. It changes when another local
// port is taken.
func (c *PacketConn) LocalAddr() net.Addr {
	return c.current.Load().udp.LocalAddr()
}

// RemoteAddr returns the address of the leg that was bound to first. It stays
// the same if another one of the leg's addresses is used later.
func (c *PacketConn) RemoteAddr() net.Addr {
	return c.remote
}

// Observed returns the address that the relay sees this program at: that of the
// NAT on the way, if there is one. The relay vouches for it.
func (c *PacketConn) Observed() netip.AddrPort {
	return *c.observed.Load()
}

// Dropped returns how many datagrams were dropped because they came while the
// program did not read and there was no more room for them. What the system
// dropped is not counted.
func (c *PacketConn) Dropped() uint64 {
	return c.queue.dropped.Load()
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *PacketConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when a Read that waits fails with
// os.ErrDeadlineExceeded. The zero value means never.
func (c *PacketConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closed {
		return c.wrap("set", net.ErrClosed)
	}

	c.readDeadline = t
	c.setReadDeadline(c.current.Load())

	return nil
}

// SetWriteDeadline sets when a Write that waits for room fails with
// os.ErrDeadlineExceeded. The zero value means never.
func (c *PacketConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closed {
		return c.wrap("set", net.ErrClosed)
	}

	c.writeDeadline = t
	c.setWriteDeadline(c.current.Load())

	return nil
}

// Close ends the connection. Whatever waits fails with net.ErrClosed. When it
// returns the ports are closed and every goroutine is gone. It may be called
// again. The relay is not told: its leg keeps the client until another one
// binds.
func (c *PacketConn) Close() error {
	c.end(net.ErrClosed)

	c.mu.Lock()
	isFirst := !c.closed
	c.closed = true

	var err error
	for p := range c.paths {
		err = errors.Join(err, p.udp.Close())
		delete(c.paths, p)
	}
	c.mu.Unlock()

	c.workers.Wait()

	if !isFirst {
		return nil
	}

	return err
}

// end ends the connection for a reason, unless it has ended.
func (c *PacketConn) end(why error) {
	if c.over.CompareAndSwap(nil, &why) {
		c.cancel(why)
	}

	if p := c.current.Load(); p != nil {
		c.kick(p)
	}
}
