package main

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// listenLoopback opens a UDP port on loopback, which is closed with the test.
func listenLoopback(t *testing.T) *net.UDPConn {
	t.Helper()

	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(
		netip.AddrPortFrom(loopback, 0),
	))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })

	return conn
}

// portOf returns the number of a port.
func portOf(conn *net.UDPConn) uint16 {
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// exampleSummaries are what two clients say of a good exchange.
func exampleSummaries() (a, b clientSummary) {
	a = clientSummary{
		Name:           "a",
		Addr:           "127.0.0.1:1111",
		Sent:           100,
		BytesSent:      5000,
		Received:       100,
		BytesReceived:  6000,
		HellosSent:     5,
		HellosReceived: 2,
	}
	b = clientSummary{
		Name:           "b",
		Addr:           "127.0.0.1:2222",
		Sent:           100,
		BytesSent:      6000,
		Received:       100,
		BytesReceived:  5000,
		HellosSent:     2,
		HellosReceived: 1,
	}

	return a, b
}

// TestCheckExchange checks that every disagreement is found.
func TestCheckExchange(t *testing.T) {
	a, b := exampleSummaries()
	require.NoError(t, checkExchange(&a, &b, 100))

	for text, spoil := range map[string]func(a, b *clientSummary){
		"a sent 99 datagrams, not 100": func(a, _ *clientSummary) {
			a.Sent--
		},
		"b sent 101 datagrams, not 100": func(_, b *clientSummary) {
			b.Sent++
		},
		"b received 99 datagrams, not 100": func(_, b *clientSummary) {
			b.Received--
		},
		"a received 5999 bytes, b sent 6000": func(
			a, _ *clientSummary) {

			a.BytesReceived--
		},
		"b received 6 hellos, a sent 5": func(_, b *clientSummary) {
			b.HellosReceived = 6
		},
	} {
		a, b := exampleSummaries()
		spoil(&a, &b)
		require.EqualError(t, checkExchange(&a, &b, 100), text)
	}
}

// exampleIntrusions is what strangers sent to the example's ports.
func exampleIntrusions() [2]intrusions {
	return [2]intrusions{{packets: 7, binds: 3}, {packets: 9}}
}

// exampleSocket is a socket whose counters fit exampleSummaries and
// exampleIntrusions.
func exampleSocket() *socketrpc.SocketInfo {
	return &socketrpc.SocketInfo{
		SocketId: "5ca1ab1e",
		Leg1: &socketrpc.Leg{
			ClientAddr: "127.0.0.1:1111",
			PacketsIn:  105,
			BytesIn:    5000,
			PacketsOut: 102,
			BytesOut:   6000,
			Drops: map[string]uint64{
				"stranger":  7,
				"no_client": 4,
				"bad_bind":  3,
				"kernel":    0,
			},
		},
		Leg2: &socketrpc.Leg{
			ClientAddr: "127.0.0.1:2222",
			PacketsIn:  102,
			BytesIn:    6000,
			PacketsOut: 101,
			BytesOut:   5000,
			Drops:      map[string]uint64{"stranger": 9},
		},
	}
}

// TestCheckSockets checks that every counter that is wrong is found.
func TestCheckSockets(t *testing.T) {
	a, b := exampleSummaries()
	want := wantLegs(&a, &b, exampleIntrusions())
	check := func(socket *socketrpc.SocketInfo) error {
		return checkSockets(&socketrpc.ListSocketsResponse{
			Sockets: []*socketrpc.SocketInfo{
				{SocketId: "other"}, socket,
			},
		}, "5ca1ab1e", want)
	}
	require.NoError(t, check(exampleSocket()))

	for text, spoil := range map[string]func(*socketrpc.SocketInfo){
		"5ca1ab1e is not listed": func(s *socketrpc.SocketInfo) {
			s.SocketId = "0ff1ce"
		},
		`leg 1 is pinned to "127.0.0.1:3"`: func(
			s *socketrpc.SocketInfo) {

			s.Leg1.ClientAddr = "127.0.0.1:3"
		},
		"leg 2 counts packets_in=0, it should be 102": func(
			s *socketrpc.SocketInfo) {

			s.Leg2 = nil
		},
		"leg 1 counts bytes_in=4999": func(s *socketrpc.SocketInfo) {
			s.Leg1.BytesIn--
		},
		"leg 1 counts accepted=1, it should be 0": func(
			s *socketrpc.SocketInfo) {

			s.Leg1.Accepted++
		},
		"leg 1 counts open=1": func(s *socketrpc.SocketInfo) {
			s.Leg1.Open++
		},
		"leg 2 counts waiting=1": func(s *socketrpc.SocketInfo) {
			s.Leg2.Waiting++
		},
		"leg 2 counts resets=1": func(s *socketrpc.SocketInfo) {
			s.Leg2.Resets++
		},
		"leg 1 counts unbound=1": func(s *socketrpc.SocketInfo) {
			s.Leg1.Unbound++
		},
		"leg 1 counts drops.bad_bind=4, it should be 3": func(
			s *socketrpc.SocketInfo) {

			s.Leg1.Drops["bad_bind"]++
		},
		"leg 2 counts packets_out=100": func(s *socketrpc.SocketInfo) {
			s.Leg2.PacketsOut--
		},
		"leg 2 counts bytes_out=5001": func(s *socketrpc.SocketInfo) {
			s.Leg2.BytesOut++
		},
		"leg 1 counts drops.stranger=6": func(
			s *socketrpc.SocketInfo) {

			s.Leg1.Drops["stranger"]--
		},
		"leg 1 counts drops.no_client=0": func(
			s *socketrpc.SocketInfo) {

			delete(s.Leg1.Drops, "no_client")
		},
		"leg 1 counts drops.kernel=1, it should be 0": func(
			s *socketrpc.SocketInfo) {

			s.Leg1.Drops["kernel"] = 1
		},
		"leg 2 counts drops.news=3, it should be 0": func(
			s *socketrpc.SocketInfo) {

			s.Leg2.Drops["news"] = 3
		},
	} {
		socket, ok := proto.Clone(
			exampleSocket(),
		).(*socketrpc.SocketInfo)
		require.True(t, ok)
		spoil(socket)
		require.ErrorContains(t, check(socket), text)
	}
}

// TestCheckClosed checks ports that are closed, in use, and answered.
func TestCheckClosed(t *testing.T) {
	conn := listenLoopback(t)
	port := portOf(conn)
	require.ErrorContains(t, checkClosed(t.Context(), port), "not free")

	require.NoError(t, conn.Close())
	require.NoError(t, checkClosed(t.Context(), port))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, checkClosed(ctx, port), context.Canceled)

	// Somebody who answers.
	echo := listenLoopback(t)
	answered := make(chan error, 1)
	go func() {
		buf := make([]byte, maxDatagram)
		n, from, err := echo.ReadFromUDPAddrPort(buf)
		if err == nil {
			_, err = echo.WriteToUDPAddrPort(buf[:n], from)
		}
		answered <- err
	}()

	dial := func() net.Conn {
		conn, err := net.Dial("udp", echo.LocalAddr().String())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, conn.Close()) })

		return conn
	}
	require.ErrorContains(t, checkRefused(dial()), "is answered")
	require.NoError(t, <-answered)

	// Somebody who listens and says nothing.
	begin := time.Now()
	require.ErrorContains(t, checkRefused(dial()), "is not refused")
	require.GreaterOrEqual(t, time.Since(begin), refusalTime)
}
