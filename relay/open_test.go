package relay

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOpen checks what Open returns and refuses.
func TestOpen(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)

	before := time.Now().Round(0).Add(-time.Millisecond)
	expiry := time.Now().Add(time.Hour)
	s := w.openWith(Options{Protocol: UDP, ExpiresAt: expiry})

	require.Equal(t, UDP, s.Protocol())

	// The lifetime goes by the wall clock, so the other clock is left out.
	require.Equal(t, expiry.Round(0), s.ExpiresAt())
	require.True(t, s.CreatedAt().After(before))
	require.False(t, s.CreatedAt().After(time.Now()))

	found, ok := w.Socket(s.ID())
	require.True(t, ok)
	require.Same(t, s, found)

	_, ok = w.Socket(newID())
	require.False(t, ok)

	bad := []struct {
		opts Options
		want error
	}{{
		opts: Options{},
		want: ErrProtocol,
	}, {
		opts: Options{Protocol: 3},
		want: ErrProtocol,
	}, {
		opts: Options{Protocol: UDP, IdleTimeout: -1},
		want: ErrOptions,
	}, {
		opts: Options{
			Protocol:  UDP,
			ExpiresAt: time.Now().Add(-time.Second),
		},
		want: ErrOptions,
	}}
	for _, test := range bad {
		_, err := w.Open(test.opts)
		require.ErrorIs(t, err, test.want)
	}

	require.Equal(t, 1, w.NumSockets())
	require.True(t, w.openWith(Options{Protocol: UDP}).ExpiresAt().IsZero())
	w.noEvent()
}

// TestTooManySockets checks the cap on sockets.
func TestTooManySockets(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxSockets = 3
	})

	first := w.open()
	w.open()
	w.open()

	_, err := w.Open(Options{Protocol: UDP})
	require.ErrorIs(t, err, ErrTooManySockets)
	require.EqualError(t, err, "open socket: too many sockets: all 3 "+
		"are open")
	require.Equal(t, 3, w.NumSockets())

	require.NoError(t, first.Close())
	w.open()
}

// TestTooManySocketsAtOnce checks that the cap holds for calls that race.
func TestTooManySocketsAtOnce(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxSockets = 5
	})

	var (
		opened atomic.Int64
		group  sync.WaitGroup
	)
	for range 20 {
		group.Go(func() {
			_, err := w.Open(Options{Protocol: UDP})
			if err == nil {
				opened.Add(1)
			} else if !errors.Is(err, ErrTooManySockets) {
				t.Error(err)
			}
		})
	}
	group.Wait()

	require.EqualValues(t, 5, opened.Load())
	require.Equal(t, 5, w.NumSockets())
}

// TestNoFreePort uses up the ports. The one that is left over stays free.
func TestNoFreePort(t *testing.T) {
	t.Parallel()

	ports := freePorts(t, 5)
	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = ports
		cfg.PortRest = 0
	})

	first := w.open()
	second := w.open()

	_, err := w.Open(Options{Protocol: UDP})
	require.ErrorIs(t, err, ErrNoFreePort)
	require.ErrorContains(t, err, "the relay uses 4, other programs use "+
		"0, and 1 are free")
	require.Equal(t, 2, w.NumSockets())

	// The single port was tried, and given back.
	left := 0
	for port := ports.Low; port <= ports.High; port++ {
		if !w.ports.isTaken(port) {
			left++
			require.True(t, isFree(port))
		}
	}
	require.Equal(t, 1, left)

	// Its place among the sockets was given back as well.
	require.Empty(t, w.reserved)

	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	w.open()
	w.open()
}

// TestForeignPorts opens sockets beside other programs that have most of the
// ports. Those are passed over, and taken when they are free again.
func TestForeignPorts(t *testing.T) {
	t.Parallel()

	ports := freePorts(t, 8)
	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = ports
	})

	// On one address of one family is enough to have a port.
	var foreign []*client
	for i := range uint16(6) {
		ip := loopback4
		if i%2 == 1 {
			ip = loopback6
		}

		at := netip.AddrPortFrom(ip, ports.Low+i)
		foreign = append(foreign, newClientAt(t, at))
	}

	s := w.open()
	require.GreaterOrEqual(t, s.Port(Leg1), ports.Low+6)
	require.GreaterOrEqual(t, s.Port(Leg2), ports.Low+6)

	_, err := w.Open(Options{Protocol: UDP})
	require.ErrorIs(t, err, ErrNoFreePort)
	require.ErrorContains(t, err, "the relay uses 2, other programs use "+
		"6, and 0 are free")

	for _, c := range foreign {
		c.close()
	}
	for range 3 {
		w.open()
	}
}

