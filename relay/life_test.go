package relay

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSocketsOrder checks that sockets are listed by age.
func TestSocketsOrder(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	require.Empty(t, w.Sockets())

	var want []*Socket
	for range 20 {
		want = append(want, w.open())
	}

	require.NoError(t, want[7].Close())
	want = append(want[:7], want[8:]...)
	require.Equal(t, want, w.Sockets())
	require.Equal(t, len(want), w.NumSockets())
}

// TestForeignPorts checks that ports of other programs are skipped, and used

// TestPortRest checks that the ports of a stopped socket rest, and those of a

// TestNoTrace opens and closes 500 sockets. What they used is given back.
func TestNoTrace(t *testing.T) {
	const count = 500

	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = freePorts(t, 2*count+2)
	})
	c := newClient(t, loopback4)

	// The first socket starts the loops.
	require.NoError(t, w.open().Close())

	files, goroutines := openFiles(), runtime.NumGoroutine()

	var sockets []*Socket
	for range count {
		s := w.open()
		c.send(s.Port(Leg1), []byte("hello"))
		sockets = append(sockets, s)
	}
	require.Equal(t, goroutines+2*count*goroutinesPerLeg,
		runtime.NumGoroutine())

	if files > 0 {
		require.Equal(t, files+2*count, openFiles())
	}

	for _, s := range sockets {
		require.NoError(t, s.Close())
	}

	require.Equal(t, files, openFiles())
	for begin := time.Now(); time.Since(begin) < limit; {
		// One that is done may not be gone yet.
		if runtime.NumGoroutine() <= goroutines {
			break
		}
		runtime.Gosched()
	}
	require.Equal(t, goroutines, runtime.NumGoroutine())
	require.Len(t, w.ports.resting, 2*count+2)
}

// TestChurn opens and closes sockets from all sides while the relay shuts
// down. Each socket is told to have ended exactly once.
func TestChurn(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.PortRest = 0
		cfg.MaxSockets = 16
	})

	var (
		group  sync.WaitGroup
		opened atomic.Int64
	)
	for range 8 {
		group.Go(func() {
			for {
				s, err := w.Open(Options{
					Protocol:    UDP,
					IdleTimeout: time.Millisecond,
				})
				switch {
				case errors.Is(err, ErrClosed):
					return

				case errors.Is(err, ErrTooManySockets):
					runtime.Gosched()

				case err != nil:
					t.Error(err)

					return

				case opened.Add(1)%2 == 0:
					_ = s.Close()
				}
			}
		})
	}

	require.Eventually(t, func() bool {
		return opened.Load() > 500
	}, limit, tick)
	w.stop()
	group.Wait()

	ended := make(map[ID]struct{})
	for range opened.Load() {
		event := w.event().(EventClosed)
		require.NotContains(t, ended, event.SocketID)
		ended[event.SocketID] = struct{}{}
	}
	w.noEvent()

	require.Len(t, w.ports.free, w.cfg.Ports.size()-len(w.ports.resting))
}

// TestRun checks that Run ends everything, and that nothing comes after.
func TestRun(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)

	var sockets []*Socket
	for range 20 {
		sockets = append(sockets, w.open())
	}

	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()

		return w.running
	}, limit, tick)
	require.ErrorContains(t, w.Run(t.Context()), "twice")
	require.Equal(t, 20, w.NumSockets())

	w.stop()
	for _, s := range sockets {
		require.Equal(t, EventClosed{
			SocketID: s.ID(), Reason: CloseShutdown,
		}, w.event())
		require.True(t, isFree(s.Port(Leg1)))
		require.True(t, isFree(s.Port(Leg2)))
		require.NoError(t, s.Close())
	}
	w.noEvent()
	require.Empty(t, w.Sockets())

	_, err := w.Open(Options{Protocol: UDP})
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, w.reserve(newID()), ErrClosed)
}

