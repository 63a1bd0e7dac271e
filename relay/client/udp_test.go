package client_test

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/relay/client"
	"github.com/stretchr/testify/require"
)

// maxIPv4 is the longest payload of a datagram over IPv4.
const maxIPv4 = 65507

// TestBind binds over both families, also where an address is written in mapped
// form, and sends payloads of all kinds.
func TestBind(t *testing.T) {
	t.Parallel()

	mapped := netip.AddrFrom16(loopback4.As16())

	for name, ips := range map[string][2]netip.Addr{
		"IPv4":        {loopback4, loopback4},
		"IPv4 mapped": {loopback4, mapped},
		"IPv6":        {loopback6, loopback6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			l := newLeg(t, ips[0])
			cfg := l.config()
			cfg.Leg.Protocol = 0
			cfg.Buffer = 1 << 20
			cfg.Addrs[0] = netip.AddrPortFrom(
				ips[1], cfg.Addrs[0].Port(),
			)
			conn := dial(t, cfg)

			require.Equal(t, localAddr(conn), conn.Observed())
			require.Equal(t, l.bound(), conn.Observed())
			require.Equal(t, l.addr().String(),
				conn.RemoteAddr().String())

			for _, size := range []int{
				0, 1, bind.Size, 1200, maxIPv4,
			} {
				payload := bytes.Repeat([]byte{'x'}, size)
				write(t, conn, payload)
				require.Equal(t, payload,
					l.receivePayload().raw)

				l.sendPayload(payload)
				require.Equal(t, payload, read(t, conn))
			}
			require.Zero(t, conn.Dropped())
		})
	}
}

// TestPacketConn checks what makes the connection a net.PacketConn.
func TestPacketConn(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())

	mapped := *conn.RemoteAddr().(*net.UDPAddr)
	mapped.IP = mapped.IP.To16()
	for _, addr := range []net.Addr{conn.RemoteAddr(), &mapped} {
		n, err := conn.WriteTo([]byte("to"), addr)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, "to", string(l.receivePayload().raw))
	}

	l.sendPayload([]byte("from"))
	require.NoError(t, conn.SetDeadline(time.Now().Add(limit)))
	buffer := make([]byte, 3)
	n, from, err := conn.ReadFrom(buffer)
	require.NoError(t, err)
	require.Equal(t, "fro", string(buffer[:n]))
	require.Equal(t, conn.RemoteAddr(), from)

	for _, addr := range []net.Addr{
		nil, (*net.UDPAddr)(nil), &net.TCPAddr{},
		&net.UDPAddr{IP: mapped.IP, Port: mapped.Port ^ 1},
	} {
		_, err := conn.WriteTo([]byte("elsewhere"), addr)
		require.ErrorContains(t, err, "is not the leg")
	}
	require.Empty(t, l.payloads)

	// What is too long is for the program to know.
	_, err = conn.Write(make([]byte, maxIPv4+1))
	require.Error(t, err)
	exchange(t, l, conn)
}

// TestLoss loses the first message of each type.
func TestLoss(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	seen := make(map[bind.Type]int)
	l.loses(func(m bind.Message, _ netip.AddrPort) bool {
		seen[m.Type]++

		return seen[m.Type] == 1
	})
	conn := dial(t, l.config())
	exchange(t, l, conn)

	// A message that is sent again is the same.
	hello, again := l.message(), l.message()
	require.Equal(t, bind.Hello, hello.Type)
	require.Equal(t, hello, again)
	reply, again := l.message(), l.message()
	require.Equal(t, bind.Bind, reply.Type)
	require.Equal(t, reply, again)
	require.Equal(t, hello.Nonce, reply.Nonce)
	require.Empty(t, l.messages)
}

