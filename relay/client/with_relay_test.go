package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/relay/client"
	"github.com/stretchr/testify/require"
)

// The tests in this file run against the relay itself.

// world is a relay that runs.
type world struct {
	*relay.Relay

	t testing.TB
}

// newWorld runs a relay until the test ends.
func newWorld(tb testing.TB) *world {
	tb.Helper()

	r, err := relay.New(relay.Config{
		// Other tests use lower ones, clients higher ones.
		Ports:       relay.PortRange{Low: 32000, High: 32700},
		MaxSockets:  10,
		PinTimeout:  time.Hour,
		MaxPairs:    100,
		MaxWaiting:  100,
		WaitTimeout: time.Hour,
		MaxConns:    1000,
		KeepAlive:   time.Hour,
	}, nil)
	require.NoError(tb, err)

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})

	return &world{Relay: r, t: tb}
}

// open opens a socket whose clients have to bind.
func (w *world) open(protocol relay.Protocol) *relay.Socket {
	w.t.Helper()

	s, err := w.Open(relay.Options{
		Protocol: protocol, Admission: relay.ByToken,
	})
	require.NoError(w.t, err)

	return s
}

// config returns how to dial a leg with its own token.
func (w *world) config(s *relay.Socket, leg relay.Leg) client.Config {
	w.t.Helper()

	token, ok := s.Token(leg)
	require.True(w.t, ok)

	return client.Config{
		Addrs: []netip.AddrPort{
			netip.AddrPortFrom(loopback4, s.Port(leg)),
		},
		Leg:       bind.Leg{SocketID: s.ID(), Num: uint8(leg)},
		Token:     token,
		KeepAlive: time.Hour,
	}
}

// legStats returns the counters of one leg.
func legStats(s *relay.Socket, leg relay.Leg) relay.LegStats {
	if leg == relay.Leg1 {
		return s.Stats().Leg1
	}

	return s.Stats().Leg2
}

// swap sends a payload each way.
func swap(tb testing.TB, a, b net.Conn) {
	tb.Helper()

	for _, conns := range [][2]net.Conn{{a, b}, {b, a}} {
		write(tb, conns[0], []byte("payload"))
		require.Equal(tb, "payload", string(read(tb, conns[1])))
	}
}

// TestRelayUDP binds to both legs, over both families, and sends payloads of
// all sizes, and such as look like messages.
func TestRelayUDP(t *testing.T) {
	t.Parallel()

	w := newWorld(t)
	s := w.open(relay.UDP)

	cfg1, cfg2 := w.config(s, relay.Leg1), w.config(s, relay.Leg2)
	cfg2.Addrs[0] = netip.AddrPortFrom(loopback6, cfg2.Addrs[0].Port())
	c1, c2 := dial(t, cfg1), dial(t, cfg2)

	require.Equal(t, localAddr(c1), c1.Observed())
	require.Equal(t, localAddr(c2), c2.Observed())
	require.Equal(t, localAddr(c1), legStats(s, relay.Leg1).Client)
	require.Equal(t, localAddr(c2), legStats(s, relay.Leg2).Client)

	false1 := falseMessage()
	payloads := [][]byte{
		{}, []byte("x"), bytes.Repeat([]byte("y"), 1200),
		bytes.Repeat([]byte("z"), maxIPv4), false1,
		append(bytes.Clone(false1), 0), false1[:bind.Size-1],

		// One of the other leg's handshakes.
		encode(bind.Message{Type: bind.Hello}, cfg2.Leg, cfg2.Token),
	}
	for _, payload := range payloads {
		write(t, c1, payload)
		require.Equal(t, payload, read(t, c2))
		write(t, c2, payload[:len(payload)/2])
		require.Equal(t, payload[:len(payload)/2], read(t, c1))
	}

	// Binding goes on meanwhile, and nobody sees it.
	require.NoError(t, c1.Rebind(testContext(t)))
	require.NoError(t, c2.Rebind(testContext(t)))
	swap(t, c1, c2)
	require.Equal(t, uint64(len(payloads)+1),
		legStats(s, relay.Leg1).PacketsIn)
}

