package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/socketd/socketd/relay/bind"
	relayclient "github.com/socketd/socketd/relay/client"
	"golang.org/x/sync/errgroup"
)

const (
	// helloInterval is how often a client says hello until it hears the
	// other one.
	helloInterval = 200 * time.Millisecond

	// clientBuffer is the receive buffer that a client asks for, in bytes:
	// the other client may be a window ahead. The system gives what it
	// allows.
	clientBuffer = 4 << 20
)

// The lines by which a client tells how far it is.
const (
	helloLine = "says hello from"
	heardLine = "hears the other client"
	moveLine  = "moves from"
)

var (
	// errLost is returned by a client for datagrams that did not come.
	errLost = errors.New("lost")

	// errForeign is returned by a client for a datagram that the other one
	// has not sent, or not now.
	errForeign = errors.New("not what the other client sent")
)

// clientConfig says what a client exchanges. It needs to know nothing of
// Lightning or socketd: a port is enough, and a token where the leg wants one.
type clientConfig struct {
	// name is what its lines begin with.
	name string

	// port is the port on loopback that it talks to.
	port uint16

	// leg is the leg that the port is of, and token the one that the client
	// binds with. It does not bind if it has none.
	leg   bind.Leg
	token bind.Token

	// moveAfter is how many datagrams a client that binds has sent when it
	// changes to another port of its own; 0 for never. There is at least a
	// window to send after them.
	moveAfter int

	// count is how many datagrams go each way, in windows of the given
	// number: the next window is sent when the other client's same one has
	// come.
	count  int
	window int

	// seed determines what is sent, peerSeed what is to come.
	seed     uint64
	peerSeed uint64

	// timeout is how long nothing may come.
	timeout time.Duration
}

// clientSummary is what a client did.
type clientSummary struct {
	Name string `json:"name"`
	Addr string `json:"addr"`

	// MovedFrom is the address that the client had before, empty if it has
	// never moved.
	MovedFrom string `json:"moved_from,omitempty"`

	Sent          uint64 `json:"sent"`
	BytesSent     uint64 `json:"bytes_sent"`
	Received      uint64 `json:"received"`
	BytesReceived uint64 `json:"bytes_received"`

	// Reordered counts datagrams that came before an earlier one.
	Reordered uint64 `json:"reordered"`

	// The hellos are empty datagrams. They count as packets of the socket
	// and not among those above.
	HellosSent     uint64 `json:"hellos_sent"`
	HellosReceived uint64 `json:"hellos_received"`

	// Millis is how long the exchange took, in milliseconds.
	Millis int64 `json:"millis"`
}

// client is one side of an exchange.
type client struct {
	cfg clientConfig
	out io.Writer

	// conn is what it talks through, and bound the same if it is bound.
	conn  net.Conn
	bound *relayclient.PacketConn

	// hold is waited for once before the first window is sent.
	hold func() error

	// heard is closed when the first datagram has come. complete tells
	// each window of the other client that has come; there is room for
	// all.
	heard    chan struct{}
	complete chan struct{}

	// moving is closed when it is time to move, and moved when that is
	// done. numSent and numReceived tell how far the client is then.
	moving      chan struct{}
	moved       chan struct{}
	numSent     atomic.Int64
	numReceived atomic.Int64

	// The sender's part of the summary, the receiver's, and the address
	// that was moved from.
	sent      clientSummary
	received  clientSummary
	movedFrom string

	// arrived says which datagrams have come, base is the first that has
	// not. scratch is for expected payloads. All are the receiver's.
	arrived []bool
	base    int
	scratch []byte
}

// runClient exchanges datagrams with another client as cfg says, and prints to
// out how far it is. hold is called once when both clients have heard each
// other; the first window follows when it returns.
func runClient(ctx context.Context, cfg clientConfig, out io.Writer,
	hold func() error) (*clientSummary, error) {

	windows := (cfg.count + cfg.window - 1) / cfg.window
	c := &client{
		cfg:      cfg,
		out:      out,
		hold:     hold,
		heard:    make(chan struct{}),
		complete: make(chan struct{}, windows),
		moving:   make(chan struct{}),
		moved:    make(chan struct{}),
		arrived:  make([]bool, cfg.count),
		scratch:  make([]byte, maxDatagram),
	}

	if err := c.open(ctx); err != nil {
		return nil, err
	}

	return c.run(ctx)
}

// run sends and receives until all is done or something goes wrong.
func (c *client) run(ctx context.Context) (*clientSummary, error) {
	group, groupCtx := errgroup.WithContext(ctx)

	// A closed connection ends a read that waits.
	closed := make(chan error, 1)
	context.AfterFunc(groupCtx, func() {
		closed <- c.conn.Close()
	})

	group.Go(func() error { return c.receiveAll(groupCtx) })
	group.Go(func() error { return c.sendAll(groupCtx) })
	if c.cfg.moveAfter > 0 {
		group.Go(func() error { return c.move(groupCtx) })
	}

	// The group's context ends with Wait, and so the connection is closed
	// in any case.
	err := group.Wait()
	closeErr := <-closed
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := errors.Join(err, closeErr); err != nil {
		return nil, err
	}

	return &clientSummary{
		Name:           c.cfg.name,
		Addr:           c.conn.LocalAddr().String(),
		MovedFrom:      c.movedFrom,
		Sent:           c.sent.Sent,
		BytesSent:      c.sent.BytesSent,
		HellosSent:     c.sent.HellosSent,
		Millis:         c.sent.Millis,
		Received:       c.received.Received,
		BytesReceived:  c.received.BytesReceived,
		Reordered:      c.received.Reordered,
		HellosReceived: c.received.HellosReceived,
	}, nil
}

