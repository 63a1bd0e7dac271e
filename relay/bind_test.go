package relay

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// TestBind binds both clients of a UDP socket, over both families, and passes
// payloads of any size, the size of a message too.
func TestBind(t *testing.T) {
	t.Parallel()

	for _, ip := range []netip.Addr{loopback4, loopback6} {
		w := newWorld(t, nil)
		s, h1, h2 := w.boundPair(ip)

		for _, size := range []int{
			0, 1, bind.Size - 1, bind.Size, bind.Size + 1, 1200,
		} {
			payload := string(bytes.Repeat([]byte{7}, size))
			h1.pass(h2, payload)
			h2.pass(h1, payload)
		}

		// The messages of the handshake are no payload.
		require.Eventually(t, func() bool {
			stats := s.Stats()

			return stats.Leg1.PacketsOut == 6 &&
				stats.Leg2.PacketsOut == 6
		}, limit, tick)
		require.EqualValues(t, 6, s.Stats().Leg1.PacketsIn)
		requireDrops(t, s, Leg1, nil)
		requireDrops(t, s, Leg2, nil)
		w.noEvent()
	}
}

// TestBindSecret checks that no message holds the token, and that the relay
// never answers with more bytes than it was sent.
func TestBindSecret(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openByToken(UDP)
	token := ownToken(t, s, Leg1)
	h := newHolder(t, loopback4, s, Leg1, token)

	hello := helloOf(h.key)
	h.send(h.port, hello)
	challenge := bytes.Clone(h.receive())

	m, err := bind.Decode(challenge)
	require.NoError(t, err)
	m.Type = bind.Bind
	raw := m.Append(nil, h.key)
	h.send(h.port, raw)
	bound := bytes.Clone(h.receive())

	for _, message := range [][]byte{hello, challenge, raw, bound} {
		require.Len(t, message, bind.Size)
		require.False(t, bytes.Contains(message, token[:]))
	}
}

// badMessages returns what must not bind to a leg, by what is wrong with it.
func badMessages(t *testing.T, s *Socket, other *Socket,
	token Token) map[string][]byte {

	t.Helper()

	leg := bindLeg(s, Leg1)
	key := bind.NewKey(leg, token)
	good := helloOf(key)

	change := func(at int, to byte) []byte {
		raw := bytes.Clone(good)
		raw[at] = to

		return raw
	}
	under := func(leg bind.Leg) []byte {
		return helloOf(bind.NewKey(leg, token))
	}
	ofType := func(typ bind.Type) []byte {
		m := bind.Message{Type: typ, Nonce: newNonce()}

		return m.Append(nil, key)
	}

	leg2, tcp, elsewhere := leg, leg, leg
	leg2.Num, tcp.Protocol, elsewhere.SocketID = 2, uint8(TCP), other.ID()

	ofLeg2 := ownToken(t, s, Leg2)

	addressed := bind.Message{
		Type: bind.Hello, Nonce: newNonce(),
		Addr: netip.MustParseAddrPort("192.0.2.1:1000"),
	}

	return map[string][]byte{
		"wrong token":        helloOf(bind.NewKey(leg, NewToken())),
		"zero token":         helloOf(bind.NewKey(leg, Token{})),
		"other leg's token":  helloOf(bind.NewKey(leg, ofLeg2)),
		"for the other leg":  under(leg2),
		"for TCP":            under(tcp),
		"for another socket": under(elsewhere),
		"a challenge":        ofType(bind.Challenge),
		"a bind":             ofType(bind.Bind),
		"a bound":            ofType(bind.Bound),
		"type 0":             ofType(0),
		"type 5":             ofType(5),
		"another version":    change(8, bind.Version+1),
		"version 0":          change(8, 0),
		"not the magic":      change(0, good[0]+1),
		"too short":          good[:bind.Size-1],
		"too long":           append(bytes.Clone(good), 0),
		"with an address":    addressed.Append(nil, key),
		"nothing":            {},
		"zeros":              make([]byte, bind.Size),
	}
}

