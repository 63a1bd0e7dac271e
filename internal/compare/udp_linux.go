package compare

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// queueSize is the receive queue, in bytes, of the generator's sockets:
	// what arrives there must not be lost.
	queueSize = 4 << 20

	// meetLimit is how long the clients of a session may take to reach each
	// other.
	meetLimit = 5 * time.Second

	// meetEvery is after how much silence a client says hello again.
	meetEvery = 5 * time.Millisecond

	// portTries is how often a client is opened at another port because a
	// server knows the first one.
	portTries = 10

	// askEvery is after how much silence a question is sent again, and
	// askTimes how often it is sent.
	askEvery = 500 * time.Millisecond
	askTimes = 6

	// settleTime is how long what was said to meet may be under way.
	settleTime = 50 * time.Millisecond
)

// errNoPath means that clients could not reach each other through the relay.
var errNoPath = errors.New("nothing comes through")

// client is a UDP socket of the generator.
type client struct {
	fd int

	// head is what stands in front of the payload of each datagram that
	// this client sends and receives.
	head []byte
}

// pair is the two clients of a session.
type pair struct {
	a, b client
}

// newClient opens a client at a port of loopback, 0 for any.
func newClient(port uint16) (client, error) {
	fd, err := unix.Socket(
		unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|
			unix.SOCK_NONBLOCK, 0,
	)
	if err != nil {
		return client{}, fmt.Errorf("open a client: %w", err)
	}

	// Who may not have more has what there is.
	err = unix.SetsockoptInt(
		fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queueSize,
	)
	if err != nil {
		_ = unix.SetsockoptInt(
			fd, unix.SOL_SOCKET, unix.SO_RCVBUF, queueSize,
		)
	}

	err = unix.Bind(fd, loopbackAt(port))
	if err != nil {
		return client{}, errors.Join(
			fmt.Errorf("bind a client: %w", err), unix.Close(fd),
		)
	}

	return client{fd: fd}, nil
}

// loopbackAt returns the address of a port of loopback.
func loopbackAt(port uint16) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{
		Port: int(port),
		Addr: [4]byte{127, 0, 0, 1},
	}
}

// port returns the client's own port.
func (c client) port() (uint16, error) {
	name, err := unix.Getsockname(c.fd)
	if err != nil {
		return 0, fmt.Errorf("find a client's port: %w", err)
	}

	return uint16(name.(*unix.SockaddrInet4).Port), nil
}

// connect sets where the client sends.
func (c client) connect(port uint16) error {
	return unix.Connect(c.fd, loopbackAt(port))
}

// exchange sends a message to where the client sends, until the answer comes.
func (c client) exchange(message []byte, isAnswer func([]byte) bool) error {
	buffer := make([]byte, plainSize)

	for range askTimes {
		_, err := unix.Write(c.fd, message)
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}

		for {
			ready, err := await(c.fd, askEvery)
			if err != nil {
				return err
			}
			if !ready {
				break
			}

			n, err := unix.Read(c.fd, buffer)
			if err != nil {
				break
			}
			if isAnswer(buffer[:n]) {
				return nil
			}
		}
	}

	return errNoPath
}

