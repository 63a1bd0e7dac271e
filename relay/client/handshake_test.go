package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// TestTake checks what a handshake takes for an answer, and what it does not.
func TestTake(t *testing.T) {
	t.Parallel()

	h := newHandshake(bind.Leg{Num: 1}, bind.Token{1})
	hello := h.sent
	require.Equal(t, bind.Hello, hello.Type)
	require.NotZero(t, hello.Nonce)
	require.True(t, h.key.Verify(h.raw[:]))

	challenge := hello
	challenge.Type, challenge.Cookie = bind.Challenge, bind.Cookie{1}
	challenge.Addr = netip.MustParseAddrPort("192.0.2.1:5")
	bound := challenge
	bound.Type = bind.Bound

	other := challenge
	other.Nonce[0]++
	for _, m := range []bind.Message{{}, hello, other, bound} {
		require.False(t, h.take(m))
		require.Equal(t, hello, h.sent)
	}

	require.True(t, h.take(challenge))
	answer := challenge
	answer.Type = bind.Bind
	require.Equal(t, answer, h.sent)
	require.Equal(t, challenge.Addr, h.observed())
	require.True(t, h.key.Verify(h.raw[:]))
	decoded, err := bind.Decode(h.raw[:])
	require.NoError(t, err)
	require.Equal(t, answer, decoded)

	// A second hello was answered, too.
	again := challenge
	again.Cookie[1]++
	wrongCookie, wrongAddr, wrongNonce := bound, bound, bound
	wrongCookie.Cookie[0]++
	wrongAddr.Addr = netip.AddrPort{}
	wrongNonce.Nonce[0]++
	for _, m := range []bind.Message{
		challenge, again, answer, wrongCookie, wrongAddr, wrongNonce,
	} {
		require.False(t, h.take(m))
		require.Equal(t, answer, h.sent)
	}
	require.True(t, h.take(bound))

	h.hello()
	require.NotEqual(t, hello.Nonce, h.sent.Nonce)
}

// TestQueue checks what is kept and what is dropped.
func TestQueue(t *testing.T) {
	t.Parallel()

	var q queue
	_, ok := q.pop(nil)
	require.False(t, ok)

	// What is empty takes room, too.
	for range maxQueued/queuedCost + 1 {
		q.push(nil)
	}
	require.Equal(t, uint64(1), q.dropped.Load())
	require.Equal(t, int64(maxQueued/queuedCost), q.count.Load())
	for range maxQueued / queuedCost {
		n, ok := q.pop(nil)
		require.True(t, ok)
		require.Zero(t, n)
	}
	require.Zero(t, q.size)

	payload := []byte("payload")
	q.push(payload)
	payload[0]++
	q.push([]byte("next"))

	buffer := make([]byte, 3)
	n, ok := q.pop(buffer)
	require.True(t, ok)
	require.Equal(t, "pay", string(buffer[:n]))
	n, ok = q.pop(buffer)
	require.True(t, ok)
	require.Equal(t, "nex", string(buffer[:n]))
	_, ok = q.pop(buffer)
	require.False(t, ok)

	q.push(make([]byte, maxQueued))
	require.Equal(t, uint64(2), q.dropped.Load())
}

// entrant is what a race gets. It knows whether it was closed.
type entrant struct {
	addr   netip.AddrPort
	closed bool
}

func (e *entrant) Close() error {
	e.closed = true

	return nil
}

// TestRace checks that a race has one winner, and that all others are closed,
// also those that come in at the same time.
func TestRace(t *testing.T) {
	t.Parallel()

	var addrs []netip.AddrPort
	for port := range uint16(3) {
		addrs = append(addrs, netip.AddrPortFrom(
			netip.IPv6Loopback(), port+1,
		))
	}

	// They come in when all are there.
	var entrants [3]entrant
	entered := make(chan struct{}, len(entrants))
	all := make(chan struct{})
	go func() {
		for range entrants {
			<-entered
		}
		close(all)
	}()

	began := time.Now()
	won, err := race(t.Context(), addrs, func(_ context.Context,
		addr netip.AddrPort) (*entrant, error) {

		entered <- struct{}{}
		<-all
		e := &entrants[addr.Port()-1]
		e.addr = addr

		return e, nil
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 2*stagger)
	for i := range entrants {
		require.Equal(t, addrs[i], entrants[i].addr)
		require.Equal(t, &entrants[i] != won, entrants[i].closed)
	}

	// One that fails makes room at once, and one that succeeds is enough.
	began = time.Now()
	var order []netip.AddrPort
	won, err = race(t.Context(), addrs, func(_ context.Context,
		addr netip.AddrPort) (*entrant, error) {

		order = append(order, addr)
		if addr == addrs[0] {
			return nil, errors.New("no")
		}

		return &entrant{addr: addr}, nil
	})
	require.NoError(t, err)
	require.Less(t, time.Since(began), stagger)
	require.Equal(t, addrs[:2], order)
	require.Equal(t, addrs[1], won.addr)

	// Nobody begins when it is over.
	ctx, cancel := context.WithCancel(t.Context())
	_, err = race(ctx, addrs, func(ctx context.Context,
		addr netip.AddrPort) (*entrant, error) {

		require.Equal(t, addrs[0], addr)
		cancel()

		return nil, ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
}

// TestNoDeadline checks that the handshake's deadline is not the connection's.
func TestNoDeadline(t *testing.T) {
	t.Parallel()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()

	cfg := Config{
		Addrs: []netip.AddrPort{
			listener.Addr().(*net.TCPAddr).AddrPort(),
		},
		Leg:   bind.Leg{Num: 1, Protocol: protocolTCP},
		Token: bind.Token{1},
	}
	key := bind.NewKey(cfg.Leg, cfg.Token)
	isOver := make(chan struct{})

	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- err

			return
		}

		var raw [bind.Size]byte
		for _, answer := range []bind.Type{
			bind.Challenge, bind.Bound,
		} {
			_, _ = io.ReadFull(conn, raw[:])
			m, _ := bind.Decode(raw[:])
			m.Type = answer
			_, _ = conn.Write(m.Append(nil, key))
		}
		<-isOver
		_, _ = conn.Write([]byte("late"))
		served <- conn.Close()
	}()

	caller, err := cfg.call(t.Context(), cfg.Addrs[0])
	require.NoError(t, err)
	caller.deadline = time.Now().Add(100 * time.Millisecond)
	require.NoError(t, caller.bind(t.Context()))

	time.AfterFunc(time.Until(caller.deadline), func() { close(isOver) })
	got, err := io.ReadAll(caller)
	require.NoError(t, err)
	require.Equal(t, "late", string(got))
	require.NoError(t, caller.Close())
	require.NoError(t, <-served)
}
