package client_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// TestForged has somebody who can send from the relay's address, but has not
// the token, answer before the relay. Nothing of it has an effect; what is no
// message is payload, and comes out when the client is bound.
func TestForged(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	otherLeg, otherProtocol := l.leg, l.leg
	otherLeg.Num, otherProtocol.Protocol = 1, 2

	// An old challenge and an old confirmation were authentic.
	old := bind.Message{
		Type: bind.Challenge, Nonce: bind.Nonce{1},
		Addr:   netip.AddrPortFrom(loopback4, 1),
		Cookie: bind.Cookie{1},
	}
	oldBound := old
	oldBound.Type = bind.Bound

	var payloads, ignored [][]byte
	begin := func(m bind.Message, to netip.AddrPort) {
		challenge := m
		challenge.Type, challenge.Addr = bind.Challenge, to
		challenge.Cookie = bind.Cookie{2}
		early := challenge
		early.Type = bind.Bound
		unknown := challenge
		unknown.Type = 5

		good := encode(challenge, l.leg, l.token)
		flipped := bytes.Clone(good)
		flipped[50] ^= 1
		version := bytes.Clone(good)
		version[8] = 2

		payloads = [][]byte{
			flipped, version, good[:bind.Size-1],
			append(bytes.Clone(good), 0),
			encode(challenge, otherLeg, l.token),
			encode(challenge, otherProtocol, l.token),
			encode(challenge, l.leg, newToken()),
			bytes.Repeat([]byte{0}, bind.Size),
		}
		ignored = [][]byte{
			encode(old, l.leg, l.token),
			encode(oldBound, l.leg, l.token),
			encode(early, l.leg, l.token),
			encode(unknown, l.leg, l.token),

			// Its own one, reflected.
			encode(m, l.leg, l.token),
		}
	}

	l.loses(func(m bind.Message, to netip.AddrPort) bool {
		switch m.Type {
		case bind.Hello:
			if payloads == nil {
				begin(m, to)
				sendAll(l, to, payloads, ignored)
			}

		case bind.Bind:
			// What it binds to is the relay's challenge, and no
			// other confirmation counts.
			wrong := m
			wrong.Type, wrong.Cookie = bind.Bound, bind.Cookie{2}
			elsewhere := m
			elsewhere.Type = bind.Bound
			elsewhere.Addr = netip.AddrPortFrom(loopback4, 1)
			sendAll(l, to, [][]byte{
				encode(wrong, l.leg, l.token),
				encode(elsewhere, l.leg, l.token),
			})

		case bind.Challenge, bind.Bound:
		}

		return false
	})
	conn := dial(t, l.config())
	require.Equal(t, localAddr(conn), conn.Observed())

	l.handshake()
	for _, payload := range payloads {
		require.Equal(t, payload, read(t, conn))
	}

	// The same to a client that is bound, with a Read under way. Nothing
	// else comes out.
	sendAll(l, l.bound(), payloads, ignored)
	for _, payload := range payloads {
		require.Equal(t, payload, read(t, conn))
	}
	exchange(t, l, conn)

	// And the other way.
	for _, payload := range payloads {
		write(t, conn, payload)
		require.Equal(t, payload, l.receivePayload().raw)
	}
}

// sendAll sends from the leg what is no answer of it.
func sendAll(l *udpLeg, to netip.AddrPort, parts ...[][]byte) {
	for _, part := range parts {
		for _, raw := range part {
			_, _ = l.conn.WriteToUDPAddrPort(raw, to)
		}
	}
}

// TestStranger checks that nothing comes in from elsewhere than the leg.
func TestStranger(t *testing.T) {
	t.Parallel()

	l := newLeg(t, loopback4)
	conn := dial(t, l.config())

	stranger, err := net.DialUDP(
		"udp", nil, conn.LocalAddr().(*net.UDPAddr),
	)
	require.NoError(t, err)
	defer func() { require.NoError(t, stranger.Close()) }()

	_, err = stranger.Write([]byte("injected"))
	require.NoError(t, err)

	exchange(t, l, conn)
}
