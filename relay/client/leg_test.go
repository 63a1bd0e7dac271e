package client_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/relay/client"
	"github.com/stretchr/testify/require"
)

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.IPv6Loopback()
)

// datagram is one that came to a leg.
type datagram struct {
	from netip.AddrPort
	raw  []byte
}

// udpLeg is the relay's side of a leg, a second implementation of it: it
// challenges and binds clients, and gives their payloads to the test. A test
// can make it lose and answer what it wants.
type udpLeg struct {
	t     testing.TB
	conn  *net.UDPConn
	leg   bind.Leg
	token bind.Token

	// messages has every authentic message that came and was answered, and
	// payloads what the client sent beside.
	messages chan bind.Message
	payloads chan datagram

	done chan struct{}

	// mu guards the following fields.
	mu sync.Mutex

	key *bind.Key

	// lose decides whether a message is lost, on its way to the leg or from
	// it.
	lose func(m bind.Message, client netip.AddrPort) bool

	// cookies holds to whom each cookie was given, and taken is the one of
	// the last bind. A cookie begins with its number.
	cookies map[bind.Cookie]netip.AddrPort
	issued  uint64
	taken   uint64

	// client is whoever was bound last.
	client netip.AddrPort
}

// newToken draws a token.
func newToken() bind.Token {
	var token bind.Token
	_, _ = rand.Read(token[:])

	return token
}

// newLeg opens a leg on an address that answers as a relay does, until the test
// ends.
func newLeg(tb testing.TB, ip netip.Addr) *udpLeg {
	tb.Helper()

	return newLegAt(tb, netip.AddrPortFrom(ip, 0), newToken())
}

// newLegAt opens a leg at an address.
func newLegAt(tb testing.TB, at netip.AddrPort, token bind.Token) *udpLeg {
	tb.Helper()

	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	require.NoError(tb, err)

	l := &udpLeg{
		t:    tb,
		conn: conn,
		leg: bind.Leg{
			SocketID: [32]byte{1, 2}, Num: 2, Protocol: 1,
		},
		token:    token,
		messages: make(chan bind.Message, 1000),
		payloads: make(chan datagram, 10_000),
		done:     make(chan struct{}),
		cookies:  make(map[bind.Cookie]netip.AddrPort),
		lose: func(bind.Message, netip.AddrPort) bool {
			return false
		},
	}
	l.key = bind.NewKey(l.leg, token)

	go l.serve()
	tb.Cleanup(l.close)

	return l
}

// close ends the leg. It may be called again.
func (l *udpLeg) close() {
	_ = l.conn.Close()
	<-l.done
}

// stop makes the leg read no more. Its port stays open.
func (l *udpLeg) stop() {
	_ = l.conn.SetReadDeadline(time.Unix(0, 1))
	<-l.done
}

// addr returns the leg's address.
func (l *udpLeg) addr() netip.AddrPort {
	return l.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// config returns how to dial the leg. Nothing happens by itself for long.
func (l *udpLeg) config() client.Config {
	return client.Config{
		Addrs:     []netip.AddrPort{l.addr()},
		Leg:       l.leg,
		Token:     l.token,
		KeepAlive: time.Hour,
	}
}

// loses sets which messages are lost.
func (l *udpLeg) loses(lose func(m bind.Message, client netip.AddrPort) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.lose = lose
}

// losesAll makes the leg deaf or not.
func (l *udpLeg) losesAll(all bool) {
	l.loses(func(bind.Message, netip.AddrPort) bool {
		return all
	})
}

// serve answers until the leg is closed or stopped.
func (l *udpLeg) serve() {
	defer close(l.done)

	var buffer [1 << 16]byte
	for {
		n, from, err := l.conn.ReadFromUDPAddrPort(buffer[:])
		if err != nil {
			return
		}

		l.take(buffer[:n], from)
	}
}

// take answers a message, or hands out a payload of the client.
func (l *udpLeg) take(raw []byte, from netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if bind.IsMessage(raw) && l.key.Verify(raw) {
		m, err := bind.Decode(raw)
		if err == nil && !l.lose(m, from) {
			select {
			case l.messages <- m:
			// The test does not look at so many.
			default:
			}
			l.answer(m, from)
		}

		return
	}

	// What comes from elsewhere has no effect.
	if from == l.client {
		raw = append([]byte{}, raw...)
		l.payloads <- datagram{from: from, raw: raw}
	}
}

// answer answers a message. The lock is held.
func (l *udpLeg) answer(m bind.Message, from netip.AddrPort) {
	switch m.Type {
	case bind.Hello:
		l.issued++
		binary.BigEndian.PutUint64(m.Cookie[:], l.issued)
		_, _ = rand.Read(m.Cookie[8:])
		l.cookies[m.Cookie] = from
		m.Type, m.Addr = bind.Challenge, from

	case bind.Bind:
		num := binary.BigEndian.Uint64(m.Cookie[:])
		if l.cookies[m.Cookie] != from || m.Addr != from ||
			num < l.taken {

			return
		}
		l.taken, l.client = num, from
		m.Type = bind.Bound

	default:
		return
	}

	if !l.lose(m, from) {
		l.send(m, from)
	}
}

// send sends a message. The lock is held.
func (l *udpLeg) send(m bind.Message, to netip.AddrPort) {
	_, _ = l.conn.WriteToUDPAddrPort(m.Append(nil, l.key), to)
}

// encode returns a message under the key of a leg and a token.
func encode(m bind.Message, leg bind.Leg, token bind.Token) []byte {
	return m.Append(nil, bind.NewKey(leg, token))
}

// falseMessage returns what looks like a message and is not authentic.
func falseMessage() []byte {
	raw := make([]byte, bind.Size)
	copy(raw, bind.Magic)
	raw[len(bind.Magic)] = bind.Version

	return raw
}

// bound returns the address of the client.
func (l *udpLeg) bound() netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.client
}

