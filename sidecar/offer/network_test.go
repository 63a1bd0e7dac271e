package offer

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// packet is a message on its way, or one that was sent.
type packet struct {
	at       time.Time
	from, to PubKey
	typ      wire.MsgType
	body     []byte
}

// msg returns the message in a packet.
func (p packet) msg(t *testing.T) wire.Message {
	t.Helper()

	msg, err := wire.Decode(p.typ, p.body)
	require.NoError(t, err)

	return msg
}

// fate is what the network does with a message.
type fate struct {
	// delays has an entry for every copy that arrives.
	delays []time.Duration

	// err is what the sender is told.
	err error
}

// network carries messages between nodes, as well or as badly as fate says.
type network struct {
	mu    sync.Mutex
	nodes map[PubKey]*node
	sent  []packet
	fate  func(packet) fate

	// hosts have the sockets that nodes host on requests.
	hosts map[PubKey]*testHost
}

// perfect makes the network deliver everything at once.
func (n *network) perfect() {
	n.setFate(func(packet) fate { return fate{delays: []time.Duration{0}} })
}

// dead makes the network lose everything.
func (n *network) dead() {
	n.setFate(func(packet) fate { return fate{} })
}

// failing makes the network refuse everything with an error.
func (n *network) failing(err error) {
	n.setFate(func(packet) fate { return fate{err: err} })
}

// setFate sets what the network does.
func (n *network) setFate(fate func(packet) fate) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.fate = fate
}

// Send implements Messenger.
func (n *node) Send(_ context.Context, peer PubKey, msgType uint16,
	body []byte) error {

	p := packet{
		at:   time.Now(),
		from: n.key,
		to:   peer,
		typ:  wire.MsgType(msgType),
		body: bytes.Clone(body),
	}

	n.net.mu.Lock()
	n.net.sent = append(n.net.sent, p)
	to, ok := n.net.nodes[peer]
	fated := n.net.fate
	n.net.mu.Unlock()

	if !ok {
		return fmt.Errorf("lnd: %w", ErrNotConnected)
	}

	f := fated(p)
	for _, delay := range f.delays {
		if delay == 0 {
			to.inbox <- p

			continue
		}
		time.AfterFunc(delay, func() { to.inbox <- p })
	}

	return f.err
}

// takeSent returns what a node sent since it was called last, once everything
// has come to rest.
func (w *world) takeSent(from PubKey) []packet {
	synctest.Wait()

	w.mu.Lock()
	defer w.mu.Unlock()

	var taken, left []packet
	for _, p := range w.sent {
		if p.from == from {
			taken = append(taken, p)
		} else {
			left = append(left, p)
		}
	}
	w.sent = left

	return taken
}

// typesOf returns the types of messages.
func typesOf(packets []packet) []wire.MsgType {
	var types []wire.MsgType
	for _, p := range packets {
		types = append(types, p.typ)
	}

	return types
}

// TestWorld checks that the network of these tests does what it is told.
func TestWorld(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		from, to := w.addStranger(alice), w.addStranger(bob)
		const second = time.Second
		w.setFate(func(p packet) fate {
			switch p.typ {
			case wire.TypeOffer:
				return fate{delays: []time.Duration{second, 0}}

			case wire.TypeAck:
				return fate{err: errLnd}

			default:
				return fate{}
			}
		})
		for _, typ := range []wire.MsgType{
			wire.TypeOffer, wire.TypeAck, wire.TypeClose,
		} {
			err := from.Send(
				t.Context(), bob, uint16(typ), []byte{1},
			)
			if typ == wire.TypeAck {
				require.ErrorIs(t, err, errLnd)
			} else {
				require.NoError(t, err)
			}
		}
		err := from.Send(t.Context(), carol, 0, nil)
		require.ErrorIs(t, err, ErrNotConnected)

		require.Len(t, to.inbox, 1)
		time.Sleep(second)
		synctest.Wait()
		require.Len(t, to.inbox, 2)
		require.Equal(t, []byte{1}, (<-to.inbox).body)
	})
}
