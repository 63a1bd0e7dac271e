package client_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/relay/client"
	"github.com/stretchr/testify/require"
)

// tcpLeg is the relay's side of a TCP leg. A test says what each connection
// gets to hear.
type tcpLeg struct {
	t        testing.TB
	listener *net.TCPListener
	leg      bind.Leg
	token    bind.Token
}

// newTCPLeg listens until the test ends.
func newTCPLeg(tb testing.TB, ip netip.Addr) *tcpLeg {
	tb.Helper()

	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(
		netip.AddrPortFrom(ip, 0),
	))
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = listener.Close() })

	return &tcpLeg{
		t:        tb,
		listener: listener,
		leg:      bind.Leg{SocketID: [32]byte{3}, Num: 1, Protocol: 2},
		token:    newToken(),
	}
}

// addr returns the leg's address.
func (l *tcpLeg) addr() netip.AddrPort {
	return l.listener.Addr().(*net.TCPAddr).AddrPort()
}

// config returns how to dial the leg.
func (l *tcpLeg) config() client.Config {
	return client.Config{
		Addrs: []netip.AddrPort{l.addr()},
		Leg:   bind.Leg{SocketID: l.leg.SocketID, Num: l.leg.Num},
		Token: l.token,
	}
}

// serve accepts a connection and serves it by the function, which ends it. It
// returns what waits for that.
func (l *tcpLeg) serve(serve func(conn *tcpConn)) func() {
	done := make(chan struct{})
	go func() {
		defer close(done)

		conn, err := l.listener.AcceptTCP()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(limit))

		serve(&tcpConn{TCPConn: conn, leg: l})
	}()

	return func() { <-done }
}

// tcpConn is a connection at the relay's side. What goes wrong there shows at
// the other.
type tcpConn struct {
	*net.TCPConn

	leg *tcpLeg
}

// receive reads a message. It is the zero message if there is none that is
// authentic.
func (c *tcpConn) receive() bind.Message {
	var raw [bind.Size]byte
	_, _ = io.ReadFull(c, raw[:])
	if !bind.NewKey(c.leg.leg, c.leg.token).Verify(raw[:]) {
		return bind.Message{}
	}
	m, _ := bind.Decode(raw[:])

	return m
}

// client returns the address of the client.
func (c *tcpConn) client() netip.AddrPort {
	return c.RemoteAddr().(*net.TCPAddr).AddrPort()
}

// challenge takes a hello and returns the challenge that it should get.
func (c *tcpConn) challenge() bind.Message {
	m := c.receive()
	if m.Type != bind.Hello {
		return bind.Message{}
	}
	m.Type, m.Addr, m.Cookie = bind.Challenge, c.client(), bind.Cookie{7}

	return m
}

// say sends a message, cut into pieces of so many bytes.
func (c *tcpConn) say(m bind.Message, piece int) {
	raw := encode(m, c.leg.leg, c.leg.token)
	for part := range slices.Chunk(raw, piece) {
		_, _ = c.Write(part)
	}
}

// TestDialTCP binds, over both families, and checks that every byte beside the
// handshake is the program's, also what comes along with its last message.
func TestDialTCP(t *testing.T) {
	t.Parallel()

	for name, ip := range map[string]netip.Addr{
		"IPv4": loopback4, "IPv6": loopback6,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			l := newTCPLeg(t, ip)
			const early, late = "early", "late"
			wait := l.serve(func(conn *tcpConn) {
				m := conn.challenge()
				conn.say(m, 10)

				m.Type = bind.Bind
				if conn.receive() != m {
					return
				}
				m.Type = bind.Bound
				raw := encode(m, l.leg, l.token)
				_, _ = conn.Write(append(raw, early...))

				got, _ := io.ReadAll(conn)
				_, _ = conn.Write(append(got, late...))
			})

			conn, err := client.DialTCP(testContext(t), l.config())
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()

			// The handshake's deadline is gone, and the context's
			// end is of no matter.
			_, err = conn.Write([]byte("hello "))
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			got, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Equal(t, early+"hello "+late, string(got))
			wait()
		})
	}
}

