package main

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/urfave/cli/v3"
)

// errPipeInterrupted is the error of a pipe that ^C ended before its end.
var errPipeInterrupted = errors.New("interrupted")

// firstRead is how many bytes of the other side are read at first, to see that
// it is there.
const firstRead = 32 << 10

// pipeTCP connects stdin and stdout to a leg of a TCP socket.
func pipeTCP(ctx context.Context, cmd *cli.Command, target *pipeTarget) error {
	conn, err := target.dialTCP(ctx)
	if err != nil {
		return err
	}

	p := &tcpPipe{
		conn:  conn,
		in:    cmd.Root().Reader,
		out:   cmd.Root().Writer,
		begun: make(chan struct{}),
		ended: make(chan struct{}),
	}

	return p.run(ctx, target)
}

// tcpPipe copies both ways.
type tcpPipe struct {
	// All fields are immutable.

	conn *net.TCPConn
	in   io.Reader
	out  io.Writer

	// begun is closed when the other side has sent something or has ended,
	// and ended when the pipe has.
	begun chan struct{}
	ended chan struct{}
}

// run copies until both sides have ended, or something goes wrong. What waits
// for stdin then is not waited for: nothing but its end would end that.
func (p *tcpPipe) run(ctx context.Context, target *pipeTarget) error {
	defer close(p.ended)

	done := make(chan error, 2)
	go func() { done <- p.sendAll() }()
	go func() { done <- p.receiveAll() }()

	for range 2 {
		var err error
		select {
		case err = <-done:
		case <-ctx.Done():
			err = errPipeInterrupted
		}

		// The other side must not take this for the end of all that it
		// was to get.
		if err != nil {
			_ = p.conn.SetLinger(0)
			_ = p.conn.Close()

			return target.explain(ctx, err)
		}
	}

	return p.conn.Close()
}

// sendAll copies stdin, and then ends this side.
func (p *tcpPipe) sendAll() error {
	sent, err := io.Copy(p.conn, p.in)
	if err != nil {
		return err
	}

	// A client that ends before it has sent anything, and before it has a
	// partner, looks like one that has hung up.
	if sent == 0 {
		select {
		case <-p.begun:
		case <-p.ended:
		}
	}

	return p.conn.CloseWrite()
}

// receiveAll copies what comes to stdout, and closes it at the end: whoever
// reads there may wait for that before it ends stdin.
func (p *tcpPipe) receiveAll() error {
	if err := p.copyOut(); err != nil {
		return err
	}

	if out, ok := p.out.(io.Closer); ok {
		return out.Close()
	}

	return nil
}

// copyOut copies what comes to stdout.
func (p *tcpPipe) copyOut() error {
	buffer := make([]byte, firstRead)
	n, err := p.conn.Read(buffer)
	close(p.begun)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}

	if _, err := p.out.Write(buffer[:n]); err != nil {
		return err
	}

	_, err = io.Copy(p.out, p.conn)

	return err
}
