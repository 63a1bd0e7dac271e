package client_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// burst is how many datagrams are timed at once, so that the clock costs next
// to nothing. The system has room for them.
const burst = 64

// flow is a connection, and the socket at its other end, which nobody reads.
type flow struct {
	conn net.Conn
	peer *net.UDPConn
	to   *net.UDPAddr
}

// newFlow returns a bound connection.
func newFlow(tb testing.TB) flow {
	tb.Helper()

	l := newLeg(tb, loopback4)
	conn := dial(tb, l.config())
	l.stop()

	return flow{conn, l.conn, conn.LocalAddr().(*net.UDPAddr)}
}

// newPlainFlow returns a connection of package net.
func newPlainFlow(tb testing.TB) flow {
	tb.Helper()

	peer, err := net.ListenUDP("udp", &net.UDPAddr{
		IP: loopback4.AsSlice(),
	})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = peer.Close() })

	conn, err := net.DialUDP("udp", nil, peer.LocalAddr().(*net.UDPAddr))
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })

	return flow{conn, peer, conn.LocalAddr().(*net.UDPAddr)}
}

// send sends payloads to the connection.
func (f *flow) send(tb testing.TB, payload []byte, count int) {
	tb.Helper()

	for range count {
		if _, err := f.peer.WriteToUDP(payload, f.to); err != nil {
			tb.Fatal(err)
		}
	}
}

// read reads as many payloads.
func (f *flow) read(tb testing.TB, buffer []byte, count int) {
	tb.Helper()

	for range count {
		if _, err := f.conn.Read(buffer); err != nil {
			tb.Fatal(err)
		}
	}
}

// write writes as many payloads.
func (f *flow) write(tb testing.TB, payload []byte, count int) {
	tb.Helper()

	for range count {
		if _, err := f.conn.Write(payload); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestNoAllocation checks that payloads cost no memory in either direction,
// whether they look like messages or not.
func TestNoAllocation(t *testing.T) {
	for name, payload := range samePayloads() {
		t.Run(name, func(t *testing.T) {
			f := newFlow(t)
			buffer := make([]byte, 2000)

			require.Zero(t, testing.AllocsPerRun(1000, func() {
				f.write(t, payload, 1)
				f.send(t, payload, 1)
				f.read(t, buffer, 1)
			}))
		})
	}
}

// samePayloads returns payloads by name.
func samePayloads() map[string][]byte {
	return map[string][]byte{
		"1200B":   make([]byte, 1200),
		"84B":     make([]byte, 84),
		"message": falseMessage(),
		"0B":      {},
	}
}

// BenchmarkRead measures a Read beside one of package net in the same run.
func BenchmarkRead(b *testing.B) {
	for name, payload := range samePayloads() {
		b.Run(name, func(b *testing.B) {
			buffer := make([]byte, 2000)
			compare(b, func(f *flow) time.Duration {
				f.send(b, payload, burst)

				began := time.Now()
				f.read(b, buffer, burst)

				return time.Since(began)
			})
		})
	}
}

// BenchmarkWrite measures a Write beside one of package net in the same run.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{84, 1200} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			payload := make([]byte, size)
			compare(b, func(f *flow) time.Duration {
				began := time.Now()
				f.write(b, payload, burst)

				return time.Since(began)
			})
		})
	}
}

// compare measures bursts of a bound connection and of a plain one by turns.
func compare(b *testing.B, run func(*flow) time.Duration) {
	b.Helper()

	flows := [2]flow{newFlow(b), newPlainFlow(b)}
	var took [2]time.Duration
	bursts := 0

	b.ReportAllocs()
	for b.Loop() {
		for i := range flows {
			took[i] += run(&flows[i])
		}
		bursts++
	}

	perOp := func(d time.Duration) float64 {
		return float64(d.Nanoseconds()) / float64(bursts*burst)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(perOp(took[0]), "ns/datagram")
	b.ReportMetric(perOp(took[1]), "plain-ns/datagram")
	b.ReportMetric(float64(took[0])/float64(took[1]), "ratio")
}
