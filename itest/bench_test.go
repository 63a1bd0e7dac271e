//go:build itest

package itest

import (
	"slices"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// BenchmarkSendSocket measures the time from the call of SendSocket to the far
// end's event. The far end turns each offer down, as it may keep 20 pending.
func BenchmarkSendSocket(b *testing.B) {
	from, to := shared.a, shared.b
	ctx := b.Context()
	socket, err := from.client.StartSocket(
		ctx, &socketrpc.StartSocketRequest{Admission: "open"},
	)
	require.NoError(b, err)
	stream, err := to.client.SubscribeEvents(
		ctx, &socketrpc.SubscribeEventsRequest{},
	)
	require.NoError(b, err)
	_, err = stream.Header()
	require.NoError(b, err)

	var took []time.Duration
	for b.Loop() {
		// The limit per peer is 10 messages a second; a user who sends
		// by hand stays far below it.
		b.StopTimer()
		time.Sleep(300 * time.Millisecond)
		b.StartTimer()

		start := time.Now()
		sent, err := from.client.SendSocket(
			ctx, &socketrpc.SendSocketRequest{
				Pubkey:   to.pubkey(),
				SocketId: socket.SocketId,
			},
		)
		require.NoError(b, err)
		for {
			event, err := stream.Recv()
			require.NoError(b, err)
			if event.Type == socketrpc.Event_OFFER_RECEIVED {
				require.Equal(b, sent.Id, event.Id)

				break
			}
		}
		took = append(took, time.Since(start))

		b.StopTimer()
		_, err = to.client.RejectOffer(
			ctx, &socketrpc.RejectOfferRequest{Id: sent.Id},
		)
		require.NoError(b, err)
		b.StartTimer()
	}

	slices.Sort(took)
	quantile := func(q int) float64 {
		return float64(took[(len(took)-1)*q/100].Microseconds()) / 1000
	}
	b.ReportMetric(quantile(50), "ms-p50")
	b.ReportMetric(quantile(99), "ms-p99")

	_, err = from.client.StopSocket(ctx, &socketrpc.StopSocketRequest{
		SocketId: socket.SocketId,
	})
	require.NoError(b, err)
}
