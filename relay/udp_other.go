//go:build !linux

package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// wsaAddrInUse is what Windows says where other systems say EADDRINUSE.
const wsaAddrInUse = syscall.Errno(10048)

// udpPort is one public port. One goroutine serves it, and any goroutine may
// send from it and close it.
type udpPort struct {
	// The following fields are set by openPort and never change.

	num  uint16
	conn *net.UDPConn
}

// route is how to send to a client. It is immutable. Answers leave from the
// address that the system chooses.
type route struct {
	client netip.AddrPort
}

// openPort opens a port on the address, or on all addresses of both families.
func openPort(addr netip.Addr, num uint16) (*udpPort, error) {
	network := "udp"
	switch {
	case addr.Is4():
		network = "udp4"

	case addr.Is6():
		network = "udp6"
	}

	var config net.ListenConfig
	conn, err := config.ListenPacket(
		context.Background(), network, listenAddr(addr, num),
	)
	if err != nil {
		return nil, err
	}

	p := &udpPort{num: num, conn: conn.(*net.UDPConn)}
	setBuffers(p.conn)

	return p, nil
}

// isAddrInUse tells whether somebody else has the port.
func isAddrInUse(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) ||
		errors.Is(err, wsaAddrInUse)
}

// close closes the port. A serve that is under way returns.
func (p *udpPort) close() error {
	return p.conn.Close()
}

// serve calls handle with every datagram that arrives, until the port is
// closed or dead.
func (p *udpPort) serve(handle func(*datagram)) error {
	var (
		d        datagram
		failures int
		buffer   = make([]byte, maxPayload)
	)

	for {
		n, src, err := p.conn.ReadFromUDPAddrPort(buffer)
		switch {
		case err == nil:
			failures = 0

		case errors.Is(err, net.ErrClosed):
			return err

		default:
			failures++
			if failures == maxReadFailures {
				return err
			}

			continue
		}

		d.src = netip.AddrPortFrom(src.Addr().Unmap(), src.Port())
		d.payload = buffer[:n]
		handle(&d)
	}
}

// route returns how to send to a client.
func (p *udpPort) route(client netip.AddrPort, _ netip.Addr) route {
	return route{client: client}
}

// send sends one datagram to a client.
func (p *udpPort) send(payload []byte, to *route) error {
	_, err := p.conn.WriteToUDPAddrPort(payload, to.client)

	return err
}
