package compare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// loopback is the address of everything here.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// tcpLimit is how long anything but bulk data may take over TCP.
const tcpLimit = 5 * time.Second

// address returns host:port of a port of loopback.
func address(port uint16) string {
	return net.JoinHostPort(loopback.String(), strconv.Itoa(int(port)))
}

// tcpPair is the two connections of a pair.
type tcpPair struct {
	a, b net.Conn
}

// close closes both connections.
func (p tcpPair) close() {
	_ = p.a.Close()
	_ = p.b.Close()
}

// tcpEnds opens pairs.
type tcpEnds struct {
	ends Ends

	// lis is where the second clients are called, nil if they call.
	lis net.Listener

	// server is the port that the first clients call.
	server uint16
}

// openTCP makes ready to open pairs. It is to be closed.
func openTCP(ctx context.Context, ends Ends) (*tcpEnds, error) {
	t := &tcpEnds{ends: ends, server: ends.Server}
	if ends.Kind == Socket {
		return t, nil
	}

	var config net.ListenConfig
	lis, err := config.Listen(ctx, "tcp4", address(ends.Upstream))
	if err != nil {
		return nil, err
	}
	t.lis = lis
	if ends.Kind == Direct {
		t.server = uint16(lis.Addr().(*net.TCPAddr).Port)
	}

	return t, nil
}

// close ends the listening.
func (t *tcpEnds) close() {
	if t.lis != nil {
		_ = t.lis.Close()
	}
}

// dial calls a port from an address of this machine.
func dial(ctx context.Context, from netip.Addr, port uint16) (net.Conn,
	error) {

	dialer := net.Dialer{Timeout: tcpLimit, KeepAlive: -1}
	if from != loopback {
		// Otherwise it is the one that the system takes by itself.
		dialer.LocalAddr = net.TCPAddrFromAddrPort(
			netip.AddrPortFrom(from, 0),
		)
		dialer.Control = latePort
	}

	return dialer.DialContext(ctx, "tcp4", address(port))
}

// open opens a pair: in the given one of the sockets, if there are any.
func (t *tcpEnds) open(ctx context.Context, session int) (tcpPair, error) {
	if t.lis == nil {
		c := newCaller(&t.ends, session%len(t.ends.Sockets), 0)

		a, err := c.call(ctx, 1)
		if err != nil {
			return tcpPair{}, err
		}
		b, err := c.call(ctx, 2)
		if err != nil {
			return tcpPair{}, errors.Join(err, a.Close())
		}

		return tcpPair{a: a, b: b}, nil
	}

	a, err := dial(ctx, loopback, t.server)
	if err != nil {
		return tcpPair{}, err
	}

	deadline := time.Now().Add(tcpLimit)
	err = t.lis.(*net.TCPListener).SetDeadline(deadline)
	if err != nil {
		return tcpPair{}, errors.Join(err, a.Close())
	}
	b, err := t.lis.Accept()
	if err != nil {
		return tcpPair{}, errors.Join(err, a.Close())
	}

	return tcpPair{a: a, b: b}, nil
}

// openAll opens pairs one after the other, and sends a byte each way through
// each. The caller closes them.
func (t *tcpEnds) openAll(ctx context.Context, n int) ([]tcpPair, error) {
	var pairs []tcpPair

	for i := range n {
		p, err := t.open(ctx, i)
		if err == nil {
			pairs = append(pairs, p)
			err = p.greet()
		}
		if err != nil {
			closePairs(pairs)

			return nil, fmt.Errorf("pair %d: %w", i, err)
		}
	}

	return pairs, nil
}

// closePairs closes all of the pairs.
func closePairs(pairs []tcpPair) {
	for _, p := range pairs {
		p.close()
	}
}

// greet sends a byte each way.
func (p tcpPair) greet() error {
	deadline := time.Now().Add(tcpLimit)
	err := errors.Join(p.a.SetDeadline(deadline), p.b.SetDeadline(deadline))
	if err != nil {
		return err
	}

	if err := pass(p.a, p.b); err != nil {
		return err
	}
	if err := pass(p.b, p.a); err != nil {
		return err
	}

	return errors.Join(
		p.a.SetDeadline(time.Time{}), p.b.SetDeadline(time.Time{}),
	)
}

// pass sends a byte from one connection to the other.
func pass(from, to net.Conn) error {
	if _, err := from.Write([]byte{1}); err != nil {
		return err
	}
	_, err := to.Read(make([]byte, 1))

	return err
}