// TestBindRefused checks that nothing but a valid hello is answered, pins or
// disturbs the client that is bound.
func TestBindRefused(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, h1, h2 := w.boundPair(loopback4)
	token := ownToken(t, s, Leg1)

	sent := uint64(0)
	attack := func(name string, raw []byte) {
		stranger := &holder{
			client: newClient(t, loopback4), port: h1.port,
			key: h1.key,
		}
		stranger.send(h1.port, raw)
		sent++

		// What came first was not answered if the first answer is to
		// what came after it.
		stranger.send(h1.port, helloOf(h1.key))
		stranger.expect(bind.Challenge)

		require.Equal(t, h1.addr(), s.Stats().Leg1.Client, name)
		h1.pass(h2, "still here")
	}

	for name, raw := range badMessages(t, s, w.openByToken(UDP), token) {
		attack(name, raw)
	}

	// Every byte counts.
	good := helloOf(h1.key)
	for i := range good {
		raw := bytes.Clone(good)
		raw[i] ^= 1 << (i % 8)
		attack("one bit", raw)
	}

	counts := s.Stats().Leg1.Drops
	require.Equal(t, sent, counts[DropBadBind]+counts[DropStranger])
	require.GreaterOrEqual(t, counts[DropBadBind], uint64(bind.Size-9))
	w.noEvent()
}

// TestBindMoves checks that a client whose address has changed binds again and
// goes on, and that the old address is a stranger's then.
func TestBindMoves(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, h1, h2 := w.boundPair(loopback4)

	for range 5 {
		moved := h1.moved()
		moved.bind()
		require.Equal(t, EventPinned{
			SocketID: s.ID(), Leg: Leg1, Old: h1.addr(),
			New: moved.addr(),
		}, w.event())

		moved.pass(h2, "from the new address")
		h2.pass(moved, "to the new address")

		h1.send(h1.port, []byte("from the old one"))
		h1 = moved
	}

	waitDrops(t, s, Leg1, DropStranger, 5)

	// A client that did not move keeps its bind alive with another one,
	// which nobody hears of.
	h1.bind()
	h1.pass(h2, "as before")
	w.noEvent()
}

// TestBindReplay checks what others can do with messages that they have seen.
func TestBindReplay(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, h1, h2 := w.boundPair(loopback4)
	first := h1.bind()

	// The same again is answered again: the answer may have been lost.
	h1.send(h1.port, first)
	h1.expect(bind.Bound)

	// From elsewhere it is worth nothing.
	thief := h1.moved()
	thief.send(h1.port, first)
	waitDrops(t, s, Leg1, DropBadBind, 1)
	require.Equal(t, h1.addr(), s.Stats().Leg1.Client)

	// Neither is an old one from the old address, once the client has
	// moved.
	moved := h1.moved()
	overtaken := h1.challenged()
	moved.bind()
	require.IsType(t, EventPinned{}, w.event())
	for _, old := range [][]byte{first, overtaken} {
		h1.send(h1.port, old)
	}
	waitDrops(t, s, Leg1, DropBadBind, 3)
	require.Equal(t, moved.addr(), s.Stats().Leg1.Client)

	// A bind whose challenge is another client's does not fit.
	m, err := bind.Decode(h1.challenged())
	require.NoError(t, err)
	m.Addr = moved.addr()
	moved.send(h1.port, m.Append(nil, h1.key))
	waitDrops(t, s, Leg1, DropBadBind, 4)

	moved.pass(h2, "as before")
	w.noEvent()
}

// TestBindOrder checks that of two handshakes under way the later one holds.
func TestBindOrder(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openByToken(UDP)
	a := newHolder(t, loopback4, s, Leg1, ownToken(t, s, Leg1))
	b := a.moved()

	bindA, bindB := a.challenged(), b.challenged()
	b.send(b.port, bindB)
	b.expect(bind.Bound)
	require.IsType(t, EventPinned{}, w.event())

	a.send(a.port, bindA)
	waitDrops(t, s, Leg1, DropBadBind, 1)
	require.Equal(t, b.addr(), s.Stats().Leg1.Client)

	// With a challenge of its own it is the client.
	a.bind()
	require.Equal(t, a.addr(), s.Stats().Leg1.Client)
}

// TestBindLookalike checks that what only looks like a message passes if it is
// from the leg's client.
func TestBindLookalike(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, h1, h2 := w.boundPair(loopback4)
	other := w.openByToken(UDP)

	delivered := uint64(0)
	taken := uint64(0)
	for name, raw := range badMessages(
		t, s, other, ownToken(t, s, Leg1),
	) {
		h1.send(h1.port, raw)

		// What is authentic is never payload, whatever it says.
		if len(raw) == bind.Size && h1.key.Verify(raw) {
			taken++
			waitDrops(t, s, Leg1, DropBadBind, taken)

			continue
		}

		require.Equal(t, raw, h2.receive(), name)
		delivered++
	}
	require.EqualValues(t, 6, taken)

	// Messages of another socket are payload here: a relay in a relay.
	inner := helloOf(bind.NewKey(
		bindLeg(other, Leg1), ownToken(t, other, Leg1),
	))
	h1.pass(h2, string(inner))

	require.Equal(t, delivered+1, s.Stats().Leg1.PacketsIn)
}

