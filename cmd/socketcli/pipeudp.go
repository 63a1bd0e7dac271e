package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	relay "github.com/socketd/socketd/relay/client"
	"github.com/urfave/cli/v3"
)

const (
	// pipeBuffer is how many bytes the system is asked to keep in each
	// direction, so that a burst is not lost. It gives what it allows.
	pipeBuffer = 4 << 20

	// maxDatagram is the longest payload of a datagram, in bytes.
	maxDatagram = 1<<16 - 1
)

// pipeUDP connects a local port to a leg of a UDP socket until ^C.
func pipeUDP(ctx context.Context, cmd *cli.Command, target *pipeTarget,
	listen netip.AddrPort) error {

	// Otherwise 0.0.0.0 would be all addresses of IPv6, too.
	network := "udp"
	if listen.Addr().Is4() {
		network = "udp4"
	}

	local, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(listen))
	if err != nil {
		return fmt.Errorf("--%s: %w", listenFlag, err)
	}

	leg, err := target.dialUDP(ctx)
	if err != nil {
		return errors.Join(err, local.Close())
	}

	p := &udpPipe{
		leg:   leg,
		local: local,
		isFor: isAnyAddr,
	}
	if listen.Addr().Unmap().IsLoopback() {
		p.isFor = isLoopback
	}
	p.size()

	_, _ = fmt.Fprintf(cmd.Root().ErrWriter, "[socketcli] listening on "+
		"%v\n", local.LocalAddr())

	err = p.run(ctx)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // ^C is how this command ends.
	}

	return target.explain(ctx, err)
}

// udpPipe passes datagrams on in both directions.
type udpPipe struct {
	// leg, local and isFor are immutable. isFor tells which sources the
	// local port is for.
	leg   net.Conn
	local *net.UDPConn
	isFor func(netip.Addr) bool

	// source is who sent to the local port last.
	source atomic.Pointer[netip.AddrPort]
}

// isAnyAddr takes every source.
func isAnyAddr(netip.Addr) bool {
	return true
}

// isLoopback takes programs on this machine.
func isLoopback(ip netip.Addr) bool {
	return ip.Unmap().IsLoopback()
}

// size asks the system for room on both sides.
func (p *udpPipe) size() {
	_ = p.local.SetReadBuffer(pipeBuffer)
	_ = p.local.SetWriteBuffer(pipeBuffer)

	// A bound leg has done it itself.
	if leg, ok := p.leg.(*net.UDPConn); ok {
		_ = leg.SetReadBuffer(pipeBuffer)
		_ = leg.SetWriteBuffer(pipeBuffer)
	}
}

// run passes datagrams on until the context ends or a side is gone. Both sides
// are closed then.
func (p *udpPipe) run(ctx context.Context) error {
	done := make(chan error, 2)
	go func() { done <- p.sendAll() }()
	go func() { done <- p.receiveAll() }()

	var err error
	left := 2
	select {
	case err = <-done:
		left--

	case <-ctx.Done():
	}

	err = errors.Join(err, p.leg.Close(), p.local.Close())
	for range left {
		// It ends because of that.
		<-done
	}

	return err
}

// sendAll passes on what local programs send.
func (p *udpPipe) sendAll() error {
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := p.local.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return err
		}

		if !p.isFor(from.Addr()) {
			continue
		}
		if last := p.source.Load(); last == nil || *last != from {
			p.setSource(from)
		}

		// What the system does not take is lost, as in the network.
		_, err = p.leg.Write(buffer[:n])
		if isOver(err) {
			return err
		}
	}
}

// setSource makes a program the one that gets what comes. Its address moves to
// the heap here, and not for each datagram.
func (p *udpPipe) setSource(source netip.AddrPort) {
	p.source.Store(&source)
}

// receiveAll passes on what comes from the leg to the program that sent last.
func (p *udpPipe) receiveAll() error {
	buffer := make([]byte, maxDatagram)
	for {
		n, err := p.leg.Read(buffer)

		// An open leg whose port is closed makes the system say so.
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return err
		}

		if to := p.source.Load(); to != nil {
			_, err = p.local.WriteToUDPAddrPort(buffer[:n], *to)
			if errors.Is(err, net.ErrClosed) {
				return err
			}
		}
	}
}

// isOver tells whether nothing can be sent any more.
func isOver(err error) bool {
	return errors.Is(err, net.ErrClosed) ||
		errors.Is(err, relay.ErrUnbound)
}
