package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

const (
	// strangerPayload is what a stranger sends. A client that received it
	// would notice: it is none of the payloads that are due.
	strangerPayload = "let me in, I am your client"

	// ownAnswer is what a stranger sends to itself.
	ownAnswer = "nobody answers"
)

// stranger is a third source that injects packets at a port.
type stranger struct {
	// The following fields are immutable. to is the port, leg the leg that
	// it is of, and packet what is sent there; binds says that this is a
	// message of the handshake.
	conn   *net.UDPConn
	to     netip.AddrPort
	leg    int
	packet []byte
	binds  bool

	// injected is how many packets it has sent.
	injected uint64
}

// newStranger returns a stranger who has no token, at a leg's port on loopback.
func newStranger(port uint16, leg int) (*stranger, error) {
	return openStranger(stranger{
		to:     netip.AddrPortFrom(loopback, port),
		leg:    leg,
		packet: []byte(strangerPayload),
	})
}

// newForger returns a stranger at a leg's port on loopback who says the hello
// of the handshake, but for the token: it is drawn at random, and returned.
func newForger(port uint16, leg bind.Leg) (*stranger, bind.Token, error) {
	token, packet := forgeHello(leg)
	s, err := openStranger(stranger{
		to:     netip.AddrPortFrom(loopback, port),
		leg:    int(leg.Num),
		packet: packet,
		binds:  true,
	})

	return s, token, err
}

// forgeHello returns the first message of the handshake with a leg, under a
// token that is not the leg's.
func forgeHello(leg bind.Leg) (bind.Token, []byte) {
	var token bind.Token
	hello := bind.Message{Type: bind.Hello}

	// It never fails: the runtime ends the process instead.
	_, _ = rand.Read(token[:])
	_, _ = rand.Read(hello.Nonce[:])

	return token, hello.Append(nil, bind.NewKey(leg, token))
}

// openStranger opens a stranger's own port.
func openStranger(s stranger) (*stranger, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(
		netip.AddrPortFrom(loopback, 0),
	))
	if err != nil {
		return nil, fmt.Errorf("open a stranger's port: %w", err)
	}
	s.conn = conn

	return &s, nil
}

// inject sends one packet.
func (s *stranger) inject() error {
	if _, err := s.conn.WriteToUDPAddrPort(s.packet, s.to); err != nil {
		return fmt.Errorf("inject a packet: %w", err)
	}
	s.injected++

	return nil
}

// addr returns the address that the stranger sends from.
func (s *stranger) addr() netip.AddrPort {
	return s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// checkUnanswered checks that nobody has sent anything to the stranger. It is
// for when the relay has counted what the stranger has sent: an answer would
// have come then, and be there before what the stranger sends to itself now.
func (s *stranger) checkUnanswered() error {
	err := s.conn.SetReadDeadline(time.Now().Add(clientTimeout))
	if err == nil {
		_, err = s.conn.WriteToUDPAddrPort([]byte(ownAnswer), s.addr())
	}
	if err != nil {
		return fmt.Errorf("look for an answer: %w", err)
	}

	buf := make([]byte, maxDatagram)
	n, from, err := s.conn.ReadFromUDPAddrPort(buf)
	switch {
	case err != nil:
		return fmt.Errorf("look for an answer: %w", err)

	case from != s.addr():
		return fmt.Errorf("%v answered a stranger with %d bytes", from,
			n)

	default:
		return nil
	}
}

// close closes the stranger's port.
func (s *stranger) close() error {
	return s.conn.Close()
}

// intrusions is how much strangers sent to a port: packets without a token, and
// messages of the handshake with a wrong one.
type intrusions struct {
	packets, binds uint64
}

// note adds what a stranger has sent to that of its port.
func (s *stranger) note(legs *[2]intrusions) {
	if s.binds {
		legs[s.leg-1].binds += s.injected
	} else {
		legs[s.leg-1].packets += s.injected
	}
}

// dismiss closes the ports of strangers, who have to be left without an answer.
func dismiss(strangers []*stranger) error {
	var errs []error
	for _, s := range strangers {
		errs = append(errs, s.checkUnanswered(), s.close())
	}

	return errors.Join(errs...)
}
