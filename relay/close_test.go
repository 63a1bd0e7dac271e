package relay

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestClose checks that a closed socket is gone when Close returns.
func TestClose(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, c1, _ := w.pair(loopback4, loopback6)
	id, port1, port2 := s.ID(), s.Port(Leg1), s.Port(Leg2)

	// However many close it at once, all wait until it is done.
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}

			if !isFree(port1) && !isFree(port2) {
				t.Error("the ports are open")
			}
		})
	}
	group.Wait()

	require.NoError(t, s.Close())
	require.Equal(t, EventClosed{
		SocketID: id, Reason: CloseStopped,
	}, w.event())
	w.noEvent()

	require.True(t, isFree(port1))
	require.True(t, isFree(port2))
	require.Zero(t, w.NumSockets())
	_, ok := w.Socket(id)
	require.False(t, ok)

	// What it counted can still be read.
	s.Watch(Leg1)
	require.Equal(t, c1.addr(), s.Stats().Leg1.Client)
	require.Equal(t, port1, s.Port(Leg1))
}

// TestCloseBusy closes sockets while their clients send as fast as they can.
func TestCloseBusy(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)

	for range 20 {
		s, c1, c2 := w.pair(loopback4, loopback6)

		var (
			group sync.WaitGroup
			stop  atomic.Bool
		)
		flood := func(c *client, port uint16) {
			for !stop.Load() {
				_ = c.trySend(port, []byte("flood"))
			}
		}
		group.Go(func() { flood(c1, s.Port(Leg1)) })
		group.Go(func() { flood(c2, s.Port(Leg2)) })

		c1.receive()
		c2.receive()
		err := s.Close()
		stats := s.Stats()

		// Nothing is relayed any more, though the clients go on.
		for range 100 {
			_ = c1.trySend(s.Port(Leg1), []byte("late"))
		}
		later := s.Stats()

		stop.Store(true)
		group.Wait()

		require.NoError(t, err)
		require.Equal(t, stats, later)
		require.Equal(t, EventClosed{
			SocketID: s.ID(), Reason: CloseStopped,
		}, w.event())
	}

	w.noEvent()
}

// TestCloseError checks that an error of closing a port is told, to who closes
// the socket or to the log, and that the socket is gone all the same.
func TestCloseError(t *testing.T) {
	t.Parallel()

	var log bytes.Buffer
	cfg := testConfig(t)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))

	relay, err := New(cfg, nil)
	require.NoError(t, err)

	// lost returns a socket whose first port somebody else has closed.
	lost := func() *Socket {
		s, err := relay.Open(Options{Protocol: UDP})
		require.NoError(t, err)
		require.NoError(t, s.leg(Leg1).port.close())
		require.Eventually(t, func() bool {
			relay.mu.Lock()
			defer relay.mu.Unlock()

			return slices.Contains(relay.failed, s)
		}, limit, tick)

		return s
	}

	s := lost()
	require.ErrorIs(t, s.Close(), net.ErrClosed)
	require.ErrorIs(t, s.Close(), net.ErrClosed)
	require.Zero(t, relay.NumSockets())
	require.NotContains(t, log.String(), "Closing a socket's ports")

	s = lost()
	relay.endDue(t.Context())
	require.Zero(t, relay.NumSockets())
	require.True(t, isFree(s.Port(Leg2)))
	require.Contains(t, log.String(), "Closing a socket's ports")
	require.Contains(t, log.String(), s.ID().String())

	// Ports that never made it into a socket.
	ports, err := relay.listen()
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

// TestCloseWaits checks that Close does not return before the goroutines of
// the socket are gone, to whoever calls it.
func TestCloseWaits(t *testing.T) {
	t.Parallel()

	reached, gate := make(chan struct{}), make(chan struct{})
	cfg := testConfig(t)
	cfg.Logger = slog.New(gatedHandler{
		Handler: slog.DiscardHandler, reached: reached, gate: gate,
	})

	relay, err := New(cfg, nil)
	require.NoError(t, err)
	s, err := relay.Open(Options{Protocol: UDP})
	require.NoError(t, err)

	// The leg's goroutine finds that its port is gone, and hangs in the
	// log.
	require.NoError(t, s.leg(Leg1).port.close())
	<-reached

	var open atomic.Bool
	done := make(chan bool)
	for range 2 {
		go func() {
			_ = s.Close()
			done <- open.Load()
		}()
	}

	require.Eventually(t, func() bool {
		return isFree(s.Port(Leg2))
	}, limit, tick)
	require.Equal(t, 1, relay.NumSockets())

	open.Store(true)
	close(gate)
	require.True(t, <-done)
	require.True(t, <-done)
	require.Zero(t, relay.NumSockets())
}
