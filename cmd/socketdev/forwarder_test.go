package main

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// forwarder is a plain UDP relay with two ports. Each is pinned to its first
// source, or if it has a token to whoever has bound last, and what that sends
// leaves at the other port.
type forwarder struct {
	conns [2]*net.UDPConn

	// mangle turns a packet that came in at a port into those that leave at
	// the other one. number counts the packets of the port that are not
	// empty.
	mangle func(port, number int, packet []byte) [][]byte

	// mu guards what follows: the key of each port that has a token, the
	// client of each port, and how many packets came from it, left to it,
	// came when the other port had none, and came from elsewhere.
	mu       sync.Mutex
	keys     [2]*bind.Key
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

// want makes the forwarder want tokens, and returns them.
func (f *forwarder) want() [2]bind.Token {
	f.mu.Lock()
	defer f.mu.Unlock()

	tokens := [2]bind.Token{{1}, {2}}
	for i, token := range tokens {
		f.keys[i] = bind.NewKey(exampleLeg(uint8(i+1)), token)
	}

	return tokens
}

// shakeHands answers a message of the handshake, and pins a port to whoever has
// bound. It reports false if a packet is no such message.
func (f *forwarder) shakeHands(port int, from netip.AddrPort,
	packet []byte) bool {

	f.mu.Lock()
	defer f.mu.Unlock()

	key := f.keys[port]
	if key == nil || !bind.IsMessage(packet) || !key.Verify(packet) {
		return false
	}

	message, err := bind.Decode(packet)
	if err != nil {
		return false
	}
	if message.Type == bind.Bind {
		f.clients[port] = from
	}

	// The answer to a type is the next one.
	message.Type++
	message.Addr = from
	_, _ = f.conns[port].WriteToUDPAddrPort(message.Append(nil, key), from)

	return true
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

		if f.shakeHands(port, from, buf[:n]) {
			continue
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

	if !f.clients[port].IsValid() && f.keys[port] == nil {
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