// TestBindNothingBefore checks that a leg takes nothing in before a client has
// bound, and keeps its client however long that is silent.
func TestBindNothingBefore(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.PinTimeout = time.Nanosecond
	})
	s := w.openByToken(UDP)
	c := newClient(t, loopback4)

	c.send(s.Port(Leg1), []byte("hello?"))
	waitDrops(t, s, Leg1, DropStranger, 1)
	w.noEvent()

	h := newHolder(t, loopback4, s, Leg1, ownToken(t, s, Leg1))
	h.bind()
	require.IsType(t, EventPinned{}, w.event())

	c.send(s.Port(Leg1), []byte("hello?"))
	waitDrops(t, s, Leg1, DropStranger, 2)
	require.Equal(t, h.addr(), s.Stats().Leg1.Client)
	w.noEvent()
}

// TestCookies checks what a cookie is good for, to the nanosecond.
func TestCookies(t *testing.T) {
	t.Parallel()

	const madeAt = instant(time.Hour)

	c := newCookies()
	leg := bind.Leg{SocketID: newID(), Num: 1, Protocol: 1}
	client := netip.MustParseAddrPort("192.0.2.7:1000")
	nonce := newNonce()
	cookie := c.issue(leg, client, nonce, madeAt)

	for age, good := range map[time.Duration]bool{
		0: true, challengeTime: true, challengeTime + 1: false,
		1000 * time.Hour: false,
	} {
		got, ok := c.read(cookie, leg, client, nonce, madeAt.add(age))
		require.Equal(t, good, ok, age)
		require.Equal(t, madeAt, got)
	}

	read := func(c *cookies, cookie bind.Cookie, leg bind.Leg, addr string,
		nonce bind.Nonce) bool {

		_, ok := c.read(
			cookie, leg, netip.MustParseAddrPort(addr), nonce,
			madeAt,
		)

		return ok
	}
	const same = "192.0.2.7:1000"
	require.True(t, read(c, cookie, leg, same, nonce))
	require.True(t, read(c, cookie, leg, "[::ffff:192.0.2.7]:1000", nonce))

	require.False(t, read(newCookies(), cookie, leg, same, nonce))
	require.False(t, read(c, cookie, leg, "192.0.2.7:1001", nonce))
	require.False(t, read(c, cookie, leg, "192.0.2.8:1000", nonce))
	require.False(t, read(c, cookie, leg, same, newNonce()))

	leg2, tcp, other := leg, leg, leg
	leg2.Num, tcp.Protocol, other.SocketID = 2, 2, newID()
	for _, leg := range []bind.Leg{leg2, tcp, other} {
		require.False(t, read(c, cookie, leg, same, nonce))
	}

	for i := range cookie {
		forged := cookie
		forged[i] ^= 1
		require.False(t, read(c, forged, leg, same, nonce))
	}
}

// TestBindNeverPins checks the sources that no client binds from.
func TestBindNeverPins(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openWith(Options{
		Protocol: UDP, Admission: ByToken,
		Allow: [2][]netip.Prefix{
			{netip.MustParsePrefix("127.0.0.0/8")},
		},
	})
	l := s.leg(Leg1)

	own := netip.AddrPortFrom(loopback4, s.Port(Leg2)).String()
	for addr, want := range map[string]DropReason{
		own:               DropStranger,
		"127.0.0.1:0":     DropStranger,
		"192.0.2.7:1000":  DropNotAllowed,
		"[::1]:1000":      DropNotAllowed,
		"224.0.0.1:1000":  DropNotAllowed,
		"127.0.0.1:21001": numDropReasons,
	} {
		why, ok := l.mayBind(sourceOf(addr))
		require.Equal(t, want == numDropReasons, ok, addr)
		if !ok {
			require.Equal(t, want, why, addr)
		}
	}

	// For real: a holder of the token at an address that is not allowed.
	h := newHolder(t, loopback6, s, Leg1, ownToken(t, s, Leg1))
	h.send(h.port, helloOf(h.key))
	waitDrops(t, s, Leg1, DropNotAllowed, 1)

	allowed := newHolder(t, loopback4, s, Leg1, ownToken(t, s, Leg1))
	allowed.bind()
	require.Equal(t, allowed.addr(), s.Stats().Leg1.Client)
}
