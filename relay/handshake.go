package relay

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
	"net/netip"
	"sync"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

const (
	// challengeTime is how long a challenge may be answered.
	challengeTime = 10 * time.Second

	// bindTimeout is how long a connection may take to bind.
	bindTimeout = 5 * time.Second

	// maxUnbound is how many connections at a leg may have to bind at once,
	// and maxUnboundPerAddr how many of them from one client's network.
	maxUnbound        = 64
	maxUnboundPerAddr = 4
)

var (
	// errPayload means that something is no message of the handshake.
	errPayload = errors.New("not authentic")

	// errBind means that a message of the handshake is not answered.
	errBind = errors.New("the bind is refused")
)

// cookies makes and reads the cookies of challenges. A cookie holds the time at
// which it was made, and proves that the relay made it for one client and leg:
// so nothing has to be remembered of a client before it has answered from the
// address that it claims.
type cookies struct {
	// mu guards the following fields.
	mu sync.Mutex

	// mac is keyed with a secret that ends with the relay.
	mac hash.Hash

	// input and sum are where a cookie is computed.
	input [cookieInput]byte
	sum   [sha256.Size]byte
}

const (
	// cookieTime is the length of the time in a cookie, and cookieInput
	// that of what a cookie authenticates: the time, the leg, the client's
	// address and its nonce.
	cookieTime  = 8
	cookieInput = cookieTime + 32 + 1 + 1 + 16 + 2 + bind.NonceSize
)

// newCookies draws a secret.
func newCookies() *cookies {
	var secret [sha256.Size]byte

	// It never fails: the runtime ends the process instead.
	_, _ = rand.Read(secret[:])

	return &cookies{mac: hmac.New(sha256.New, secret[:])}
}

// issue makes a cookie.
func (c *cookies) issue(leg bind.Leg, client netip.AddrPort, nonce bind.Nonce,
	now instant) bind.Cookie {

	var cookie bind.Cookie
	binary.BigEndian.PutUint64(cookie[:cookieTime], uint64(now))

	c.mu.Lock()
	defer c.mu.Unlock()

	copy(cookie[cookieTime:], c.tag(cookie, leg, client, nonce))

	return cookie
}

// read returns when a cookie was made, and false if it was not made here for
// this client and leg, or too long ago.
func (c *cookies) read(cookie bind.Cookie, leg bind.Leg, client netip.AddrPort,
	nonce bind.Nonce, now instant) (instant, bool) {

	c.mu.Lock()
	defer c.mu.Unlock()

	tag := c.tag(cookie, leg, client, nonce)
	if subtle.ConstantTimeCompare(tag, cookie[cookieTime:]) != 1 {
		return 0, false
	}

	madeAt := instant(binary.BigEndian.Uint64(cookie[:cookieTime]))

	return madeAt, now.sub(madeAt) <= challengeTime
}

// tag returns what proves that a cookie was made here. It is valid until the
// lock is given back.
func (c *cookies) tag(cookie bind.Cookie, leg bind.Leg, client netip.AddrPort,
	nonce bind.Nonce) []byte {

	addr := client.Addr().As16()

	input := append(c.input[:0], cookie[:cookieTime]...)
	input = append(input, leg.SocketID[:]...)
	input = append(input, leg.Num, leg.Protocol)
	input = append(input, addr[:]...)
	input = binary.BigEndian.AppendUint16(input, client.Port())
	input = append(input, nonce[:]...)

	c.mac.Reset()
	c.mac.Write(input)

	return c.mac.Sum(c.sum[:0])[:bind.CookieSize-cookieTime]
}

// verify returns the key under which a client's message is authentic, nil if
// there is none. The lock is held.
func (k *keyring) verify(raw []byte) *legKey {
	for _, key := range k.keys {
		if key.key == nil {
			key.key = bind.NewKey(k.leg, key.token)
		}

		if key.key.Verify(raw) {
			return key
		}
	}

	return nil
}

// challenge answers a hello. It returns the answer, appended to reply.
func (l *leg) challenge(m *bind.Message, key *legKey, client netip.AddrPort,
	now instant, reply []byte) []byte {

	m.Type = bind.Challenge
	m.Addr = plainAddrPort(client)
	m.Cookie = l.relay.cookies.issue(l.keys.leg, client, m.Nonce, now)

	return m.Append(reply, key.key)
}

// confirm answers a bind.
func confirm(m *bind.Message, key *legKey, reply []byte) []byte {
	m.Type = bind.Bound

	return m.Append(reply, key.key)
}

