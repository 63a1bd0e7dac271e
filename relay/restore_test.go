package relay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// again returns a world with the same ports, as a daemon has that was
// restarted. The one before has stopped.
func (w *world) again() *world {
	w.t.Helper()
	w.stop()

	return newWorld(w.t, func(cfg *Config) {
		*cfg = w.cfg
	})
}

// TestRestoreUDP checks that the clients of a UDP socket go on after a restart
// of the relay without doing anything, OPEN or bound, and that nobody is told
// of new clients.
func TestRestoreUDP(t *testing.T) {
	t.Parallel()

	for _, ip := range []netip.Addr{loopback4, loopback6} {
		w := newWorld(t, nil)
		open, c1, c2 := w.pair(ip, ip)
		s, h1, _ := w.boundPair(ip)
		token := NewToken()
		require.NoError(t, s.Grant(Leg2, token))
		h2 := newHolder(t, ip, s, Leg2, token)
		h2.bind()
		require.IsType(t, EventPinned{}, w.event())

		kept := []Restored{open.Keep(), s.Keep()}
		options := []Options{open.Options(), s.Options()}
		w = w.again()

		for i := range kept {
			options[i].Restore = &kept[i]
			require.Equal(t, kept[i], w.openWith(options[i]).Keep())
		}
		restored, ok := w.Socket(s.ID())
		require.True(t, ok)
		require.Nil(t, restored.Options().Restore)

		for range 10 {
			h1.pass(h2, "as before")
			h2.pass(h1, "as before")
			c1.send(open.Port(Leg1), []byte("as before"))
			require.Equal(t, "as before", string(c2.receive()))
		}
		w.noEvent()

		// The tokens are good, and what was granted can end.
		h1.bind()
		h2.bind()
		h1.pass(h2, "still there")
		restored.Revoke(Leg2, token)
		require.False(t, restored.Stats().Leg2.Client.IsValid())
		require.Equal(t, h1.addr(), restored.Stats().Leg1.Client)
	}
}

// TestRestoreTCP checks that clients of a TCP socket may connect again at once
// after a restart of the relay, and others may not.
func TestRestoreTCP(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	open, s := w.openTCP(), w.openByToken(TCP)
	c1, c2 := callBoth(t, open)
	h1, h2 := callBound(t, s, Leg1), callBound(t, s, Leg2)
	c1.say("hello")
	c2.hear("hello")

	kept := []Restored{open.Keep(), s.Keep()}
	options := []Options{open.Options(), s.Options()}
	w = w.again()
	for _, c := range []*caller{c1, c2, h1.caller, h2.caller} {
		c.hearReset()
	}

	for i := range kept {
		options[i].Restore = &kept[i]
		w.openWith(options[i])
	}
	open, _ = w.Socket(open.ID())
	s, _ = w.Socket(s.ID())

	callRefused(t, loopback6, open, Leg1)
	c1, c2 = callBoth(t, open)
	c1.say("hello again")
	c2.hear("hello again")

	h1, h2 = callBound(t, s, Leg1), callBound(t, s, Leg2)
	h1.say("hello again")
	h2.hear("hello again")
}