// TestPortRest checks that the ports of a closed socket rest, and those of a
// socket that never came to be do not.
func TestPortRest(t *testing.T) {
	t.Parallel()

	const rest = 300 * time.Millisecond

	ports := freePorts(t, 3)
	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = ports
		cfg.PortRest = rest
	})

	s := w.open()
	require.NoError(t, s.Close())
	closed := time.Now()

	var err error
	require.Eventually(t, func() bool {
		_, err = w.Open(Options{Protocol: UDP})

		return err == nil
	}, limit, tick)
	require.GreaterOrEqual(t, time.Since(closed)+tick, rest)
	require.Equal(t, 1, w.NumSockets())
}

// TestListen checks on what addresses the ports are open.
func TestListen(t *testing.T) {
	t.Parallel()

	both := []netip.Addr{loopback4, loopback6}
	tests := map[string]struct {
		listen string
		open   []netip.Addr
	}{
		"all":         {open: both},
		"IPv4":        {listen: "0.0.0.0", open: both[:1]},
		"IPv6":        {listen: "::", open: both[1:]},
		"one":         {listen: "127.0.0.1", open: both[:1]},
		"mapped":      {listen: "::ffff:127.0.0.1", open: both[:1]},
		"one of IPv6": {listen: "::1", open: both[1:]},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			w := newWorld(t, func(cfg *Config) {
				if test.listen != "" {
					cfg.Listen = netip.MustParseAddr(
						test.listen,
					)
				}
			})
			s := w.open()

			// A port is open where nobody else can have it.
			for _, ip := range both {
				at := netip.AddrPortFrom(ip, s.Port(Leg1))
				conn, err := net.ListenUDP(
					"udp", net.UDPAddrFromAddrPort(at),
				)
				if err == nil {
					_ = conn.Close()
				}

				if slices.Contains(test.open, ip) {
					require.True(t, isAddrInUse(err), ip)
				} else {
					require.NoError(t, err)
				}
			}

			w.pair(test.open[0], test.open[len(test.open)-1])
		})
	}
}

// TestListenElsewhere checks the error for an address that is not ours.
func TestListenElsewhere(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = freePorts(t, 2)
		cfg.Listen = netip.MustParseAddr("203.0.113.77")
	})

	for range 3 {
		_, err := w.Open(Options{Protocol: UDP})
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrNoFreePort)
		require.ErrorContains(t, err, "203.0.113.77")
	}

	require.Zero(t, w.NumSockets())
	require.False(t, w.ports.isTaken(w.cfg.Ports.Low))
	require.False(t, w.ports.isTaken(w.cfg.Ports.High))
	require.Len(t, w.ports.free, 2)
}

// TestOpenNamed opens sockets under names that the caller chose. No two sockets
// that are open or on their way have the same.
func TestOpenNamed(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	free := len(w.ports.free)

	id := newID()
	opts := Options{ID: id, Protocol: UDP, Admission: ByToken}
	s := w.openWith(opts)
	require.Equal(t, id, s.ID())
	found, ok := w.Socket(id)
	require.True(t, ok)
	require.Same(t, s, found)

	// The name is no part of what a further socket could be opened with.
	require.Equal(t, Options{
		Protocol: UDP, Admission: ByToken,
	}, s.Options())
	require.NotEqual(t, id, w.openWith(s.Options()).ID())

	// The legs' tokens are for that name.
	h1 := newHolder(t, loopback4, s, Leg1, ownToken(t, s, Leg1))
	h1.bind()
	require.Equal(t, id, w.event().(EventPinned).SocketID)

	kept := s.Keep()
	for _, opts := range []Options{
		{ID: id, Protocol: UDP},
		{ID: id, Protocol: TCP},
		{Protocol: UDP, Admission: ByToken, Restore: &kept},
	} {
		_, err := w.Open(opts)
		require.ErrorIs(t, err, ErrOptions)
		require.ErrorContains(t, err, id.String()+" is open already")
	}
	require.Equal(t, 2, w.NumSockets())
	require.Empty(t, w.reserved)
	require.Len(t, w.ports.free, free-4)

	// The name is free again when the socket has ended.
	require.NoError(t, s.Close())
	require.Equal(t, id, w.openWith(opts).ID())
}

// TestOpenNamedAtOnce opens a socket many times at once under the same name.
// One call succeeds.
func TestOpenNamedAtOnce(t *testing.T) {
	t.Parallel()

	const count = 20

	w := newWorld(t, nil)
	opts := Options{ID: newID(), Protocol: UDP}

	var (
		group  sync.WaitGroup
		opened atomic.Int64
	)
	for range count {
		group.Go(func() {
			_, err := w.Open(opts)
			switch {
			case err == nil:
				opened.Add(1)

			case !errors.Is(err, ErrOptions):
				t.Error(err)
			}
		})
	}
	group.Wait()

	require.EqualValues(t, 1, opened.Load())
	require.Equal(t, 1, w.NumSockets())
	require.Empty(t, w.reserved)
}
