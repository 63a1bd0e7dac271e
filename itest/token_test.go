//go:build itest

package itest

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/relay/client"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

// protocols are the protocols of sockets, by the number that a bind has.
var protocols = map[uint8]string{1: "udp", 2: "tcp"}

// bindConfig says how to bind to a leg of a socket.
func bindConfig(t *testing.T, socketID, protocol string, leg uint8,
	port, token string) client.Config {

	t.Helper()

	id, err := hex.DecodeString(socketID)
	require.NoError(t, err)
	secret, err := bind.ParseToken(token)
	require.NoError(t, err)
	num, err := strconv.ParseUint(port, 10, 16)
	require.NoError(t, err)

	cfg := client.Config{
		Addrs: []netip.AddrPort{netip.AddrPortFrom(
			netip.MustParseAddr("127.0.0.1"), uint16(num),
		)},
		Leg:   bind.Leg{SocketID: [32]byte(id), Num: leg},
		Token: secret,
	}
	for num, name := range protocols {
		if name == protocol {
			cfg.Leg.Protocol = num
		}
	}

	return cfg
}

// bindLeg returns a client that is bound to a leg of a socket.
func bindLeg(t *testing.T, socketID, protocol string, leg uint8,
	port, token string) net.Conn {

	t.Helper()

	var (
		cfg  = bindConfig(t, socketID, protocol, leg, port, token)
		conn net.Conn
		err  error
	)
	if protocol == "udp" {
		conn, err = client.DialUDP(testContext(t), cfg)
	} else {
		conn, err = client.DialTCP(testContext(t), cfg)
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))

	return conn
}

// requireUnbound checks that a token does not let anybody into a leg.
func requireUnbound(t *testing.T, socketID, protocol string, leg uint8,
	port, token string) {

	t.Helper()

	cfg := bindConfig(t, socketID, protocol, leg, port, token)
	if protocol == "tcp" {
		_, err := client.DialTCP(testContext(t), cfg)
		require.ErrorIs(t, err, client.ErrUnbound)

		return
	}

	// The relay answers nobody without a token: that takes a while.
	ctx, cancel := context.WithTimeout(testContext(t), time.Second)
	defer cancel()
	_, err := client.DialUDP(ctx, cfg)
	require.ErrorIs(t, err, client.ErrUnbound)
}

// pass checks that what one client sends comes out at the other.
func pass(t *testing.T, from, to net.Conn, text string) {
	t.Helper()

	_, err := from.Write([]byte(text))
	require.NoError(t, err)
	buf := make([]byte, len(text))
	_, err = io.ReadFull(to, buf)
	require.NoError(t, err)
	require.Equal(t, text, string(buf))
}

// acceptOffer accepts an offer.
func (n *node) acceptOffer(t *testing.T,
	id string) *socketrpc.AcceptOfferResponse {

	t.Helper()

	resp, err := n.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
	)
	require.NoError(t, err)

	return resp
}

// closeOffer ends an offer of another node as a far end may that wants no more
// of it. socketd has no method for it, so that the message comes from lnd.
func (n *node) closeOffer(t *testing.T, of *node, id string) {
	t.Helper()

	raw, err := hex.DecodeString(id)
	require.NoError(t, err)
	body, err := wire.Encode(&wire.Close{
		ID: wire.ID{1}, ReplyTo: wire.ID(raw),
	})
	require.NoError(t, err)
	n.sendCustom(t, of, uint32(wire.TypeClose), body)
}

// TestTokenGrant goes the way of a TOKEN leg: it is granted to B, whose client
// is let in by the token of the offer and no other, then B's offer ends, its
// client is out, and C gets the leg.
func TestTokenGrant(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			testTokenGrant(t, protocol)
		})
	}
}

// testTokenGrant is TestTokenGrant with one protocol.
func testTokenGrant(t *testing.T, protocol string) {
	t.Helper()

	a, b, c := shared.a, shared.b, shared.c
	socket := a.start(t, &socketrpc.StartSocketRequest{Protocol: protocol})
	require.Equal(t, "token", socket.Admission)
	onA, onB, onC := a.subscribe(t), b.subscribe(t), c.subscribe(t)

	id := a.send(t, b, socket.SocketId)
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)

	// The leg is B's, whoever else asks, connected or not.
	for _, other := range []string{
		c.pubkey(), "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28" +
			"d959f2815b16f81798",
	} {
		_, err := a.client.SendSocket(
			testContext(t), &socketrpc.SendSocketRequest{
				Pubkey: other, SocketId: socket.SocketId,
			},
		)
		requireCode(t, err, codes.FailedPrecondition, b.pubkey())
	}
	require.Equal(t, id, a.send(t, b, socket.SocketId))

	// A's program holds A's own token, B's the one of the offer. Each is
	// for its leg only.
	token := b.acceptOffer(t, id).Token2
	one := bindLeg(
		t, socket.SocketId, protocol, 1, socket.Port1, socket.Token1,
	)
	requireUnbound(
		t, socket.SocketId, protocol, 2, socket.Port2, socket.Token1,
	)
	two := bindLeg(t, socket.SocketId, protocol, 2, socket.Port2, token)
	pass(t, one, two, "to B")
	pass(t, two, one, "to A")
	require.NotZero(t, a.socketInfo(
		t, socket.SocketId,
	).Leg2.Drops["bad_bind"])

	// With the offer goes its token, and whoever was let in by it.
	b.closeOffer(t, a, id)
	require.Equal(t, id, onA.next(
		t, socketrpc.Event_OFFER_CLOSED,
	).ReplyToId)
	if protocol == "tcp" {
		requireReset(t, two)
		one = bindLeg(
			t, socket.SocketId, protocol, 1, socket.Port1,
			socket.Token1,
		)
	}
	require.Empty(t, a.socketInfo(t, socket.SocketId).Leg2.ClientAddr)
	requireUnbound(t, socket.SocketId, protocol, 2, socket.Port2, token)

	// C gets a token of its own.
	toC := a.send(t, c, socket.SocketId)
	onC.next(t, socketrpc.Event_OFFER_RECEIVED)
	forC := c.acceptOffer(t, toC).Token2
	require.NotEqual(t, token, forC)
	three := bindLeg(t, socket.SocketId, protocol, 2, socket.Port2, forC)
	pass(t, three, one, "from C")
}
