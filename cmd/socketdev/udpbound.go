package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	relayclient "github.com/socketd/socketd/relay/client"
)

// open opens a port towards the leg, and binds if there is a token.
func (c *client) open(ctx context.Context) error {
	addr := netip.AddrPortFrom(loopback, c.cfg.port)
	if c.cfg.token.IsZero() {
		conn, err := net.DialUDP(
			"udp", nil, net.UDPAddrFromAddrPort(addr),
		)
		if err != nil {
			return fmt.Errorf("open port: %w", err)
		}
		c.conn = conn

		if err := conn.SetReadBuffer(clientBuffer); err != nil {
			return errors.Join(
				fmt.Errorf("size receive buffer: %w", err),
				conn.Close(),
			)
		}

		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, c.cfg.timeout)
	defer cancel()

	conn, err := relayclient.DialUDP(ctx, relayclient.Config{
		Addrs:  []netip.AddrPort{addr},
		Leg:    c.cfg.leg,
		Token:  c.cfg.token,
		Buffer: clientBuffer,
	})
	if err != nil {
		return err
	}
	c.conn, c.bound = conn, conn

	return nil
}

// move changes to another port of the client's own when it is time.
func (c *client) move(ctx context.Context) error {
	select {
	case <-c.moving:
	case <-ctx.Done():
		return ctx.Err()
	}

	sent, received := c.numSent.Load(), c.numReceived.Load()
	from := c.conn.LocalAddr()
	if err := c.bound.Migrate(ctx); err != nil {
		return fmt.Errorf("move: %w", err)
	}

	sentMeanwhile := c.numSent.Load() - sent
	receivedMeanwhile := c.numReceived.Load() - received
	c.movedFrom = from.String()

	line := fmt.Sprintf("%s %v to %v when it has sent %d datagrams and "+
		"received %d; it sends %d and receives %d meanwhile", moveLine,
		from, c.conn.LocalAddr(), sent, received, sentMeanwhile,
		receivedMeanwhile)
	if err := c.say(line); err != nil {
		return err
	}
	close(c.moved)

	return nil
}
