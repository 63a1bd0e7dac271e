//go:build !portable

package relay

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	// burstPackets is how many packets are under way at once. All fit the
	// receiver's queue.
	burstPackets = 512

	// burstConns is how many connections are written to before the first is
	// read.
	burstConns = 64
)

// benchSizes are the sizes of packets and writes that are measured; 0 stands
// for a mix of all from 1 byte to a full packet.
var benchSizes = []int{64, 1200, 0}

// benchCounts are how many sockets are measured at once.
var benchCounts = []int{1, 10, 1000}

// sizeName names a size.
func sizeName(size int) string {
	if size == 0 {
		return "mixed"
	}

	return fmt.Sprintf("%dB", size)
}

// drawSizes returns sizes of packets, always the same ones.
func drawSizes(size, count int) []int {
	random := rand.New(rand.NewPCG(1, 2))

	sizes := make([]int, count)
	for i := range sizes {
		sizes[i] = size
		if size == 0 {
			sizes[i] = 1 + random.IntN(1200)
		}
	}

	return sizes
}

// BenchmarkUDP sends packets through sockets of a relay in another process, one
// way, in bursts. With offload the clients send and receive many packets with
// one message.
func BenchmarkUDP(b *testing.B) {
	for _, size := range benchSizes {
		for _, sockets := range benchCounts {
			for _, offload := range []bool{false, true} {
				name := fmt.Sprintf("%s/sockets=%d/offload=%v",
					sizeName(size), sockets, offload)

				b.Run(name, func(b *testing.B) {
					benchUDP(b, size, sockets, offload)
				})
			}
		}
	}
}

// benchUDP is one case of BenchmarkUDP.
func benchUDP(b *testing.B, size, sockets int, offload bool) {
	b.Helper()

	p := startBenchProcess(b, benchOrder{
		Protocol: UDP, Sockets: sockets, Ports: freePorts(b, 2*sockets),
	})
	g := newGenerator(b, p.ports, size, offload)
	g.burst(b, burstPackets)

	p.measure(b, "packet", func() {
		for left := b.N; left > 0; left -= burstPackets {
			g.burst(b, min(left, burstPackets))
		}
	})
}

// generator sends packets through many sockets from one client, and receives
// them with another.
type generator struct {
	from, to *port
	ports    []route
	sizes    []int
	data     []byte
	engine   *engine

	// perSocket is how many packets a socket gets in one go, and plainFrom
	// the size from which on they are not sent as one message.
	perSocket, plainFrom int

	// next is the socket whose turn it is.
	next int
}

// newGenerator opens both clients and makes all legs take them.
func newGenerator(b *testing.B, ports [][2]uint16, size int,
	offload bool) *generator {

	b.Helper()

	g := &generator{
		from:      benchClient(b, true),
		to:        benchClient(b, offload),
		sizes:     drawSizes(size, burstPackets),
		data:      make([]byte, 1200*burstPackets),
		engine:    newEngine(),
		perSocket: max(burstPackets/len(ports), 1),
		plainFrom: 1,
	}
	if offload {
		g.plainFrom = math.MaxInt
		g.perSocket = max(g.perSocket, 8)
	}

	to := g.ports
	for _, pair := range ports {
		g.ports = append(g.ports, g.from.route(source{
			addr: netip.AddrPortFrom(loopback4, pair[0]),
		}))
		to = append(to, g.to.route(source{
			addr: netip.AddrPortFrom(loopback4, pair[1]),
		}))
	}

	// The receivers first, so that the others' first packets come out.
	for i := range to {
		g.engine.add(nil, 0, 1)
		s := g.engine.send(g.to.fd, &to[i])
		require.EqualValues(b, 1, s.packets)
	}
	for i := range g.ports {
		g.pin(b, i)
	}

	return g
}

// pin sends to a socket until a packet comes out, which is lost while its other
// leg has no client yet.
func (g *generator) pin(b *testing.B, i int) {
	b.Helper()

	fds := []unix.PollFd{{Fd: int32(g.to.fd), Events: unix.POLLIN}}
	for ready := 0; ready == 0; {
		g.engine.add(nil, 0, 1)
		g.engine.send(g.from.fd, &g.ports[i])

		n, err := unix.Poll(fds, int(limit/time.Millisecond/1000))
		if err != nil && !errors.Is(err, unix.EINTR) {
			b.Fatal(err)
		}
		ready = n
	}

	g.receive(b, 1)
}

// benchClient opens a client.
func benchClient(b *testing.B, offload bool) *port {
	b.Helper()

	p, err := openUDP(loopback4, 0)
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, p.close())
	})

	gro := 0
	if offload {
		gro = 1
	}
	require.NoError(b, unix.SetsockoptInt(
		p.fd, unix.SOL_UDP, unix.UDP_GRO, gro,
	))

	return p
}

// burst sends so many packets and receives them.
func (g *generator) burst(b *testing.B, count int) {
	b.Helper()

	for left := count; left > 0; {
		group := min(left, g.perSocket)
		g.send(b, group)
		left -= group
	}

	g.receive(b, count)
}

