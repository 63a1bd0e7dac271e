//go:build itest

package itest

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

// TestOfferWaitsForPeer offers a socket to a node that is no peer: the offer
// waits, its leg is granted to nobody else meanwhile, and it is delivered when
// the node connects.
func TestOfferWaitsForPeer(t *testing.T) {
	a, b := startNode(t), startNode(t)
	socket := a.start(t, &socketrpc.StartSocketRequest{
		Admission: "token",
	}).SocketId
	onA, onB := a.subscribe(t), b.subscribe(t)

	id := a.send(t, b, socket)
	offer := a.offer(t, id)
	require.Equal(t, socketrpc.Offer_QUEUED, offer.State)
	require.Empty(t, offer.PeerAlias)
	require.Equal(t, id, a.send(t, b, socket))
	_, err := a.client.SendSocket(
		testContext(t), &socketrpc.SendSocketRequest{
			Pubkey: shared.c.pubkey(), SocketId: socket,
		},
	)
	requireCode(t, err, codes.FailedPrecondition, b.pubkey())

	// lnd has said that there is no such peer.
	require.Eventually(t, func() bool {
		next := a.offer(t, id).Next

		return next == "waits for the peer to connect, expires in "+
			"60 min"
	}, testTimeout, 50*time.Millisecond)

	// By now it would be sent again half a minute later.
	require.NoError(t, b.Lnd.ConnectPeer(testContext(t), a.Lnd))
	start := time.Now()
	require.Equal(t, id, onB.next(t, socketrpc.Event_OFFER_RECEIVED).Id)
	require.Equal(t, id, onA.next(
		t, socketrpc.Event_OFFER_DELIVERED,
	).ReplyToId)
	t.Logf("delivered %v after the connection", time.Since(start))

	offer = a.offer(t, id)
	require.Equal(t, socketrpc.Offer_PENDING, offer.State)
	require.Contains(t, offer.Next, "waits for the other node's decision")
	require.Contains(t, b.offer(t, id).Next, "waits for your decision")
}

// TestOfferToNobodyExpires checks that an offer to a key that no node has waits
// and expires.
func TestOfferToNobodyExpires(t *testing.T) {
	a := shared.a
	socket := a.startSocket(t, "")
	onA := a.subscribe(t)
	resp, err := a.client.SendSocket(
		testContext(t), &socketrpc.SendSocketRequest{
			Pubkey: "0279be667ef9dcbbac55a06295ce870b07029bfcdb2d" +
				"ce28d959f2815b16f81798",
			SocketId: socket.SocketId,
			Expiry:   time.Now().Add(3 * time.Second).Unix(),
		},
	)
	require.NoError(t, err)
	require.Equal(t, socketrpc.Offer_QUEUED, a.offer(t, resp.Id).State)
	require.Equal(t, resp.Id, onA.next(
		t, socketrpc.Event_OFFER_EXPIRED,
	).ReplyToId)
	offer := a.offer(t, resp.Id)
	require.Equal(t, socketrpc.Offer_EXPIRED, offer.State)
	require.Empty(t, offer.Next)
}

// TestWithdraw ends an offer from either side, before and after its acceptance.
func TestWithdraw(t *testing.T) {
	a, b := shared.a, shared.b
	socket := a.start(t, &socketrpc.StartSocketRequest{
		Admission: "token",
	}).SocketId
	onA, onB := a.subscribe(t), b.subscribe(t)
	withdraw := func(n *node, id string) (*socketrpc.Offer, error) {
		resp, err := n.client.WithdrawOffer(
			testContext(t), &socketrpc.WithdrawOfferRequest{
				Id: id, Reason: "changed my mind",
			},
		)

		return resp.GetOffer(), err
	}

	id := a.send(t, b, socket)
	onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	_, err := withdraw(b, id)
	requireCode(t, err, codes.FailedPrecondition, "PENDING")
	offer, err := withdraw(a, id)
	require.NoError(t, err)
	require.Equal(t, socketrpc.Offer_WITHDRAWN, offer.State)
	require.Equal(t, "changed my mind", onB.next(
		t, socketrpc.Event_OFFER_CLOSED,
	).Reason)
	require.Equal(t, socketrpc.Offer_WITHDRAWN, b.offer(t, id).State)
	offer, err = withdraw(a, id)
	require.NoError(t, err)
	require.Equal(t, socketrpc.Offer_WITHDRAWN, offer.State)

	// The socket lives on, and its leg is free.
	for _, ends := range []*node{a, b} {
		id = a.send(t, b, socket)
		_ = onB.next(t, socketrpc.Event_OFFER_RECEIVED)
		accepted, err := b.client.AcceptOffer(
			testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
		)
		require.NoError(t, err)
		require.NotEmpty(t, accepted.Token2)
		onA.next(t, socketrpc.Event_OFFER_ACCEPTED)

		offer, err = withdraw(ends, id)
		require.NoError(t, err)
		require.Equal(t, socketrpc.Offer_CLOSED, offer.State)
		for n, on := range map[*node]*events{a: onA, b: onB} {
			closed := on.match(t, func(e *socketrpc.Event) bool {
				return e.Type ==
					socketrpc.Event_OFFER_CLOSED &&
					n.offer(t, id).State ==
						socketrpc.Offer_CLOSED
			})
			require.Equal(t, "changed my mind", closed.Reason)
		}
	}
	require.Equal(t, socket, a.socketInfo(t, socket).SocketId)
}

