package client_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/relay/client"
	"github.com/stretchr/testify/require"
)

// interval is a keep-alive that a test need not wait long for.
const interval = 100 * time.Millisecond

// TestKeepAlive checks that the client binds again and again, always with a
// fresh nonce, whether the program reads or not, and that the program never
// sees anything of it.
func TestKeepAlive(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	cfg := l.config()
	cfg.KeepAlive = 6 * interval
	conn := dial(t, cfg)
	at := conn.LocalAddr()

	seen := make(map[bind.Nonce]bool)
	handshakes := func() {
		for range 2 {
			seen[l.handshake()] = true
		}
	}

	handshakes()

	got := make(chan []byte, 1)
	go func() {
		buffer := make([]byte, 100)
		n, _ := conn.Read(buffer)
		got <- buffer[:n]
	}()
	handshakes()

	l.sendPayload([]byte("payload"))
	require.Equal(t, "payload", string(<-got))
	handshakes()

	require.Len(t, seen, 6)
	require.Equal(t, at.String(), conn.LocalAddr().String())
	exchange(t, l, conn)
}

// TestNotReading checks that what comes while the program does not read, and
// the client looks for an answer, is kept, and no more than there is room for.
func TestNotReading(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())

	const bursts, each = 25, 20
	send := func(size int) {
		for i := range uint32(bursts * each) {
			payload := make([]byte, size)
			binary.BigEndian.PutUint32(payload, i)
			l.sendPayload(payload)

			// What came by then is taken out of the system's room.
			if i%each == each-1 {
				err := conn.Rebind(testContext(t))
				require.NoError(t, err)
			}
		}
	}
	receive := func(count int) {
		seen := make(map[uint32]bool)
		for range count {
			seen[binary.BigEndian.Uint32(read(t, conn))] = true
		}
		require.Len(t, seen, count)
	}

	send(4)
	receive(bursts * each)
	require.Zero(t, conn.Dropped())

	// More than there is room for.
	const size = 3000
	send(size)
	kept := bursts*each - int(conn.Dropped())
	require.Less(t, kept, bursts*each)
	require.Greater(t, kept*size, 1_000_000)
	receive(kept)

	exchange(t, l, conn)
}

// TestUnanswered checks that a connection ends when its keep-alive is not
// answered, not before its time, and that it says why.
func TestUnanswered(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	cfg := l.config()
	cfg.KeepAlive = interval
	cfg.Timeout = 5 * interval
	began := time.Now()
	conn := dial(t, cfg)

	// It has this one, and has to say so first.
	l.sendPayload([]byte("kept"))
	require.NoError(t, conn.Rebind(testContext(t)))
	l.losesAll(true)

	ended := make(chan error, 2)
	go func() { ended <- conn.Rebind(context.Background()) }()
	go func() { ended <- conn.Migrate(context.Background()) }()
	for range 2 {
		require.ErrorIs(t, <-ended, client.ErrUnbound)
	}
	require.GreaterOrEqual(t, time.Since(began), cfg.Timeout)

	require.Equal(t, "kept", string(read(t, conn)))
	for range 2 {
		_, err := conn.Read(make([]byte, 100))
		require.ErrorIs(t, err, client.ErrUnbound)
		require.ErrorContains(t, err, "no keep-alive was answered")
		_, err = conn.Write(nil)
		require.ErrorIs(t, err, client.ErrUnbound)
	}
	require.ErrorIs(t, conn.Rebind(t.Context()), client.ErrUnbound)

	// It does not come back.
	l.losesAll(false)
	_, _, err := conn.ReadFrom(nil)
	require.ErrorIs(t, err, client.ErrUnbound)
}

// TestUnansweredRead checks that a Read that waits ends with the connection.
func TestUnansweredRead(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	cfg := l.config()
	cfg.KeepAlive = interval
	conn := dial(t, cfg)
	l.losesAll(true)

	for _, room := range []int{10, 1000} {
		_, err := conn.Read(make([]byte, room))
		require.ErrorIs(t, err, client.ErrUnbound)

		var known *net.OpError
		require.ErrorAs(t, err, &known)
		require.Equal(t, "read", known.Op)
		require.Equal(t, conn.RemoteAddr(), known.Addr)
	}
}

// TestInTurn checks that a call of the program's does not wait for a handshake
// that the client does by itself and that nobody answers.
func TestInTurn(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	cfg := l.config()
	cfg.KeepAlive = 2 * time.Second
	cfg.Timeout = 4 * limit
	conn := dial(t, cfg)

	old := localAddr(conn)
	attempts := make(chan struct{}, 1000)
	l.loses(func(_ bind.Message, from netip.AddrPort) bool {
		if from == old {
			attempts <- struct{}{}
		}

		return from == old
	})

	// The keep-alive has begun, and waits for an answer.
	<-attempts
	began := time.Now()
	require.NoError(t, conn.Migrate(testContext(t)))
	require.Less(t, time.Since(began), cfg.KeepAlive/3)
	exchange(t, l, conn)
}

