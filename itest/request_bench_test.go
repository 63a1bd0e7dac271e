//go:build itest

package itest

import (
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/relay/client"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// requestPause is the time between two requests of BenchmarkRequest. Each takes
// five messages of the one who asks, who may send 10 a second.
const requestPause = 600 * time.Millisecond

// BenchmarkRequest measures the time from the call of SendSocket that asks
// another node to host, until a datagram has passed through the socket: both
// legs bound, with the tokens that the answer has. A node remembers 200 offers
// of another one, so that there may be 190 turns at most.
func BenchmarkRequest(b *testing.B) {
	started, err := regtest.StartNode(b.Context(), regtest.NodeConfig{
		Name: "host", BinDir: binDir, Dir: b.TempDir(),
		SocketdArgs: []string{"--offer.allowrequests=any"},
	})
	require.NoError(b, err)
	defer func() { require.NoError(b, started.Stop()) }()
	asker := shared.a
	require.NoError(b, asker.Lnd.ConnectPeer(b.Context(), started.Lnd))

	events := subscribeTo(b, asker)
	var answered, usable []time.Duration
	for b.Loop() {
		time.Sleep(requestPause)

		start := time.Now()
		sent, err := asker.client.SendSocket(
			b.Context(), &socketrpc.SendSocketRequest{
				Pubkey: started.Lnd.PubKey(), BothLegs: true,
				Mode: socketrpc.SendSocketRequest_REQUEST,
			},
		)
		require.NoError(b, err)
		got := awaitAnswer(b, events, sent.Id)
		answered = append(answered, time.Since(start))
		accepted, err := asker.client.AcceptOffer(
			b.Context(), &socketrpc.AcceptOfferRequest{Id: got.Id},
		)
		require.NoError(b, err)
		passThrough(b, accepted)
		usable = append(usable, time.Since(start))

		_, err = asker.client.StopSocket(
			b.Context(), &socketrpc.StopSocketRequest{
				SocketId: got.SocketId,
			},
		)
		require.NoError(b, err)
	}
	b.ReportMetric(0, "ns/op")
	reportQuantiles(b, "answer", answered)
	reportQuantiles(b, "usable", usable)
}

// awaitAnswer waits for the offer that answers a request.
func awaitAnswer(b *testing.B, events interface {
	Recv() (*socketrpc.Event, error)
}, id string) *socketrpc.Event {

	b.Helper()

	for {
		event, err := events.Recv()
		require.NoError(b, err)
		require.NotEqual(
			b, socketrpc.Event_REQUEST_REJECTED, event.Type,
			event.Reason,
		)
		if event.Type == socketrpc.Event_OFFER_RECEIVED &&
			event.ReplyToId == id {

			return event
		}
	}
}

// passThrough binds to both legs of a socket and passes a datagram.
func passThrough(b *testing.B, accepted *socketrpc.AcceptOfferResponse) {
	b.Helper()

	var legs [2]net.Conn
	for i, leg := range []struct{ port, token string }{
		{accepted.Offer.Port1, accepted.Token1},
		{accepted.Offer.Port2, accepted.Token2},
	} {
		socketID, err := hex.DecodeString(accepted.Offer.SocketId)
		require.NoError(b, err)
		token, err := bind.ParseToken(leg.token)
		require.NoError(b, err)
		port, err := strconv.ParseUint(leg.port, 10, 16)
		require.NoError(b, err)
		conn, err := client.DialUDP(b.Context(), client.Config{
			Addrs: []netip.AddrPort{netip.AddrPortFrom(
				netip.MustParseAddr(accepted.Offer.Ip),
				uint16(port),
			)},
			Leg: bind.Leg{
				SocketID: [32]byte(socketID), Num: uint8(i + 1),
				Protocol: uint8(wire.ProtocolUDP),
			},
			Token: token,
		})
		require.NoError(b, err)
		defer conn.Close()
		legs[i] = conn
	}

	_, err := legs[0].Write([]byte("ping"))
	require.NoError(b, err)
	require.NoError(b, legs[1].SetDeadline(time.Now().Add(testTimeout)))
	_, err = io.ReadFull(legs[1], make([]byte, 4))
	require.NoError(b, err)
}
