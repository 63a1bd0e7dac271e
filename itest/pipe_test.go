//go:build itest

package itest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// pipe starts a pipe of a node's, which has to have ended when the test does.
func (n *node) pipe(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()

	args = append(n.Socketd.CLIArgs(), append([]string{"pipe"}, args...)...)

	return exec.CommandContext(
		testContext(t), filepath.Join(binDir, "socketcli"), args...,
	)
}

// TestPipeTCP passes bytes both ways, and both ends, between two programs that
// know nothing of tokens, through a TOKEN socket that A hosts for B.
func TestPipeTCP(t *testing.T) {
	a, b := shared.a, shared.b
	socket := a.start(t, &socketrpc.StartSocketRequest{Protocol: "tcp"})
	onB := b.subscribe(t)
	id := a.send(t, b, socket.SocketId)
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)

	var sent, got [2]bytes.Buffer
	for i, size := range []int64{3 << 20, 1 << 20} {
		_, err := io.CopyN(&sent[i], rand.Reader, size)
		require.NoError(t, err)
	}
	want := [2][]byte{sent[1].Bytes(), sent[0].Bytes()}

	pipes := [2]*exec.Cmd{a.pipe(t, socket.SocketId[:8]), b.pipe(t, id[:8])}
	for i, pipe := range pipes {
		pipe.Stdin, pipe.Stdout = &sent[i], &got[i]
		require.NoError(t, pipe.Start())
	}
	for i, pipe := range pipes {
		require.NoError(t, pipe.Wait())
		require.True(t, bytes.Equal(want[i], got[i].Bytes()))
	}

	require.Equal(t, socketrpc.Offer_ACCEPTED, b.offer(t, id).State)
	info := a.socketInfo(t, socket.SocketId)
	require.EqualValues(t, 3<<20, info.Leg1.BytesIn)
	require.EqualValues(t, 1<<20, info.Leg2.BytesIn)
	require.Zero(t, info.Leg2.Drops["bad_bind"])
}

// TestPipeUDP passes datagrams both ways between two programs that know nothing
// of tokens, through a TOKEN socket and through an OPEN one.
func TestPipeUDP(t *testing.T) {
	for _, admission := range []string{"token", "open"} {
		t.Run(admission, func(t *testing.T) {
			testPipeUDP(t, admission)
		})
	}
}

// testPipeUDP is TestPipeUDP with one admission.
func testPipeUDP(t *testing.T, admission string) {
	t.Helper()

	a, b := shared.a, shared.b
	socket := a.start(t, &socketrpc.StartSocketRequest{
		Admission: admission,
	})
	onA, onB := a.subscribe(t), b.subscribe(t)
	id := a.send(t, b, socket.SocketId)
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)

	var programs [2]*net.UDPConn
	for i, pipe := range []*exec.Cmd{
		a.pipe(t, socket.SocketId), b.pipe(t, id),
	} {
		stderr, err := pipe.StderrPipe()
		require.NoError(t, err)
		require.NoError(t, pipe.Start())
		defer func() {
			require.NoError(t, pipe.Process.Signal(os.Interrupt))
			require.NoError(t, pipe.Wait())
		}()

		line, err := bufio.NewReader(stderr).ReadString('\n')
		require.NoError(t, err)
		_, addr, ok := strings.Cut(line, "listening on ")
		require.True(t, ok, line)
		programs[i], err = net.DialUDP("udp", nil,
			net.UDPAddrFromAddrPort(netip.MustParseAddrPort(
				strings.TrimSpace(addr),
			)))
		require.NoError(t, err)
		defer programs[i].Close()
		require.NoError(t, programs[i].SetDeadline(
			time.Now().Add(testTimeout),
		))

		onA.next(t, socketrpc.Event_CLIENT_PINNED)
	}

	// Each of the pipes knows where its program is when that has spoken.
	// Until then what comes is dropped.
	meet(t, programs[0], programs[1])
	meet(t, programs[1], programs[0])
	for _, payload := range []string{"one", "two", "three"} {
		for i, from := range programs {
			_, err := from.Write([]byte(payload))
			require.NoError(t, err)
			require.Equal(t, payload, hear(t, programs[1-i]))
		}
	}
}

// hello is what programs say until they hear each other.
const hello = "hello"

// meet lets both programs speak until the second one hears the first.
func meet(t *testing.T, from, to *net.UDPConn) {
	t.Helper()

	buffer := make([]byte, 100)
	for range testTimeout / time.Second * 10 {
		for _, program := range []*net.UDPConn{from, to} {
			_, err := program.Write([]byte(hello))
			require.NoError(t, err)
		}

		require.NoError(t, to.SetReadDeadline(
			time.Now().Add(100*time.Millisecond),
		))
		_, err := to.Read(buffer)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			require.NoError(t, err)
			require.NoError(t, to.SetReadDeadline(
				time.Now().Add(testTimeout),
			))

			return
		}
	}
	require.Fail(t, "they do not hear each other")
}

// hear returns the next payload that comes to a program.
func hear(t *testing.T, program *net.UDPConn) string {
	t.Helper()

	buffer := make([]byte, 100)
	for {
		n, err := program.Read(buffer)
		require.NoError(t, err)
		if text := string(buffer[:n]); text != hello {
			return text
		}
	}
}
