//go:build itest

package itest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// startTCP opens a TCP socket of the test's own, OPEN, which ends with the
// test.
func (n *node) startTCP(t *testing.T,
	label string) *socketrpc.StartSocketResponse {

	t.Helper()

	return n.start(t, &socketrpc.StartSocketRequest{
		Protocol:  "tcp",
		Label:     label,
		Admission: "open",
	})
}

// connectLeg returns a connection to a leg.
func connectLeg(t *testing.T, port string) *net.TCPConn {
	t.Helper()

	conn, err := tryLeg(t, "127.0.0.1", port)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))

	return conn.(*net.TCPConn)
}

// tryLeg connects to a leg from an address on loopback.
func tryLeg(t *testing.T, from, port string) (net.Conn, error) {
	t.Helper()

	dialer := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)},
	}

	return dialer.DialContext(
		testContext(t), "tcp", net.JoinHostPort("127.0.0.1", port),
	)
}

// requireReset checks that the next thing that comes is a reset.
func requireReset(t *testing.T, conn net.Conn) {
	t.Helper()

	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// requireRefused checks that a connection to a leg is reset at once, which may
// be before the client has noticed that it was there.
func requireRefused(t *testing.T, from, port string) {
	t.Helper()

	conn, err := tryLeg(t, from, port)
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET)

		return
	}
	defer conn.Close()

	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))
	requireReset(t, conn)
}

// exchange has both ends of a pair send everything that they have to each other
// and end their sending side, both at the same time.
func exchange(t *testing.T, conns [2]*net.TCPConn, sent [2][]byte) {
	t.Helper()

	var (
		group    errgroup.Group
		received [2][]byte
	)
	for i, conn := range conns {
		group.Go(func() error {
			if _, err := conn.Write(sent[i]); err != nil {
				return err
			}

			return conn.CloseWrite()
		})
		group.Go(func() (err error) {
			received[i], err = io.ReadAll(conn)

			return err
		})
	}
	require.NoError(t, group.Wait())

	for i := range conns {
		require.True(t, bytes.Equal(sent[1-i], received[i]),
			"%d bytes of %d", len(received[i]), len(sent[1-i]))
	}
}

// awaitLegs waits until a socket's legs are as they should be and returns them.
func (n *node) awaitLegs(t *testing.T, id string,
	fits func(leg1, leg2 *socketrpc.Leg) bool) [2]*socketrpc.Leg {

	t.Helper()

	var info *socketrpc.SocketInfo
	require.Eventually(t, func() bool {
		info = n.socketInfo(t, id)

		return fits(info.Leg1, info.Leg2)
	}, testTimeout, time.Millisecond)

	return [2]*socketrpc.Leg{info.Leg1, info.Leg2}
}

// TestTCP goes the way of a TCP socket: it is offered, used, which accepts the
// offer, and stopped.
func TestTCP(t *testing.T) {
	a, b := shared.a, shared.b
	socket := a.startTCP(t, "stream")
	require.Equal(t, "tcp", socket.Protocol)
	onA, onB := a.subscribe(t), b.subscribe(t)

	// The far end hears of it.
	id := a.send(t, b, socket.SocketId)
	received := onB.next(t, socketrpc.Event_OFFER_RECEIVED)
	require.Equal(t, id, received.Id)
	var info connection
	require.NoError(t, json.Unmarshal(received.Data, &info))
	require.Equal(t, connection{
		Protocol: "tcp", IP: "127.0.0.1", Port1: socket.Port1,
		Port2: socket.Port2, SocketID: socket.SocketId, Leg: 2,
		Label: "stream",
	}, info)
	require.Equal(t, "tcp", b.offer(t, id).Protocol)
	require.Equal(t, "tcp", a.offer(t, id).Protocol)

	// What is sent before the partner has come is not lost.
	one := connectLeg(t, info.Port1)
	_, err := one.Write([]byte("early"))
	require.NoError(t, err)
	legs := a.awaitLegs(t, socket.SocketId, func(leg1,
		_ *socketrpc.Leg) bool {

		return leg1.Waiting == 1
	})
	require.Equal(t, one.LocalAddr().String(), legs[0].ClientAddr)
	require.Zero(t, legs[0].BytesIn)

	// The first connection to the granted leg accepts.
	two := connectLeg(t, info.Port2)
	accepted := onA.next(t, socketrpc.Event_OFFER_ACCEPTED)
	require.Equal(t, id, accepted.ReplyToId)
	require.Equal(t, b.pubkey(), accepted.FromPubkey)
	require.Equal(t, socketrpc.Offer_ACCEPTED, a.offer(t, id).State)
	early := make([]byte, 5)
	_, err = io.ReadFull(two, early)
	require.NoError(t, err)
	require.Equal(t, "early", string(early))

	sent := [2][]byte{
		bytes.Repeat([]byte("from one"), 512<<10),
		bytes.Repeat([]byte("from the other "), 200_000),
	}
	exchange(t, [2]*net.TCPConn{one, two}, sent)

	legs = a.awaitLegs(t, socket.SocketId, func(leg1,
		leg2 *socketrpc.Leg) bool {

		return leg1.Open == 0 && leg2.Open == 0
	})
	requirePassed(t, legs, uint64(len(sent[0])+5), uint64(len(sent[1])))

	// The end of the socket closes the offer.
	a.stopUsed(t, socket)
	closed := onB.next(t, socketrpc.Event_OFFER_CLOSED)
	require.Equal(t, a.pubkey(), closed.FromPubkey)
	require.Equal(t, socketrpc.Offer_CLOSED, a.offer(t, id).State)
}

