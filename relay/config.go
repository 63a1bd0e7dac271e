package relay

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Config says how a relay works.
type Config struct {
	// Listen is the address that the ports are opened on. The zero value
	// means all addresses of both families, or of IPv4 where the machine
	// has no IPv6.
	Listen netip.Addr

	// SelfAddrs are further addresses that lead to the relay's own ports,
	// such as the public one of a machine behind a NAT. No leg takes one
	// of the relay's own ports as its client. The addresses of the
	// machine's interfaces are known anyway.
	SelfAddrs []netip.Addr

	// Ports is where public ports are taken from. A socket needs two.
	Ports PortRange

	// PortRest is how long a port that was in use is not given out again.
	PortRest time.Duration

	// MaxSockets is how many sockets may be open at once, at least 1.
	MaxSockets int

	// PinTimeout is the silence of a leg's client after which the leg
	// takes the next source. It is more than 0.
	PinTimeout time.Duration

	// MaxPairs is how many pairs of connections a TCP socket may have, at
	// least 1. Further connections wait until a pair ends.
	MaxPairs int

	// MaxWaiting is how many connections may wait at one leg of a TCP
	// socket for their partners, at least 1. Further ones are refused.
	MaxWaiting int

	// WaitTimeout is how long a connection may wait for its partner. It is
	// more than 0.
	WaitTimeout time.Duration

	// MaxConns is how many connections all TCP sockets together may have,
	// at least 1. Further ones are refused.
	MaxConns int

	// KeepAlive is the silence of a connection's client after which the
	// system asks whether it is still there; it counts as gone after
	// another such time without an answer. It is at least a second, the
	// system's unit. A client that bytes are on their way to is not asked:
	// it counts as gone when the system gives up sending them again, on
	// Linux after some 15 minutes (net.ipv4.tcp_retries2).
	KeepAlive time.Duration

	// Bandwidth is how many bytes of payload all sockets together may pass
	// in a second, both directions. 0 means no limit. Each direction of a
	// socket in which something passes may always have an equal part; what
	// is left over goes to whoever comes first. Relay.SetBandwidth changes
	// it.
	Bandwidth uint64

	// AccountBandwidth is how many bytes of payload the sockets that are
	// charged to an account may pass together in a second, both directions.
	// 0 means no limit. See Socket.Charge. Relay.SetBandwidth changes it.
	AccountBandwidth uint64

	// Logger is where the relay logs. What strangers can cause is logged
	// at debug level only. Nil means nowhere.
	Logger *slog.Logger
}

// validate tells what is wrong with the configuration.
func (c *Config) validate() error {
	if err := c.Ports.validate(); err != nil {
		return err
	}

	for _, addr := range c.SelfAddrs {
		if !isUnicast(addr.Unmap()) {
			return fmt.Errorf("self address %v: want an address "+
				"of one machine", addr)
		}
	}

	switch {
	case c.Ports.size() < 2:
		return fmt.Errorf("port range %v: a socket needs two ports",
			c.Ports)

	case c.Listen.IsMulticast() || c.Listen == broadcast:
		return fmt.Errorf("listen address %v: want an address of "+
			"this machine", c.Listen)

	case c.PortRest < 0:
		return fmt.Errorf("port rest %v is negative", c.PortRest)

	case c.MaxSockets < 1:
		return fmt.Errorf("max sockets %d: want at least 1",
			c.MaxSockets)

	case c.PinTimeout <= 0:
		return fmt.Errorf("pin timeout %v: want more than 0",
			c.PinTimeout)

	default:
		return c.validateTCP()
	}
}

// validateTCP tells what is wrong with the limits of connections.
func (c *Config) validateTCP() error {
	switch {
	case c.MaxPairs < 1:
		return fmt.Errorf("max pairs %d: want at least 1", c.MaxPairs)

	case c.MaxWaiting < 1:
		return fmt.Errorf("max waiting %d: want at least 1",
			c.MaxWaiting)

	case c.WaitTimeout <= 0:
		return fmt.Errorf("wait timeout %v: want more than 0",
			c.WaitTimeout)

	case c.MaxConns < 1:
		return fmt.Errorf("max conns %d: want at least 1", c.MaxConns)

	case c.KeepAlive < time.Second:
		return fmt.Errorf("keep-alive %v: want at least a second",
			c.KeepAlive)

	default:
		return nil
	}
}
