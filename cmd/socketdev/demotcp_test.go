package main

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// listenTCP opens a TCP port on loopback, which is closed with the test.
func listenTCP(t *testing.T) (*net.TCPListener, uint16) {
	t.Helper()

	lis, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(
		netip.AddrPortFrom(loopback, 0),
	))
	require.NoError(t, err)
	t.Cleanup(func() { _ = lis.Close() })

	return lis, lis.Addr().(*net.TCPAddr).AddrPort().Port()
}

// dialPair returns both ends of a connection, which are closed with the test.
func dialPair(t *testing.T) [2]*net.TCPConn {
	t.Helper()

	lis, port := listenTCP(t)
	dialed, err := dialFrom(t.Context(), loopback, port)
	require.NoError(t, err)
	t.Cleanup(func() { _ = dialed.Close() })

	accepted, err := lis.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _ = accepted.Close() })

	return [2]*net.TCPConn{dialed, accepted}
}

// TestPassStream checks that bytes and the end of a stream are waited for, and
// that every difference is found.
func TestPassStream(t *testing.T) {
	pair := dialPair(t)
	require.NoError(t, passStream(pair[0], pair[1], seedA, 1<<20))
	require.NoError(t, passStream(pair[1], pair[0], seedB, 1<<20))

	// What comes out is somebody else's, or not all, or has no end.
	spoil := func(spoiled []byte) error {
		in, out := dialPair(t), dialPair(t)
		done := make(chan struct{})
		go func() {
			defer close(done)

			_, _ = io.Copy(io.Discard, in[1])
			_, _ = out[0].Write(spoiled)
			_ = out[0].CloseWrite()
		}()
		err := passStream(in[0], out[1], seedA, 1<<10)
		<-done

		return err
	}
	good := stream(seedA, 1<<10)
	require.NoError(t, spoil(good))
	require.ErrorIs(t, spoil(good[:1<<10-1]), errForeign)
	require.ErrorIs(t, spoil(append(good, 0)), errForeign)
	require.ErrorIs(t, spoil(stream(seedB, 1<<10)), errForeign)
}

// TestCheckReset checks that a stranger who is served is found out.
func TestCheckReset(t *testing.T) {
	pair := dialPair(t)
	require.NoError(t, pair[1].SetLinger(0))
	require.NoError(t, pair[1].Close())
	require.NoError(t, checkReset(pair[0], nil))

	pair = dialPair(t)
	_, err := pair[1].Write([]byte("welcome"))
	require.NoError(t, err)
	require.EqualError(t, checkReset(pair[0], nil), "it is served")

	pair = dialPair(t)
	require.NoError(t, pair[1].CloseWrite())
	require.ErrorIs(t, checkReset(pair[0], nil), io.EOF)

	require.ErrorIs(t, checkReset(nil, io.ErrNoProgress), io.ErrNoProgress)
}

// TestCheckPortFree checks that a port that somebody has is found.
func TestCheckPortFree(t *testing.T) {
	lis, port := listenTCP(t)
	require.EqualError(t, checkPortFree(t.Context(), port),
		"a connection to it is accepted")

	require.NoError(t, lis.Close())
	require.NoError(t, checkPortFree(t.Context(), port))
}

// TestWantStreams checks what the demo's TCP socket has to count.
func TestWantStreams(t *testing.T) {
	a, b := dialPair(t), dialPair(t)
	conns := [2]*net.TCPConn{a[0], b[0]}

	require.Equal(t, [2]legCounts{{
		client:   a[0].LocalAddr().String(),
		bytesIn:  streamSize,
		bytesOut: answerSize,
		accepted: 1,
		drops:    map[string]uint64{"stranger": 1},
	}, {
		client:   b[0].LocalAddr().String(),
		bytesIn:  answerSize,
		bytesOut: streamSize,
		accepted: 1,
	}}, wantStreams(conns, 1))
}