// shakeHands decides on a datagram that looks like a message of the handshake,
// from whoever it is. The answer is appended to reply. The error is errPayload
// if the datagram is not authentic, and another one if it is, and is not
// answered. It pins the client of a bind.
func (l *leg) shakeHands(raw []byte, src source, at moment,
	reply []byte) ([]byte, error) {

	k := l.keys

	k.mu.Lock()
	key := k.verify(raw)
	if key == nil {
		k.mu.Unlock()

		return nil, errPayload
	}

	reply, taken, err := l.take(raw, key, src, at, reply)
	k.mu.Unlock()

	if taken != nil {
		l.tellBound(taken.old, src.addr, key)
	}

	return reply, err
}

// takenBind tells of a bind that was taken, and not only repeated.
type takenBind struct {
	// old is the client before.
	old *pin
}

// take decides on an authentic datagram. The keyring's lock is held.
func (l *leg) take(raw []byte, key *legKey, src source, at moment,
	reply []byte) ([]byte, *takenBind, error) {

	m, err := bind.Decode(raw)
	if err != nil {
		return nil, nil, err
	}

	switch m.Type {
	case bind.Hello:
		return l.challenge(&m, key, src.addr, at.now, reply), nil, nil

	case bind.Bind:
		taken, err := l.bound(&m, key, src, at)
		if err != nil {
			return nil, nil, err
		}

		return confirm(&m, key, reply), taken, nil

	default:
		return nil, nil, errBind
	}
}

// handshake is how far a connection is that has to bind.
type handshake struct {
	// challenge is the one that was made, and key what the hello that it
	// answers is authentic under; nil before the hello.
	challenge bind.Message
	key       *legKey
}

// hello answers the hello of a connection. The answer is appended to reply.
func (l *leg) hello(h *handshake, raw []byte, client netip.AddrPort,
	now instant, reply []byte) ([]byte, error) {

	m, err := bind.Decode(raw)
	if err != nil {
		return nil, err
	}
	if m.Type != bind.Hello {
		return nil, errBind
	}

	l.keys.mu.Lock()
	defer l.keys.mu.Unlock()

	key := l.keys.verify(raw)
	if key == nil {
		return nil, errBind
	}

	reply = l.challenge(&m, key, client, now, reply)
	h.challenge, h.key = m, key

	return reply, nil
}

// bind answers the bind of a connection, which repeats the challenge: it can be
// that of no other connection. The answer is appended to reply.
func (l *leg) bind(h *handshake, raw, reply []byte) ([]byte, error) {
	m, err := bind.Decode(raw)
	if err != nil {
		return nil, err
	}

	want := h.challenge
	want.Type = bind.Bind
	if m != want {
		return nil, errBind
	}

	l.keys.mu.Lock()
	defer l.keys.mu.Unlock()

	// The token may have been revoked since the hello.
	if l.keys.find(h.key.token) != h.key || !h.key.key.Verify(raw) {
		return nil, errBind
	}

	return confirm(&m, h.key, reply), nil
}

// bound makes the sender of an authentic bind the leg's client. It does nothing
// and returns nil if the client was confirmed before and has not heard of it.
// The keyring's lock is held, so that no key is taken out meanwhile.
func (l *leg) bound(m *bind.Message, key *legKey, src source,
	at moment) (*takenBind, error) {

	k := l.keys
	if m.Addr != plainAddrPort(src.addr) {
		return nil, errBind
	}

	madeAt, ok := l.relay.cookies.read(
		m.Cookie, k.leg, src.addr, m.Nonce, at.now,
	)
	if !ok || madeAt < k.last {
		return nil, errBind
	}

	old := l.pin.Load()
	if madeAt == k.last {
		// The last bind once more, or one of another client whose
		// challenge was made at the same moment.
		isRepeated := m.Nonce == k.lastNonce && old != nil &&
			old.src == src.addr && old.key == key
		if !isRepeated {
			return nil, errBind
		}

		return nil, nil
	}

	k.last, k.lastNonce = madeAt, m.Nonce
	l.seen(at)
	if old == nil || old.src != src.addr || old.local != src.local ||
		old.key != key {

		l.pin.Store(&pin{
			src:   src.addr,
			local: src.local,
			route: l.port.route(src),
			key:   key,
		})
	}

	return &takenBind{old: old}, nil
}

// tellBound tells that a client was bound.
func (l *leg) tellBound(old *pin, client netip.AddrPort, key *legKey) {
	if old == nil || old.src != client {
		l.tellPinned(old, client)
	}
	if key.granted {
		l.tellUsed(key.token)
	}
}

// expel makes a client that was bound by a key the leg's client no longer. The
// key was taken out before.
func (l *leg) expel(key *legKey) {
	old := l.pin.Load()
	if old != nil && old.key == key && l.pin.CompareAndSwap(old, nil) {
		l.relay.log.Debug("Leg lost its client", "socket",
			l.socketID.String(), "leg", l.num, "old", old.src)
	}
}

// plainAddrPort returns the address as it travels in a message.
func plainAddrPort(client netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(plainAddr(client.Addr()), client.Port())
}
