package main

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// forwarder is a plain UDP relay with two ports. Each is pinned to its first
// source, and what that sends leaves at the other port.
type forwarder struct {
	conns [2]*net.UDPConn

	// mangle turns a packet that came in at a port into those that leave at
	// the other one. number counts the packets of the port that are not
	// empty.
	mangle func(port, number int, packet []byte) [][]byte

	// mu guards what follows: the client of each port, and how many packets
	// came from it, left to it, and came when the other port had none.
	mu       sync.Mutex
	clients  [2]netip.AddrPort
	in       [2]uint64
	bytesIn  [2]uint64
	out      [2]uint64
	noClient [2]uint64
	stranger [2]uint64
}

// newForwarder starts a forwarder, which ends with the test. mangle may be nil
// for packets that pass unchanged.
func newForwarder(t *testing.T,
	mangle func(port, number int, packet []byte) [][]byte) *forwarder {

	t.Helper()

	f := &forwarder{mangle: mangle}
	if mangle == nil {
		f.mangle = func(_, _ int, packet []byte) [][]byte {
			return [][]byte{packet}
		}
	}

	for i := range f.conns {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(
			netip.AddrPortFrom(loopback, 0),
		))
		require.NoError(t, err)
		require.NoError(t, conn.SetReadBuffer(clientBuffer))
		f.conns[i] = conn
	}

	var wg sync.WaitGroup
	for i := range f.conns {
		wg.Go(func() { f.forward(i) })
	}
	t.Cleanup(func() {
		for _, conn := range f.conns {
			require.NoError(t, conn.Close())
		}
		wg.Wait()
	})

	return f
}

// port returns the number of a port.
func (f *forwarder) port(i int) uint16 {
	return f.conns[i].LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// forward forwards what comes in at a port until the port is closed.
func (f *forwarder) forward(port int) {
	buf := make([]byte, maxDatagram)
	for number := 0; ; {
		n, from, err := f.conns[port].ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}

		packets := [][]byte{buf[:n]}
		if n > 0 {
			packets = f.mangle(port, number, buf[:n])
			number++
		}
		f.pass(port, from, n, packets)
	}
}

// pass sends packets on if they are from the client of a port.
func (f *forwarder) pass(port int, from netip.AddrPort, size int,
	packets [][]byte) {

	f.mu.Lock()
	defer f.mu.Unlock()

	if !f.clients[port].IsValid() {
		f.clients[port] = from
	}
	if f.clients[port] != from {
		f.stranger[port]++
		return
	}
	f.in[port]++
	f.bytesIn[port] += uint64(size)

	to := f.clients[1-port]
	if !to.IsValid() {
		f.noClient[port]++
		return
	}

	for _, packet := range packets {
		_, err := f.conns[1-port].WriteToUDPAddrPort(packet, to)
		if err == nil {
			f.out[1-port]++
		}
	}
}
