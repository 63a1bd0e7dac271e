//go:build itest

package itest

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// counter is a number that grows, which can be waited for.
type counter struct {
	mu      sync.Mutex
	n       int
	changed chan struct{}
}

// add counts one more.
func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.n++
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// get returns the number.
func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.n
}

// await waits until the number is as large.
func (c *counter) await(t *testing.T, n int) {
	t.Helper()

	timeout := time.After(testTimeout)
	for {
		c.mu.Lock()
		if c.n >= n {
			c.mu.Unlock()

			return
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()

		select {
		case <-changed:
		case <-timeout:
			require.Fail(t, "nothing passed")
		}
	}
}

// pause waits for a moment. It returns false if ctx is done.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true

	case <-ctx.Done():
		return false
	}
}

// datagrams is a flow through a UDP socket: one client sends numbers, the other
// one sends them back. Neither does anything else, whatever happens to them.
type datagrams struct {
	one, two net.Conn

	// passed counts the numbers that came back.
	passed counter
}

// newDatagrams returns a flow between two clients.
func newDatagrams(t *testing.T, one, two net.Conn) *datagrams {
	t.Helper()

	for _, conn := range []net.Conn{one, two} {
		require.NoError(t, conn.SetDeadline(time.Time{}))
	}

	return &datagrams{one: one, two: two}
}

// run sends and receives until ctx is done.
func (d *datagrams) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() {
		_ = d.one.SetDeadline(time.Now())
		_ = d.two.SetDeadline(time.Now())
	})()

	runAll(ctx, d.send, d.echo, d.receive)
}

// send sends numbers, and at first something so that the legs have clients.
func (d *datagrams) send(ctx context.Context) {
	_, _ = d.two.Write(nil)
	var number [8]byte
	for n := uint64(1); pause(ctx, time.Millisecond); n++ {
		binary.BigEndian.PutUint64(number[:], n)
		_, _ = d.one.Write(number[:])
	}
}

// echo sends back what comes.
func (d *datagrams) echo(ctx context.Context) {
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		// A port that is closed for a moment is told as an error.
		if n, err := d.two.Read(buf); err == nil && n == 8 {
			_, _ = d.two.Write(buf[:n])
		}
	}
}

// receive counts what comes back.
func (d *datagrams) receive(ctx context.Context) {
	buf := make([]byte, 2048)
	var last uint64
	for ctx.Err() == nil {
		n, err := d.one.Read(buf)
		if err != nil || n != 8 {
			continue
		}
		if number := binary.BigEndian.Uint64(buf); number > last {
			last = number
			d.passed.add()
		}
	}
}

// streams are pairs of connections through a TCP socket, one after the other,
// each as long as nothing breaks it.
type streams struct {
	port1, port2 string

	// passed counts the messages that went through, opened and broken the
	// pairs.
	passed, opened, broken counter
}

// newStreams returns streams through the ports of a socket.
func newStreams(port1, port2 string) *streams {
	return &streams{port1: port1, port2: port2}
}

// run connects and sends until ctx is done.
func (s *streams) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.pair(ctx)
		if !pause(ctx, 5*time.Millisecond) {
			return
		}
	}
}

// pair has one pair of connections until something breaks it.
func (s *streams) pair(ctx context.Context) {
	var conns [2]net.Conn
	for i, port := range []string{s.port1, s.port2} {
		var dialer net.Dialer
		conn, err := dialer.DialContext(
			ctx, "tcp", net.JoinHostPort("127.0.0.1", port),
		)
		if err != nil {
			return
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		conns[i] = conn
	}
	s.opened.add()

	buf := make([]byte, 5)
	for pause(ctx, time.Millisecond) {
		for i := range conns {
			_, err := conns[i].Write([]byte("hello"))
			if err == nil {
				_, err = io.ReadFull(conns[1-i], buf)
			}
			if err != nil {
				s.broken.add()

				return
			}
		}
		s.passed.add()
	}
}

// bindRaw binds a client to a leg of a UDP socket, and leaves it alone
// afterwards.
func bindRaw(t *testing.T, conn net.Conn, socketID string, leg uint8,
	token string) {

	t.Helper()

	cfg := bindConfig(t, socketID, "udp", leg, "1", token)
	cfg.Leg.Protocol = 1
	key := bind.NewKey(cfg.Leg, cfg.Token)
	msg := bind.Message{Type: bind.Hello, Nonce: bind.Nonce{1, leg}}
	for _, want := range []bind.Type{bind.Challenge, bind.Bound} {
		_, err := conn.Write(msg.Append(nil, key))
		require.NoError(t, err)
		buf := make([]byte, 2048)
		n, err := conn.Read(buf)
		require.NoError(t, err)
		require.True(t, key.Verify(buf[:n]))
		msg, err = bind.Decode(buf[:n])
		require.NoError(t, err)
		require.Equal(t, want, msg.Type)
		msg.Type = bind.Bind
	}
}