// TestStaleChallenge has the relay forget a challenge, as when it is restarted:
// the client begins anew.
func TestStaleChallenge(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	var first bind.Nonce
	l.loses(func(m bind.Message, _ netip.AddrPort) bool {
		if first == (bind.Nonce{}) {
			first = m.Nonce
		}

		return m.Type == bind.Bind && m.Nonce == first
	})
	conn := dial(t, l.config())
	exchange(t, l, conn)

	require.Equal(t, bind.Hello, l.message().Type)
	require.NotEqual(t, first, l.handshake())
	require.Empty(t, l.messages)
}

// TestDialFails checks how dialing ends when nobody answers.
func TestDialFails(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)

	// The token is not the leg's.
	cfg := l.config()
	cfg.Token = newToken()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := client.DialUDP(ctx, cfg)
	require.ErrorIs(t, err, client.ErrUnbound)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, l.addr().String())
	require.NotContains(t, err.Error(), cfg.Token.Hex())

	// Whoever gives up knows that.
	arrived := make(chan struct{}, 100)
	l.loses(func(bind.Message, netip.AddrPort) bool {
		arrived <- struct{}{}

		return true
	})
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-arrived
		cancel()
	}()
	_, err = client.DialUDP(ctx, l.config())
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, client.ErrUnbound)

	_, err = client.DialUDP(ctx, l.config())
	require.ErrorIs(t, err, context.Canceled)
}

// TestShortRead reads with no room for a message, which must not be taken for
// payload, and with room for just that.
func TestShortRead(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(limit)))

	message := encode(bind.Message{Type: bind.Bound}, l.leg, l.token)
	longer := append(bytes.Clone(message), "more"...)

	for _, room := range []int{0, 1, 10, bind.Size - 1, bind.Size} {
		for _, payload := range [][]byte{
			longer, make([]byte, bind.Size), []byte("short"), {},
		} {
			l.sendPayload(message)
			l.sendPayload(payload)

			buffer := make([]byte, room)
			n, err := conn.Read(buffer)
			require.NoError(t, err)
			want := payload[:min(room, len(payload))]
			require.Equal(t, want, buffer[:n])
		}
	}
}

// TestDeadlines checks that deadlines are the program's: they end its calls,
// and the handshakes neither use them nor mind them.
func TestDeadlines(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())
	l.handshake()

	// One that comes while a Read waits.
	began := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 100))
		began <- err
	}()
	require.NoError(t, conn.Rebind(testContext(t)))
	require.NoError(t, conn.SetReadDeadline(time.Now()))
	require.ErrorIs(t, <-began, os.ErrDeadlineExceeded)

	// Those that are over.
	require.NoError(t, conn.SetDeadline(time.Now()))
	for range 2 {
		require.NoError(t, conn.Rebind(testContext(t)))
		require.NoError(t, conn.Migrate(testContext(t)))

		_, err := conn.Read(make([]byte, 100))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = conn.Write(nil)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}

	require.NoError(t, conn.SetDeadline(time.Time{}))
	exchange(t, l, conn)
}

// TestClose checks that Close ends whatever waits.
func TestClose(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())
	l.losesAll(true)

	ended := make(chan error, 4)
	for _, call := range []func() error{
		func() error {
			_, err := conn.Read(make([]byte, 100))

			return err
		},
		func() error {
			_, err := conn.Read(make([]byte, 10))

			return err
		},
		func() error { return conn.Rebind(context.Background()) },
		func() error { return conn.Migrate(context.Background()) },
	} {
		go func() { ended <- call() }()
	}

	require.NoError(t, conn.Close())
	for range 4 {
		require.ErrorIs(t, <-ended, net.ErrClosed)
	}

	require.NoError(t, conn.Close())
	_, err := conn.Write(nil)
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = conn.Read(nil)
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, conn.SetDeadline(time.Time{}), net.ErrClosed)
	require.ErrorIs(t, conn.Rebind(t.Context()), net.ErrClosed)
	require.ErrorIs(t, conn.Migrate(t.Context()), net.ErrClosed)
}

