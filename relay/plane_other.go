//go:build !linux || portable

package relay

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// plane moves the bytes of all sockets of a relay: here by goroutines of each
// socket, over package net. It is immutable.
//
// This is for systems other than Linux, and small rather than fast. The build
// tag portable makes it Linux's too, so that it can be tested there.
type plane struct {
	relay *Relay
}

// newPlane returns the plane of a relay.
func newPlane(r *Relay) *plane {
	return &plane{relay: r}
}

// newCarrier returns what carries the bytes of a socket whose ports are open.
func (p *plane) newCarrier(s *Socket) carrier {
	if s.opts.Protocol == TCP {
		return newTCPCarrier(p.relay, s)
	}

	return &udpCarrier{socket: s}
}

// hurry does nothing: a connection that waits for bandwidth sees by itself, every
// maxPause, whether it still has to.
func (p *plane) hurry() {}

// stop does nothing: nothing is left when all sockets have ended.
func (p *plane) stop() error {
	return nil
}

// port is one public port. It is immutable; one of udp and tcp is set.
type port struct {
	num uint16
	udp *net.UDPConn
	tcp *net.TCPListener
}

// close closes the port. Whoever reads or accepts there returns.
func (p *port) close() error {
	if p.tcp != nil {
		return p.tcp.Close()
	}

	return p.udp.Close()
}

// route is how to send to a client. It is immutable. Answers leave from the
// address that the system chooses.
type route struct {
	client netip.AddrPort
}

// route returns how to answer what came from a source.
func (p *port) route(src source) route {
	return route{client: src.addr}
}

// networkOf returns what package net calls the protocol, with the family of the
// address to listen on.
func networkOf(protocol Protocol, addr netip.Addr) string {
	network := protocol.String()
	switch {
	case addr.Is4():
		network += "4"

	case addr.Is6():
		network += "6"
	}

	return network
}

// isAddrInUse tells whether somebody else has the port.
func isAddrInUse(err error) bool {
	// What Windows says where other systems say EADDRINUSE.
	const windows = 10048

	return errors.Is(err, syscall.EADDRINUSE) ||
		errors.Is(err, syscall.Errno(windows))
}

// closeLegs closes both ports of a socket.
func closeLegs(s *Socket) error {
	return errors.Join(s.leg(Leg1).port.close(), s.leg(Leg2).port.close())
}