// send sends packets through the socket whose turn it is.
func (g *generator) send(b *testing.B, count int) {
	b.Helper()

	to := &g.ports[g.next]
	g.next = (g.next + 1) % len(g.ports)

	for sent, data := 0, g.data; sent < count; {
		part := min(count-sent, batch)
		for _, size := range g.sizes[sent : sent+part] {
			g.engine.add(data[:size], size, g.plainFrom)
			data = data[size:]
		}

		s := g.engine.send(g.from.fd, to)
		if s.packets != uint64(part) {
			b.Fatalf("sent %d of %d packets", s.packets, part)
		}
		sent += part
	}
}

// receive waits for so many packets.
func (g *generator) receive(b *testing.B, count int) {
	b.Helper()

	for got := 0; got < count; {
		n, err := g.engine.receive(g.to.fd)
		if errors.Is(err, unix.EAGAIN) {
			g.wait(b, got, count)

			continue
		}
		if err != nil {
			b.Fatal(err)
		}

		for i := range n {
			a, err := g.engine.arrival(i)
			if err != nil {
				b.Fatal(err)
			}
			got += a.packets()
		}
	}
}

// wait waits until a packet is there.
func (g *generator) wait(b *testing.B, got, count int) {
	b.Helper()

	fds := []unix.PollFd{{Fd: int32(g.to.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(limit/time.Millisecond))
	if err != nil && !errors.Is(err, unix.EINTR) {
		b.Fatal(err)
	}
	if err == nil && n == 0 {
		b.Fatalf("received %d of %d packets", got, count)
	}
}

// BenchmarkTCP writes through pairs of connections, one way. An operation is a
// write that was read at the other side.
func BenchmarkTCP(b *testing.B) {
	for _, size := range append(benchSizes, 1<<20) {
		for _, pairs := range benchCounts {
			name := fmt.Sprintf("%s/pairs=%d", sizeName(size),
				pairs)

			b.Run(name, func(b *testing.B) {
				benchTCP(b, size, pairs)
			})
		}
	}
}

// benchTCP is one case of BenchmarkTCP.
func benchTCP(b *testing.B, size, pairs int) {
	b.Helper()

	p := startBenchProcess(b, benchOrder{
		Protocol: TCP, Sockets: 1, Ports: freePorts(b, 3),
	})

	conns := make([][2]net.Conn, pairs)
	for i := range conns {
		conns[i] = dialPair(b, p.ports[0])
	}

	sizes := drawSizes(size, burstConns)
	buffer := make([]byte, max(size, 1200))

	p.measure(b, "write", func() {
		for next := 0; next < b.N; {
			next += benchWrites(b, conns, next, sizes, buffer)
		}
	})
	b.SetBytes(int64(mean(sizes)))
}

// benchWrites writes to some of the connections, and reads what comes out of
// the others. It returns the number of writes.
func benchWrites(b *testing.B, conns [][2]net.Conn, first int, sizes []int,
	buffer []byte) int {

	b.Helper()

	count := min(len(conns), burstConns, b.N-first)
	if sizes[0] > chunkSize {
		// What does not fit the queues is read while it is written.
		count = 1
	}

	done := make(chan error, 1)
	go func() {
		for i := range count {
			conn := conns[(first+i)%len(conns)][0]
			if _, err := conn.Write(buffer[:sizes[i]]); err != nil {
				done <- err

				return
			}
		}
		done <- nil
	}()

	for i := range count {
		conn := conns[(first+i)%len(conns)][1]
		for left := sizes[i]; left > 0; {
			n, err := conn.Read(benchSink[:])
			if err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	}

	if err := <-done; err != nil {
		b.Fatal(err)
	}

	return count
}

// benchSink takes what is read.
var benchSink [1 << 18]byte

// mean returns the mean of sizes.
func mean(sizes []int) int {
	sum := 0
	for _, size := range sizes {
		sum += size
	}

	return sum / len(sizes)
}

// dialPair opens a pair of connections.
func dialPair(b *testing.B, ports [2]uint16) [2]net.Conn {
	b.Helper()

	var pair [2]net.Conn
	for i, port := range ports {
		addr := netip.AddrPortFrom(loopback4, port)
		conn, err := net.DialTCP(
			"tcp", nil, net.TCPAddrFromAddrPort(addr),
		)
		require.NoError(b, err)
		b.Cleanup(func() {
			_ = conn.Close()
		})
		pair[i] = conn
	}

	return pair
}

// BenchmarkTCPShort opens a pair, passes one byte each way, and closes it.
func BenchmarkTCPShort(b *testing.B) {
	p := startBenchProcess(b, benchOrder{
		Protocol: TCP, Sockets: 1, Ports: freePorts(b, 3),
	})

	p.measure(b, "pair", func() {
		for range b.N {
			shortPair(b, p.ports[0])
		}
	})
}

// shortPair is one operation of BenchmarkTCPShort.
func shortPair(b *testing.B, ports [2]uint16) {
	b.Helper()

	var pair [2]net.Conn
	for i, port := range ports {
		addr := netip.AddrPortFrom(loopback4, port)
		conn, err := net.DialTCP(
			"tcp", nil, net.TCPAddrFromAddrPort(addr),
		)
		if err != nil {
			b.Fatal(err)
		}

		pair[i] = conn
	}

	for i := range pair {
		if _, err := pair[i].Write([]byte{1}); err != nil {
			b.Fatal(err)
		}
		if _, err := pair[1-i].Read(benchSink[:1]); err != nil {
			b.Fatal(err)
		}
	}

	for _, conn := range pair {
		if err := conn.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
