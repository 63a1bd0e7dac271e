package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

// callersPerAddress is how many callers of a TOKEN socket share an address. The
// relay lets no more connections of one bind at the same time.
const callersPerAddress = 4

// caller opens connections to the legs of a TCP socket, one at a time. It is
// for one goroutine.
type caller struct {
	// The following fields are immutable.

	// ports are those of the legs.
	ports [2]uint16

	// keys are what it binds with; nil if the socket is OPEN.
	keys [2]*bind.Key

	// from is the address that it has.
	from netip.Addr
}

// newCaller returns a caller of a socket, one of several that call at the same
// time.
func newCaller(ends *Ends, socket, worker int) *caller {
	c := &caller{
		ports: ends.Sockets[socket],
		keys:  ends.keys(socket, protocolTCP),
		from:  loopback,
	}

	// A leg of an OPEN socket knows its client by the address.
	if len(ends.Tokens) > 0 {
		for range worker / callersPerAddress {
			c.from = c.from.Next()
		}
	}

	return c
}

// call connects to leg 1 or 2 and binds.
func (c *caller) call(ctx context.Context, leg int) (net.Conn, error) {
	conn, err := dial(ctx, c.from, c.ports[leg-1])
	key := c.keys[leg-1]
	if err != nil || key == nil {
		return conn, err
	}

	err = conn.SetDeadline(time.Now().Add(tcpLimit))
	if err == nil {
		err = shakeHands(key, exchangeOver(conn))
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}

	return conn, nil
}

// exchangeOver returns what exchanges messages over a connection. Not a byte
// beyond the answer is read.
func exchangeOver(conn net.Conn) func([]byte, func([]byte) bool) error {
	return func(message []byte, isAnswer func([]byte) bool) error {
		if _, err := conn.Write(message); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}

		var answer [bind.Size]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		if !isAnswer(answer[:]) {
			return fmt.Errorf("%w: %w", errRefused, errFormat)
		}

		return nil
	}
}
