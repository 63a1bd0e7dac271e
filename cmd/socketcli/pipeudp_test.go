package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// udpSide is a leg of a UDP socket, or a program, which the test plays.
type udpSide struct {
	*net.UDPConn

	t testing.TB
}

// newUDPSide opens a port of an address until the test ends.
func newUDPSide(tb testing.TB, ip netip.Addr) *udpSide {
	tb.Helper()

	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip.AsSlice()})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	require.NoError(tb, conn.SetDeadline(time.Now().Add(testTimeout)))

	return &udpSide{UDPConn: conn, t: tb}
}

// addr returns its address.
func (s *udpSide) addr() netip.AddrPort {
	return s.LocalAddr().(*net.UDPAddr).AddrPort()
}

// send sends a datagram.
func (s *udpSide) send(to netip.AddrPort, payload []byte) {
	s.t.Helper()

	_, err := s.WriteToUDPAddrPort(payload, to)
	require.NoError(s.t, err)
}

// receive waits for a datagram.
func (s *udpSide) receive() ([]byte, netip.AddrPort) {
	s.t.Helper()

	buffer := make([]byte, maxDatagram)
	n, from, err := s.ReadFromUDPAddrPort(buffer)
	require.NoError(s.t, err)

	return buffer[:n], netip.AddrPortFrom(
		from.Addr().Unmap(), from.Port(),
	)
}

// bind does the relay's part of the handshake and returns the client.
func (s *udpSide) bind(leg bind.Leg, token bind.Token) netip.AddrPort {
	s.t.Helper()

	key := bind.NewKey(leg, token)
	for {
		raw, from := s.receive()
		require.True(s.t, key.Verify(raw))

		m, err := bind.Decode(raw)
		require.NoError(s.t, err)
		m.Addr = from
		m.Type++
		s.send(from, m.Append(nil, key))
		if m.Type == bind.Bound {
			return from
		}
	}
}

// listening waits until the pipe says where it listens.
func (p *pipeProcess) listening() netip.AddrPort {
	p.t.Helper()

	var line string
	require.Eventually(p.t, func() bool {
		text, err := os.ReadFile(p.stderr)
		require.NoError(p.t, err)
		line, _, _ = strings.Cut(string(text), "\n")

		return line != ""
	}, testTimeout, time.Millisecond)

	text, ok := strings.CutPrefix(line, "[socketcli] listening on ")
	require.True(p.t, ok, line)

	return netip.MustParseAddrPort(text)
}

// TestPipeUDP carries datagrams between a leg and the program that sent last,
// until ^C.
func TestPipeUDP(t *testing.T) {
	for _, admission := range []string{admissionOpen, admissionToken} {
		side := newUDPSide(t, loopback)
		w := newPipeWorld(t, "udp", admission, side.addr())

		for _, id := range []string{pipeOffer[:8], ownSocket[:8]} {
			p := w.startPipe(t, id)
			var client netip.AddrPort
			if admission == admissionToken {
				leg := w.leg(t, id, 1)
				client = side.bind(leg, w.token)
			} else {
				// So the leg knows who its client is.
				first, from := side.receive()
				require.Empty(t, first)
				client = from
			}
			w.checkCalls(t, id)
			local := p.listening()
			require.Equal(t, loopback, local.Addr())

			for range 2 {
				swapWith(t, side, client, local)
			}

			require.NoError(t, p.Process.Signal(os.Interrupt))
			res := p.end()
			require.Equal(t, exitDone, res.code, res.stderr)
			require.Empty(t, res.stdout)
			require.Equal(t, 1, strings.Count(res.stderr, "\n"))
		}
	}
}

// swapWith has a new program and the leg exchange datagrams of all sizes.
func swapWith(t *testing.T, leg *udpSide, client, local netip.AddrPort) {
	t.Helper()

	program := newUDPSide(t, loopback)
	for _, size := range []int{0, 1, bind.Size, 1200, 65507} {
		payload := make([]byte, size)

		program.send(local, payload)
		got, from := leg.receive()
		require.Equal(t, payload, got)
		require.Equal(t, client, from)

		leg.send(client, payload)
		got, from = program.receive()
		require.Equal(t, payload, got)
		require.Equal(t, local, from)
	}
	require.NoError(t, program.Close())
}

