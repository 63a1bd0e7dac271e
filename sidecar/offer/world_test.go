package offer

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testKey returns a key that is easy to tell from others.
func testKey(b byte) PubKey {
	return PubKey(bytes.Repeat([]byte{b}, len(PubKey{})))
}

// testID returns an id that is easy to tell from others.
func testID(b byte) ID {
	return ID(bytes.Repeat([]byte{b}, wire.IDSize))
}

// The nodes of the tests. Alice hosts as a rule.
var (
	alice = testKey(0xa1)
	bob   = testKey(0xb0)
	carol = testKey(0xc2)
)

// testSocket is the socket that is offered unless a test says otherwise.
var testSocket = testID(0x50)

// node is a node with a manager, or without one if it is a stranger.
type node struct {
	*Manager

	key   PubKey
	net   *network
	store Store
	stop  func()

	// inbox has what arrived, in order, as a subscription to lnd's custom
	// messages would have it.
	inbox chan packet

	// doors are the legs of the node's sockets.
	doors *doors

	// host opens the node's sockets on requests.
	host *testHost

	mu     sync.Mutex
	events []Event

	// connects has when it was asked to connect to a peer, in order, and
	// reach is how that goes, if it is set.
	connects []connect
	reach    func(context.Context, PubKey) error

	// channels are the peers that it has channels with.
	channels map[PubKey]bool
}

// connect is an attempt to connect to a peer.
type connect struct {
	at   time.Time
	peer PubKey
}

// world is a network whose nodes run in the bubble of a test.
type world struct {
	*network

	// t is the test as it is inside the bubble.
	t *testing.T
}

// inWorld runs a test in a bubble, where time passes only while everything
// waits, with a network that loses nothing.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()

	synctest.Test(t, func(t *testing.T) {
		w := &world{
			network: &network{nodes: make(map[PubKey]*node)},
			t:       t,
		}
		w.perfect()
		test(w)
	})
}

// add starts a node with a manager and a store in memory.
func (w *world) add(key PubKey) *node {
	w.t.Helper()

	return w.addWith(key, DefaultLimits(), NewMemStore())
}

// addWith starts a node with a manager.
func (w *world) addWith(key PubKey, limits Limits, store Store) *node {
	w.t.Helper()

	return w.addBehind(key, limits, store, newDoors(w.t))
}

// addBehind starts a node with a manager whose sockets have these legs.
func (w *world) addBehind(key PubKey, limits Limits, store Store,
	doors *doors) *node {

	w.t.Helper()

	n := w.addStranger(key)
	n.store = store
	n.doors = doors
	n.host = w.hostOf(key)
	n.Manager = New(Config{
		Self:     key,
		Limits:   limits,
		Requests: testRequests(),
	}, Deps{
		Messenger: n,
		Connector: n,
		Channels:  n,
		Store:     store,
		Opener:    n.doors,
		Host:      n.host,
		Notify:    n.notified,
		Logger:    slog.New(slog.DiscardHandler),
	})

	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	running.Go(func() {
		for {
			select {
			case p := <-n.inbox:
				n.Receive(p.from, uint32(p.typ), p.body)

			case <-ctx.Done():
				return
			}
		}
	})
	n.stop = func() {
		cancel()
		running.Wait()
	}
	w.t.Cleanup(n.stop)

	return n
}

// addStranger adds a node that has no socketd. What it gets stays in its inbox.
func (w *world) addStranger(key PubKey) *node {
	w.t.Helper()

	n := &node{key: key, net: w.network, inbox: make(chan packet, 4096)}
	w.mu.Lock()
	w.nodes[key] = n
	w.mu.Unlock()

	return n
}

// Connect implements Connector. It fails unless the test says otherwise.
func (n *node) Connect(ctx context.Context, peer PubKey) error {
	n.mu.Lock()
	n.connects = append(n.connects, connect{time.Now(), peer})
	reach := n.reach
	n.mu.Unlock()

	if reach == nil {
		return errLnd
	}

	return reach(ctx, peer)
}

// HasChannel implements Channels.
func (n *node) HasChannel(peer PubKey) bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.channels[peer]
}

// takeConnects returns when a node was asked to connect to a peer since it was
// called last, once everything has come to rest.
func (n *node) takeConnects() []connect {
	synctest.Wait()

	n.mu.Lock()
	defer n.mu.Unlock()

	connects := n.connects
	n.connects = nil

	return connects
}

// notified takes events.
func (n *node) notified(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.events = append(n.events, e)
}

// takeEvents returns the events since it was called last, once everything has
// come to rest.
func (n *node) takeEvents() []Event {
	synctest.Wait()

	n.mu.Lock()
	defer n.mu.Unlock()

	events := n.events
	n.events = nil

	return events
}

// kindsOf returns the kinds of events.
func kindsOf(events []Event) []EventKind {
	var kinds []EventKind
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}

	return kinds
}

// inject has a node receive a message as if another one had sent it, and waits
// until everything has come to rest.
func (w *world) inject(to *node, from PubKey, msg wire.Message) {
	w.t.Helper()

	body, err := wire.Encode(msg)
	require.NoError(w.t, err)
	to.Receive(from, uint32(msg.Type()), body)
	synctest.Wait()
}

