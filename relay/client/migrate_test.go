package client_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/relay/client"
	"github.com/stretchr/testify/require"
)

// TestFindsOtherPort has the relay deaf for the client's port, as when a NAT on
// the way leads it nowhere: the client goes on from another one. Then it has to
// do so again.
func TestFindsOtherPort(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	cfg := l.config()
	cfg.KeepAlive = 4 * interval
	cfg.Timeout = limit
	conn := dial(t, cfg)

	for range 2 {
		old := l.bound()
		l.loses(func(_ bind.Message, from netip.AddrPort) bool {
			return from == old
		})

		require.Eventually(t, func() bool {
			return l.bound() != old
		}, limit, time.Millisecond)

		// Which is before the client has heard of it.
		require.NoError(t, conn.Rebind(testContext(t)))
		require.Equal(t, l.bound(), conn.Observed())
		require.Equal(t, l.bound(), localAddr(conn))
		exchange(t, l, conn)
	}
}

// TestMigrate takes another port, with losses on the way.
func TestMigrate(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())

	seen := make(map[bind.Type]int)
	l.loses(func(m bind.Message, _ netip.AddrPort) bool {
		seen[m.Type]++

		return seen[m.Type] == 1
	})

	for range 3 {
		old := localAddr(conn)
		require.NoError(t, conn.Migrate(testContext(t)))
		require.NotEqual(t, old, localAddr(conn))
		require.Equal(t, l.bound(), localAddr(conn))
		require.Equal(t, l.bound(), conn.Observed())
		exchange(t, l, conn)
	}
}

// TestMigrateFails checks that a connection that could not migrate is still
// there, also if the relay has taken the new port already.
func TestMigrateFails(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())
	old := localAddr(conn)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l.loses(func(m bind.Message, from netip.AddrPort) bool {
		if m.Type == bind.Bound && from != old {
			cancel()

			return true
		}

		return false
	})
	require.ErrorIs(t, conn.Migrate(ctx), context.Canceled)
	require.Equal(t, old, localAddr(conn))

	// It binds again by itself, at once.
	gaveUp := time.Now()
	require.Eventually(t, func() bool {
		return l.bound() == old
	}, limit, time.Millisecond)
	require.Less(t, time.Since(gaveUp), 4*time.Second)
	exchange(t, l, conn)

	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	l.losesAll(true)
	require.ErrorIs(t, conn.Migrate(ctx), client.ErrUnbound)
	require.Equal(t, old, localAddr(conn))
	l.losesAll(false)
	exchange(t, l, conn)
}

// TestMigrateLate lets no other port through for some time. The connection is
// as it was, and goes on trying.
func TestMigrateLate(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())
	l.handshake()
	old := localAddr(conn)

	binds := 0
	l.loses(func(m bind.Message, from netip.AddrPort) bool {
		if m.Type == bind.Bind && from == old {
			binds++
		}

		return from != old && binds == 0
	})
	require.NoError(t, conn.Migrate(testContext(t)))
	require.NotEqual(t, old, localAddr(conn))
	exchange(t, l, conn)
}

// TestMigrateOften checks that ports that were left do not pile up, and that a
// Read that waits does not mind.
func TestMigrateOften(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())

	got := make(chan []byte, 1)
	go func() {
		buffer := make([]byte, 100)
		n, _ := conn.Read(buffer)
		got <- buffer[:n]
	}()

	const migrations = 12
	var ports []netip.AddrPort
	for range migrations {
		ports = append(ports, localAddr(conn))
		require.NoError(t, conn.Migrate(testContext(t)))
	}

	free := 0
	for _, addr := range ports {
		taken, err := net.ListenUDP(
			"udp", net.UDPAddrFromAddrPort(addr),
		)
		if err == nil {
			free++
			require.NoError(t, taken.Close())
		}
	}
	// Some of them may be another test's by now.
	require.Greater(t, free, migrations/2)

	l.sendPayload([]byte("payload"))
	require.Equal(t, "payload", string(<-got))
	exchange(t, l, conn)
}
