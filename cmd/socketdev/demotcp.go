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

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
)

const (
	// streamSize is how many bytes A's program sends over TCP, and
	// answerSize how many B's answers.
	streamSize = 8 << 20
	answerSize = 1 << 20
)

// startStream starts a TCP socket of A, which wants tokens, and offers it to B.
func (d *demo) startStream(ctx context.Context) error {
	err := d.startWithTokens(ctx, "--protocol=tcp")
	if err != nil {
		return err
	}

	if d.socket.Protocol != "tcp" {
		return fmt.Errorf("the socket speaks %q", d.socket.Protocol)
	}

	return nil
}

// refuseConnection connects to port1 as a stranger with a wrong token.
func (d *demo) refuseConnection(ctx context.Context) error {
	port, err := d.port(1)
	if err != nil {
		return err
	}

	leg, err := d.bindLeg(1)
	if err != nil {
		return err
	}

	conn, err := dial(ctx, port)
	if err != nil {
		return fmt.Errorf("connect to port1: %w", err)
	}

	token, hello := forgeHello(leg)
	err = d.say("A stranger at %v connects to port1 and says hello with "+
		"the token %s, a wrong one.", conn.LocalAddr(), token.Hex())
	if err == nil {
		_, err = conn.Write(hello)
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}

	if err := checkReset(conn); err != nil {
		return fmt.Errorf("a stranger at port1: %w", err)
	}

	return d.say("Its connection is reset.")
}

// dial connects to a port on loopback. Nothing may take longer than
// clientTimeout on the connection.
func dial(ctx context.Context, port uint16) (*net.TCPConn, error) {
	var dialer net.Dialer
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

// checkReset checks that a connection is reset, and closes it.
func checkReset(conn *net.TCPConn) error {
	_, err := conn.Read(make([]byte, 1))
	closeErr := conn.Close()

	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return closeErr

	case err == nil:
		return errors.New("it is served")

	default:
		return err
	}
}

// exchangeStreams has a program of A and one of B exchange bytes through
// socketcli, which at B accepts the offer. Then the counters have to fit, and
// the socket is stopped.
func (d *demo) exchangeStreams(ctx context.Context) (err error) {
	var pipes [2]*pipe
	defer func() {
		for _, p := range pipes {
			if p != nil {
				err = errors.Join(err, p.close())
			}
		}
	}()

	pipes[0], err = d.startPipe(ctx, d.a, d.socket.SocketId)
	if err != nil {
		return err
	}

	pipes[1], err = d.startPipe(ctx, d.b, d.offerID)
	if err != nil {
		return err
	}

	var clients [2]string
	procs := []*regtest.Process{pipes[0].proc, pipes[1].proc}
	err = whileNoneFails(ctx, procs, func(ctx context.Context) error {
		addrs, err := d.awaitStreams(ctx)
		if err != nil {
			return err
		}
		clients = addrs

		return d.streamBothWays(ctx, pipes)
	})
	if err != nil {
		return err
	}

	err = d.awaitCounters(ctx, wantStreams(clients))
	if err != nil {
		return err
	}

	err = d.say("bandwidth counts how often a leg had to wait, because " +
		"the socket passes no more\nbytes per second than its limit: " +
		"of TCP nothing is dropped for that.")
	if err != nil {
		return err
	}

	return d.stopSocket(ctx, d.socket.SocketId[:prefixDigits])
}

// awaitStreams waits, in whatever order, for the events that both legs have
// taken a client, and that B has accepted the offer. It returns the addresses
// of the clients.
func (d *demo) awaitStreams(ctx context.Context) ([2]string, error) {
	var clients [2]string
	hasAccepted := false
	for !hasAccepted || clients[0] == "" || clients[1] == "" {
		line, event, err := nextEvent(ctx, d.a)
		if err != nil {
			return clients, fmt.Errorf("wait for two clients and "+
				"the acceptance: %w", err)
		}

		switch {
		case event.Type == socketrpc.Event_OFFER_ACCEPTED &&
			event.ReplyToId == d.offerID:

			hasAccepted = true

		case event.Type == socketrpc.Event_CLIENT_PINNED &&
			event.SocketId == d.socket.SocketId:

			pin, err := firstPin(event)
			if err != nil {
				return clients, err
			}
			clients[pin.Leg-1] = pin.ClientAddr

		default:
			continue
		}

		if err := d.sayEvent(d.a, line); err != nil {
			return clients, err
		}
	}

	return clients, nil
}

// streamBothWays has A's program send everything that it has and end, and B's
// answer when that has come. Then the pipes end, with nothing left in them.
func (d *demo) streamBothWays(ctx context.Context, pipes [2]*pipe) error {
	a, b := pipes[0], pipes[1]
	began := time.Now()

	err := passStream(a.stdin, b.stdout, seedA, streamSize)
	if err != nil {
		return fmt.Errorf("from A's program to B's: %w", err)
	}

	err = passStream(b.stdin, a.stdout, seedB, answerSize)
	if err != nil {
		return fmt.Errorf("from B's program to A's: %w", err)
	}
	took := time.Since(began)

	// Each ends when both ends have come through it.
	for _, p := range pipes {
		if err := p.proc.WaitExit(ctx); err != nil {
			return err
		}

		if err := checkEnd(p.stdout); err != nil {
			return fmt.Errorf("out of a pipe: %w", err)
		}
	}

	return d.say("A's program writes %d bytes and ends. They come out of "+
		"B's pipe. B's program\nanswers with %d bytes and ends. They "+
		"come out of A's pipe. That took %v.\nBoth ends have come "+
		"through: both pipes have ended.", streamSize, answerSize,
		took.Round(time.Millisecond))
}

// passStream writes size bytes, ends, and compares what comes out at the other
// side.
func passStream(in io.WriteCloser, out io.Reader, seed uint64, size int) error {
	sent := stream(seed, size)

	written := make(chan error, 1)
	go func() {
		_, err := in.Write(sent)
		written <- errors.Join(err, in.Close())
	}()

	received := make([]byte, size)
	n, err := io.ReadFull(out, received)
	if err := errors.Join(err, <-written); err != nil {
		return fmt.Errorf("%d bytes came of %d: %w", n, size, err)
	}

	if !bytes.Equal(sent, received) {
		return fmt.Errorf("%w: %d bytes came, but others", errForeign,
			size)
	}

	return nil
}

// checkEnd checks that nothing else comes out than the end.
func checkEnd(out io.Reader) error {
	n, err := out.Read(make([]byte, 1))
	switch {
	case n > 0:
		return fmt.Errorf("%w: more than that came", errForeign)

	case err != io.EOF:
		return fmt.Errorf("the end has not come: %w", err)

	default:
		return nil
	}
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

// wantStreams returns what the socket has to count when the pair of the two
// clients has ended and a stranger was refused at leg 1.
func wantStreams(clients [2]string) [2]legCounts {
	passed := [2]uint64{streamSize, answerSize}

	var legs [2]legCounts
	for i := range legs {
		legs[i] = legCounts{
			client:   clients[i],
			bytesIn:  passed[i],
			bytesOut: passed[1-i],
			accepted: 1,
			paced:    true,
		}
	}
	legs[0].drops = map[string]uint64{dropBadBind: 1}

	return legs
}

// checkPortFree checks that nobody has a TCP port: that it can be opened on all
// addresses, and that a connection to it is refused.
func checkPortFree(ctx context.Context, port uint16) error {
	conn, err := dial(ctx, port)
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
