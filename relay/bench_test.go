package relay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/cpu"
)

// flow sends packets through a socket without waiting for deadlines or
// allocating anything.
type flow struct {
	from, to *client
	port     netip.AddrPort
	payload  []byte
}

// newFlow returns a flow of packets of the size through a new socket.
func newFlow(tb testing.TB, size int) *flow {
	tb.Helper()

	w := newWorld(tb, nil)
	s, c1, c2 := w.pair(loopback4, loopback4)
	require.NoError(tb, c2.conn.SetReadDeadline(time.Time{}))

	return &flow{
		from:    c1,
		to:      c2,
		port:    netip.AddrPortFrom(loopback4, s.Port(Leg1)),
		payload: make([]byte, size),
	}
}

// pass sends so many packets and receives them.
func (f *flow) pass(tb testing.TB, count int) {
	tb.Helper()

	for range count {
		_, err := f.from.conn.WriteToUDPAddrPort(f.payload, f.port)
		if err != nil {
			tb.Fatal(err)
		}
	}

	for range count {
		n, _, err := f.to.conn.ReadFromUDPAddrPort(f.to.buffer[:])
		if err != nil || n != len(f.payload) {
			tb.Fatal(n, err)
		}
	}
}

// TestNoAllocation checks that relaying a packet allocates nothing.
func TestNoAllocation(t *testing.T) {
	for _, size := range []int{0, 64, 1200, maxIPv4} {
		f := newFlow(t, size)
		f.pass(t, 10)

		count := testing.AllocsPerRun(1000, func() {
			f.pass(t, 1)
		})

		// The race detector makes the pool of buffers lose some.
		if raceDetector {
			require.LessOrEqual(t, count, 1.0)
		} else {
			require.Zero(t, count)
		}
	}
}

// TestPadding checks that what one goroutine writes with every packet shares
// no cache line with what the other reads with every packet.
func TestPadding(t *testing.T) {
	t.Parallel()

	const line = unsafe.Sizeof(cpu.CacheLinePad{})

	var l leg
	begin := unsafe.Offsetof(l.meter)
	end := unsafe.Offsetof(l.traffic) + unsafe.Sizeof(l.traffic)

	require.GreaterOrEqual(t, begin, unsafe.Offsetof(l.watched)+line)
	require.GreaterOrEqual(t, unsafe.Sizeof(l), end+line)
}

// BenchmarkRoundTrip sends one packet at a time.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{64, 1200} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			f := newFlow(b, size)
			f.pass(b, 1)

			b.SetBytes(int64(size))
			b.ReportAllocs()

			for b.Loop() {
				f.pass(b, 1)
			}
		})
	}
}

// BenchmarkOpen opens and closes a socket.
func BenchmarkOpen(b *testing.B) {
	w := newWorld(b, func(cfg *Config) {
		cfg.PortRest = 0
	})

	// The kernel patches itself for the first socket with offload.
	w.open()

	b.ReportAllocs()
	for b.Loop() {
		s := w.open()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		<-w.events
	}
}
