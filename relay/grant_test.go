package relay

import (
	"testing"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// TestGrant checks that a granted token admits clients until it is revoked, and
// that the leg's own stays good.
func TestGrant(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, h1, h2 := w.boundPair(loopback4)

	token := NewToken()
	require.NoError(t, s.Grant(Leg2, token))
	require.NoError(t, s.Grant(Leg2, token))
	require.Len(t, s.leg(Leg2).keys.keys, 2)

	granted := newHolder(t, loopback4, s, Leg2, token)
	granted.bind()
	require.Equal(t, EventPinned{
		SocketID: s.ID(), Leg: Leg2, Old: h2.addr(),
		New: granted.addr(),
	}, w.event())
	h1.pass(granted, "to the far end")

	// The token of the other leg, and tokens that are not there.
	s.Revoke(Leg1, token)
	s.Revoke(Leg2, NewToken())
	s.Revoke(Leg2, ownToken(t, s, Leg2))
	granted.pass(h1, "from the far end")

	s.Revoke(Leg2, token)
	require.False(t, s.Stats().Leg2.Client.IsValid())
	granted.send(granted.port, []byte("am I still there?"))
	granted.send(granted.port, helloOf(granted.key))
	require.Eventually(t, func() bool {
		drops := s.Stats().Leg2.Drops

		return drops[DropStranger] == 1 && drops[DropBadBind] == 1
	}, limit, tick)

	h2.bind()
	require.Equal(t, EventPinned{
		SocketID: s.ID(), Leg: Leg2, New: h2.addr(),
	}, w.event())
	h1.pass(h2, "to ourselves")
	w.noEvent()

	// A client that was bound by another token stays.
	require.NoError(t, s.Grant(Leg2, token))
	s.Revoke(Leg2, token)
	h1.pass(h2, "still to ourselves")
}

// TestGrantUsed checks that only a client with a granted token uses a leg.
func TestGrantUsed(t *testing.T) {
	t.Parallel()

	for _, protocol := range []Protocol{UDP, TCP} {
		w := newWorld(t, nil)
		s := w.openByToken(protocol)
		token := NewToken()
		require.NoError(t, s.Grant(Leg2, token))
		s.Watch(Leg2)

		join := func(token Token) {
			if protocol == TCP {
				callToBind(t, loopback4, s, Leg2, token).bind()

				return
			}

			h := newHolder(t, loopback4, s, Leg2, token)
			h.bind()
			h.send(h.port, []byte("payload"))
		}

		join(ownToken(t, s, Leg2))
		require.IsType(t, EventPinned{}, w.event())
		w.noEvent()

		join(token)
		if protocol == UDP {
			require.IsType(t, EventPinned{}, w.event())
		}
		require.Equal(t, EventUsed{
			SocketID: s.ID(), Leg: Leg2, Token: token,
		}, w.event())
	}
}

// TestGrantRefused checks what cannot be granted.
func TestGrantRefused(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	open := w.open()
	require.ErrorIs(t, open.Grant(Leg1, NewToken()), ErrGrant)
	open.Revoke(Leg1, NewToken())
	_, ok := open.Token(Leg1)
	require.False(t, ok)

	s := w.openByToken(UDP)
	require.ErrorIs(t, s.Grant(Leg1, Token{}), ErrGrant)

	tokens := make([]Token, maxGrants)
	for i := range tokens {
		tokens[i] = NewToken()
		require.NoError(t, s.Grant(Leg1, tokens[i]))
	}
	err := s.Grant(Leg1, NewToken())
	require.ErrorIs(t, err, ErrGrant)
	require.ErrorContains(t, err, "4 granted tokens")

	s.Revoke(Leg1, tokens[0])
	require.NoError(t, s.Grant(Leg1, tokens[0]))

	// All of them are good.
	newHolder(t, loopback4, s, Leg1, ownToken(t, s, Leg1)).bind()
	for _, token := range tokens {
		newHolder(t, loopback4, s, Leg1, token).bind()
	}

	// A stopped socket takes tokens to its grave.
	h := newHolder(t, loopback4, s, Leg1, tokens[0])
	require.NoError(t, s.Close())
	require.NoError(t, s.Grant(Leg1, tokens[0]))
	s.Revoke(Leg1, tokens[0])
	require.Error(t, h.trySendTwice(helloOf(h.key)))
}

// trySendTwice sends a packet until the system tells that nobody is there.
func (h *holder) trySendTwice(payload []byte) error {
	connected, err := dialUDP(h.addr(), h.port)
	if err != nil {
		return err
	}
	defer connected.Close()

	if _, err := connected.Write(payload); err != nil {
		return err
	}

	_, err = connected.Read(make([]byte, bind.Size))

	return err
}

// TestRevokeConns checks that a revoked token resets the connections that were
// bound by it, with or without a partner, and no others.
func TestRevokeConns(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openByToken(TCP)
	token := NewToken()
	require.NoError(t, s.Grant(Leg2, token))

	own1, own2 := callBound(t, s, Leg1), callBound(t, s, Leg2)
	host := callBound(t, s, Leg1)
	joined := callToBind(t, loopback4, s, Leg2, token)
	joined.bind()
	waits := callToBind(t, loopback4, s, Leg2, token)
	waits.bind()
	halfway := callToBind(t, loopback4, s, Leg2, token)
	raw := halfway.challenged()

	joined.say("hello")
	host.hear("hello")

	s.Revoke(Leg2, token)
	require.NotEqual(t, joined.addr(), s.Stats().Leg2.Client)
	for _, h := range []*tcpHolder{joined, waits, host} {
		h.hearReset()
	}

	_, err := halfway.Write(raw)
	if err == nil {
		halfway.hearReset()
	}

	own1.say("still here")
	own2.hear("still here")
	waitConns(t, s, Leg2, connStats{accepted: 3, open: 1})
	require.Zero(t, s.Stats().Leg2.Unbound)
}
