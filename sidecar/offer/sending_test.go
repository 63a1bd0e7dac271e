package offer

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// frozen is a messenger whose sends to some peers take until they are given up.
type frozen struct {
	Messenger

	mu    sync.Mutex
	peers map[PubKey]bool

	// now and most are how many sends there are, by peer and in all, and
	// how many there were at most.
	now, most map[PubKey]int
	all       int
	mostAll   int
}

// freeze makes the sends of a node to some peers block.
func (w *world) freeze(n *node, peers ...PubKey) *frozen {
	f := &frozen{
		Messenger: n,
		peers:     make(map[PubKey]bool),
		now:       make(map[PubKey]int),
		most:      make(map[PubKey]int),
	}
	for _, peer := range peers {
		f.peers[peer] = true
	}
	n.deps.Messenger = f

	return f
}

// Send implements Messenger.
func (f *frozen) Send(ctx context.Context, peer PubKey, msgType uint16,
	body []byte) error {

	f.mu.Lock()
	f.now[peer]++
	f.all++
	f.most[peer] = max(f.most[peer], f.now[peer])
	f.mostAll = max(f.mostAll, f.all)
	blocks := f.peers[peer]
	f.mu.Unlock()

	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.now[peer]--
		f.all--
	}()

	if blocks {
		<-ctx.Done()

		return ctx.Err()
	}

	return f.Messenger.Send(ctx, peer, msgType, body)
}

// TestFrozenPeer checks that a peer whose connection takes nothing delays no
// other, and itself not for ever.
func TestFrozenPeer(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		w.addStranger(carol)
		f := w.freeze(a, carol)

		// What waits for Carol is more than there are sends in flight.
		start := time.Now()
		for range 2 * maxInFlight {
			o := w.sendOffer(a, proposal(carol))
			require.Equal(t, StateQueued, o.State)
		}

		o := w.sendOffer(a, proposal(bob))
		w.requireState(a, o.ID, StatePending)
		w.requireState(b, o.ID, StatePending)
		require.Equal(t, start, time.Now())

		_, _, err := b.Accept(t.Context(), o.ID)
		require.NoError(t, err)
		w.requireState(a, o.ID, StateAccepted)

		f.mu.Lock()
		defer f.mu.Unlock()
		require.Equal(t, 1, f.most[carol])
	})
}

// TestManyFrozenPeers checks that there are so many sends at a time and no
// more, and that all get their turn.
func TestManyFrozenPeers(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		var peers []PubKey
		for i := range maxInFlight {
			peers = append(peers, testKey(byte(i)))
			w.addStranger(peers[i])
		}
		f := w.freeze(a, peers...)

		for _, peer := range peers {
			w.sendOffer(a, proposal(peer))
		}

		o := w.sendOffer(a, proposal(bob))
		require.Equal(t, StateQueued, o.State)
		time.Sleep(sendTimeout)
		w.requireState(a, o.ID, StatePending)
		w.requireState(b, o.ID, StatePending)

		f.mu.Lock()
		defer f.mu.Unlock()
		require.Equal(t, maxInFlight, f.mostAll)
	})
}

// TestOrder checks that what is sent to a peer is sent in order, and one after
// the other.
func TestOrder(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		f := w.freeze(a, bob)

		// An ack is on its way, and more wait behind it.
		var want []ID
		for i := range 10 {
			want = append(want, testID(byte(i+1)))
			w.inject(a, bob, &wire.Close{
				ID: want[i], ReplyTo: testID(0xff),
			})
		}
		require.Empty(t, w.takeSent(alice))

		f.mu.Lock()
		f.peers = nil
		f.mu.Unlock()
		time.Sleep(sendTimeout)

		var got []ID
		for _, p := range w.takeSent(alice) {
			got = append(got, p.msg(t).(*wire.Ack).ReplyTo)
		}
		require.Equal(t, want[1:], got)

		f.mu.Lock()
		defer f.mu.Unlock()
		require.Equal(t, 1, f.most[bob])
	})
}

// TestTooLateToSend checks that a message whose time runs out behind others is
// not sent.
func TestTooLateToSend(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		w.addStranger(bob)
		msg := Message{
			Peer:     bob,
			OfferID:  testID(1),
			ID:       testID(1),
			Type:     wire.TypeOffer,
			Body:     []byte{1},
			Deadline: time.Now(),
		}
		synctest.Wait()
		err := a.locked(func() error {
			a.outbox.add(&delivery{Message: msg})

			return a.write(t.Context(), Batch{Add: []Message{msg}})
		})
		require.NoError(t, err)
		require.Empty(t, w.takeSent(alice))
		w.requireNone(a)
	})
}

// TestStop checks that Run returns while a peer is frozen, and leaves nothing
// behind. What is asked for afterwards is refused.
func TestStop(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		w.addStranger(carol)
		f := w.freeze(a, bob)
		w.sendOffer(a, proposal(bob))
		w.sendOffer(a, proposal(bob))

		start := time.Now()
		a.stop()
		require.Equal(t, start, time.Now())
		f.mu.Lock()
		require.Zero(t, f.all)
		f.mu.Unlock()

		_, err := a.Manager.Send(t.Context(), proposal(carol))
		require.ErrorIs(t, err, ErrStopped)
		offers, err := a.List(t.Context())
		require.NoError(t, err)
		require.Len(t, offers, 2)

		// Receive does not block, whatever comes.
		for range maxInbound + 10 {
			a.Receive(bob, uint32(wire.TypeAck), nil)
		}
	})
}

// TestStopRecords checks that what was sent is recorded even if we stop
// meanwhile.
func TestStopRecords(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.addWith(alice, DefaultLimits(), newFailingStore())
		w.addStranger(bob)
		w.setFate(func(packet) fate {
			time.Sleep(time.Second)

			return fate{}
		})

		_, err := a.Manager.Send(t.Context(), proposal(bob))
		require.NoError(t, err)
		synctest.Wait()
		a.stop()

		offers, err := a.List(t.Context())
		require.NoError(t, err)
		require.Len(t, offers, 1)
		require.Equal(t, StateSent, offers[0].State)
	})
}

// TestNotSentAfterEnd checks that an offer which ends while it waits behind
// others is not sent when its turn comes.
func TestNotSentAfterEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, _ := w.add(alice), w.addStranger(bob)
		f := w.freeze(a, bob)
		w.inject(a, bob, &wire.Close{ID: testID(1), ReplyTo: testID(2)})

		o := w.sendOffer(a, proposal(bob))
		require.NoError(t, a.SocketClosed(t.Context(), testSocket, ""))
		w.requireState(a, o.ID, StateWithdrawn)

		f.mu.Lock()
		f.peers = nil
		f.mu.Unlock()
		time.Sleep(sendTimeout)
		require.Equal(
			t, []wire.MsgType{wire.TypeClose},
			typesOf(w.takeSent(alice)),
		)
	})
}
