package relay

import (
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
	var (
		group sync.WaitGroup

		// Whoever looks whether a port is free has it for a moment.
		looking sync.Mutex
	)
	for range 8 {
		group.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}

			looking.Lock()
			defer looking.Unlock()

			if !isFree(port1) || !isFree(port2) {
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
