//go:build itest

package itest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
)

// dealPause is the time between two offers of BenchmarkSendSocket. The hosts
// take turns, and neither side of a deal sends more than three messages: a peer
// may send 10 a second.
const dealPause = 150 * time.Millisecond

// BenchmarkSendSocket measures the time from the call of SendSocket to the far
// end's event, and to the host's event that the offer was accepted if the far
// end accepts it by itself. Three hosts take turns, for a node remembers 200
// offers of each: so there may be 600 turns at most.
func BenchmarkSendSocket(b *testing.B) {
	b.Run("asked", func(b *testing.B) {
		benchDeals(b, false)
	})
	b.Run("autoaccept", func(b *testing.B) {
		benchDeals(b, true,
			"--offer.autoaccept=list",
			"--offer.autoacceptlist="+shared.a.pubkey(),
			"--offer.autoacceptlist="+shared.b.pubkey(),
			"--offer.autoacceptlist="+shared.c.pubkey(),
		)
	})
}

// benchDeals is BenchmarkSendSocket with a far end of its own, a socketd with
// further options, which accepts by itself or not.
func benchDeals(b *testing.B, accepts bool, args ...string) {
	b.Helper()

	started, err := regtest.StartNode(b.Context(), regtest.NodeConfig{
		Name: "far", BinDir: binDir, Dir: b.TempDir(),
		SocketdArgs: args,
	})
	require.NoError(b, err)
	defer func() { require.NoError(b, started.Stop()) }()
	far, err := newNode(started)
	require.NoError(b, err)
	defer func() { require.NoError(b, far.close()) }()

	var hosts []*dealer
	for _, n := range []*node{shared.a, shared.b, shared.c} {
		require.NoError(b, n.Lnd.ConnectPeer(b.Context(), far.Lnd))
		hosts = append(hosts, newDealer(b, n))
	}

	received := subscribeTo(b, far)
	var events, acceptances []time.Duration
	for i := 0; b.Loop(); i++ {
		time.Sleep(dealPause)

		host := hosts[i%len(hosts)]
		start := time.Now()
		id := host.send(b, far)
		received.await(b, socketrpc.Event_OFFER_RECEIVED, id)
		events = append(events, time.Since(start))

		// What is accepted by itself ends by its host, and the rest is
		// turned down: a node keeps 20 that nobody has decided about.
		if !accepts {
			far.turnDown(b, id)

			continue
		}
		host.events.await(b, socketrpc.Event_OFFER_ACCEPTED, id)
		acceptances = append(acceptances, time.Since(start))
		host.withdraw(b, id)
	}
	for _, host := range hosts {
		host.stop(b)
	}

	b.ReportMetric(0, "ns/op")
	reportQuantiles(b, "event", events)
	reportQuantiles(b, "accept", acceptances)
}

// reportQuantiles reports how long something took; nothing if it never was.
func reportQuantiles(b *testing.B, name string, took []time.Duration) {
	b.Helper()

	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	for unit, percent := range map[string]int{"p50": 50, "p99": 99} {
		b.ReportMetric(
			milliseconds(took[(len(took)-1)*percent/100]),
			"ms-"+name+"-"+unit,
		)
	}
}

// dealer is a node that offers a socket again and again.
type dealer struct {
	*node

	socketID string
	events   *offerEvents
}

// newDealer opens a socket of a node.
func newDealer(b *testing.B, n *node) *dealer {
	b.Helper()

	socket, err := n.client.StartSocket(
		b.Context(), &socketrpc.StartSocketRequest{Admission: "open"},
	)
	require.NoError(b, err)

	return &dealer{
		node:     n,
		socketID: socket.SocketId,
		events:   subscribeTo(b, n),
	}
}

// send offers the socket to a node, and returns the offer's id.
func (d *dealer) send(b *testing.B, to *node) string {
	b.Helper()

	sent, err := d.client.SendSocket(
		b.Context(), &socketrpc.SendSocketRequest{
			Pubkey: to.pubkey(), SocketId: d.socketID,
		},
	)
	require.NoError(b, err)

	return sent.Id
}

// withdraw ends an offer.
func (d *dealer) withdraw(b *testing.B, id string) {
	b.Helper()

	_, err := d.client.WithdrawOffer(
		b.Context(), &socketrpc.WithdrawOfferRequest{Id: id},
	)
	require.NoError(b, err)
}

// stop ends the socket.
func (d *dealer) stop(b *testing.B) {
	b.Helper()

	_, err := d.client.StopSocket(
		b.Context(), &socketrpc.StopSocketRequest{
			SocketId: d.socketID,
		},
	)
	require.NoError(b, err)
}

// turnDown rejects an offer.
func (n *node) turnDown(b *testing.B, id string) {
	b.Helper()

	_, err := n.client.RejectOffer(
		b.Context(), &socketrpc.RejectOfferRequest{Id: id},
	)
	require.NoError(b, err)
}

// offerEvents is a live stream of a node's events.
type offerEvents struct {
	stream grpc.ServerStreamingClient[socketrpc.Event]

	// cancel ends it.
	cancel context.CancelFunc
}

// subscribeTo opens a stream of a node's events, and waits until it is live.
func subscribeTo(b *testing.B, n *node) *offerEvents {
	b.Helper()

	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(cancel)
	stream, err := n.client.SubscribeEvents(
		ctx, &socketrpc.SubscribeEventsRequest{},
	)
	require.NoError(b, err)
	_, err = stream.Header()
	require.NoError(b, err)

	return &offerEvents{stream: stream, cancel: cancel}
}

// Recv returns the next event. It fails if there is none for long.
func (e *offerEvents) Recv() (*socketrpc.Event, error) {
	late := time.AfterFunc(testTimeout, e.cancel)
	defer late.Stop()

	return e.stream.Recv()
}

// await waits for an event of an offer, passing over others.
func (e *offerEvents) await(b *testing.B, kind socketrpc.Event_Type,
	id string) {

	b.Helper()

	for {
		event, err := e.Recv()
		require.NoError(b, err, "no %v", kind)

		// That an offer was accepted is a reply to it.
		isOf := event.Id == id || event.ReplyToId == id
		if event.Type == kind && isOf {
			return
		}
	}
}