// TestRestoreTaken checks that a socket whose port somebody else has does not
// come back, that its ports are kept for it, and that it comes back when the
// port is free.
func TestRestoreTaken(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.Ports.High = cfg.Ports.Low + 3
	})
	s, c1, c2 := w.pair(loopback4, loopback4)
	kept, opts := s.Keep(), s.Options()
	opts.Restore = &kept
	w = w.again()

	thief := newClientAt(t, netip.AddrPortFrom(
		netip.IPv4Unspecified(), kept.Ports[1],
	))
	_, err := w.Open(opts)
	require.ErrorIs(t, err, ErrPortTaken)
	require.Zero(t, w.NumSockets())

	// The others of the range are for one socket more.
	other := w.open()
	for _, port := range kept.Ports {
		require.NotContains(t, []uint16{
			other.Port(Leg1), other.Port(Leg2),
		}, port)
	}
	_, err = w.Open(Options{Protocol: UDP})
	require.ErrorIs(t, err, ErrNoFreePort)

	thief.close()
	restored := w.openWith(opts)
	c1.send(kept.Ports[0], []byte("as before"))
	require.Equal(t, "as before", string(c2.receive()))

	// It cannot be there twice, and neither can its ports.
	_, err = w.Open(opts)
	require.ErrorIs(t, err, ErrOptions)
	require.False(t, w.Hold(kept.Ports[0]))

	require.NoError(t, restored.Close())
	require.True(t, w.Hold(kept.Ports[:]...))
	w.Unhold(kept.Ports[:]...)
	require.NoError(t, w.open().Close())
}

// TestRestoreOutside restores a socket whose ports are no longer in the range.
func TestRestoreOutside(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s, c1, c2 := w.pair(loopback4, loopback4)
	kept, opts := s.Keep(), s.Options()
	opts.Restore = &kept
	w.stop()

	w = newWorld(t, nil)
	s = w.openWith(opts)
	c1.send(kept.Ports[0], []byte("as before"))
	require.Equal(t, "as before", string(c2.receive()))

	// No leg takes one of them as its client.
	own := netip.AddrPortFrom(loopback4, kept.Ports[0]).String()
	require.False(t, w.mayPin(sourceOf(own)))

	free := len(w.ports.free)
	require.NoError(t, s.Close())
	require.Len(t, w.ports.free, free)
	require.Empty(t, w.ports.resting)
}

// TestRestoreBytes checks that what has passed before counts.
func TestRestoreBytes(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openWith(Options{
		Protocol: UDP, Limits: Limits{TotalBytes: 1000},
	})
	kept, opts := s.Keep(), s.Options()
	kept.PassedBytes = 999
	opts.Restore = &kept
	w = w.again()
	s = w.openWith(opts)
	require.EqualValues(t, 999, s.Keep().PassedBytes)

	c1, c2 := newClient(t, loopback4), newClient(t, loopback4)
	c1.send(s.Port(Leg1), nil)
	require.IsType(t, EventPinned{}, w.event())
	c2.send(s.Port(Leg2), []byte{1})
	require.IsType(t, EventPinned{}, w.event())
	require.Equal(t, EventClosed{
		SocketID: s.ID(), Reason: CloseBytes,
	}, w.event())
}

// TestRestoreInvalid checks what cannot be restored.
func TestRestoreInvalid(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	good := Restored{
		ID: newID(), CreatedAt: time.Now(), Ports: [2]uint16{1, 2},
		Tokens: [2]Token{NewToken(), NewToken()},
	}

	for name, change := range map[string]func(*Restored){
		"no id":    func(r *Restored) { r.ID = ID{} },
		"no port":  func(r *Restored) { r.Ports[1] = 0 },
		"one port": func(r *Restored) { r.Ports[1] = 1 },
		"no token": func(r *Restored) { r.Tokens[0] = Token{} },
		"client without a token": func(r *Restored) {
			r.Clients[1].Addr = sourceOf("192.0.2.7:1").addr
		},
	} {
		bad := good
		change(&bad)
		_, err := w.Open(Options{
			Protocol: UDP, Admission: ByToken, Restore: &bad,
		})
		require.ErrorIs(t, err, ErrOptions, name)
	}

	_, err := w.Open(Options{Protocol: UDP, Restore: &good})
	require.ErrorIs(t, err, ErrOptions, "tokens of an OPEN socket")

	opts := Options{
		ID: newID(), Protocol: UDP, Admission: ByToken, Restore: &good,
	}
	_, err = w.Open(opts)
	require.ErrorIs(t, err, ErrOptions)
	require.ErrorContains(t, err, "the id is "+opts.ID.String()+
		", and that to restore "+good.ID.String())
}