// stopUsed stops a TCP socket while a pair is open and another connection
// waits, and checks that all are reset.
func (n *node) stopUsed(t *testing.T, socket *socketrpc.StartSocketResponse) {
	t.Helper()

	conns := []*net.TCPConn{
		connectLeg(t, socket.Port1), connectLeg(t, socket.Port2),
		connectLeg(t, socket.Port1),
	}
	n.awaitLegs(t, socket.SocketId, func(leg1,
		leg2 *socketrpc.Leg) bool {

		return leg1.Open == 2 && leg1.Waiting == 1 && leg2.Open == 1 &&
			leg2.Waiting == 0
	})

	_, err := n.client.StopSocket(
		testContext(t), &socketrpc.StopSocketRequest{
			SocketId: socket.SocketId,
		},
	)
	require.NoError(t, err)
	for _, conn := range conns {
		requireReset(t, conn)
	}
}

// requirePassed checks the counters of a TCP socket after one pair.
func requirePassed(t *testing.T, legs [2]*socketrpc.Leg, bytes1,
	bytes2 uint64) {

	t.Helper()

	require.Equal(t, bytes1, legs[0].BytesIn)
	require.Equal(t, bytes1, legs[1].BytesOut)
	require.Equal(t, bytes2, legs[1].BytesIn)
	require.Equal(t, bytes2, legs[0].BytesOut)
	for _, leg := range legs {
		want := dropped(nil)
		require.Equal(t, uint64(1), leg.Accepted)
		require.Zero(t, leg.Waiting)
		require.Zero(t, leg.Resets)
		require.Zero(t, leg.PacketsIn)
		require.Zero(t, leg.PacketsOut)
		require.NotZero(t, leg.LastSeen)

		// How often reading had to wait is the limit's business.
		delete(leg.Drops, "bandwidth")
		delete(want, "bandwidth")
		require.Equal(t, want, leg.Drops)
	}
}

// dropped returns the counts of what a leg dropped: those that are given, and 0
// for every other reason.
func dropped(counts map[string]uint64) map[string]uint64 {
	drops := map[string]uint64{
		"stranger": 0, "no_client": 0, "limit": 0, "send_error": 0,
		"kernel": 0, "bandwidth": 0, "packets": 0, "bytes": 0,
		"not_allowed": 0, "bad_bind": 0,
	}
	maps.Copy(drops, counts)

	return drops
}

// TestTCPLimits checks what a daemon refuses of the connections to a TCP
// socket, and that it counts it: a stranger, one too many that waits, and one
// that waits for too long.
func TestTCPLimits(t *testing.T) {
	n := startNode(
		t, "--relay.maxwaiting=1", "--relay.maxpairs=1",
		"--relay.waittimeout=3s",
	)
	socket := n.startTCP(t, "")
	waiting := connectLeg(t, socket.Port1)
	n.awaitLegs(t, socket.SocketId, func(leg1,
		_ *socketrpc.Leg) bool {

		return leg1.Waiting == 1
	})
	requireRefused(t, "127.0.0.1", socket.Port1)
	requireRefused(t, "127.0.0.2", socket.Port1)
	requireReset(t, waiting)

	legs := n.awaitLegs(t, socket.SocketId, func(leg1,
		_ *socketrpc.Leg) bool {

		return leg1.Open == 0
	})
	require.Equal(t, uint64(1), legs[0].Accepted)
	require.Zero(t, legs[0].Waiting)
	require.Zero(t, legs[0].Resets)
	require.Equal(t, dropped(map[string]uint64{
		"stranger": 1, "no_client": 1, "limit": 1,
	}), legs[0].Drops)
}
