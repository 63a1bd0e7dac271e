package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/socketd/socketd/socketrpc"
)

const (
	// streamSize is how many bytes A's program sends over TCP, and
	// answerSize how many B's answers.
	streamSize = 8 << 20
	answerSize = 1 << 20
)

// strangeAddr is an address on loopback that is not the clients'.
var strangeAddr = netip.AddrFrom4([4]byte{127, 0, 0, 2})

// startStream starts a TCP socket of A and offers it to B.
func (d *demo) startStream(ctx context.Context) error {
	d.socket = &socketrpc.StartSocketResponse{}
	err := d.cli(ctx, d.a, d.socket, "start", "--protocol=tcp")
	if err != nil {
		return err
	}

	if d.socket.Protocol != "tcp" {
		return fmt.Errorf("the socket speaks %q", d.socket.Protocol)
	}

	err = d.sendOffer(ctx, "--socket_id="+d.socket.SocketId)
	if err != nil {
		return err
	}

	return d.receiveOffer(ctx)
}

// exchangeStreams has a program of A and one of B connect, which accepts the
// offer, and exchange bytes; a stranger is refused. Then the counters have to
// fit, and the socket is stopped.
func (d *demo) exchangeStreams(ctx context.Context) (err error) {
	var conns [2]*net.TCPConn
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				err = errors.Join(err, conn.Close())
			}
		}
	}()

	for i, program := range []string{"A", "B"} {
		conns[i], err = d.connect(ctx, program, i+1)
		if err != nil {
			return err
		}
	}

	_, err = d.awaitEvent(
		ctx, d.a, socketrpc.Event_OFFER_ACCEPTED,
		func(event *socketrpc.Event) bool {
			return event.ReplyToId == d.offerID
		},
	)
	if err != nil {
		return err
	}

	refused, err := d.refuseStranger(ctx)
	if err != nil {
		return err
	}

	if err := d.streamBothWays(conns); err != nil {
		return err
	}

	err = d.awaitCounters(ctx, wantStreams(conns, refused))
	if err != nil {
		return err
	}

	return d.stopSocket(ctx, d.socket.SocketId[:prefixDigits])
}

// connect connects to a leg's port and waits until the leg is pinned.
func (d *demo) connect(ctx context.Context, program string,
	leg int) (*net.TCPConn, error) {

	port, err := d.port(leg)
	if err != nil {
		return nil, err
	}

	conn, err := dialFrom(ctx, loopback, port)
	if err != nil {
		return nil, fmt.Errorf("connect to port%d: %w", leg, err)
	}

	addr := conn.LocalAddr().String()
	err = d.say("%s's program connects to port%d from %s.", program, leg,
		addr)
	if err == nil {
		_, err = d.awaitEvent(
			ctx, d.a, socketrpc.Event_CLIENT_PINNED,
			func(event *socketrpc.Event) bool {
				return isPin(
					event, d.socket.SocketId, uint32(leg),
					addr,
				)
			},
		)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}

	return conn, nil
}

// dialFrom connects to a port on loopback from an address. Nothing may take
// longer than clientTimeout on the connection.
func dialFrom(ctx context.Context, from netip.Addr,
	port uint16) (*net.TCPConn, error) {

	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(
		netip.AddrPortFrom(from, 0),
	)}
	conn, err := dialer.DialContext(
		ctx, "tcp", netip.AddrPortFrom(loopback, port).String(),
	)
	if err != nil {
		return nil, err
	}

	err = conn.SetDeadline(time.Now().Add(clientTimeout))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}

	return conn.(*net.TCPConn), nil
}

// refuseStranger connects to port1 from another address, and returns how many
// connections were refused.
func (d *demo) refuseStranger(ctx context.Context) (uint64, error) {
	port, err := d.port(1)
	if err != nil {
		return 0, err
	}

	err = checkReset(dialFrom(ctx, strangeAddr, port))
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return 0, d.say("This machine has no %v for a stranger.",
			strangeAddr)

	case err != nil:
		return 0, fmt.Errorf("a stranger at port1: %w", err)
	}

	return 1, d.say("A stranger connects to port1 from %v, and its "+
		"connection is reset.", strangeAddr)
}

// checkReset checks that a connection is reset, and closes it. That may come
// before the client has noticed that there is a connection.
func checkReset(conn *net.TCPConn, err error) error {
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		err = errors.Join(err, conn.Close())
	}

	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return nil

	case err == nil:
		return errors.New("it is served")

	default:
		return err
	}
}

// streamBothWays has A's program send everything that it has and end its side,
// and B's answer when that has come, over what is half-closed then.
func (d *demo) streamBothWays(conns [2]*net.TCPConn) error {
	a, b := conns[0], conns[1]
	began := time.Now()

	err := passStream(a, b, seedA, streamSize)
	if err != nil {
		return fmt.Errorf("from A's program to B's: %w", err)
	}

	err = passStream(b, a, seedB, answerSize)
	if err != nil {
		return fmt.Errorf("from B's program to A's: %w", err)
	}

	return d.say("A's program sends %d bytes and ends its side. All of "+
		"them come out at B's\nprogram, and the end; it answers with "+
		"%d bytes and the end. That took %v.", streamSize, answerSize,
		time.Since(began).Round(time.Millisecond))
}

// passStream writes size bytes into one connection, ends its side, and compares
// what comes out of the other until the end.
func passStream(from, to *net.TCPConn, seed uint64, size int) error {
	sent := stream(seed, size)

	written := make(chan error, 1)
	go func() {
		_, err := from.Write(sent)
		written <- errors.Join(err, from.CloseWrite())
	}()

	received, err := io.ReadAll(to)
	if err := errors.Join(err, <-written); err != nil {
		return err
	}

	if !bytes.Equal(sent, received) {
		return fmt.Errorf("%w: %d bytes came of %d, or they differ",
			errForeign, len(received), len(sent))
	}

	return nil
}

// stream returns the bytes that the sender with the given seed sends. The size
// is a multiple of 8.
func stream(seed uint64, size int) []byte {
	m := mixer(seed)

	buf := make([]byte, 0, size)
	for len(buf) < size {
		buf = binary.LittleEndian.AppendUint64(buf, m.next())
	}

	return buf
}

// wantStreams returns what the socket has to count when one pair has ended and
// strangers were refused at leg 1.
func wantStreams(conns [2]*net.TCPConn, refused uint64) [2]legCounts {
	passed := [2]uint64{streamSize, answerSize}

	var legs [2]legCounts
	for i := range legs {
		legs[i] = legCounts{
			client:   conns[i].LocalAddr().String(),
			bytesIn:  passed[i],
			bytesOut: passed[1-i],
			accepted: 1,
		}
	}
	legs[0].drops = map[string]uint64{dropStranger: refused}

	return legs
}

// checkPortFree checks that nobody has a TCP port: that it can be opened on all
// addresses, and that a connection to it is refused.
func checkPortFree(ctx context.Context, port uint16) error {
	conn, err := dialFrom(ctx, loopback, port)
	if err == nil {
		return errors.Join(
			errors.New("a connection to it is accepted"),
			conn.Close(),
		)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("a connection to it is not refused: %w", err)
	}

	var listen net.ListenConfig
	taken, err := listen.Listen(ctx, "tcp", ":"+strconv.Itoa(int(port)))
	if err != nil {
		return fmt.Errorf("not free: %w", err)
	}

	return taken.Close()
}