// TestPipeListen checks who is let in where.
func TestPipeListen(t *testing.T) {
	side := newUDPSide(t, loopback)
	w := newPipeWorld(t, "udp", "open", side.addr())

	for listen, want := range map[string]string{
		"127.0.0.1:0": "127.0.0.1:",
		"[::1]:0":     "[::1]:",
		"0.0.0.0:0":   "0.0.0.0:",
	} {
		p := w.startPipe(t, pipeOffer, "--listen="+listen)
		_, client := side.receive()
		local := p.listening()
		require.True(t, strings.HasPrefix(local.String(), want), local)

		to, from := local, loopback
		if local.Addr().Is6() {
			from = netip.IPv6Loopback()
		}
		if local.Addr().IsUnspecified() {
			to = netip.AddrPortFrom(loopback, local.Port())
		}
		program := newUDPSide(t, from)
		program.send(to, []byte("up"))
		got, _ := side.receive()
		require.Equal(t, "up", string(got))
		side.send(client, []byte("down"))
		got, _ = program.receive()
		require.Equal(t, "down", string(got))

		require.NoError(t, p.Process.Signal(os.Interrupt))
		require.Equal(t, exitDone, p.end().code)
	}

	require.True(t, isLoopback(netip.MustParseAddr("::ffff:127.0.0.2")))
	require.False(t, isLoopback(netip.MustParseAddr("192.0.2.1")))

	// The port is somebody else's.
	taken := newUDPSide(t, loopback)
	res := w.runCLI(t, "pipe", "--allow_private", pipeOffer, "--listen",
		taken.addr().String())
	require.Equal(t, exitFailed, res.code)
	require.Contains(t, res.stderr, "--listen: ")
	require.Contains(t, res.stderr, "address already in use")
}

// newUDPPipe runs a pipe in this process, between a program and a leg.
func newUDPPipe(tb testing.TB) (program, leg *udpSide, client,
	local netip.AddrPort) {

	tb.Helper()

	leg, program = newUDPSide(tb, loopback), newUDPSide(tb, loopback)
	toLeg, err := net.DialUDP(
		"udp", nil, net.UDPAddrFromAddrPort(leg.addr()),
	)
	require.NoError(tb, err)
	toProgram, err := net.ListenUDP("udp", &net.UDPAddr{
		IP: loopback.AsSlice(),
	})
	require.NoError(tb, err)

	p := &udpPipe{leg: toLeg, local: toProgram, isFor: isLoopback}
	client = toLeg.LocalAddr().(*net.UDPAddr).AddrPort()
	local = toProgram.LocalAddr().(*net.UDPAddr).AddrPort()

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})

	return program, leg, client, local
}