// TestRelayKeepAlive lets both clients bind again by themselves, while payload
// flows, of which neither sees anything.
func TestRelayKeepAlive(t *testing.T) {
	t.Parallel()

	w := newWorld(t)
	s := w.open(relay.UDP)

	var conns []*client.PacketConn
	for _, leg := range []relay.Leg{relay.Leg1, relay.Leg2} {
		cfg := w.config(s, leg)
		cfg.KeepAlive = 3 * interval
		cfg.Timeout = limit
		conns = append(conns, dial(t, cfg))
	}

	for began := time.Now(); time.Since(began) < 10*interval; {
		swap(t, conns[0], conns[1])
	}

	for _, leg := range []relay.Leg{relay.Leg1, relay.Leg2} {
		require.Eventually(t, func() bool {
			return localAddr(conns[leg-relay.Leg1]) ==
				legStats(s, leg).Client
		}, limit, time.Millisecond)
	}
}

// TestRelayMigrate has both clients change their ports in mid-flow, again and
// again. Every datagram arrives, and only once.
func TestRelayMigrate(t *testing.T) {
	t.Parallel()

	const (
		count      = 20_000
		window     = 100
		migrations = 20
	)

	w := newWorld(t)
	s := w.open(relay.UDP)
	c1 := dial(t, w.config(s, relay.Leg1))
	c2 := dial(t, w.config(s, relay.Leg2))
	conns := []*client.PacketConn{c1, c2}

	var workers sync.WaitGroup
	for i, from := range conns {
		to := conns[1-i]
		arrived := make(chan struct{}, window)
		for range window {
			arrived <- struct{}{}
		}

		workers.Go(func() {
			for i := range uint32(count) {
				select {
				case <-arrived:
				case <-time.After(limit):
					return
				}

				payload := binary.BigEndian.AppendUint32(nil, i)
				if _, err := from.Write(payload); err != nil {
					t.Error(err)
				}
			}
		})

		workers.Go(func() {
			seen := make([]bool, count)
			deadline := time.Now().Add(limit)
			_ = to.SetReadDeadline(deadline)
			buffer := make([]byte, 100)
			for n := range count {
				size, err := to.Read(buffer)
				if err != nil || size != 4 {
					t.Errorf("%d of %d came: %v", n, count,
						err)

					return
				}

				i := binary.BigEndian.Uint32(buffer)
				if seen[i] {
					t.Errorf("%d came twice", i)
				}
				seen[i] = true
				arrived <- struct{}{}
			}
		})
	}

	for i := range migrations {
		conn := conns[i%2]
		old := localAddr(conn)
		require.NoError(t, conn.Migrate(testContext(t)))
		require.NotEqual(t, old, localAddr(conn))
		require.Equal(t, localAddr(conn),
			legStats(s, relay.Leg(i%2+1)).Client)
	}
	workers.Wait()
}

// TestRelayRevoked revokes a token while its client reads.
func TestRelayRevoked(t *testing.T) {
	t.Parallel()

	w := newWorld(t)
	s := w.open(relay.UDP)
	c1 := dial(t, w.config(s, relay.Leg1))

	cfg := w.config(s, relay.Leg2)
	cfg.Token = relay.NewToken()
	cfg.KeepAlive = interval
	require.NoError(t, s.Grant(relay.Leg2, cfg.Token))
	c2 := dial(t, cfg)
	swap(t, c1, c2)

	s.Revoke(relay.Leg2, cfg.Token)
	write(t, c1, []byte("for nobody"))
	require.NoError(t, c2.SetReadDeadline(time.Now().Add(limit)))
	_, err := c2.Read(make([]byte, 100))
	require.ErrorIs(t, err, client.ErrUnbound)
	_, err = c2.Write([]byte("from nobody"))
	require.ErrorIs(t, err, client.ErrUnbound)

	// The leg's own token still is good.
	swap(t, c1, dial(t, w.config(s, relay.Leg2)))
}

// TestRelayClosed closes a socket under its client.
func TestRelayClosed(t *testing.T) {
	t.Parallel()

	w := newWorld(t)
	s := w.open(relay.UDP)
	cfg := w.config(s, relay.Leg1)
	cfg.KeepAlive = interval
	conn := dial(t, cfg)

	require.NoError(t, s.Close())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(limit)))
	_, err := conn.Read(make([]byte, 100))
	require.ErrorIs(t, err, client.ErrUnbound)
}