// tokenProposal returns a proposal of a TOKEN socket that is good for an hour.
func tokenProposal(peer PubKey) Proposal {
	p := proposal(peer)
	p.Admission = ByToken

	return p
}

// proposal returns a proposal to a peer that is good for an hour.
func proposal(peer PubKey) Proposal {
	return Proposal{
		Peer:      peer,
		SocketID:  testSocket,
		Protocol:  UDP,
		Addrs:     []netip.Addr{netip.MustParseAddr("203.0.113.7")},
		Port1:     21000,
		Port2:     21001,
		Legs:      Leg2,
		Label:     "test",
		ExpiresAt: time.Now().Add(time.Hour),
	}
}

// offerMsg returns the message of an offer that is good for an hour.
func offerMsg(id ID) *wire.Offer {
	return &wire.Offer{
		ID:       id,
		Protocol: UDP,
		Addrs:    []netip.Addr{netip.MustParseAddr("203.0.113.7")},
		Port1:    21000,
		Port2:    21001,
		Legs:     Leg2,
		Expiry:   uint64(time.Now().Add(time.Hour).Unix()),
		SocketID: testSocket,
	}
}

// sendOffer makes an offer, which must succeed, and returns it once everything
// has come to rest.
func (w *world) sendOffer(n *node, p Proposal) Offer {
	w.t.Helper()

	o, err := n.Manager.Send(w.t.Context(), p)
	require.NoError(w.t, err)

	return w.get(n, o.ID)
}

// get returns an offer that a node has.
func (w *world) get(n *node, id ID) Offer {
	w.t.Helper()
	synctest.Wait()

	offers, err := n.List(w.t.Context())
	require.NoError(w.t, err)
	i := slices.IndexFunc(offers, func(o Offer) bool { return o.ID == id })
	require.GreaterOrEqual(w.t, i, 0, "offer is not there")

	return offers[i]
}

// record returns the record of an offer that a node has, with its secrets.
func (w *world) record(n *node, id ID) Record {
	w.t.Helper()
	synctest.Wait()

	records, err := n.store.Find(w.t.Context(), id)
	require.NoError(w.t, err)
	require.Len(w.t, records, 1)

	return records[0]
}

// requireState requires that an offer is in a state.
func (w *world) requireState(n *node, id ID, state State) {
	w.t.Helper()
	require.Equal(w.t, state.String(), w.get(n, id).State.String())
}

// requireGranted requires that a node has opened the legs of its sockets to
// those whom its offers grant them, and to nobody else.
func (w *world) requireGranted(n *node) {
	w.t.Helper()
	synctest.Wait()

	records, err := n.store.List(w.t.Context())
	require.NoError(w.t, err)

	var want []door
	for _, r := range records {
		if r.Ended() {
			require.Zero(w.t, r.Tokens)
		}
		if !r.IsOwn() {
			continue
		}
		for i, token := range r.Tokens {
			if !token.IsZero() {
				want = append(want, door{
					r.SocketID, uint8(i + 1), token,
				})
			}
		}
	}
	require.ElementsMatch(w.t, want, n.doors.granted())
}

// requireNone requires that a node has no offers, and does nothing about any.
func (w *world) requireNone(n *node) {
	w.t.Helper()
	synctest.Wait()

	offers, err := n.List(w.t.Context())
	require.NoError(w.t, err)
	require.Empty(w.t, offers)
	msgs, err := n.store.Messages(w.t.Context())
	require.NoError(w.t, err)
	require.Empty(w.t, msgs)

	n.Manager.mu.Lock()
	defer n.Manager.mu.Unlock()

	require.Empty(w.t, n.outbox.byID)
	require.Empty(w.t, n.outbox.byOffer)
	require.Empty(w.t, n.outbox.byPeer)
	require.Empty(w.t, n.dials.peers)
	require.Empty(w.t, n.dials.ready)
	require.Zero(w.t, n.dials.inFlight)
	require.Empty(w.t, n.outbox.peers)
	require.Empty(w.t, n.outbox.ready)
	require.Zero(w.t, n.outbox.inFlight)
	require.Zero(w.t, n.outbox.replies)
	require.Empty(w.t, n.tally.peers)
	require.Empty(w.t, n.tally.live)
	require.Empty(w.t, n.tally.remote)
	require.Empty(w.t, n.tally.children)
	require.Zero(w.t, n.tally.hosted)
	require.Empty(w.t, n.hosting.jobs)
	require.Zero(w.t, n.hosting.busy)
	require.Empty(w.t, n.host.sockets())
	require.Zero(w.t, n.tally.pending)
	require.Zero(w.t, n.tally.records)
	require.Empty(w.t, n.timers.heap)
	require.Empty(w.t, n.timers.byKey)
	require.Empty(w.t, n.early)
	require.Empty(w.t, n.doors.granted())
}

// requireCounts requires that a node has counted these refusals, and no others.
func (w *world) requireCounts(n *node, counts map[string]uint64) {
	w.t.Helper()
	synctest.Wait()

	want := map[string]uint64{
		"malformed": 0, "oversized": 0, "version": 0, "unsolicited": 0,
		"duplicate": 0, "rate": 0, "limit": 0, "unsupported": 0,
		"policy": 0,
	}
	for name, count := range counts {
		require.Contains(w.t, want, name)
		want[name] = count
	}
	require.Equal(w.t, want, n.Counters())
}
