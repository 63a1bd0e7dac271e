package relay

import (
	"crypto/rand"
	"io"
	"net/netip"
	"testing"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// openByToken opens a socket whose clients have to bind.
func (w *world) openByToken(protocol Protocol) *Socket {
	w.t.Helper()

	return w.openWith(Options{Protocol: protocol, Admission: ByToken})
}

// bindLeg returns what a client of a leg binds to.
func bindLeg(s *Socket, leg Leg) bind.Leg {
	return bind.Leg{
		SocketID: s.ID(), Num: uint8(leg),
		Protocol: uint8(s.Protocol()),
	}
}

// ownToken returns the leg's own token.
func ownToken(tb testing.TB, s *Socket, leg Leg) Token {
	tb.Helper()

	token, ok := s.Token(leg)
	require.True(tb, ok)
	require.False(tb, token.IsZero())

	return token
}

// newNonce draws a nonce.
func newNonce() bind.Nonce {
	var nonce bind.Nonce
	_, _ = rand.Read(nonce[:])

	return nonce
}

// helloOf returns a fresh hello under a key.
func helloOf(key *bind.Key) []byte {
	return (&bind.Message{
		Type: bind.Hello, Nonce: newNonce(),
	}).Append(nil, key)
}

// holder is a UDP client that can prove that it holds a token.
type holder struct {
	*client

	port uint16
	key  *bind.Key
}

// newHolder returns a client of a leg that holds a token.
func newHolder(tb testing.TB, ip netip.Addr, s *Socket, leg Leg,
	token Token) *holder {

	tb.Helper()

	return &holder{
		client: newClient(tb, ip), port: s.Port(leg),
		key: bind.NewKey(bindLeg(s, leg), token),
	}
}

// expect waits for the relay's answer, which must be authentic, of the type,
// and to the client's address.
func (h *holder) expect(want bind.Type) bind.Message {
	h.t.Helper()

	raw := h.receive()
	require.Len(h.t, raw, bind.Size)
	require.True(h.t, h.key.Verify(raw))

	m, err := bind.Decode(raw)
	require.NoError(h.t, err)
	require.Equal(h.t, want, m.Type)
	require.Equal(h.t, h.addr(), m.Addr)

	return m
}

// challenged says hello and returns the bind that answers the challenge.
func (h *holder) challenged() []byte {
	h.t.Helper()

	h.send(h.port, helloOf(h.key))
	m := h.expect(bind.Challenge)
	m.Type = bind.Bind

	return m.Append(nil, h.key)
}

// bind does the whole handshake, and returns the bind.
func (h *holder) bind() []byte {
	h.t.Helper()

	raw := h.challenged()
	h.send(h.port, raw)
	h.expect(bind.Bound)

	return raw
}

// moved returns the client at another port.
func (h *holder) moved() *holder {
	h.t.Helper()

	return &holder{
		client: newClient(h.t, h.addr().Addr()), port: h.port,
		key: h.key,
	}
}

// boundPair opens a socket and binds a client to each leg.
func (w *world) boundPair(ip netip.Addr) (*Socket, *holder, *holder) {
	w.t.Helper()

	s := w.openByToken(UDP)
	var holders [2]*holder
	for i, leg := range []Leg{Leg1, Leg2} {
		h := newHolder(w.t, ip, s, leg, ownToken(w.t, s, leg))
		h.bind()
		require.Equal(w.t, EventPinned{
			SocketID: s.ID(), Leg: leg, New: h.addr(),
		}, w.event())
		holders[i] = h
	}

	return s, holders[0], holders[1]
}

// pass sends a payload from one holder and requires that the other gets it.
func (h *holder) pass(to *holder, payload string) {
	h.t.Helper()

	h.send(h.port, []byte(payload))
	require.Equal(h.t, payload, string(to.receive()))
}

// tcpHolder is a TCP client of a leg that can prove that it holds a token.
type tcpHolder struct {
	*caller

	key *bind.Key
}

// callToBind connects to a leg, and does not bind yet.
func callToBind(tb testing.TB, from netip.Addr, s *Socket, leg Leg,
	token Token) *tcpHolder {

	tb.Helper()

	return &tcpHolder{
		caller: callFrom(tb, from, s, leg),
		key:    bind.NewKey(bindLeg(s, leg), token),
	}
}

// expect waits for the relay's answer.
func (h *tcpHolder) expect(want bind.Type) bind.Message {
	h.t.Helper()

	var raw [bind.Size]byte
	_, err := io.ReadFull(h, raw[:])
	require.NoError(h.t, err)
	require.True(h.t, h.key.Verify(raw[:]))

	m, err := bind.Decode(raw[:])
	require.NoError(h.t, err)
	require.Equal(h.t, want, m.Type)
	require.Equal(h.t, h.addr(), m.Addr)

	return m
}

// challenged says hello and returns the bind that answers the challenge.
func (h *tcpHolder) challenged() []byte {
	h.t.Helper()

	h.say(string(helloOf(h.key)))
	m := h.expect(bind.Challenge)
	m.Type = bind.Bind

	return m.Append(nil, h.key)
}

// bind does the whole handshake.
func (h *tcpHolder) bind() {
	h.t.Helper()

	h.say(string(h.challenged()))
	h.expect(bind.Bound)
}

// callBound connects to a leg and binds with the leg's own token.
func callBound(tb testing.TB, s *Socket, leg Leg) *tcpHolder {
	tb.Helper()

	h := callToBind(tb, loopback4, s, leg, ownToken(tb, s, leg))
	h.bind()

	return h
}
