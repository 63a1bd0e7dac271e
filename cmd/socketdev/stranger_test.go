package main

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// exampleLeg is a leg to bind to.
func exampleLeg(num uint8) bind.Leg {
	return bind.Leg{SocketID: [32]byte{5, 0xca}, Num: num, Protocol: 1}
}

// meet returns strangers without a token, one at each port, whose own ports are
// closed with the test.
func meet(t *testing.T, ports ...uint16) []*stranger {
	t.Helper()

	var strangers []*stranger
	for i, port := range ports {
		s, err := newStranger(port, i+1)
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.close() })
		strangers = append(strangers, s)
	}

	return strangers
}

// TestForger checks that what a stranger with a wrong token sends is a hello to
// the leg, under that token.
func TestForger(t *testing.T) {
	conn := listenLoopback(t)
	leg := exampleLeg(2)
	s, token, err := newForger(portOf(conn), leg)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()

	require.NoError(t, s.inject())
	buf := make([]byte, maxDatagram)
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	require.NoError(t, err)
	require.Equal(t, s.addr(), from)

	require.True(t, bind.NewKey(leg, token).Verify(buf[:n]))
	require.False(t, bind.NewKey(leg, bind.Token{1}).Verify(buf[:n]))
	message, err := bind.Decode(buf[:n])
	require.NoError(t, err)
	require.Equal(t, bind.Hello, message.Type)
	require.NotZero(t, message.Nonce)

	other, _, err := newForger(portOf(conn), leg)
	require.NoError(t, err)
	require.NotEqual(t, s.packet, other.packet)
	require.NoError(t, other.close())

	var sent [2]intrusions
	s.note(&sent)
	s.note(&sent)
	require.Equal(t, [2]intrusions{{}, {binds: 2}}, sent)
}

// TestDismiss checks that an answer to a stranger is found.
func TestDismiss(t *testing.T) {
	conn := listenLoopback(t)
	strangers := meet(t, portOf(conn), portOf(conn))
	for _, s := range strangers {
		require.NoError(t, s.inject())
		require.NoError(t, s.checkUnanswered())

		// It may be asked again.
		require.NoError(t, s.checkUnanswered())
	}

	to := net.UDPAddrFromAddrPort(strangers[1].addr())
	_, err := conn.WriteToUDP([]byte(ownAnswer), to)
	require.NoError(t, err)
	require.ErrorContains(t, dismiss(strangers), "answered a stranger "+
		"with 14 bytes")

	// All of them are closed.
	for _, s := range strangers {
		require.ErrorIs(t, s.inject(), net.ErrClosed)
		require.ErrorIs(t, s.checkUnanswered(), net.ErrClosed)
	}
	require.NoError(t, dismiss(nil))
}

// TestInjectDuring checks that strangers' packets come all the while, and are
// counted exactly.
func TestInjectDuring(t *testing.T) {
	conns := []*net.UDPConn{listenLoopback(t), listenLoopback(t)}
	strangers := meet(t, portOf(conns[0]), portOf(conns[1]))

	// count reads packets and returns how many there are.
	count := func(conn *net.UDPConn, atLeast int) uint64 {
		buf := make([]byte, maxDatagram)
		for n := uint64(0); ; n++ {
			wait := 10 * time.Second
			if n >= uint64(atLeast) {
				wait = 100 * time.Millisecond
			}
			require.NoError(t, conn.SetReadDeadline(
				time.Now().Add(wait),
			))

			size, err := conn.Read(buf)
			if err != nil {
				return n
			}
			require.Equal(t, strangerPayload, string(buf[:size]))
		}
	}

	err := injectDuring(t.Context(), strangers, func(
		ctx context.Context) error {

		// They are at it already, and go on.
		for _, conn := range conns {
			for range injectAhead + 5 {
				_, err := conn.Read(make([]byte, 100))
				if err != nil {
					return err
				}
			}
		}

		return ctx.Err()
	})
	require.NoError(t, err)

	var sent [2]intrusions
	for i, s := range strangers {
		rest := count(conns[i], int(s.injected)-injectAhead-5)
		require.Equal(t, s.injected, rest+injectAhead+5)

		s.note(&sent)
		require.Equal(t, intrusions{packets: s.injected}, sent[i])
	}

	// The error of what runs is passed on.
	failure := errors.New("failure")
	err = injectDuring(t.Context(), strangers, func(
		context.Context) error {

		return failure
	})
	require.ErrorIs(t, err, failure)

	// One who cannot send is an error too, and ends what runs.
	require.NoError(t, strangers[1].close())
	err = injectDuring(t.Context(), strangers, func(
		ctx context.Context) error {

		<-ctx.Done()

		return ctx.Err()
	})
	require.ErrorContains(t, err, "inject a packet")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = injectDuring(ctx, strangers[:1], nil)
	require.ErrorIs(t, err, context.Canceled)
}
