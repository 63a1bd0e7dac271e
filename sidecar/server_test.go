package sidecar

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// testTimeout bounds every wait of a test.
const testTimeout = 30 * time.Second

// testPeers carries the messages between the servers of a test, in memory:
// every server is a peer of every other.
type testPeers struct {
	mu      sync.Mutex
	servers map[offer.PubKey]*Server
}

// testLnd is one server's way to the others. What has to do with macaroons is
// not there: tests of the handlers call them without.
type testLnd struct {
	Lnd

	node  NodeInfo
	peers *testPeers

	// channels are the nodes that there are channels with.
	channels []offer.PubKey
}

// Node describes the node.
func (l *testLnd) Node() NodeInfo {
	return l.node
}

// Send sends a message to a peer.
func (l *testLnd) Send(_ context.Context, peer offer.PubKey, msgType uint16,
	body []byte) error {

	l.peers.mu.Lock()
	server := l.peers.servers[peer]
	l.peers.mu.Unlock()

	if server == nil {
		return offer.ErrNotConnected
	}
	server.offers.Receive(l.node.PubKey, uint32(msgType), body)

	return nil
}

// Connect does not connect: every server is a peer already, or does not run.
func (l *testLnd) Connect(context.Context, offer.PubKey) error {
	return offer.ErrNotConnected
}

// ChannelPeers returns the nodes that there are channels with.
func (l *testLnd) ChannelPeers(context.Context) ([]offer.PubKey, error) {
	return l.channels, nil
}

// Alias returns that no node has told its alias.
func (l *testLnd) Alias(context.Context, offer.PubKey) (string, error) {
	return "", nil
}

// testKeys are the public keys of the nodes of a test, points on the curve:
// those of the private keys 1, 2 and 3.
var testKeys = []string{
	"0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
	"02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
	"02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
}

// testServer is a server whose parts run, all but its listeners.
type testServer struct {
	*Server
	t     testing.TB
	cfg   *Config
	peers *testPeers
	self  offer.PubKey

	// db is the database, and stopParts ends all that runs on it.
	db        *store.DB
	stopParts func() error
}

// newServers starts servers that are peers of each other, with options of
// their own. They stop when the test ends.
func newServers(tb testing.TB, n int, args ...string) []*testServer {
	tb.Helper()

	// What is left open is filled in by whoever looks at the machine.
	args = append([]string{"--relay.maxconns=100"}, args...)
	peers := &testPeers{servers: make(map[offer.PubKey]*Server)}
	servers := make([]*testServer, n)
	for i := range servers {
		key, err := parsePubKey(testKeys[i], offer.PubKey{})
		require.NoError(tb, err)

		s := &testServer{
			t: tb, cfg: testConfig(tb, args...), peers: peers,
			self: key,
		}
		servers[i] = s
		s.begin()
		tb.Cleanup(func() {
			if s.stopParts != nil {
				s.end()
			}
		})
	}

	return servers
}

// begin opens the database and runs what is behind the handlers, until the
// sockets are as they were.
func (s *testServer) begin() {
	s.t.Helper()

	s.launch()
	select {
	case <-s.keeper.restored:
	case <-time.After(testTimeout):
		require.Fail(s.t, "sockets were not restored")
	}
}

// launch opens the database and runs what is behind the handlers.
func (s *testServer) launch() {
	s.t.Helper()

	var err error
	quiet := slog.New(slog.DiscardHandler)
	s.db, err = store.Open(
		s.t.Context(), store.Config{Path: s.cfg.databasePath()}, quiet,
	)
	require.NoError(s.t, err)

	lnd := &testLnd{node: NodeInfo{PubKey: s.self}, peers: s.peers}
	s.Server, err = NewServer(
		s.cfg, lnd, s.db, &Loggers{
			Daemon: btclog.Disabled, RPC: quiet, Relay: quiet,
			Offer: quiet, Store: quiet,
		}, &notices{log: btclog.Disabled},
	)
	require.NoError(s.t, err)

	s.peers.mu.Lock()
	s.peers.servers[s.self] = s.Server
	s.peers.mu.Unlock()

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	parts := s.core()
	go func() { ended <- runGroup(ctx, parts...) }()
	s.stopParts = func() error {
		cancel()

		return <-ended
	}
}

// end stops what runs, and closes the database.
func (s *testServer) end() {
	s.t.Helper()

	s.peers.mu.Lock()
	delete(s.peers.servers, s.self)
	s.peers.mu.Unlock()

	stop := s.stopParts
	s.stopParts = nil
	require.NoError(s.t, stop())
	require.NoError(s.t, s.db.Close())
}

// restart stops the server and starts another one on the same database.
func (s *testServer) restart() {
	s.t.Helper()
	s.end()
	s.begin()
}

