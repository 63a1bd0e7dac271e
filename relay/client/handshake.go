package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

const (
	// firstWait is how long an answer may take before a message is sent
	// again. The wait doubles each time, up to maxWait.
	firstWait = 250 * time.Millisecond
	maxWait   = 2 * time.Second

	// bindTries is how often a bind is sent before another hello: the
	// challenge may have been the one of a relay that has been restarted.
	bindTries = 4
)

// errSilent means that nothing came in time.
var errSilent = errors.New("no answer")

// handshake is one handshake with the relay, without what carries its messages.
// It must not be used by two goroutines at once.
type handshake struct {
	key *bind.Key

	// sent is the message that is to be sent now, and raw its encoding.
	sent bind.Message
	raw  [bind.Size]byte
}

// newHandshake begins a handshake.
func newHandshake(leg bind.Leg, token bind.Token) *handshake {
	h := &handshake{key: bind.NewKey(leg, token)}
	h.hello()

	return h
}

// hello begins anew, with a fresh nonce.
func (h *handshake) hello() {
	m := bind.Message{Type: bind.Hello}

	// It never fails: the runtime ends the process instead.
	_, _ = rand.Read(m.Nonce[:])

	h.say(m)
}

// say makes a message the one to be sent.
func (h *handshake) say(m bind.Message) {
	h.sent = m
	m.Append(h.raw[:0], h.key)
}

// take takes an authentic message of the relay, and reports whether the
// handshake got on by it: from hello to bind, or from bind to its end. What
// belongs to another handshake, or was taken already, changes nothing.
func (h *handshake) take(m bind.Message) bool {
	if m.Nonce != h.sent.Nonce {
		return false
	}

	switch {
	case h.sent.Type == bind.Hello && m.Type == bind.Challenge:
		m.Type = bind.Bind
		h.say(m)

		return true

	case h.sent.Type == bind.Bind && m.Type == bind.Bound:
		return m.Addr == h.sent.Addr && m.Cookie == h.sent.Cookie

	default:
		return false
	}
}

// observed returns the address that the relay sees this program at. It is known
// from the challenge on.
func (h *handshake) observed() netip.AddrPort {
	return h.sent.Addr
}

// authentic reads what may be a message of the handshake. It reports false if
// it is none: payload, whatever it looks like. An authentic message of a type
// that this version does not know is the zero message.
func authentic(key *bind.Key, b []byte) (bind.Message, bool) {
	if !bind.IsMessage(b) || !key.Verify(b) {
		return bind.Message{}, false
	}

	m, err := bind.Decode(b)
	if err != nil {
		return bind.Message{}, true
	}

	return m, true
}

// carrier carries datagrams to the relay and back.
type carrier interface {
	// send sends a message. Whether it arrives is another matter.
	send(message []byte) error

	// receive waits for the next authentic message. It fails with errSilent
	// when the time is over, and with what ended the context.
	receive(ctx context.Context, until time.Time) (bind.Message, error)
}

// ask sends the handshake's message, again and again, until the answer has
// come. With tries it is sent so often, and then fails with errSilent; 0 means
// until the context ends.
func (h *handshake) ask(ctx context.Context, c carrier, tries int) error {
	wait := firstWait
	for try := 1; ; try++ {
		if err := c.send(h.raw[:]); err != nil {
			return err
		}

		err := h.await(ctx, c, time.Now().Add(wait))
		if !errors.Is(err, errSilent) || try == tries {
			return err
		}

		wait = min(2*wait, maxWait)
	}
}

// await waits for the answer.
func (h *handshake) await(ctx context.Context, c carrier,
	until time.Time) error {

	for {
		m, err := c.receive(ctx, until)
		if err != nil {
			return err
		}

		if h.take(m) {
			return nil
		}
	}
}

// finish takes a handshake whose challenge has come to its end, with further
// hellos if the relay does not answer the bind.
func (h *handshake) finish(ctx context.Context, c carrier) error {
	for {
		err := h.ask(ctx, c, bindTries)
		if !errors.Is(err, errSilent) {
			return err
		}

		h.hello()
		if err := h.ask(ctx, c, 0); err != nil {
			return err
		}
	}
}

// ended returns the error of a handshake whose context has ended. If it ran out
// of time, nobody who could answer did.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no answer: %w", ErrUnbound, cause)
	}

	return cause
}
