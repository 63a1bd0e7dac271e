package compare

import (
	"context"
	"sync"
	"testing"
	"time"

	socketrelay "github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// guardedSockets opens n sockets with tokens and the limits of the comparison,
// in a relay of their own, and returns where clients find them.
func guardedSockets(t *testing.T, protocol socketrelay.Protocol,
	n int) ([]*socketrelay.Socket, Ends) {

	t.Helper()

	ports, err := socketrelay.ParsePortRange(daemonPorts)
	require.NoError(t, err)
	r, err := socketrelay.New(socketrelay.Config{
		Listen:      loopback,
		Ports:       ports,
		MaxSockets:  n,
		PinTimeout:  time.Minute,
		MaxPairs:    highPairs,
		MaxWaiting:  100,
		WaitTimeout: time.Minute,
		MaxConns:    1000,
		KeepAlive:   time.Minute,
		Bandwidth:   highTotalBandwidth,
	}, nil)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var ran error
	wg.Go(func() {
		ran = r.Run(ctx)
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		require.NoError(t, ran)
	})

	req := (&daemon{guarded: true}).request(protocol == socketrelay.TCP)
	opts := socketrelay.Options{
		Protocol:  protocol,
		Admission: socketrelay.ByToken,
		Limits: socketrelay.Limits{
			Bandwidth:  req.Limits.GetBandwidth(),
			Packets:    req.Limits.GetPackets(),
			TotalBytes: req.Limits.GetTotalBytes(),
			Pairs:      int(req.Limits.GetPairs()),
		},
	}

	ends := Ends{Kind: Socket}
	var sockets []*socketrelay.Socket
	for range n {
		s, err := r.Open(opts)
		require.NoError(t, err)
		sockets = append(sockets, s)

		tokens := Tokens{Socket: SocketID(s.ID())}
		for i := range tokens.Legs {
			token, ok := s.Token(socketrelay.Leg(i + 1))
			require.True(t, ok)
			tokens.Legs[i].Token = token
		}
		ends.Tokens = append(ends.Tokens, tokens)
		ends.Sockets = append(ends.Sockets, [2]uint16{
			s.Port(socketrelay.Leg1), s.Port(socketrelay.Leg2),
		})
	}

	return sockets, ends
}

// requireUnharmed checks that the sockets have dropped nothing: no limit was
// reached, and everybody was bound who came.
func requireUnharmed(t *testing.T, sockets []*socketrelay.Socket) {
	t.Helper()

	for _, s := range sockets {
		stats := s.Stats()
		for _, leg := range []socketrelay.LegStats{
			stats.Leg1, stats.Leg2,
		} {
			require.Positive(t, leg.BytesIn)

			// What was under way when a client closed its
			// connection does not matter.
			delete(leg.Drops, socketrelay.DropSendError)
			for reason, n := range leg.Drops {
				require.Zero(t, n, reason)
			}
		}
	}
}

// TestGuardedUDP does all that is done with datagrams, through real TOKEN
// sockets.
func TestGuardedUDP(t *testing.T) {
	for _, offload := range []bool{false, true} {
		sockets, ends := guardedSockets(t, socketrelay.UDP, 1)
		r := generateDirect(t, Spec{
			Work:     Window,
			Ends:     ends,
			Duration: 50 * time.Millisecond,
			Size:     1200,
			Offload:  offload,
			Depths:   []Depth{{Window: 32, Batch: 16}},
		})
		require.Positive(t, r.Delivered)
		require.Equal(t, r.Sent, r.Delivered)
		requireUnharmed(t, sockets)
	}

	sockets, ends := guardedSockets(t, socketrelay.UDP, 5)
	r := generateDirect(t, Spec{
		Work:     Load,
		Ends:     ends,
		Duration: 50 * time.Millisecond,
		Sessions: 5,
		Size:     200,
		Rate:     1000,
		Burst:    1,
	})
	require.Equal(t, uint64(50), r.Sent)
	require.Equal(t, r.Sent, r.Delivered)
	requireUnharmed(t, sockets)

	sockets, ends = guardedSockets(t, socketrelay.UDP, 1)
	r = generateDirect(t, Spec{
		Work:     Ping,
		Ends:     ends,
		Duration: 50 * time.Millisecond,
		Size:     64,
		Rate:     1000,
	})
	require.Positive(t, r.Delivered)
	requireUnharmed(t, sockets)
}

// TestGuardedTCP does all that is done over TCP, through real TOKEN sockets.
func TestGuardedTCP(t *testing.T) {
	sockets, ends := guardedSockets(t, socketrelay.TCP, 1)
	r := generateDirect(t, Spec{
		Work:     Bulk,
		Ends:     ends,
		Duration: 200 * time.Millisecond,
		Sessions: 3,
	})
	require.Positive(t, r.Bytes)
	requireUnharmed(t, sockets)

	sockets, ends = guardedSockets(t, socketrelay.TCP, 1)
	r = generateDirect(t, Spec{
		Work: Short, Ends: ends, Duration: 200 * time.Millisecond,
	})
	require.GreaterOrEqual(t, r.Pairs, uint64(shortWorkers))
	requireUnharmed(t, sockets)
	accepted := sockets[0].Stats().Leg2.Accepted
	require.GreaterOrEqual(t, accepted, r.Pairs)

	sockets, ends = guardedSockets(t, socketrelay.TCP, 2)
	r = generateDirect(t, Spec{Work: Idle, Ends: ends, Sessions: 20})
	require.Equal(t, uint64(20), r.Pairs)
	requireUnharmed(t, sockets)
}

// TestUnbound checks that nothing comes through a TOKEN socket without its
// tokens: so what is measured with them is bound.
func TestUnbound(t *testing.T) {
	sockets, ends := guardedSockets(t, socketrelay.UDP, 1)
	ends.Tokens = nil
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err := openPairs(ctx, Spec{Ends: ends, Size: 10}, 1)
	require.ErrorIs(t, err, errNoPath)
	drops := sockets[0].Stats().Leg1.Drops
	require.Positive(t, drops[socketrelay.DropStranger])

	// With those of the other leg a connection is reset.
	sockets, ends = guardedSockets(t, socketrelay.TCP, 1)
	legs := &ends.Tokens[0].Legs
	legs[0], legs[1] = legs[1], legs[0]
	_, err = newCaller(&ends, 0, 0).call(t.Context(), 1)
	require.ErrorIs(t, err, errRefused)
	drops = sockets[0].Stats().Leg1.Drops
	require.Equal(t, uint64(1), drops[socketrelay.DropBadBind])
}

// TestShakeHands checks what is taken for an answer.
func TestShakeHands(t *testing.T) {
	t.Parallel()

	tokens, err := parseTokens(startResponse())
	require.NoError(t, err)
	ends := Ends{Tokens: []Tokens{tokens}}
	leg1, leg2 := ends.keys(0, protocolUDP)[0], ends.keys(0, protocolUDP)[1]

	asked := 0
	exchange := func(raw []byte, isAnswer func([]byte) bool) error {
		asked++
		require.True(t, leg1.Verify(raw))
		m, err := bind.Decode(raw)
		require.NoError(t, err)
		require.True(t, m.Type.FromClient())
		require.False(t, isAnswer(raw))
		require.False(t, isAnswer(raw[1:]))

		m.Type++
		require.False(t, isAnswer(m.Append(nil, leg2)))
		other := m
		other.Nonce[0]++
		require.False(t, isAnswer(other.Append(nil, leg1)))
		require.True(t, isAnswer(m.Append(nil, leg1)))

		return nil
	}
	require.NoError(t, shakeHands(leg1, exchange))
	require.Equal(t, 2, asked)

	require.ErrorIs(t, shakeHands(leg1, func([]byte,
		func([]byte) bool) error {

		return errNoPath
	}), errNoPath)
}