// TestRefused closes the relay's port for some time, of which the system tells
// the client. The relay has not forgotten it.
func TestRefused(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())
	at := l.addr()

	for range 3 {
		pinned := l.bound()
		l.close()

		// Each of them makes the system report the one before.
		for range 9 {
			write(t, conn, []byte("lost"))
		}
		ctx, cancel := context.WithTimeout(
			t.Context(), 300*time.Millisecond,
		)
		err := conn.Rebind(ctx)
		cancel()
		require.ErrorIs(t, err, client.ErrUnbound)
		write(t, conn, []byte("lost"))

		l = newLegAt(t, at, l.token)
		l.pin(pinned)
		exchange(t, l, conn)
	}

	// The same with a Read that waits.
	reading := make(chan []byte, 1)
	go func() {
		buffer := make([]byte, 100)
		n, _ := conn.Read(buffer)
		reading <- buffer[:n]
	}()
	l.close()
	for range 100 {
		write(t, conn, []byte("lost"))
	}

	// Nobody answers the first hello.
	bound := make(chan error, 1)
	go func() { bound <- conn.Rebind(testContext(t)) }()
	write(t, conn, []byte("lost"))
	l = newLegAt(t, at, l.token)
	require.NoError(t, <-bound)
	l.sendPayload([]byte("first"))
	require.Equal(t, "first", string(<-reading))
}

// TestConfig checks that what cannot be meant is refused by name.
func TestConfig(t *testing.T) {
	t.Parallel()

	good := client.Config{
		Addrs: []netip.AddrPort{
			netip.MustParseAddrPort("127.0.0.1:21000"),
		},
		Leg:   bind.Leg{Num: 1},
		Token: newToken(),
	}

	tests := map[string]func(*client.Config){
		"no address of the leg": func(c *client.Config) {
			c.Addrs = nil
		},
		"address 127.0.0.1:0: want": func(c *client.Config) {
			c.Addrs[0] = netip.AddrPortFrom(loopback4, 0)
		},
		"address 0.0.0.0:1: want": func(c *client.Config) {
			c.Addrs[0] = netip.MustParseAddrPort("0.0.0.0:1")
		},
		"address [ff02::1]:1: want": func(c *client.Config) {
			c.Addrs[0] = netip.MustParseAddrPort("[ff02::1]:1")
		},
		"address invalid AddrPort: want": func(c *client.Config) {
			c.Addrs[0] = netip.AddrPort{}
		},
		"leg 0: want 1 or 2": func(c *client.Config) {
			c.Leg.Num = 0
		},
		"leg 3: want 1 or 2": func(c *client.Config) {
			c.Leg.Num = 3
		},
		"protocol 9 of the leg": func(c *client.Config) {
			c.Leg.Protocol = 9
		},
		"no token": func(c *client.Config) {
			c.Token = bind.Token{}
		},
		"keep-alive -1ns is negative": func(c *client.Config) {
			c.KeepAlive = -1
		},
		"timeout -1ns is negative": func(c *client.Config) {
			c.Timeout = -1
		},
		"buffer of -1 bytes": func(c *client.Config) {
			c.Buffer = -1
		},
	}
	for text, change := range tests {
		t.Run(text, func(t *testing.T) {
			t.Parallel()

			cfg := good
			cfg.Addrs = []netip.AddrPort{good.Addrs[0]}
			change(&cfg)

			_, err := client.DialUDP(t.Context(), cfg)
			require.ErrorContains(t, err, text)
			_, err = client.DialTCP(t.Context(), cfg)
			require.ErrorContains(t, err, text)
		})
	}

	// A leg is of one protocol.
	cfg := good
	cfg.Leg.Protocol = 1
	_, err := client.DialTCP(t.Context(), cfg)
	require.ErrorContains(t, err, "protocol 1 of the leg: want 2")
	cfg.Leg.Protocol = 2
	_, err = client.DialUDP(t.Context(), cfg)
	require.ErrorContains(t, err, "protocol 2 of the leg: want 1")
}
