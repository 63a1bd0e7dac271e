// Package client lets a program use a leg of a socket whose admission is TOKEN.
// It proves to the relay that it holds the leg's token, and gives the program a
// connection on which nothing but its own bytes travel: DialTCP a *net.TCPConn,
// DialUDP a PacketConn, which also sees to it that the relay knows the program
// again when the network changes its address.
//
// A leg that is OPEN needs nothing of this: dial it. If a TCP leg has several
// addresses, DialOpenTCP finds the one that works.
package client

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

const (
	// DefaultKeepAlive is how often a PacketConn binds again unless its
	// Config says otherwise. NATs forget a silent UDP client after 30
	// seconds, some of them (RFC 4787, section 4.3, has them wait longer).
	DefaultKeepAlive = 15 * time.Second

	// timeoutIntervals is how many keep-alives in a row may go unanswered
	// unless the Config says otherwise.
	timeoutIntervals = 3
)

// The protocols of legs, as bind.Leg numbers them.
const (
	protocolUDP uint8 = 1
	protocolTCP uint8 = 2
)

// ErrUnbound means that the relay does not take the program as the leg's
// client: the token is wrong or was revoked, the socket has ended, or the relay
// cannot be reached. The relay does not say which, because it answers nobody
// who has no token.
var ErrUnbound = errors.New("not bound to the leg")

// Config says what leg to use, and how. It is not changed.
type Config struct {
	// Addrs are the addresses of the leg, the preferred one first. They are
	// tried as RFC 8305, sections 4 and 5, has it: IPv4 and IPv6 by turns,
	// see Interleave, the next one when one was silent for 250 ms, and at
	// once when one has failed. The first that answers to the handshake is
	// used. There is at least one.
	Addrs []netip.AddrPort

	// Leg names the leg. Its Protocol may be left 0.
	Leg bind.Leg

	// Token is a token of the leg.
	Token bind.Token

	// KeepAlive is how often a PacketConn binds again, so that NATs on the
	// way do not forget it, and the relay learns when they did. 0 means
	// DefaultKeepAlive. It is not for TCP.
	KeepAlive time.Duration

	// Timeout is how long a PacketConn goes on without an answer to what it
	// sends for its keep-alive, before it ends with ErrUnbound. 0 means
	// three times KeepAlive. It is not for TCP.
	Timeout time.Duration

	// Buffer is how many bytes a PacketConn asks the system to keep for it
	// in each direction, which gives what it allows. 0 leaves that to the
	// system. It is not for TCP.
	Buffer int
}

// complete returns a copy of the configuration for a protocol, with all values
// set, or what is wrong with it.
func (c *Config) complete(protocol uint8) (*Config, error) {
	full := *c

	var err error
	if full.Addrs, err = plainAddrs(c.Addrs); err != nil {
		return nil, err
	}

	if full.Leg.Protocol == 0 {
		full.Leg.Protocol = protocol
	}
	if full.KeepAlive == 0 {
		full.KeepAlive = DefaultKeepAlive
	}
	if full.Timeout == 0 {
		full.Timeout = timeoutIntervals * full.KeepAlive
	}

	return &full, full.validate(protocol)
}

// plainAddrs returns the addresses of a leg, each once and IPv4 as IPv4, or
// what is wrong with them.
func plainAddrs(addrs []netip.AddrPort) ([]netip.AddrPort, error) {
	if len(addrs) == 0 {
		return nil, errors.New("no address of the leg")
	}

	all := make([]netip.AddrPort, 0, len(addrs))
	for _, addr := range addrs {
		plain := netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		ip := plain.Addr()
		if !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() ||
			plain.Port() == 0 {

			return nil, fmt.Errorf("address %v: want the address "+
				"and port of a leg", addr)
		}
		if !slices.Contains(all, plain) {
			all = append(all, plain)
		}
	}

	return all, nil
}

// validate tells what is wrong with a complete configuration.
func (c *Config) validate(protocol uint8) error {
	switch {
	case c.Leg.Num != 1 && c.Leg.Num != 2:
		return fmt.Errorf("leg %d: want 1 or 2", c.Leg.Num)

	case c.Leg.Protocol != protocol:
		return fmt.Errorf("protocol %d of the leg: want %d",
			c.Leg.Protocol, protocol)

	case c.Token.IsZero():
		return errors.New("no token")

	case c.KeepAlive < 0:
		return fmt.Errorf("keep-alive %v is negative", c.KeepAlive)

	case c.Timeout < 0:
		return fmt.Errorf("timeout %v is negative", c.Timeout)

	case c.Buffer < 0:
		return fmt.Errorf("buffer of %d bytes", c.Buffer)

	default:
		return nil
	}
}
