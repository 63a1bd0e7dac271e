package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// strangerPayload is what a stranger sends. A client that received it would
// notice: it is none of the payloads that are due.
const strangerPayload = "let me in, I am your client"

// stranger is a third source that injects packets at a port.
type stranger struct {
	conn net.Conn

	// injected is how many packets it has sent.
	injected uint64
}

// newStranger returns a stranger at a port on loopback.
func newStranger(ctx context.Context, port uint16) (*stranger, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(
		ctx, "udp", netip.AddrPortFrom(loopback, port).String(),
	)
	if err != nil {
		return nil, fmt.Errorf("open a stranger's port: %w", err)
	}

	return &stranger{conn: conn}, nil
}

// inject sends one packet.
func (s *stranger) inject() error {
	if _, err := s.conn.Write([]byte(strangerPayload)); err != nil {
		return fmt.Errorf("inject a packet: %w", err)
	}
	s.injected++

	return nil
}

// addr returns the address that the stranger sends from.
func (s *stranger) addr() net.Addr {
	return s.conn.LocalAddr()
}

// close closes the stranger's port.
func (s *stranger) close() error {
	return s.conn.Close()
}
