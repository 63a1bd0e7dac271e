package offer

import (
	"bytes"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestToken is the main path of a TOKEN socket: the far end is granted its leg,
// gets the token of it when it accepts, and loses it at the end.
func TestToken(t *testing.T) {
	for legs, granted := range map[Legs][2]bool{
		Leg1: {true, false}, Leg2: {false, true},
		Leg1 | Leg2: {true, true},
	} {
		inWorld(t, func(w *world) {
			t := w.t
			a, b := w.add(alice), w.add(bob)
			p := tokenProposal(bob)
			p.Legs = legs
			o := w.sendOffer(a, p)
			require.Equal(t, ByToken, o.Admission)

			// What is granted is what Bob gets.
			sent := w.takeSent(alice)[0].msg(t).(*wire.Offer)
			require.Equal(t, wire.AdmissionToken, sent.Admission)
			for i, is := range granted {
				require.Equal(t, is, !sent.Tokens[i].IsZero())
			}
			require.NotEqual(t, sent.Tokens[0], sent.Tokens[1])
			w.requireGranted(a)
			require.Equal(
				t, sent.Tokens, w.record(a, o.ID).Tokens,
			)
			require.Equal(
				t, ByToken, w.get(b, o.ID).Admission,
			)

			for range 2 {
				accepted, tokens, err := b.Accept(
					t.Context(), o.ID,
				)
				require.NoError(t, err)
				require.Equal(t, ByToken, accepted.Admission)
				require.Equal(t, sent.Tokens, tokens)
			}
			w.requireState(a, o.ID, StateAccepted)
			w.requireGranted(a)
			require.NotEmpty(t, a.doors.granted())

			// They are not Bob's to open or close.
			require.Empty(t, b.doors.granted())

			err := a.SocketClosed(t.Context(), testSocket, "")
			require.NoError(t, err)
			require.Empty(t, a.doors.granted())
			for _, n := range []*node{a, b} {
				w.requireState(n, o.ID, StateClosed)
				require.Zero(t, w.record(n, o.ID).Tokens)
			}
			_, tokens, err := b.Accept(t.Context(), o.ID)
			require.ErrorIs(t, err, ErrState)
			require.Zero(t, tokens)

			time.Sleep(2 * time.Hour)
			w.requireNone(a)
			w.requireNone(b)
		})
	}
}

// TestOpenHasNoToken checks that nothing is granted for an OPEN socket.
func TestOpenHasNoToken(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		a.doors.setStuck(1, 2)
		o := w.sendOffer(a, proposal(bob))
		_, tokens, err := b.Accept(t.Context(), o.ID)
		require.NoError(t, err)
		require.Zero(t, tokens)
		require.Zero(t, w.record(a, o.ID).Tokens)
		require.Empty(t, a.doors.granted())
	})
}

// TestUsedByToken checks that a client that was admitted by the token counts as
// the acceptance.
func TestUsedByToken(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		o := w.sendOffer(a, tokenProposal(bob))
		token := w.record(a, o.ID).Tokens[1]

		// Nothing but this token on this leg counts.
		for leg, other := range map[uint8]Token{
			1: token, 2: {1},
		} {
			err := a.TokenUsed(t.Context(), testSocket, leg, other)
			require.NoError(t, err)
		}
		err := a.TokenUsed(t.Context(), testID(1), 2, token)
		require.NoError(t, err)
		err = a.TokenUsed(t.Context(), testSocket, 1, Token{})
		require.NoError(t, err)
		require.NoError(t, a.LegUsed(t.Context(), testSocket, 2))
		w.requireState(a, o.ID, StateSent)
		require.ErrorIs(
			t, a.TokenUsed(t.Context(), testSocket, 3, token),
			ErrInvalid,
		)

		err = a.TokenUsed(t.Context(), testSocket, 2, token)
		require.NoError(t, err)
		w.requireState(a, o.ID, StateAccepted)
		w.requireGranted(a)
		require.NotEmpty(t, a.doors.granted())
	})
}

// useToken tells that a client with the token of an offer of leg 2 came.
func (w *world) useToken(a *node, o Offer) {
	w.t.Helper()

	err := a.TokenUsed(
		w.t.Context(), o.SocketID, 2, w.record(a, o.ID).Tokens[1],
	)
	require.NoError(w.t, err)
}

// TestUsedLate checks that a use that is told when its offer has ended is not
// taken for that of the next.
func TestUsedLate(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		first := w.sendOffer(a, tokenProposal(bob))
		token := w.record(a, first.ID).Tokens[1]
		w.inject(a, bob, &wire.Close{ID: newID(), ReplyTo: first.ID})
		next := w.sendOffer(a, tokenProposal(bob))

		err := a.TokenUsed(t.Context(), testSocket, 2, token)
		require.NoError(t, err)
		w.requireState(a, next.ID, StateSent)
		w.useToken(a, next)
		w.requireState(a, next.ID, StateAccepted)
	})
}

