package relay

import (
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// waitUnbound waits until so many connections of leg 1 have yet to bind.
func waitUnbound(tb testing.TB, s *Socket, want int) {
	tb.Helper()

	require.Eventually(tb, func() bool {
		return s.Stats().Leg1.Unbound == want
	}, limit, tick, "%d unbound", want)
}

// TestBindTCP joins connections that have bound, in the order in which they
// did, over both families.
func TestBindTCP(t *testing.T) {
	t.Parallel()

	for _, ip := range []netip.Addr{loopback4, loopback6} {
		w := newWorld(t, nil)
		s := w.openByToken(TCP)

		var calls [2][3]*tcpHolder
		for i, leg := range []Leg{Leg1, Leg2} {
			token := ownToken(t, s, leg)
			for j := range calls[i] {
				calls[i][j] = callToBind(t, ip, s, leg, token)
			}

			// The first to come is the last to bind.
			for j := range calls[i] {
				calls[i][len(calls[i])-1-j].bind()
			}
		}

		for j := range calls[0] {
			a, b := calls[0][j], calls[1][j]
			a.say("to leg 2")
			b.hear("to leg 2")
			b.say("to leg 1")
			a.hear("to leg 1")
			a.halfClose()
			b.hearEnd()
			b.hangUp()
			a.hearEnd()
		}

		waitConns(t, s, Leg1, connStats{accepted: 3})
		waitConns(t, s, Leg2, connStats{accepted: 3})
		requireDrops(t, s, Leg1, nil)
		require.Zero(t, s.Stats().Leg1.Unbound)
		require.EqualValues(t, 3*len("to leg 2"),
			s.Stats().Leg1.BytesIn)
	}
}

// TestBindTCPBytes checks that a handshake may come byte by byte, and that what
// follows it is left for the partner.
func TestBindTCPBytes(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openByToken(TCP)
	h := callToBind(t, loopback4, s, Leg1, ownToken(t, s, Leg1))

	for _, b := range helloOf(h.key) {
		h.say(string([]byte{b}))
	}
	m := h.expect(bind.Challenge)
	m.Type = bind.Bind

	// A client that does not wait for the answer takes a risk, not more.
	h.say(string(m.Append(nil, h.key)) + "early bytes")
	h.expect(bind.Bound)

	callBound(t, s, Leg2).hear("early bytes")
}

// TestBindTCPRefused checks that a connection that does not bind is reset, and
// that the one that is bound goes on.
func TestBindTCPRefused(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, other := w.openByToken(TCP), w.openByToken(TCP)
	h1, h2 := callBound(t, s, Leg1), callBound(t, s, Leg2)
	token := ownToken(t, s, Leg1)

	refused := uint64(0)
	for name, raw := range badMessages(t, s, other, token) {
		// These are no whole message, or one and more.
		switch name {
		case "too short", "too long", "nothing":
			continue

		// This is an UDP message for TCP's badMessages.
		case "for TCP":
			udp := bindLeg(s, Leg1)
			udp.Protocol = uint8(UDP)
			raw = helloOf(bind.NewKey(udp, token))
		}

		h := callToBind(t, loopback4, s, Leg1, token)
		h.say(string(raw))
		h.hearReset()
		refused++
		require.Equal(t, refused,
			s.Stats().Leg1.Drops[DropBadBind], name)
	}

	// The second message is wrong: another one, a changed one, one of
	// another connection, or the hello once more.
	a := callToBind(t, loopback4, s, Leg1, token)
	b := callToBind(t, loopback4, s, Leg1, token)
	bindA, bindB := a.challenged(), b.challenged()
	a.say(string(bindB))
	a.hearReset()
	bindB[bind.Size-1] ^= 1
	b.say(string(bindB))
	b.hearReset()

	c := callToBind(t, loopback4, s, Leg1, token)
	c.challenged()
	c.say(string(bindA))
	c.hearReset()

	d := callToBind(t, loopback4, s, Leg1, token)
	d.challenged()
	d.say(string(helloOf(d.key)))
	d.hearReset()
	refused += 4

	// It goes away, before or after it has said something.
	for _, words := range []string{"", "half a message"} {
		h := callToBind(t, loopback4, s, Leg1, token)
		h.say(words)
		waitUnbound(t, s, 1)
		h.hangUp()
		waitUnbound(t, s, 0)
		refused++
	}

	requireDrops(t, s, Leg1, drops{DropBadBind: refused})
	waitConns(t, s, Leg1, connStats{accepted: 1, open: 1})

	h1.say("still here")
	h2.hear("still here")
}

// TestBindTCPTimeout checks that a connection that says nothing is reset in
// time, while those who bind come through.
func TestBindTCPTimeout(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openByToken(TCP)
	token := ownToken(t, s, Leg1)

	begin := time.Now()
	silent := callToBind(t, loopback4, s, Leg1, token)
	halfway := callToBind(t, loopback4, s, Leg1, token)
	halfway.challenged()
	h1, h2 := callBound(t, s, Leg1), callBound(t, s, Leg2)

	silent.hearReset()
	require.GreaterOrEqual(t, time.Since(begin), bindTimeout)
	halfway.hearReset()
	waitUnbound(t, s, 0)
	requireDrops(t, s, Leg1, drops{DropBadBind: 2})

	h1.say("still here")
	h2.hear("still here")
}

// TestBindTCPPlaces checks how many connections may have to bind at once: few
// from one address, and of all the latest.
func TestBindTCPPlaces(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openByToken(TCP)
	token := ownToken(t, s, Leg1)

	var silent []*tcpHolder
	from := func(i int) netip.Addr {
		return netip.AddrFrom4([4]byte{127, 0, 2, byte(i)})
	}
	for i := range maxUnbound {
		silent = append(silent, callToBind(
			t, from(i/maxUnboundPerAddr), s, Leg1, token,
		))
	}
	waitUnbound(t, s, maxUnbound)
	requireDrops(t, s, Leg1, nil)

	// The same address has no further place, another one takes the oldest.
	require.ErrorIs(t, tryRefused(from(0), s, Leg1), syscall.ECONNRESET)
	requireDrops(t, s, Leg1, drops{DropLimit: 1})

	h := callToBind(t, from(99), s, Leg1, token)
	silent[0].hearReset()
	h.bind()
	waitUnbound(t, s, maxUnbound-1)
	requireDrops(t, s, Leg1, drops{DropLimit: 1, DropBadBind: 1})

	// They all bind, and now wait for their partners.
	for _, h := range silent[1:] {
		h.bind()
	}
	waitConns(t, s, Leg1, connStats{
		accepted: maxUnbound, open: maxUnbound, waiting: maxUnbound,
	})

	// The end of the socket is theirs.
	late := callToBind(t, from(0), s, Leg1, token)
	waitUnbound(t, s, 1)
	require.NoError(t, s.Close())
	late.hearReset()
	h.hearReset()
	require.Zero(t, s.Stats().Leg1.Unbound)
	require.Zero(t, w.conns.Load())
}

// TestBindTCPFull checks that who finds no room after the handshake is reset.
func TestBindTCPFull(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.MaxWaiting = 1
	})
	s := w.openByToken(TCP)
	first := callBound(t, s, Leg1)

	h := callToBind(t, loopback4, s, Leg1, ownToken(t, s, Leg1))
	h.say(string(h.challenged()))
	_, err := h.Read(make([]byte, 1))
	require.False(t, err == nil || errors.Is(err, io.EOF), "%v", err)
	requireDrops(t, s, Leg1, drops{DropLimit: 1})

	// That is told, but for what follows within a short time.
	require.IsType(t, EventPinned{}, w.event())
	require.Equal(t, EventLimit{
		SocketID: s.ID(), Leg: Leg1, Reason: DropLimit,
	}, w.event())

	first.say("first")
	callBound(t, s, Leg2).hear("first")
}

// TestBindTCPGone checks that a client that binds and goes at once, or a while
// later, does not get a partner.
func TestBindTCPGone(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openByToken(TCP)
	h := callToBind(t, loopback4, s, Leg1, ownToken(t, s, Leg1))
	h.say(string(h.challenged()))
	h.hangUp()
	waitDrops(t, s, Leg1, DropNoClient, 1)
	waitConns(t, s, Leg1, connStats{accepted: 1})

	callBound(t, s, Leg1).hangUp()
	waitDrops(t, s, Leg1, DropNoClient, 2)
	waitConns(t, s, Leg1, connStats{accepted: 2})
}
