package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// tcpSide is a leg of a TCP socket, which the test plays.
type tcpSide struct {
	*net.TCPListener

	t *testing.T
}

// newTCPSide listens on loopback until the test ends.
func newTCPSide(t *testing.T) *tcpSide {
	t.Helper()

	listener, err := net.ListenTCP("tcp", &net.TCPAddr{
		IP: loopback.AsSlice(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })

	return &tcpSide{TCPListener: listener, t: t}
}

// accept waits for a connection. Nothing on it may take long.
func (s *tcpSide) accept() *net.TCPConn {
	s.t.Helper()

	deadline := time.Now().Add(testTimeout)
	require.NoError(s.t, s.SetDeadline(deadline))
	conn, err := s.AcceptTCP()
	require.NoError(s.t, err)
	require.NoError(s.t, conn.SetDeadline(deadline))
	s.t.Cleanup(func() { _ = conn.Close() })

	return conn
}

// bind does the relay's part of the handshake on a connection.
func (s *tcpSide) bind(conn *net.TCPConn, leg bind.Leg, token bind.Token) {
	s.t.Helper()

	key := bind.NewKey(leg, token)
	for _, answer := range []bind.Type{bind.Challenge, bind.Bound} {
		var raw [bind.Size]byte
		_, err := io.ReadFull(conn, raw[:])
		require.NoError(s.t, err)
		require.True(s.t, key.Verify(raw[:]))

		m, err := bind.Decode(raw[:])
		require.NoError(s.t, err)
		m.Type = answer
		_, err = conn.Write(m.Append(nil, key))
		require.NoError(s.t, err)
	}
}

// pipeProcess is a socketcli pipe as a process of its own.
type pipeProcess struct {
	*exec.Cmd

	t      *testing.T
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr string
}

// startPipe starts a pipe to the leg that an id names.
func (w *pipeWorld) startPipe(t *testing.T, args ...string) *pipeProcess {
	t.Helper()

	cmd := program(t, w.testServer, append([]string{
		"pipe", "--allow_private",
	}, args...)...)
	p := &pipeProcess{
		Cmd: cmd, t: t, stderr: filepath.Join(t.TempDir(), "stderr"),
	}

	stderr, err := os.Create(p.stderr)
	require.NoError(t, err)
	cmd.Stderr = stderr
	p.stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	p.stdout, err = cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, stderr.Close())

	return p
}

// end waits for the end of the process and returns what it left.
func (p *pipeProcess) end() result {
	p.t.Helper()

	stdout, err := io.ReadAll(p.stdout)
	require.NoError(p.t, err)
	err = p.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(p.t, err)
	}
	stderr, err := os.ReadFile(p.stderr)
	require.NoError(p.t, err)

	return result{
		code:   p.ProcessState.ExitCode(),
		stdout: string(stdout),
		stderr: string(stderr),
	}
}

// say writes to stdin.
func (p *pipeProcess) say(words string) {
	p.t.Helper()

	_, err := io.WriteString(p.stdin, words)
	require.NoError(p.t, err)
}

// hear reads from stdout or a connection, and requires what it reads.
func hear(t *testing.T, from io.Reader, words string) {
	t.Helper()

	got := make([]byte, len(words))
	_, err := io.ReadFull(from, got)
	require.NoError(t, err)
	require.Equal(t, words, string(got))
}

// hearEnd waits for a clean end.
func hearEnd(t *testing.T, from io.Reader) {
	t.Helper()

	n, err := from.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, n)
}

// TestPipeTCP carries bytes both ways, and the ends of both, whoever ends
// first, by whatever names a leg.
func TestPipeTCP(t *testing.T) {
	side := newTCPSide(t)

	for _, admission := range []string{admissionOpen, admissionToken} {
		w := newPipeWorld(
			t, "tcp", admission, side.Addr().(*net.TCPAddr).
				AddrPort(),
		)
		start := func(id string) (*pipeProcess, *net.TCPConn) {
			p := w.startPipe(t, id)
			conn := side.accept()
			if admission == admissionToken {
				side.bind(conn, w.leg(t, id, 2), w.token)
			}
			w.checkCalls(t, id)

			return p, conn
		}

		// A large answer needs stdout to be read.
		large := strings.Repeat("large", 1<<20)

		for _, id := range []string{
			pipeOffer, pipeOffer[:8], pipeSocket[:9], ownSocket[:8],
		} {
			p, conn := start(id)
			p.say("to the leg")
			hear(t, conn, "to the leg")
			_, err := io.WriteString(conn, "back")
			require.NoError(t, err)
			hear(t, p.stdout, "back")

			require.NoError(t, p.stdin.Close())
			hearEnd(t, conn)
			go func() {
				_, _ = io.WriteString(conn, large)
				_ = conn.CloseWrite()
			}()
			require.Equal(t, result{stdout: large}, p.end())
		}

		// The other side ends first.
		p, conn := start(ownSocket)
		require.NoError(t, conn.CloseWrite())
		hearEnd(t, p.stdout)
		p.say("still")
		hear(t, conn, "still")
		require.NoError(t, p.stdin.Close())
		hearEnd(t, conn)
		require.Equal(t, result{}, p.end())
	}
}