// pin makes an address the client's, as a relay does that remembers it.
func (l *udpLeg) pin(client netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.client = client
}

// sendPayload sends a payload to the client.
func (l *udpLeg) sendPayload(payload []byte) {
	l.t.Helper()

	_, err := l.conn.WriteToUDPAddrPort(payload, l.bound())
	require.NoError(l.t, err)
}

// receivePayload waits for a payload of the client.
func (l *udpLeg) receivePayload() datagram {
	l.t.Helper()

	select {
	case d := <-l.payloads:
		return d

	case <-time.After(limit):
		require.FailNow(l.t, "no payload")

		return datagram{}
	}
}

// message waits for the next message that was answered.
func (l *udpLeg) message() bind.Message {
	l.t.Helper()

	select {
	case m := <-l.messages:
		return m

	case <-time.After(limit):
		require.FailNow(l.t, "no message")

		return bind.Message{}
	}
}

// handshake waits for a whole handshake and returns its nonce.
func (l *udpLeg) handshake() bind.Nonce {
	l.t.Helper()

	hello := l.message()
	require.Equal(l.t, bind.Hello, hello.Type)
	reply := l.message()
	require.Equal(l.t, bind.Bind, reply.Type)
	require.Equal(l.t, hello.Nonce, reply.Nonce)

	return hello.Nonce
}

// context returns a context that ends with the test, or when it takes too long.
func testContext(tb testing.TB) context.Context {
	tb.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), limit)
	tb.Cleanup(cancel)

	return ctx
}

// dial binds to a leg until the test ends.
func dial(tb testing.TB, cfg client.Config) *client.PacketConn {
	tb.Helper()

	conn, err := client.DialUDP(testContext(tb), cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, conn.Close())
	})

	return conn
}

// write sends a payload.
func write(tb testing.TB, conn net.Conn, payload []byte) {
	tb.Helper()

	n, err := conn.Write(payload)
	require.NoError(tb, err)
	require.Equal(tb, len(payload), n)
}

// read waits for a payload.
func read(tb testing.TB, conn net.Conn) []byte {
	tb.Helper()

	require.NoError(tb, conn.SetReadDeadline(time.Now().Add(limit)))
	buffer := make([]byte, 1<<16)
	n, err := conn.Read(buffer)
	require.NoError(tb, err)

	return buffer[:n]
}

// localAddr returns the local address of a connection.
func localAddr(conn net.Conn) netip.AddrPort {
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// exchange sends a payload both ways.
func exchange(tb testing.TB, l *udpLeg, conn *client.PacketConn) {
	tb.Helper()

	write(tb, conn, []byte("up"))
	got := l.receivePayload()
	require.Equal(tb, "up", string(got.raw))
	require.Equal(tb, localAddr(conn), got.from)

	l.sendPayload([]byte("down"))
	require.Equal(tb, "down", string(read(tb, conn)))
}

// awaitClient lets the client send until the leg has it at an address, and the
// client knows.
func (l *udpLeg) awaitClient(conn *client.PacketConn, ip netip.Addr) {
	l.t.Helper()

	for {
		write(l.t, conn, []byte("payload"))

		select {
		case d := <-l.payloads:
			require.Equal(l.t, ip, d.from.Addr())

			// Those before it were lost, so that this one is from
			// where the client went.
			require.NoError(l.t, conn.Rebind(testContext(l.t)))
			for len(l.payloads) > 0 {
				<-l.payloads
			}

			return

		case <-time.After(time.Millisecond):
		}
	}
}
