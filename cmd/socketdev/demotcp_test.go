package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
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
	dialed, err := dial(t.Context(), port)
	require.NoError(t, err)
	t.Cleanup(func() { _ = dialed.Close() })

	accepted, err := lis.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _ = accepted.Close() })

	return [2]*net.TCPConn{dialed, accepted}
}

// writingEnd is a connection on which Close ends only what it writes.
type writingEnd struct {
	*net.TCPConn
}

// Close ends what is written.
func (e writingEnd) Close() error {
	return e.CloseWrite()
}

// TestPassStream checks that the bytes of a stream are waited for, and that
// every difference is found.
func TestPassStream(t *testing.T) {
	pair := dialPair(t)
	require.NoError(t, passStream(
		writingEnd{pair[0]}, pair[1], seedA, 1<<20,
	))
	require.NoError(t, passStream(
		writingEnd{pair[1]}, pair[0], seedB, 1<<20,
	))

	// What comes out is somebody else's, or not all, or more.
	spoil := func(spoiled []byte) error {
		in, out := dialPair(t), dialPair(t)
		done := make(chan struct{})
		go func() {
			defer close(done)

			_, _ = io.Copy(io.Discard, in[1])
			_, _ = out[0].Write(spoiled)
			_ = out[0].CloseWrite()
		}()
		err := passStream(writingEnd{in[0]}, out[1], seedA, 1<<10)
		<-done
		if err != nil {
			return err
		}

		return checkEnd(out[1])
	}
	good := stream(seedA, 1<<10)
	require.NoError(t, spoil(good))
	require.ErrorIs(t, spoil(good[:1<<10-1]), io.ErrUnexpectedEOF)
	require.ErrorIs(t, spoil(append(good, 0)), errForeign)
	require.ErrorIs(t, spoil(stream(seedB, 1<<10)), errForeign)
}

// TestPipe checks both sides of a pipe, and that what is closed already is no
// error.
func TestPipe(t *testing.T) {
	p, stdin, stdout, err := openPipe()
	require.NoError(t, err)

	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(stdout, stdin)
		copied <- errors.Join(err, stdin.Close(), stdout.Close())
	}()
	require.NoError(t, passStream(p.stdin, p.stdout, seedA, 1<<20))
	require.NoError(t, <-copied)
	require.NoError(t, checkEnd(p.stdout))
	require.NoError(t, p.close())
	require.NoError(t, p.close())

	// Nobody is at the other side.
	p, stdin, stdout, err = openPipe()
	require.NoError(t, err)
	require.NoError(t, errors.Join(stdin.Close(), stdout.Close()))
	err = passStream(p.stdin, p.stdout, seedA, 1<<20)
	require.ErrorIs(t, err, syscall.EPIPE)
	require.NoError(t, p.close())

	// Nobody answers.
	p, stdin, stdout, err = openPipe()
	require.NoError(t, err)
	require.NoError(t, p.stdout.SetReadDeadline(time.Now()))
	require.ErrorContains(t, checkEnd(p.stdout), "the end has not come")
	err = passStream(p.stdin, p.stdout, seedA, 1<<10)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, errors.Join(
		p.close(), stdin.Close(), stdout.Close(),
	))
}

// TestFirstPin checks which events tell of the first client of a leg.
func TestFirstPin(t *testing.T) {
	read := func(data string) (pinChange, error) {
		return firstPin(&socketrpc.Event{Data: []byte(data)})
	}

	pin, err := read(`{"leg":2,"client_addr":"127.0.0.1:9",` +
		`"old_client_addr":""}`)
	require.NoError(t, err)
	require.Equal(t, pinChange{2, "127.0.0.1:9", ""}, pin)

	for _, data := range []string{
		`{"leg":0,"client_addr":"127.0.0.1:9","old_client_addr":""}`,
		`{"leg":3,"client_addr":"127.0.0.1:9","old_client_addr":""}`,
		`{"leg":1,"client_addr":"","old_client_addr":""}`,
		`{"leg":1,"client_addr":"127.0.0.1:9","old_client_addr":"x"}`,
	} {
		_, err := read(data)
		require.ErrorContains(t, err, "no first client")
	}

	_, err = read("{")
	require.ErrorContains(t, err, "data of the event")
}

// TestCheckReset checks that a stranger who is served is found out.
func TestCheckReset(t *testing.T) {
	pair := dialPair(t)
	require.NoError(t, pair[1].SetLinger(0))
	require.NoError(t, pair[1].Close())
	require.NoError(t, checkReset(pair[0]))

	pair = dialPair(t)
	_, err := pair[1].Write([]byte("welcome"))
	require.NoError(t, err)
	require.EqualError(t, checkReset(pair[0]), "it is served")

	pair = dialPair(t)
	require.NoError(t, pair[1].CloseWrite())
	require.ErrorIs(t, checkReset(pair[0]), io.EOF)
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
	want := wantStreams([2]string{"127.0.0.1:1", "127.0.0.1:2"})
	require.Equal(t, [2]legCounts{{
		client:   "127.0.0.1:1",
		bytesIn:  streamSize,
		bytesOut: answerSize,
		accepted: 1,
		paced:    true,
		drops:    map[string]uint64{"bad_bind": 1},
	}, {
		client:   "127.0.0.1:2",
		bytesIn:  answerSize,
		bytesOut: streamSize,
		accepted: 1,
		paced:    true,
	}}, want)

	// How often reading had to wait is nobody's business, all else is.
	leg := &socketrpc.Leg{
		ClientAddr: "127.0.0.1:2",
		BytesIn:    answerSize,
		BytesOut:   streamSize,
		Accepted:   1,
		Drops:      map[string]uint64{"bandwidth": 7, "limit": 0},
	}
	require.NoError(t, checkLeg("leg 2", leg, want[1]))
	leg.Drops["limit"] = 1
	require.EqualError(t, checkLeg("leg 2", leg, want[1]),
		"leg 2 counts drops.limit=1, it should be 0")
	leg.Drops["limit"] = 0
	want[1].paced = false
	require.EqualError(t, checkLeg("leg 2", leg, want[1]),
		"leg 2 counts drops.bandwidth=7, it should be 0")
}