// TestAddresses checks which of several addresses is used.
func TestAddresses(t *testing.T) {
	t.Parallel()

	token := newToken()
	first := newLegAt(t, netip.AddrPortFrom(loopback4, 0), token)
	second := newLegAt(t, netip.AddrPortFrom(loopback6, 0), token)

	closed := newLeg(t, loopback4)
	nobody := closed.addr()
	closed.close()

	cfg := first.config()
	cfg.Addrs = []netip.AddrPort{first.addr(), second.addr(), first.addr()}
	conn := dial(t, cfg)
	exchange(t, first, conn)
	require.Empty(t, second.messages)

	// The one in use is silent now.
	first.losesAll(true)
	require.NoError(t, conn.Migrate(testContext(t)))
	exchange(t, second, conn)
	require.Equal(t, first.addr().String(), conn.RemoteAddr().String())
	for _, l := range []*udpLeg{first, second} {
		_, err := conn.WriteTo(
			[]byte("to"), net.UDPAddrFromAddrPort(l.addr()),
		)
		require.NoError(t, err)
		require.Equal(t, "to", string(second.receivePayload().raw))
	}

	// It is the preferred one from then on.
	first.losesAll(false)
	require.NoError(t, conn.Migrate(testContext(t)))
	exchange(t, second, conn)

	// The first is silent from the beginning, or nobody is there.
	for _, addr := range []netip.AddrPort{first.addr(), nobody} {
		first.losesAll(true)
		cfg.Addrs = []netip.AddrPort{addr, second.addr()}
		conn := dial(t, cfg)
		exchange(t, second, conn)
	}
}

// TestOneBinds has all addresses challenge the client late: only one of them is
// bound.
func TestOneBinds(t *testing.T) {
	t.Parallel()

	token := newToken()
	cfg := newLegAt(t, netip.AddrPortFrom(loopback4, 0), token).config()
	cfg.Addrs = nil

	// Both lose the first hello, so that both hear of the client.
	legs := make([]*udpLeg, 3)
	for i := range legs {
		legs[i] = newLegAt(t, netip.AddrPortFrom(loopback4, 0), token)
		hellos := 0
		legs[i].loses(func(m bind.Message, _ netip.AddrPort) bool {
			if m.Type == bind.Hello {
				hellos++
			}

			return hellos == 1
		})
		cfg.Addrs = append(cfg.Addrs, legs[i].addr())
	}
	conn := dial(t, cfg)

	var bound []*udpLeg
	for _, l := range legs {
		if l.bound().IsValid() {
			bound = append(bound, l)
		}
	}
	require.Len(t, bound, 1)
	exchange(t, bound[0], conn)
}

// TestEverythingAtOnce reads, writes, binds, migrates and sets deadlines from
// many goroutines, and loses nothing on loopback.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()

	const (
		count      = 5000
		goroutines = 4
		window     = 64
	)

	l := newLeg(t, loopback4)
	cfg := l.config()
	cfg.KeepAlive = limit
	conn := dial(t, cfg)

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()

	var (
		workers  sync.WaitGroup
		answered = make(chan struct{}, window)
		received [count]atomic.Bool
	)

	// The leg sends back what comes.
	workers.Go(func() {
		for {
			select {
			case d := <-l.payloads:
				l.sendPayload(d.raw)

			case <-ctx.Done():
				return
			}
		}
	})

	for range goroutines {
		workers.Go(func() {
			buffer := make([]byte, 100)
			for {
				n, err := conn.Read(buffer)
				if os.IsTimeout(err) {
					continue
				}
				if err != nil || n != 4 {
					return
				}

				i := binary.BigEndian.Uint32(buffer)
				if !received[i].Swap(true) {
					answered <- struct{}{}
				}
			}
		})
	}

	// Migrating is done once in so many datagrams at most: a path is not
	// read for long if others follow it at once.
	move := make(chan struct{})
	for _, call := range []func() error{
		func() error { return conn.Rebind(ctx) },
		func() error {
			return conn.SetReadDeadline(time.Now().Add(interval))
		},
		func() error {
			<-move

			return conn.Migrate(ctx)
		},
	} {
		workers.Go(func() {
			for ctx.Err() == nil {
				_ = call()
				runtime.Gosched()
			}
		})
	}

	await := func() {
		select {
		case <-answered:
		case <-ctx.Done():
			require.FailNow(t, "lost")
		}
	}
	defer func() {
		cancel()
		close(move)
		require.NoError(t, conn.Close())
		workers.Wait()
	}()

	for i := range uint32(count) {
		if i >= window {
			await()
		}
		if i%250 == 0 {
			select {
			case move <- struct{}{}:
			default:
			}
		}

		write(t, conn, binary.BigEndian.AppendUint32(nil, i))
	}
	for range window {
		await()
	}
}
