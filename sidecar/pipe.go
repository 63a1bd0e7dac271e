package sidecar

import (
	"context"
	"net"
	"sync"
)

// pipeListener is a net.Listener that only this process can reach: its
// connections are made by dial. The REST side calls the gRPC side over it.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// newPipeListener returns a listener that dial connects to.
func newPipeListener() *pipeListener {
	return &pipeListener{
		conns: make(chan net.Conn),
		done:  make(chan struct{}),
	}
}

// dial connects to the listener.
func (p *pipeListener) dial(ctx context.Context, _ string) (net.Conn, error) {
	client, server := net.Pipe()

	select {
	case p.conns <- server:
		return client, nil

	case <-p.done:
		return nil, net.ErrClosed

	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept returns the next connection.
func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil

	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close makes Accept and dial fail from now on.
func (p *pipeListener) Close() error {
	p.once.Do(func() { close(p.done) })

	return nil
}

// pipeAddr is the address of a pipeListener.
type pipeAddr struct{}

// Network names the kind of address.
func (pipeAddr) Network() string { return "pipe" }

// String names the address.
func (pipeAddr) String() string { return "in-process" }

// Addr returns the listener's address.
func (p *pipeListener) Addr() net.Addr {
	return pipeAddr{}
}