// TestRelayWrong dials with what is not the leg's.
func TestRelayWrong(t *testing.T) {
	t.Parallel()

	w := newWorld(t)
	for _, protocol := range []relay.Protocol{relay.UDP, relay.TCP} {
		s, other := w.open(protocol), w.open(protocol)

		for name, change := range map[string]func(*client.Config){
			"token": func(cfg *client.Config) {
				cfg.Token = relay.NewToken()
			},
			"token of the other leg": func(cfg *client.Config) {
				cfg.Token, _ = s.Token(relay.Leg2)
			},
			"leg": func(cfg *client.Config) {
				cfg.Leg.Num = 2
			},
			"socket": func(cfg *client.Config) {
				cfg.Leg.SocketID = other.ID()
			},
			"port": func(cfg *client.Config) {
				cfg.Addrs[0] = netip.AddrPortFrom(
					loopback4, s.Port(relay.Leg2),
				)
			},
		} {
			t.Run(name, func(t *testing.T) {
				cfg := w.config(s, relay.Leg1)
				change(&cfg)

				ctx, cancel := context.WithTimeout(
					t.Context(), 300*time.Millisecond,
				)
				defer cancel()

				var err error
				if protocol == relay.UDP {
					_, err = client.DialUDP(ctx, cfg)
				} else {
					_, err = client.DialTCP(ctx, cfg)
				}
				require.ErrorIs(t, err, client.ErrUnbound)
			})
		}
		require.Zero(t, legStats(s, relay.Leg1).Client)
		require.Zero(t, legStats(s, relay.Leg2).Client)
	}
}

// TestRelayTwoClients has two clients with one token. The last one to bind has
// the leg.
func TestRelayTwoClients(t *testing.T) {
	t.Parallel()

	w := newWorld(t)
	s := w.open(relay.UDP)
	c1 := dial(t, w.config(s, relay.Leg1))
	first := dial(t, w.config(s, relay.Leg2))
	swap(t, c1, first)

	second := dial(t, w.config(s, relay.Leg2))
	swap(t, c1, second)
	write(t, first, []byte("not the client"))
	swap(t, c1, second)

	require.NoError(t, first.Rebind(testContext(t)))
	swap(t, c1, first)
	require.NotZero(t, legStats(s, relay.Leg2).Drops[relay.DropStranger])
}

// TestRelayTCP sends bytes through a pair of connections, and their ends.
func TestRelayTCP(t *testing.T) {
	t.Parallel()

	w := newWorld(t)
	s := w.open(relay.TCP)
	cfg2 := w.config(s, relay.Leg2)
	cfg2.Addrs[0] = netip.AddrPortFrom(loopback6, cfg2.Addrs[0].Port())

	// The first and the second pair.
	for range 2 {
		c1, err := client.DialTCP(
			testContext(t), w.config(s, relay.Leg1),
		)
		require.NoError(t, err)
		c2, err := client.DialTCP(testContext(t), cfg2)
		require.NoError(t, err)

		for _, conns := range [][2]*net.TCPConn{{c1, c2}, {c2, c1}} {
			sent, received := sha256.New(), sha256.New()
			done := make(chan error, 1)
			go func() {
				source := rand.NewChaCha8([32]byte{1})
				_, err := io.Copy(
					io.MultiWriter(conns[0], sent),
					io.LimitReader(source, 8<<20),
				)
				_ = conns[0].CloseWrite()
				done <- err
			}()

			n, err := io.Copy(received, conns[1])
			require.NoError(t, err)
			require.NoError(t, <-done)
			require.Equal(t, int64(8<<20), n)
			require.Equal(t, sent.Sum(nil), received.Sum(nil))
		}
		require.NoError(t, c1.Close())
		require.NoError(t, c2.Close())
	}
}

// TestRelayTCPRevoked revokes the token of an open connection.
func TestRelayTCPRevoked(t *testing.T) {
	t.Parallel()

	w := newWorld(t)
	s := w.open(relay.TCP)
	cfg := w.config(s, relay.Leg2)
	cfg.Token = relay.NewToken()
	require.NoError(t, s.Grant(relay.Leg2, cfg.Token))

	conn, err := client.DialTCP(testContext(t), cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()

	s.Revoke(relay.Leg2, cfg.Token)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(limit)))
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)

	_, err = client.DialTCP(testContext(t), cfg)
	require.ErrorIs(t, err, client.ErrUnbound)
}