// TestPipeNothing has a pipe with nothing to say. It must not end its side
// before the other one has begun: a relay would take it for one that has hung
// up.
func TestPipeNothing(t *testing.T) {
	side := newTCPSide(t)
	w := newPipeWorld(
		t, "tcp", "open", side.Addr().(*net.TCPAddr).AddrPort(),
	)

	for _, words := range []string{"words", ""} {
		p := w.startPipe(t, pipeOffer)
		require.NoError(t, p.stdin.Close())
		conn := side.accept()

		// Nothing shows that an end does not come but that it takes
		// longer than one would.
		require.NoError(t, conn.SetReadDeadline(
			time.Now().Add(100*time.Millisecond),
		))
		_, err := conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		_, err = io.WriteString(conn, words)
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		require.NoError(t, conn.SetReadDeadline(
			time.Now().Add(testTimeout),
		))
		hearEnd(t, conn)
		require.Equal(t, result{stdout: words}, p.end())
	}
}

// TestPipeBreaks checks that a connection that breaks is an error, and that a
// pipe that breaks breaks the connection: nobody must take a part for the
// whole.
func TestPipeBreaks(t *testing.T) {
	side := newTCPSide(t)
	w := newPipeWorld(
		t, "tcp", "open", side.Addr().(*net.TCPAddr).AddrPort(),
	)

	start := func() (*pipeProcess, *net.TCPConn) {
		p := w.startPipe(t, pipeOffer)
		conn := side.accept()
		p.say("part")
		hear(t, conn, "part")

		return p, conn
	}

	// The relay resets it. Stdin is still open.
	p, conn := start()
	require.NoError(t, conn.SetLinger(0))
	require.NoError(t, conn.Close())
	res := p.end()
	require.Equal(t, exitFailed, res.code)
	require.Contains(t, res.stderr, "[socketcli] leg 2 of offer "+
		pipeOffer+" at "+side.Addr().String())
	require.Contains(t, res.stderr, "connection reset by peer")

	// ^C.
	p, conn = start()
	require.NoError(t, p.Process.Signal(os.Interrupt))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Equal(t, result{
		code:   exitFailed,
		stderr: "[socketcli] " + errPipeInterrupted.Error() + "\n",
	}, p.end())

	// Nobody reads stdout any more.
	p, conn = start()
	require.NoError(t, p.stdout.Close())
	go func() {
		_, _ = conn.Write(bytes.Repeat([]byte("x"), 1<<20))
	}()
	require.Error(t, p.Wait())
	_, err = io.Copy(io.Discard, conn)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// TestPipeRefused checks what a pipe says of a leg that does not take it.
func TestPipeRefused(t *testing.T) {
	side := newTCPSide(t)
	leg := side.Addr().(*net.TCPAddr).AddrPort()

	// The relay resets a connection whose token it does not know.
	w := newPipeWorld(t, "tcp", "token", leg)
	p := w.startPipe(t, ownSocket)
	conn := side.accept()
	_, err := io.ReadFull(conn, make([]byte, bind.Size))
	require.NoError(t, err)
	require.NoError(t, conn.SetLinger(0))
	require.NoError(t, conn.Close())
	res := p.end()
	require.Equal(t, exitFailed, res.code)
	require.Contains(t, res.stderr, "[socketcli] leg 1 of socket "+
		ownSocket+" does not take its token, has ended, or cannot be "+
		"reached: ")
	require.NotContains(t, res.stderr, w.token.Hex())

	// Nobody is there.
	require.NoError(t, side.Close())
	for _, admission := range []string{"open", "token"} {
		w := newPipeWorld(t, "tcp", admission, leg)
		res := w.runCLI(t, "pipe", pipeOffer, "--allow_private")
		require.Equal(t, exitFailed, res.code)
		require.Contains(t, res.stderr, "leg 2 of offer "+pipeOffer+
			" at "+leg.String()+": ")
		require.Contains(t, res.stderr, "connection refused")
	}
}