// TestRevoked checks that every way in which an offer ends closes the leg, and
// that the next offer of the leg has another token.
func TestRevoked(t *testing.T) {
	reject := func(code wire.RejectCode) func(*world, *node, Offer) {
		return func(w *world, a *node, o Offer) {
			w.inject(a, bob, &wire.Reject{
				ID: newID(), ReplyTo: o.ID, Code: code,
			})
		}
	}
	ends := map[string]func(*world, *node, Offer){
		"declined": reject(wire.CodeDeclined),
		"refused":  reject(wire.CodeUnsupported),
		"closed by the far end": func(w *world, a *node, o Offer) {
			w.inject(a, bob, &wire.Close{
				ID: newID(), ReplyTo: o.ID,
			})
		},
		"used and declined": func(w *world, a *node, o Offer) {
			w.useToken(a, o)
			reject(wire.CodeDeclined)(w, a, o)
		},
		"withdrawn": func(w *world, a *node, _ Offer) {
			err := a.SocketClosed(w.t.Context(), testSocket, "")
			require.NoError(w.t, err)
		},
		"accepted and closed": func(w *world, a *node, o Offer) {
			w.inject(a, bob, &wire.Accept{
				ID: newID(), ReplyTo: o.ID,
			})
			err := a.SocketClosed(w.t.Context(), testSocket, "")
			require.NoError(w.t, err)
		},
		"expired": func(_ *world, _ *node, o Offer) {
			time.Sleep(time.Until(o.ExpiresAt))
		},
		"gave way": func(w *world, a *node, o Offer) {
			w.inject(a, bob, &wire.Accept{
				ID: newID(), ReplyTo: o.ID,
			})
			time.Sleep(2 * time.Hour)
			require.NotEmpty(w.t, a.doors.granted())
			p := proposal(bob)
			p.SocketID = testID(0x51)
			w.sendOffer(a, p)
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				a := w.addWith(alice, limitsWith(
					func(l *Limits) { l.Records = 1 },
				), NewMemStore())
				w.addStranger(bob)
				o := w.sendOffer(a, tokenProposal(bob))
				first := a.doors.granted()
				require.Len(t, first, 1)

				end(w, a, o)
				synctest.Wait()
				require.Empty(t, a.doors.granted())
				w.requireGranted(a)

				// What has ended must be forgotten first.
				time.Sleep(3 * time.Hour)
				w.requireNone(a)
				w.sendOffer(a, tokenProposal(bob))
				require.Len(t, a.doors.granted(), 1)
				require.NotEqual(t, first, a.doors.granted())
			})
		})
	}
}

// holdsToken tells whether a value of a type can hold a token.
func holdsToken(typ reflect.Type) bool {
	switch typ {
	case reflect.TypeFor[Token]():
		return true

	case reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr]():
		return false
	}

	switch typ.Kind() {
	case reflect.Struct:
		for i := range typ.NumField() {
			if holdsToken(typ.Field(i).Type) {
				return true
			}
		}

		return false

	case reflect.Array, reflect.Slice, reflect.Map, reflect.Pointer,
		reflect.Chan:

		return holdsToken(typ.Elem())

	// Who knows what they hold.
	case reflect.Interface, reflect.Func, reflect.UnsafePointer:
		return true

	default:
		return false
	}
}

// TestTokensAreNotTold checks that tokens are in no event, in no list and in no
// log, whatever happens: only Accept tells them.
func TestTokensAreNotTold(t *testing.T) {
	require.True(t, holdsToken(reflect.TypeFor[[]Record]()))
	require.False(t, holdsToken(reflect.TypeFor[Event]()))
	require.False(t, holdsToken(reflect.TypeFor[Offer]()))

	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{
		Level: slog.LevelDebug,
	}))
	var token Token
	inWorld(t, func(w *world) {
		a, b := w.add(alice), w.add(bob)
		a.deps.Logger, b.deps.Logger = logger, logger
		w.failing(errLnd)
		o := w.sendOffer(a, tokenProposal(bob))
		token = w.record(a, o.ID).Tokens[1]
		body := w.takeSent(alice)[0].body

		// It is refused and taken in, in whole and in part.
		b.Receive(alice, uint32(wire.TypeOffer), body[:len(body)-1])
		b.Receive(alice, uint32(wire.TypeClose), body)
		b.Receive(carol, uint32(wire.TypeOffer), body)
		b.Receive(alice, uint32(wire.TypeOffer), body)
		synctest.Wait()
		a.stop()
		b.stop()
	})
	require.Contains(t, log.String(), "level=DEBUG")
	require.False(t, token.IsZero())
	for _, secret := range []string{
		token.Hex(), string(token[:]), slog.AnyValue([16]byte(token)).
			String(),
	} {
		require.NotContains(t, log.String(), secret)
	}
}
