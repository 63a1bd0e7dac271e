package sidecar

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// TestPolicyBandwidth checks that the bandwidths of a policy are those of the
// relay, at once for sockets that are open, and after a restart.
func TestPolicyBandwidth(t *testing.T) {
	t.Parallel()

	for name, req := range map[string]*socketrpc.UpdatePolicyRequest{
		"total": {TotalBandwidth: proto.Uint64(1)},
		"node":  {NodeBandwidth: proto.Uint64(1)},
	} {
		t.Run(name, func(t *testing.T) {
			servers := newServers(t, 2)
			a := servers[0]
			id := a.start(&socketrpc.StartSocketRequest{}).SocketId
			a.mustSend(servers[1], id)
			one := a.pin(id, relay.Leg1)
			two := a.pin(id, relay.Leg2)

			// All of it passes.
			for range 10 {
				flood(t, one, 1)
				require.NoError(t, two.SetDeadline(
					time.Now().Add(testTimeout),
				))
				buf := make([]byte, 2000)
				n, err := two.Read(buf)
				require.NoError(t, err)
				require.Equal(t, 1000, n)
			}

			after := a.hub.cursor()
			_, err := a.rpc.UpdatePolicy(t.Context(), req)
			require.NoError(t, err)
			flood(t, one, 10)
			a.awaitLimit(after, id)

			a.restart()
			after = a.hub.cursor()
			flood(t, one, 10)
			a.awaitLimit(after, id)
		})
	}
}

// pin returns a client of a leg, once the leg has it.
func (s *testServer) pin(id string, leg relay.Leg) net.Conn {
	s.t.Helper()

	after := s.hub.cursor()
	conn := dialLeg(s.t.(*testing.T), s.socket(id), leg)
	s.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_CLIENT_PINNED &&
			e.SocketId == id
	})

	return conn
}

// flood sends datagrams of 1,000 bytes.
func flood(t *testing.T, conn net.Conn, count int) {
	t.Helper()

	deadline := time.Now().Add(testTimeout)
	require.NoError(t, conn.SetDeadline(deadline))
	for range count {
		_, err := conn.Write(make([]byte, 1000))
		require.NoError(t, err)
	}
}

// awaitLimit waits until a socket has come to its bandwidth.
func (s *testServer) awaitLimit(after uint64, id string) {
	s.t.Helper()

	s.await(after, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_LIMIT && e.SocketId == id &&
			strings.Contains(e.Reason, "bandwidth")
	})
}