// TestPipeUDPSources checks that a source that the port is not for has no
// effect, and that it is the last one that gets what comes.
func TestPipeUDPSources(t *testing.T) {
	leg, first, second := newUDPSide(t, loopback),
		newUDPSide(t, loopback),
		newUDPSide(t, netip.MustParseAddr("127.0.0.2"))

	toLeg, err := net.DialUDP(
		"udp", nil, net.UDPAddrFromAddrPort(leg.addr()),
	)
	require.NoError(t, err)
	local := newUDPSide(t, loopback)
	p := &udpPipe{
		leg: toLeg, local: local.UDPConn,
		isFor: func(ip netip.Addr) bool { return ip == loopback },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()

	first.send(local.addr(), []byte("first"))
	second.send(local.addr(), []byte("not let in"))
	first.send(local.addr(), []byte("again"))
	for _, want := range []string{"first", "again"} {
		got, _ := leg.receive()
		require.Equal(t, want, string(got))
	}
	second.send(local.addr(), []byte("not let in"))
	leg.send(toLeg.LocalAddr().(*net.UDPAddr).AddrPort(), []byte("back"))
	got, _ := first.receive()
	require.Equal(t, "back", string(got))

	cancel()
	require.NoError(t, <-done)
}

// readConn tells when it is read from.
type readConn struct {
	net.Conn

	reads chan struct{}
}

func (c *readConn) Read(b []byte) (int, error) {
	c.reads <- struct{}{}

	return c.Conn.Read(b)
}

// TestPipeUDPEarly checks that what comes before a program has sent is dropped,
// and does no harm.
func TestPipeUDPEarly(t *testing.T) {
	leg, program := newUDPSide(t, loopback), newUDPSide(t, loopback)
	toLeg, err := net.DialUDP(
		"udp", nil, net.UDPAddrFromAddrPort(leg.addr()),
	)
	require.NoError(t, err)
	local := newUDPSide(t, loopback)
	p := &udpPipe{
		leg:   &readConn{toLeg, make(chan struct{}, 10)},
		local: local.UDPConn, isFor: isLoopback,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()

	client := toLeg.LocalAddr().(*net.UDPAddr).AddrPort()
	leg.send(client, []byte("early"))
	for range 2 {
		<-p.leg.(*readConn).reads
	}

	program.send(local.addr(), nil)
	leg.receive()
	leg.send(client, []byte("late"))
	got, _ := program.receive()
	require.Equal(t, "late", string(got))

	cancel()
	require.NoError(t, <-done)
}

// TestPipeUDPGone closes the leg's port and opens it again: of an open leg the
// system tells only that nobody is there.
func TestPipeUDPGone(t *testing.T) {
	leg, program := newUDPSide(t, loopback), newUDPSide(t, loopback)
	at := leg.addr()
	toLeg, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	require.NoError(t, err)
	local := newUDPSide(t, loopback)
	reads := make(chan struct{}, 10_000)
	p := &udpPipe{
		leg:   &readConn{toLeg, reads},
		local: local.UDPConn, isFor: isLoopback,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()

	// The pipe reads again when the system has told it.
	<-reads
	require.NoError(t, leg.Close())
	require.Eventually(t, func() bool {
		program.send(local.addr(), []byte("lost"))

		return len(reads) > 0
	}, testTimeout, time.Millisecond)

	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))
	leg = &udpSide{UDPConn: conn, t: t}

	leg.send(toLeg.LocalAddr().(*net.UDPAddr).AddrPort(), []byte("back"))
	got, _ := program.receive()
	require.Equal(t, "back", string(got))

	cancel()
	require.NoError(t, <-done)
}

// TestPipeUDPNoAllocation checks that a datagram costs no memory.
func TestPipeUDPNoAllocation(t *testing.T) {
	program, leg, client, local := newUDPPipe(t)
	payload, buffer := make([]byte, 1200), make([]byte, maxDatagram)

	pass := func() {
		_, err := program.WriteToUDPAddrPort(payload, local)
		require.NoError(t, err)
		_, _, err = leg.ReadFromUDPAddrPort(buffer)
		require.NoError(t, err)
		_, err = leg.WriteToUDPAddrPort(payload, client)
		require.NoError(t, err)
		_, _, err = program.ReadFromUDPAddrPort(buffer)
		require.NoError(t, err)
	}
	pass()
	require.Zero(t, testing.AllocsPerRun(1000, pass))
}

// TestPipeUDPEnds checks that whatever ends a bound leg ends the pipe.
func TestPipeUDPEnds(t *testing.T) {
	side := newUDPSide(t, loopback)
	leg := bind.Leg{SocketID: [32]byte{1}, Num: 2}
	target := &pipeTarget{
		name: "offer x", protocol: protocolUDP,
		addrs: []netip.AddrPort{side.addr()}, leg: 2,
		socketID: leg.SocketID, hasToken: true, token: bind.Token{1},
	}
	leg.Protocol = 1

	bound := make(chan struct{})
	go func() {
		defer close(bound)
		side.bind(leg, target.token)
	}()
	conn, err := target.dialUDP(t.Context())
	require.NoError(t, err)
	<-bound

	local := newUDPSide(t, loopback)
	p := &udpPipe{leg: conn, local: local.UDPConn, isFor: isAnyAddr}
	p.size()
	done := make(chan error, 1)
	go func() { done <- p.run(t.Context()) }()

	require.NoError(t, conn.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
}