// key is the public key of the server's node, in hex.
func (s *testServer) key() string {
	return s.lnd.Node().PubKey.String()
}

// start starts a socket.
func (s *testServer) start(
	req *socketrpc.StartSocketRequest) *socketrpc.StartSocketResponse {

	s.t.Helper()

	resp, err := s.rpc.StartSocket(s.t.Context(), req)
	require.NoError(s.t, err)

	return resp
}

// info returns what the server says of an open socket.
func (s *testServer) info(id string) *socketrpc.SocketInfo {
	s.t.Helper()

	list, err := s.rpc.ListSockets(
		s.t.Context(), &socketrpc.ListSocketsRequest{},
	)
	require.NoError(s.t, err)
	for _, info := range list.Sockets {
		if info.SocketId == id {
			return info
		}
	}
	require.Fail(s.t, "no such socket", id)

	return nil
}

// stop stops a socket.
func (s *testServer) stop(id string) {
	s.t.Helper()

	_, err := s.rpc.StopSocket(
		s.t.Context(), &socketrpc.StopSocketRequest{SocketId: id},
	)
	require.NoError(s.t, err)
}

// send offers a socket to another node.
func (s *testServer) send(to *testServer, socketID string,
	leg uint32) (string, error) {

	s.t.Helper()

	resp, err := s.rpc.SendSocket(
		s.t.Context(), &socketrpc.SendSocketRequest{
			Pubkey: to.key(), SocketId: socketID, Leg: leg,
		},
	)

	return resp.GetId(), err
}

// mustSend offers leg 2 of a socket to another node and waits until it has the
// offer.
func (s *testServer) mustSend(to *testServer, socketID string) string {
	s.t.Helper()

	after := to.hub.cursor()
	id, err := s.send(to, socketID, 0)
	require.NoError(s.t, err)
	to.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_RECEIVED && e.Id == id
	})

	return id
}

// accept accepts an offer.
func (s *testServer) accept(id string) *socketrpc.AcceptOfferResponse {
	s.t.Helper()

	resp, err := s.rpc.AcceptOffer(
		s.t.Context(), &socketrpc.AcceptOfferRequest{Id: id},
	)
	require.NoError(s.t, err)

	return resp
}

// reject turns an offer down, and waits until its sender knows.
func (s *testServer) reject(id string, from *testServer) {
	s.t.Helper()

	after := from.hub.cursor()
	_, err := s.rpc.RejectOffer(
		s.t.Context(), &socketrpc.RejectOfferRequest{Id: id},
	)
	require.NoError(s.t, err)
	from.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_REJECTED &&
			e.ReplyToId == id
	})
}

// close ends an offer of another node, as a far end may that wants no more of
// it, and waits until its sender knows. The API has no method for it.
func (s *testServer) close(id string, from *testServer) {
	s.t.Helper()

	raw, err := parseID("id", id)
	require.NoError(s.t, err)
	body, err := wire.Encode(&wire.Close{ID: wire.ID{9}, ReplyTo: raw})
	require.NoError(s.t, err)

	after := from.hub.cursor()
	from.offers.Receive(
		s.lnd.Node().PubKey, uint32(wire.TypeClose), body,
	)
	from.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_CLOSED &&
			e.ReplyToId == id
	})
}

// await waits for the first event after a cursor that fits, and returns it.
func (s *testServer) await(after uint64,
	fits func(*socketrpc.Event) bool) *socketrpc.Event {

	s.t.Helper()

	timeout := time.After(testTimeout)
	for {
		events, changed, err := s.hub.next(s.t.Context(), after)
		require.NoError(s.t, err)
		if len(events) == 0 {
			select {
			case <-changed:
				continue

			case <-timeout:
				require.Fail(s.t, "no such event")
			}
		}
		for _, event := range events {
			if fits(event) {
				return event
			}
			after = event.Cursor
		}
	}
}

// events returns all events that are there.
func (s *testServer) events() []*socketrpc.Event {
	s.t.Helper()

	var (
		all   []*socketrpc.Event
		after uint64
	)
	for {
		events, _, err := s.hub.next(s.t.Context(), after)
		require.NoError(s.t, err)
		if len(events) == 0 {
			return all
		}
		all = append(all, events...)
		after = events[len(events)-1].Cursor
	}
}

// socket returns an open socket of the server's relay.
func (s *testServer) socket(id string) *relay.Socket {
	s.t.Helper()

	raw, err := parseID("socket_id", id)
	require.NoError(s.t, err)
	socket, ok := s.relay.Socket(raw)
	require.True(s.t, ok)

	return socket
}

// requireStatus checks the code of an error, and that its text names
// something.
func requireStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()

	require.Equal(t, code, status.Code(err), "%v", err)
	require.ErrorContains(t, err, text)
}