// prepare forgets what the client was sent so far. With offload the kernel
// hands over runs of datagrams whole from now on.
func (c client) prepare(in *inbox, offload bool) error {
	for {
		n, _, err := in.receive(c.fd)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}

	if !offload {
		return nil
	}

	return unix.SetsockoptInt(c.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
}

// frame returns a datagram of the client with a payload of the size.
func (c client) frame(size int) []byte {
	frame := append([]byte(nil), c.head...)
	for i := range size {
		frame = append(frame, byte(i))
	}
	if len(c.head) > 0 {
		// The framing of TURN carries the length.
		binary.BigEndian.PutUint16(frame[2:], uint16(size))
	}

	return frame
}

// close closes both clients.
func (p pair) close() {
	_ = unix.Close(p.a.fd)
	_ = unix.Close(p.b.fd)
}

// openPairs opens the clients of n sessions, until their datagrams come
// through both ways. The function that it returns closes them.
func openPairs(ctx context.Context, spec Spec, n int) ([]pair, func(), error) {
	var pairs []pair
	closeAll := func() {
		for _, p := range pairs {
			p.close()
		}
	}

	for i := range n {
		p, err := openPair(spec.Ends, i)
		for range portTries {
			if errors.Is(err, errPortTaken) {
				p, err = openPair(spec.Ends, i)
			}
		}
		if err != nil {
			closeAll()

			return nil, nil, fmt.Errorf("session %d: %w", i, err)
		}
		pairs = append(pairs, p)

		if err := p.meet(ctx, spec); err != nil {
			closeAll()

			return nil, nil, fmt.Errorf("session %d: %w", i, err)
		}
	}

	// What is still under way must not be counted later.
	time.Sleep(settleTime)
	in := newInbox(false)
	for _, p := range pairs {
		err := errors.Join(
			p.a.prepare(in, spec.Offload),
			p.b.prepare(in, spec.Offload),
		)
		if err != nil {
			closeAll()

			return nil, nil, err
		}
	}

	return pairs, closeAll, nil
}

// openPair opens the clients of one session.
func openPair(ends Ends, session int) (pair, error) {
	var at uint16
	if ends.Kind == Proxy {
		at = ends.Upstream
	}

	a, err := newClient(0)
	if err != nil {
		return pair{}, err
	}
	b, err := newClient(at)
	if err != nil {
		return pair{}, errors.Join(err, unix.Close(a.fd))
	}

	p := pair{a: a, b: b}
	if err := p.aim(ends, session); err != nil {
		p.close()

		return pair{}, err
	}

	return p, nil
}

// aim tells the clients where to send.
func (p *pair) aim(ends Ends, session int) error {
	switch ends.Kind {
	case Socket:
		ports := ends.Sockets[session]
		keys := ends.keys(session, protocolUDP)
		for i, c := range []client{p.a, p.b} {
			err := c.connect(ports[i])
			if err == nil {
				err = shakeHands(keys[i], c.exchange)
			}
			if err != nil {
				return err
			}
		}

		return nil

	case Proxy:
		// The other one learns where to send from what it gets.
		return p.a.connect(ends.Server)

	case TURN:
		peer, err := p.b.port()
		if err != nil {
			return err
		}
		if err := p.a.connect(ends.Server); err != nil {
			return err
		}

		relayed, err := allocate(p.a, peer)
		if err != nil {
			return err
		}
		p.a.head = channelHead()

		return p.b.connect(relayed)

	default:
		a, errA := p.a.port()
		b, errB := p.b.port()

		return errors.Join(
			errA, errB, p.a.connect(b), p.b.connect(a),
		)
	}
}

// meet sends datagrams until one has come through each way.
func (p *pair) meet(ctx context.Context, spec Spec) error {
	ctx, cancel := context.WithTimeout(ctx, meetLimit)
	defer cancel()

	a, b := p.a.frame(spec.Size), p.b.frame(spec.Size)
	aimed := spec.Ends.Kind != Proxy
	buffer := make([]byte, plainSize)

	var there, back bool
	for !there || !back {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", errNoPath, ctx.Err())
		}

		// A leg that knows no client yet drops what is for it, so both
		// begin.
		if aimed {
			_, _ = unix.Write(p.b.fd, b)
		}
		_, _ = unix.Write(p.a.fd, a)

		there = there || p.b.hear(buffer, &aimed)
		if !there || !aimed {
			continue
		}
		_, _ = unix.Write(p.b.fd, b)
		back = back || p.a.hear(buffer, nil)
	}

	return nil
}

// hear waits for a datagram and reads all that there is. If the client has not
// been told where to send, which aimed says, it answers the sender from now on.
func (c client) hear(buffer []byte, aimed *bool) bool {
	ready, err := await(c.fd, meetEvery)
	if err != nil || !ready {
		return false
	}

	heard := false
	for {
		_, from, err := unix.Recvfrom(c.fd, buffer, 0)
		if err != nil {
			return heard
		}
		heard = true

		if aimed != nil && !*aimed {
			*aimed = unix.Connect(c.fd, from) == nil
		}
	}
}
