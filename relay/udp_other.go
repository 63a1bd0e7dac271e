//go:build !linux || portable

package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/socketd/socketd/relay/bind"
)

// openUDP opens a UDP port on the address, or on all addresses of both families
// if that is the zero value.
func openUDP(addr netip.Addr, num uint16) (*port, error) {
	var config net.ListenConfig
	conn, err := config.ListenPacket(
		context.Background(), networkOf(UDP, addr),
		listenAddr(addr, num),
	)
	if err != nil {
		return nil, err
	}

	// What the system refuses is left as it is: the port works all the
	// same.
	udp := conn.(*net.UDPConn)
	_ = udp.SetReadBuffer(socketBuffer)
	_ = udp.SetWriteBuffer(socketBuffer)

	return &port{num: num, udp: udp}, nil
}

// udpCarrier carries the datagrams of one socket, with one goroutine per leg:
// it is the only one that reads the leg's port, and that writes its pin and its
// counters.
type udpCarrier struct {
	// socket is immutable.
	socket *Socket

	// group counts the goroutines.
	group sync.WaitGroup
}

// start begins to relay.
func (c *udpCarrier) start() error {
	for _, l := range c.socket.legs {
		c.group.Go(func() {
			c.serve(l)
		})
	}

	return nil
}

// stop ends it.
func (c *udpCarrier) stop() error {
	err := closeLegs(c.socket)
	c.group.Wait()

	return err
}

// expel does nothing: a leg that has lost its pin takes nothing in.
func (*udpCarrier) expel(*leg, *legKey) {}

// serve relays what arrives at a leg, until its port is closed or dead.
func (c *udpCarrier) serve(l *leg) {
	buffer := make([]byte, maxPayload)

	for failures := 0; ; {
		n, src, err := l.port.udp.ReadFromUDPAddrPort(buffer)
		switch {
		case err == nil:
			failures = 0
			relayPacket(l, src, buffer[:n])

			continue

		case errors.Is(err, net.ErrClosed):
			return
		}

		failures++
		if failures == maxReadFailures {
			c.socket.fail(l.port, fmt.Errorf("%d reads failed: %w",
				failures, err))

			return
		}
	}
}

// relayPacket relays a datagram that arrived at the leg.
func relayPacket(l *leg, from netip.AddrPort, payload []byte) {
	src := source{
		addr: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()),
	}
	size := uint64(len(payload))

	at := l.relay.moment()
	if l.keys != nil && bind.IsMessage(payload) &&
		answerPacket(l, src, payload, at) {

		return
	}

	if l.admit(src, 1, size, at) == nil {
		return
	}

	to := l.peer.pin.Load()
	if to == nil {
		l.drop(DropNoClient, 1)

		return
	}

	// A packet that uses up what may pass goes before the socket ends.
	b := l.budget(at.now)
	if b.take(1, len(payload)) {
		passOn(l, to, payload, at)
	}
	l.spend(&b, at.now)
}

// passOn sends a datagram of the leg's client to the one of the other leg.
func passOn(l *leg, to *pin, payload []byte, at moment) {
	_, err := l.peer.port.udp.WriteToUDPAddrPort(payload, to.route.client)
	if err != nil {
		l.drop(DropSendError, 1)

		return
	}

	l.countOut(1, uint64(len(payload)), at)
}

// answerPacket answers a datagram that may be a message of the handshake. It
// reports false if it is payload: of the leg's client, and not authentic.
func answerPacket(l *leg, src source, raw []byte, at moment) bool {
	client := l.pin.Load()
	isClient := client != nil && client.src == src.addr
	if why, ok := l.mayBind(src); !ok && !isClient {
		l.drop(why, 1)

		return true
	}

	reply, err := l.shakeHands(raw, src, at, nil)
	switch {
	case errors.Is(err, errPayload) && isClient:
		return false

	case err != nil:
		l.drop(DropBadBind, 1)

		return true
	}

	// That it may be lost is for its receiver to see to.
	_, _ = l.port.udp.WriteToUDPAddrPort(reply, src.addr)

	return true
}