// TestDialTCPRefused checks how dialing ends when the other side does not do as
// a relay would.
func TestDialTCPRefused(t *testing.T) {
	t.Parallel()

	reset := func(conn *tcpConn) {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}

	tests := map[string]func(conn *tcpConn){
		"close at once": func(*tcpConn) {},
		"reset at once": reset,
		"close after the hello": func(conn *tcpConn) {
			conn.receive()
		},
		"reset after the hello": func(conn *tcpConn) {
			conn.receive()
			reset(conn)
		},
		"close after the bind": func(conn *tcpConn) {
			conn.say(conn.challenge(), bind.Size)
			conn.receive()
		},
		"part of a challenge": func(conn *tcpConn) {
			raw := encode(conn.challenge(), conn.leg.leg,
				conn.leg.token)
			_, _ = conn.Write(raw[:bind.Size-1])
		},
		"false MAC": func(conn *tcpConn) {
			raw := encode(conn.challenge(), conn.leg.leg,
				newToken())
			_, _ = conn.Write(raw)
		},
		"another leg": func(conn *tcpConn) {
			leg := conn.leg.leg
			leg.Num = 2
			_, _ = conn.Write(encode(
				conn.challenge(), leg, conn.leg.token,
			))
		},
		"another protocol": func(conn *tcpConn) {
			leg := conn.leg.leg
			leg.Protocol = 1
			_, _ = conn.Write(encode(
				conn.challenge(), leg, conn.leg.token,
			))
		},
		"another version": func(conn *tcpConn) {
			raw := encode(conn.challenge(), conn.leg.leg,
				conn.leg.token)
			raw[8]++
			_, _ = conn.Write(raw)
		},
		"a replayed challenge": func(conn *tcpConn) {
			m := conn.challenge()
			m.Nonce[0]++
			conn.say(m, bind.Size)
		},
		"the hello itself": func(conn *tcpConn) {
			conn.say(conn.receive(), bind.Size)
		},
		"bound at once": func(conn *tcpConn) {
			m := conn.challenge()
			m.Type = bind.Bound
			conn.say(m, bind.Size)
		},
		"bound to something else": func(conn *tcpConn) {
			m := conn.challenge()
			conn.say(m, bind.Size)
			conn.receive()
			m.Type, m.Cookie = bind.Bound, bind.Cookie{8}
			conn.say(m, bind.Size)
		},
		"what is no relay": func(conn *tcpConn) {
			_, _ = conn.Write(bytes.Repeat([]byte("HTTP "), 30))
			_ = conn.CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
		},
	}
	for name, serve := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			l := newTCPLeg(t, loopback4)
			wait := l.serve(serve)

			cfg := l.config()
			_, err := client.DialTCP(testContext(t), cfg)
			require.ErrorIs(t, err, client.ErrUnbound)
			require.ErrorContains(t, err, l.addr().String())
			require.NotContains(t, err.Error(), cfg.Token.Hex())
			wait()
		})
	}
}

// TestDialTCPSilent checks how dialing ends when nothing comes back, or nobody
// is there.
func TestDialTCPSilent(t *testing.T) {
	t.Parallel()

	l := newTCPLeg(t, loopback4)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := client.DialTCP(ctx, l.config())
	require.ErrorIs(t, err, client.ErrUnbound)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	_, err = client.DialTCP(ctx, l.config())
	require.ErrorIs(t, err, client.ErrUnbound)

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	l = newTCPLeg(t, loopback4)
	wait := l.serve(func(conn *tcpConn) {
		conn.receive()
		cancel()
		conn.receive()
	})
	_, err = client.DialTCP(ctx, l.config())
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, client.ErrUnbound)
	wait()

	require.NoError(t, l.listener.Close())
	_, err = client.DialTCP(testContext(t), l.config())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NotErrorIs(t, err, client.ErrUnbound)
}

// TestDialTCPAddresses checks which of several addresses is used, and that the
// others are let go of.
func TestDialTCPAddresses(t *testing.T) {
	t.Parallel()

	silent, closed := newTCPLeg(t, loopback4), newTCPLeg(t, loopback6)
	require.NoError(t, closed.listener.Close())
	good := newTCPLeg(t, loopback6)

	gone := make(chan error, 1)
	waitSilent := silent.serve(func(conn *tcpConn) {
		_, err := io.Copy(io.Discard, conn)
		gone <- err
	})
	waitGood := good.serve(func(conn *tcpConn) {
		m := conn.challenge()
		conn.say(m, bind.Size)
		conn.receive()
		m.Type = bind.Bound
		conn.say(m, bind.Size)
	})

	cfg := good.config()
	cfg.Addrs = []netip.AddrPort{
		closed.addr(), silent.addr(), good.addr(),
	}
	conn, err := client.DialTCP(testContext(t), cfg)
	require.NoError(t, err)
	require.Equal(t, good.addr().String(), conn.RemoteAddr().String())
	require.NoError(t, conn.Close())
	require.NoError(t, <-gone)
	waitSilent()
	waitGood()

	// All of them fail, in one line.
	require.NoError(t, silent.listener.Close())
	require.NoError(t, good.listener.Close())
	_, err = client.DialTCP(testContext(t), cfg)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	for _, addr := range cfg.Addrs {
		require.ErrorContains(t, err, addr.String())
	}
	require.NotContains(t, err.Error(), "\n")
}

// TestDialOpenTCP connects to a leg that asks for no token.
func TestDialOpenTCP(t *testing.T) {
	t.Parallel()

	closed, good := newTCPLeg(t, loopback6), newTCPLeg(t, loopback4)
	require.NoError(t, closed.listener.Close())
	addrs := []netip.AddrPort{closed.addr(), good.addr()}

	wait := good.serve(func(conn *tcpConn) {
		_, _ = conn.Write([]byte("payload"))
	})
	conn, err := client.DialOpenTCP(testContext(t), addrs)
	require.NoError(t, err)
	require.Equal(t, good.addr().String(), conn.RemoteAddr().String())
	wait()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "payload", string(got))
	require.NoError(t, conn.Close())

	require.NoError(t, good.listener.Close())
	_, err = client.DialOpenTCP(testContext(t), addrs)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	for _, addr := range addrs {
		require.ErrorContains(t, err, addr.String())
	}

	_, err = client.DialOpenTCP(testContext(t), nil)
	require.ErrorContains(t, err, "no address of the leg")
	_, err = client.DialOpenTCP(testContext(t), []netip.AddrPort{
		good.addr(), netip.AddrPortFrom(loopback4, 0),
	})
	require.ErrorContains(t, err, "address 127.0.0.1:0: want")
}
