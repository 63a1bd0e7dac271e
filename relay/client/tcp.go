package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

// handshakeTimeout is how long the handshake on a connection may take. The
// relay has reset it by then.
const handshakeTimeout = 10 * time.Second

// DialTCP connects to a leg of a TCP socket and binds. What it returns is the
// connection itself: the relay has not been sent a byte of payload yet, and
// from here on every byte is payload. Each connection to a leg is dialed, and
// bound, by itself.
//
// The context ends the dialing, not the connection. The error wraps ErrUnbound
// if the relay does not take the connection, or nobody answers in time. That
// nobody listens at the port, or that there is no way to it, is an error of its
// own.
func DialTCP(ctx context.Context, cfg Config) (*net.TCPConn, error) {
	c, err := cfg.complete(protocolTCP)
	if err != nil {
		return nil, fmt.Errorf("dial a TCP leg: %w", err)
	}

	caller, err := race(ctx, c.Addrs, c.call)
	if err == nil {
		err = caller.bind(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("dial a TCP leg: %w", err)
	}

	return caller.TCPConn, nil
}

// DialOpenTCP connects to a leg of a TCP socket whose admission is OPEN, at the
// first of its addresses that takes the connection. They are tried as the Addrs
// of a Config are. To connect is what pins such a leg: if this machine reaches
// it by two addresses at about the same moment, the leg may have taken the one
// that is let go of, and then resets this connection.
//
// The context ends the dialing, not the connection.
func DialOpenTCP(ctx context.Context,
	addrs []netip.AddrPort) (*net.TCPConn, error) {

	plain, err := plainAddrs(addrs)
	if err != nil {
		return nil, fmt.Errorf("dial a TCP leg: %w", err)
	}

	conn, err := race(ctx, plain, connect)
	if err != nil {
		return nil, fmt.Errorf("dial a TCP leg: %w", err)
	}

	return conn, nil
}

// connect connects to an address.
func connect(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	var dialer net.Dialer

	return dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, addr)
}

// caller is a connection that is not bound yet.
type caller struct {
	*net.TCPConn

	handshake *handshake

	// deadline is when the handshake has to be over.
	deadline time.Time
}

// call connects to an address and says hello. It returns when it has been
// challenged: to bind is for only one of several connections.
func (c *Config) call(ctx context.Context, addr netip.AddrPort) (*caller,
	error) {

	conn, err := connect(ctx, addr)
	switch {
	case err == nil:

	case ctx.Err() != nil:
		return nil, ended(ctx)

	// A relay that refuses at once may be heard before the system has told
	// of the connection.
	case errors.Is(err, syscall.ECONNRESET):
		return nil, fmt.Errorf("%w: %w", ErrUnbound, err)

	default:
		return nil, err
	}

	caller := &caller{
		TCPConn:   conn,
		handshake: newHandshake(c.Leg, c.Token),
		deadline:  time.Now().Add(handshakeTimeout),
	}

	return caller, caller.ask(ctx)
}

// bind binds, and leaves the connection without a deadline.
func (c *caller) bind(ctx context.Context) error {
	if err := c.ask(ctx); err != nil {
		return fmt.Errorf("%v: %w", c.RemoteAddr(), err)
	}

	if err := c.SetDeadline(time.Time{}); err != nil {
		return errors.Join(err, c.Close())
	}

	return nil
}

// ask sends the handshake's message and takes the answer. If it fails the
// connection is closed.
func (c *caller) ask(ctx context.Context) error {
	err := c.exchange(ctx)
	switch {
	case err == nil:
		return nil

	case ctx.Err() != nil:
		err = ended(ctx)

	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: the relay closed the connection",
			ErrUnbound)

	default:
		err = fmt.Errorf("%w: %w", ErrUnbound, err)
	}

	_ = c.Close()

	return err
}

// exchange sends a message and takes the answer, of which not a byte more is
// read.
func (c *caller) exchange(ctx context.Context) error {
	if err := c.SetDeadline(c.deadline); err != nil {
		return err
	}

	// A context that has ended ends what waits.
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetDeadline(time.Unix(0, 1))
		close(interrupted)
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
	}()

	if _, err := c.Write(c.handshake.raw[:]); err != nil {
		return err
	}

	var answer [bind.Size]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}

	m, ok := authentic(c.handshake.key, answer[:])
	if !ok || !c.handshake.take(m) {
		return errors.New("what answers is no relay that knows the " +
			"token")
	}

	return nil
}
