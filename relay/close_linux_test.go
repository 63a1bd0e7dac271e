//go:build !portable

package relay

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestCloseError checks that an error of closing a port is told, to who closes
// the socket or to the log, and that the socket is gone all the same.
func TestCloseError(t *testing.T) {
	// Whoever takes the descriptor that was closed would lose it.
	if !inChild(t) {
		return
	}

	var log bytes.Buffer
	cfg := testConfig(t)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))

	relay, err := New(cfg, nil)
	require.NoError(t, err)
	defer stopRelay(t, relay)

	// lost returns a socket whose first port somebody else has closed.
	lost := func() *Socket {
		s, err := relay.Open(Options{Protocol: UDP})
		require.NoError(t, err)
		require.NoError(t, s.leg(Leg1).port.close())

		return s
	}

	s := lost()
	require.ErrorIs(t, s.Close(), unix.EBADF)
	require.ErrorIs(t, s.Close(), unix.EBADF)
	require.Zero(t, relay.NumSockets())
	require.NotContains(t, log.String(), "Closing a socket's ports")

	s = lost()
	relay.endLater(s, CloseError)
	relay.endDue(t.Context())
	require.Zero(t, relay.NumSockets())
	require.True(t, isFree(s.Port(Leg2)))
	require.Contains(t, log.String(), "Closing a socket's ports")
	require.Contains(t, log.String(), s.ID().String())

	// Ports that never made it into a socket.
	ports, err := relay.listen(UDP)
	require.NoError(t, err)
	require.NoError(t, ports[1].close())
	relay.unlisten(ports[:]...)
	require.True(t, isFree(ports[0].num))
	require.Contains(t, log.String(), "Closing a port")
	require.False(t, relay.ports.isTaken(ports[1].num))
}

// gatedHandler is a log that takes no line before its gate is open.
type gatedHandler struct {
	slog.Handler

	reached, gate chan struct{}
}

// Handle waits for the gate.
func (h gatedHandler) Handle(context.Context, slog.Record) error {
	close(h.reached)
	<-h.gate

	return nil
}

// Enabled takes what is logged above debug level.
func (h gatedHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level > slog.LevelDebug
}

// TestCloseWaits checks that Close does not return while a goroutine is at
// the socket, to whoever calls it.
func TestCloseWaits(t *testing.T) {
	t.Parallel()

	reached, gate := make(chan struct{}), make(chan struct{})
	cfg := testConfig(t)
	cfg.Logger = slog.New(gatedHandler{
		Handler: slog.DiscardHandler, reached: reached, gate: gate,
	})

	relay, err := New(cfg, nil)
	require.NoError(t, err)
	defer stopRelay(t, relay)
	s, err := relay.Open(Options{Protocol: UDP})
	require.NoError(t, err)

	// The loop finds that the port is gone, and hangs in the log.
	kill(t, s.leg(Leg1).port)
	<-reached

	var open atomic.Bool
	done := make(chan bool)
	for range 2 {
		go func() {
			_ = s.Close()
			done <- open.Load()
		}()
	}

	require.Eventually(t, s.ending.Load, limit, tick)
	require.False(t, isFree(s.Port(Leg2)))
	require.Equal(t, 1, relay.NumSockets())

	open.Store(true)
	close(gate)
	require.True(t, <-done)
	require.True(t, <-done)
	require.Zero(t, relay.NumSockets())
}