// TestRunEnded runs a relay whose context has ended before.
func TestRunEnded(t *testing.T) {
	t.Parallel()

	relay, err := New(testConfig(t), nil)
	require.NoError(t, err)

	// Sockets work before Run does.
	s, err := relay.Open(Options{Protocol: UDP, IdleTimeout: time.Hour})
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, relay.Run(ctx))
	require.Zero(t, relay.NumSockets())
	require.True(t, isFree(s.Port(Leg1)))
}

// TestRegisterLate shuts the relay down while a socket is being opened. Run
// waits for that, and nothing stays behind.
func TestRegisterLate(t *testing.T) {
	t.Parallel()

	relay, err := New(testConfig(t), nil)
	require.NoError(t, err)
	id := newID()
	require.NoError(t, relay.reserve(id))

	ports, err := relay.listen(UDP)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()

	var over atomic.Bool
	done := make(chan bool)
	go func() {
		_ = relay.Run(ctx)
		done <- over.Load()
	}()

	require.Eventually(t, func() bool {
		relay.mu.Lock()
		defer relay.mu.Unlock()

		return relay.closed
	}, limit, tick)

	s := relay.newSocket(Options{ID: id, Protocol: UDP}, ports)
	require.False(t, relay.register(s))
	require.Zero(t, relay.NumSockets())
	require.Empty(t, relay.reserved)

	relay.unlisten(ports[:]...)
	require.Len(t, relay.ports.free, relay.cfg.Ports.size())
	require.True(t, isFree(s.Port(Leg1)))

	over.Store(true)
	relay.opening.Done()
	require.True(t, <-done)
}

// TestQuiet checks that nothing that clients and strangers do is logged above
// debug level.
func TestQuiet(t *testing.T) {
	t.Parallel()

	for level, quiet := range map[slog.Level]bool{
		slog.LevelInfo:  true,
		slog.LevelDebug: false,
	} {
		var log bytes.Buffer
		w := newWorld(t, func(cfg *Config) {
			cfg.PinTimeout = 1
			cfg.Logger = slog.New(slog.NewTextHandler(
				&log, &slog.HandlerOptions{Level: level},
			))
		})

		// The pin goes to whoever sends next, and some packets cannot
		// be sent on.
		s, c1, c2 := w.pair(loopback6, loopback4)
		for _, c := range []*client{c1, newClient(t, loopback6)} {
			c.send(s.Port(Leg1), make([]byte, maxIPv4+20))
			c.send(s.Port(Leg1), nil)
			c2.receive()
		}

		w.openWith(Options{Protocol: UDP, IdleTimeout: 1})
		require.NoError(t, s.Close())
		w.stop()
		require.Equal(t, quiet, log.Len() == 0, log.String())
	}
}

// TestNoMemory opens and closes 8,000 sockets that were used, hundreds at a
// time. What they took is given back.
func TestNoMemory(t *testing.T) {
	const (
		batches  = 16
		perBatch = 500
		slack    = 256 << 10
	)

	w := newWorld(t, func(cfg *Config) {
		cfg.Ports = freePorts(t, 2*perBatch)
		cfg.PortRest = 0
	})
	c := newClient(t, loopback4)

	use := func() {
		var sockets []*Socket
		for range perBatch {
			s := w.open()
			c.send(s.Port(Leg1), []byte("hello"))
			require.IsType(t, EventPinned{}, w.event())
			sockets = append(sockets, s)
		}

		for _, s := range sockets {
			require.NoError(t, s.Close())
			require.IsType(t, EventClosed{}, w.event())
		}
	}

	// The first ones leave room for as many.
	use()
	before := heapInUse()
	for range batches {
		use()
	}

	require.Less(t, heapInUse(), before+slack)
}

// heapInUse returns the number of bytes of objects that are reachable.
func heapInUse() uint64 {
	// What a pool has is gone after the second time.
	runtime.GC()
	runtime.GC()

	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)

	return mem.HeapAlloc
}