// say prints a line.
func (c *client) say(words ...any) error {
	line := fmt.Sprintln(append([]any{c.cfg.name}, words...)...)
	if _, err := io.WriteString(c.out, line); err != nil {
		return fmt.Errorf("print: %w", err)
	}

	return nil
}

// sendAll says hello until the other client is heard, and then sends window
// after window.
func (c *client) sendAll(ctx context.Context) error {
	if err := c.sayHello(ctx); err != nil {
		return err
	}

	if err := c.hold(); err != nil {
		return err
	}

	begin := time.Now()
	buf := make([]byte, maxDatagram)
	for number := range c.cfg.count {
		if err := c.takeTurn(ctx, number); err != nil {
			return err
		}

		n, err := c.conn.Write(payload(buf, c.cfg.seed, number))
		if err != nil {
			return fmt.Errorf("send datagram %d: %w", number, err)
		}
		c.sent.Sent++
		c.sent.BytesSent += uint64(n)
		c.numSent.Add(1)
	}

	if err := c.awaitWindow(ctx); err != nil {
		return err
	}
	c.sent.Millis = time.Since(begin).Milliseconds()

	return nil
}

// takeTurn waits until a datagram may be sent.
func (c *client) takeTurn(ctx context.Context, number int) error {
	if number == 0 {
		return nil
	}

	// Datagrams go on while the client moves.
	if number == c.cfg.moveAfter {
		close(c.moving)
	}

	if number%c.cfg.window != 0 {
		return nil
	}

	// In lockstep: the other client's window before this one has to be in.
	if err := c.awaitWindow(ctx); err != nil {
		return err
	}

	// The last window, at least, goes by the other port.
	isLast := number+c.cfg.window >= c.cfg.count
	if c.cfg.moveAfter == 0 || !isLast {
		return nil
	}

	select {
	case <-c.moved:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitWindow waits for the next window of the other client.
func (c *client) awaitWindow(ctx context.Context) error {
	select {
	case <-c.complete:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sayHello sends empty datagrams until the other client is heard, and one more,
// because those before may have come when the other one was not there yet.
func (c *client) sayHello(ctx context.Context) error {
	if err := c.say(helloLine, c.conn.LocalAddr()); err != nil {
		return err
	}

	ticker := time.NewTicker(helloInterval)
	defer ticker.Stop()

	for heard := false; ; {
		if err := c.hello(); err != nil {
			return err
		}

		if heard {
			return c.say(heardLine)
		}

		select {
		case <-c.heard:
			heard = true
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hello sends one empty datagram.
func (c *client) hello() error {
	_, err := c.conn.Write(nil)

	// The error tells of an earlier datagram that found the port closed.
	// This one was not sent, and the next try may find it open.
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	c.sent.HellosSent++

	return nil
}

// receiveAll receives and checks datagrams until all have come.
func (c *client) receiveAll(ctx context.Context) error {
	buf := make([]byte, maxDatagram)
	deadline := time.Now().Add(c.cfg.timeout)
	for heard := false; c.base < c.cfg.count; {
		if err := c.conn.SetReadDeadline(deadline); err != nil {
			return fmt.Errorf("receive: %w", err)
		}

		n, err := c.conn.Read(buf)
		switch {
		// Nobody listens at the port yet. That is as good as nothing.
		case errors.Is(err, syscall.ECONNREFUSED) && !heard:
			continue

		case ctx.Err() != nil:
			return ctx.Err()

		case errors.Is(err, os.ErrDeadlineExceeded):
			return c.missing()

		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}

		deadline = time.Now().Add(c.cfg.timeout)
		if !heard {
			heard = true
			close(c.heard)
		}

		if n == 0 {
			c.received.HellosReceived++
			continue
		}

		if err := c.take(buf[:n]); err != nil {
			return err
		}
	}

	return nil
}

// missing says what has not come.
func (c *client) missing() error {
	missing := c.cfg.count - int(c.received.Received)

	return fmt.Errorf("%w: nothing came for %v, %d of %d datagrams are "+
		"missing, the first is number %d", errLost, c.cfg.timeout,
		missing, c.cfg.count, c.base)
}

// take finds out which datagram this is. It may be any of the window that is
// due or the one after it: one window is all that the other client can be
// ahead.
func (c *client) take(got []byte) error {
	end := (c.base/c.cfg.window + 2) * c.cfg.window
	for number := c.base; number < min(end, c.cfg.count); number++ {
		if c.arrived[number] {
			continue
		}

		want := payload(c.scratch, c.cfg.peerSeed, number)
		if bytes.Equal(got, want) {
			c.mark(number, len(got))

			return nil
		}
	}

	return fmt.Errorf("%w: a datagram of %d bytes while number %d was due",
		errForeign, len(got), c.base)
}

// mark records that a datagram has come.
func (c *client) mark(number, size int) {
	c.arrived[number] = true
	c.received.Received++
	c.received.BytesReceived += uint64(size)
	c.numReceived.Add(1)
	if number != c.base {
		c.received.Reordered++
	}

	for c.base < c.cfg.count && c.arrived[c.base] {
		c.base++
		if c.base%c.cfg.window == 0 || c.base == c.cfg.count {
			c.complete <- struct{}{}
		}
	}
}
