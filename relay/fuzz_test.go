package relay

import (
	"testing"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// FuzzHandshake gives a leg what strangers may send. Whatever it is, it is
// answered only if it is authentic, with as many bytes as came, and pins
// nobody: the cookie of a challenge is missing.
func FuzzHandshake(f *testing.F) {
	w, err := New(Config{
		Ports: PortRange{Low: 1000, High: 2000}, MaxSockets: 1,
		PinTimeout: 1, MaxPairs: 1, MaxWaiting: 1, WaitTimeout: 1,
		MaxConns: 1, KeepAlive: 1e9,
	}, nil)
	require.NoError(f, err)
	s := w.newSocket(Options{
		Protocol: UDP, Admission: ByToken,
	}, [2]*port{{}, {}})
	l := s.leg(Leg1)

	// The same in every process that fuzzes.
	s.id, l.keys.leg.SocketID = ID{1}, ID{1}
	l.keys.keys[0].token = Token{2}
	key := bind.NewKey(l.keys.leg, Token{2})

	m := bind.Message{Type: bind.Hello, Nonce: bind.Nonce{3}}
	f.Add(m.Append(nil, key))
	m.Addr = sourceOf("192.0.2.7:1000").addr
	for _, typ := range []bind.Type{bind.Challenge, bind.Bind, bind.Bound} {
		m.Type = typ
		f.Add(m.Append(nil, key))
		f.Add(m.Append(nil, bind.NewKey(l.keys.leg, Token{4})))
	}
	f.Add([]byte(bind.Magic))

	f.Fuzz(func(t *testing.T, raw []byte) {
		authentic := key.Verify(raw)
		src := sourceOf("192.0.2.7:1000")

		reply, err := l.shakeHands(raw, src, w.moment(), nil)
		require.Nil(t, l.pin.Load())
		if !authentic {
			require.ErrorIs(t, err, errPayload)
		}
		if err != nil {
			require.Empty(t, reply)
		} else {
			require.Len(t, reply, len(raw))
			require.True(t, key.Verify(reply))
		}

		// The same bytes on a connection.
		var h handshake
		reply, err = l.hello(&h, raw, src.addr, w.moment().now, nil)
		require.Equal(t, err == nil, h.key != nil)
		require.Equal(t, err == nil, len(reply) == len(raw) &&
			len(raw) > 0)
		if err == nil {
			require.True(t, authentic)
			_, err = l.bind(&h, raw, nil)
			require.Error(t, err)
		}
	})
}
