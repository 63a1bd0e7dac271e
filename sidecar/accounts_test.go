package sidecar

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// node returns the node that a socket is counted against, in hex; nothing if
// there is none.
func (s *testServer) node(id string) string {
	s.t.Helper()

	raw, err := parseID("socket_id", id)
	require.NoError(s.t, err)
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()

	node, ok := s.accounts.nodes[raw]
	if !ok {
		return ""
	}

	return node.String()
}

// awaitNode waits until a socket is counted against a node, or none. What is
// told of an offer is in the database a moment before.
func (s *testServer) awaitNode(id, want string) {
	s.t.Helper()

	require.Eventually(s.t, func() bool {
		return s.node(id) == want
	}, testTimeout, time.Millisecond, want)
}

// TestAccounts checks that a socket is counted against the node that it was
// offered to first until that offer ends, then against the next one.
func TestAccounts(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 3)
	a, b, c := servers[0], servers[1], servers[2]
	socket := a.start(
		&socketrpc.StartSocketRequest{Admission: "open"},
	).SocketId
	a.awaitNode(socket, "")

	toB := a.mustSend(b, socket)
	a.awaitNode(socket, b.key())
	toC := a.mustSend(c, socket)
	againToB, err := a.send(b, socket, 1)
	require.NoError(t, err)
	c.accept(toC)
	b.accept(toB)
	a.awaitNode(socket, b.key())

	// What is left of the offers to B is younger than C's.
	b.close(toB, a)
	a.awaitNode(socket, c.key())

	// The end of another one's offer changes nothing.
	b.reject(againToB, a)
	a.awaitNode(socket, c.key())

	c.close(toC, a)
	a.awaitNode(socket, "")
	a.mustSend(b, socket)
	a.awaitNode(socket, b.key())

	// With the socket goes what is known of it.
	a.stop(socket)
	a.awaitNode(socket, "")
}

// TestAccountsNotConnected checks that a socket is counted against a node that
// an offer of it waits for, until the offer ends.
func TestAccountsNotConnected(t *testing.T) {
	t.Parallel()

	a := newServers(t, 1)[0]
	socket := a.start(
		&socketrpc.StartSocketRequest{Admission: "open"},
	).SocketId
	sent, err := a.rpc.SendSocket(
		t.Context(), &socketrpc.SendSocketRequest{
			Pubkey: testKeys[1], SocketId: socket,
		},
	)
	require.NoError(t, err)
	require.Equal(t, testKeys[1], a.node(socket))

	_, err = a.rpc.WithdrawOffer(
		t.Context(), &socketrpc.WithdrawOfferRequest{Id: sent.Id},
	)
	require.NoError(t, err)
	require.Empty(t, a.node(socket))
}

// TestAccountsCharge checks that a socket that is counted is charged in the
// relay: what it passes is bounded by the bandwidth of its node.
func TestAccountsCharge(t *testing.T) {
	t.Parallel()

	options := testConfig(t, "--relay.maxconns=2").Relay
	cfg, err := options.relayConfig(nil, nil)
	require.NoError(t, err)
	cfg.AccountBandwidth = 1

	events := make(chan relay.Event, 100)
	r, err := relay.New(cfg, func(event relay.Event) {
		events <- event
	})
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-ended)
	}()

	servers := newServers(t, 2)
	a, peer := servers[0], servers[1].lnd.Node().PubKey
	accounts := newAccounts(r, a.offers, btclog.Disabled)

	socket, err := r.Open(relay.Options{Protocol: relay.UDP})
	require.NoError(t, err)
	_, err = a.offers.Send(ctx, offer.Proposal{
		Peer:      peer,
		SocketID:  offer.ID(socket.ID()),
		Protocol:  offer.UDP,
		Addrs:     a.rpc.sockets.addrs,
		Port1:     socket.Port(relay.Leg1),
		Port2:     socket.Port(relay.Leg2),
		Legs:      offer.Leg2,
		ExpiresAt: time.Now().Add(time.Hour),
	})
	require.NoError(t, err)
	accounts.update(ctx, socket.ID(), peer)
	require.Equal(t, map[relay.ID]offer.PubKey{
		socket.ID(): peer,
	}, accounts.nodes)

	// Of a byte per second not much passes at once.
	first := dialLeg(t, socket, relay.Leg1)
	require.IsType(t, relay.EventPinned{}, awaitEvent(t, events))
	dialLeg(t, socket, relay.Leg2)
	require.IsType(t, relay.EventPinned{}, awaitEvent(t, events))
	for range 10 {
		_, err := first.Write(make([]byte, 1000))
		require.NoError(t, err)
	}
	require.Equal(t, relay.EventLimit{
		SocketID: socket.ID(), Leg: relay.Leg1,
		Reason: relay.DropBandwidth,
	}, awaitEvent(t, events))

	// What comes late about a socket that has ended leaves nothing behind.
	require.NoError(t, socket.Close())
	accounts.forget(socket.ID())
	accounts.update(ctx, socket.ID(), peer)
	require.Empty(t, accounts.nodes)
}

// dialLeg returns a client of a leg, which has sent a datagram.
func dialLeg(t *testing.T, socket *relay.Socket, leg relay.Leg) net.Conn {
	t.Helper()

	conn, err := net.Dial("udp4", netip.AddrPortFrom(
		netip.MustParseAddr("127.0.0.1"), socket.Port(leg),
	).String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = conn.Write(nil)
	require.NoError(t, err)

	return conn
}

// awaitEvent waits for the next event of a relay.
func awaitEvent(t *testing.T, events <-chan relay.Event) relay.Event {
	t.Helper()

	select {
	case event := <-events:
		return event

	case <-time.After(testTimeout):
		require.FailNow(t, "no event")

		return nil
	}
}