// TestAutoAcceptList checks that the offers of the nodes of a list are accepted
// when they come, and those of others are not.
func TestAutoAcceptList(t *testing.T) {
	a, c := shared.a, shared.c
	b := startNode(
		t, "--offer.autoaccept=list",
		"--offer.autoacceptlist="+a.pubkey(),
	)
	for _, n := range []*node{a, c} {
		require.NoError(t, n.Lnd.ConnectPeer(testContext(t), b.Lnd))
	}
	onA, onB, onC := a.subscribe(t), b.subscribe(t), c.subscribe(t)

	socket := a.start(t, &socketrpc.StartSocketRequest{
		Admission: "token",
	}).SocketId
	id := a.send(t, b, socket)
	received := onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	require.Contains(t, received.Reason, "automatically")
	require.Equal(t, id, onA.next(
		t, socketrpc.Event_OFFER_ACCEPTED,
	).ReplyToId)
	offer := b.offer(t, id)
	require.Equal(t, socketrpc.Offer_ACCEPTED, offer.State)
	require.Equal(t, received.Reason, offer.Reason)

	// Its tokens are told as those of any other.
	accepted, err := b.client.AcceptOffer(
		testContext(t), &socketrpc.AcceptOfferRequest{Id: id},
	)
	require.NoError(t, err)
	require.Len(t, accepted.Token2, 32)

	id = c.send(t, b, c.startSocket(t, "").SocketId)
	require.Empty(t, onB.next(t, socketrpc.Event_OFFER_RECEIVED).Reason)
	onC.next(t, socketrpc.Event_OFFER_DELIVERED)
	require.Equal(t, socketrpc.Offer_PENDING, b.offer(t, id).State)
}

// TestOlderMacaroon runs socketd on an lnd macaroon that was baked before the
// last permissions were asked for: it says which are missing, and an offer to a
// node that is no peer is delivered all the same once the node connects.
func TestOlderMacaroon(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	lnd, err := regtest.StartLnd(ctx, regtest.LndConfig{
		Name: "older", BinDir: binDir, Dir: t.TempDir(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lnd.Stop()) })

	const first = "uri:/lnrpc.Lightning/GetNodeInfo"
	perms := regtest.SocketdLndPermissions()
	from := slices.Index(perms, first)
	perms = append(perms[:from:from], perms[len(perms)-1])
	dir := t.TempDir()
	mac := filepath.Join(dir, "lnd.macaroon")
	require.NoError(t, lnd.BakeSocketdMacaroon(ctx, mac, perms))
	socketd, err := regtest.StartSocketd(ctx, regtest.SocketdConfig{
		Name: "older", BinDir: binDir, Dir: dir,
		LndAddr:         lnd.RPCAddr(),
		LndTLSPath:      lnd.TLSCertPath(),
		LndMacaroonPath: mac,
		Args:            []string{"--offer.autoaccept=channel"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, socketd.Stop()) })
	a, err := newNode(&regtest.Node{
		Name: "older", Lnd: lnd, Socketd: socketd,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.close()) })

	var warning string
	require.Eventually(t, func() bool {
		for _, text := range a.info(t).Warnings {
			warning = text
		}

		return warning != ""
	}, testTimeout, 50*time.Millisecond)
	for _, name := range []string{
		first, "ConnectPeer", "SubscribePeerEvents", "ListPeers",
		"ListChannels", "lncli --network regtest bakemacaroon",
	} {
		require.Contains(t, warning, name)
	}

	id := a.send(t, shared.b, a.startSocket(t, "").SocketId)
	onA := a.subscribe(t)
	require.NoError(t, lnd.ConnectPeer(ctx, shared.b.Lnd))
	require.Equal(t, id, onA.next(
		t, socketrpc.Event_OFFER_DELIVERED,
	).ReplyToId)
	_, err = lnd.Client().ListPeers(ctx, &lnrpc.ListPeersRequest{})
	require.NoError(t, err)
}
