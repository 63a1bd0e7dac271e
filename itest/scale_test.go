//go:build itest

package itest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
)

const (
	// manySockets is how many sockets or pairs one daemon is to bear.
	manySockets = 8000

	// pairsPerSocket is how many of the pairs each socket has.
	pairsPerSocket = 1000

	// latencyWindow is how many calls a median is taken of.
	latencyWindow = 100
)

// startBig starts a node whose daemon may open that many sockets. The other
// file descriptors are for connections.
func startBig(tb testing.TB, sockets int) (*node, func()) {
	tb.Helper()

	started, err := regtest.StartNode(tb.Context(), regtest.NodeConfig{
		Name: "big", BinDir: binDir, Dir: tb.TempDir(),
		SocketdArgs: []string{
			"--relay.maxsockets=" + strconv.Itoa(sockets),
			"--relay.ports=10000-29999",

			// Connections come faster than they are accepted.
			"--relay.maxwaiting=" + strconv.Itoa(pairsPerSocket),
			"--debuglevel=info",
		},
	})
	require.NoError(tb, err)
	n, err := newNode(started)
	require.NoError(tb, err)

	warmUp(tb, n)

	return n, func() {
		require.NoError(tb, n.close())
		require.NoError(tb, started.Stop())
	}
}

// warmUp makes a daemon have what it keeps after its first call and its first
// socket, such as a connection and the relay's loops.
func warmUp(tb testing.TB, n *node) {
	tb.Helper()

	for _, protocol := range []string{"udp", "tcp"} {
		socket := open(tb, n, protocol)
		_, err := n.client.StopSocket(
			tb.Context(), &socketrpc.StopSocketRequest{
				SocketId: socket.SocketId,
			},
		)
		require.NoError(tb, err)
	}
}

// open opens a socket that is not stopped with the test.
func open(tb testing.TB, n *node,
	protocol string) *socketrpc.StartSocketResponse {

	tb.Helper()

	resp, err := n.client.StartSocket(
		tb.Context(), &socketrpc.StartSocketRequest{
			Protocol: protocol, Admission: "open",
		},
	)
	require.NoError(tb, err)

	return resp
}

// usage is what a process uses.
type usage struct {
	files int
	kib   int
}

// usageOf returns what a node's daemon uses.
func usageOf(tb testing.TB, n *node) usage {
	tb.Helper()

	pid := n.Socketd.Pid()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(tb, err)

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(tb, err)
	for line := range bytes.Lines(status) {
		value, ok := bytes.CutPrefix(line, []byte("VmRSS:"))
		if !ok {
			continue
		}
		kib, err := strconv.Atoi(string(bytes.Fields(value)[0]))
		require.NoError(tb, err)

		return usage{files: len(files), kib: kib}
	}
	require.Fail(tb, "no VmRSS")

	return usage{}
}

// report reports the growth of what a daemon uses, per socket or pair.
func report(b *testing.B, n *node, before usage, what string) {
	b.Helper()

	after := usageOf(b, n)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(before.kib), "KiB-before")
	b.ReportMetric(
		float64(after.kib-before.kib)/manySockets, "KiB/"+what,
	)
	b.ReportMetric(
		float64(after.files-before.files)/manySockets, "files/"+what,
	)
}

// BenchmarkIdleSockets measures what idle UDP sockets cost a daemon, both legs
// of each pinned, and how long it takes to open the first and the last ones.
func BenchmarkIdleSockets(b *testing.B) {
	for b.Loop() {
		n, stop := startBig(b, manySockets)
		before := usageOf(b, n)

		var (
			sockets []*socketrpc.StartSocketResponse
			took    []time.Duration
		)
		for range manySockets {
			start := time.Now()
			sockets = append(sockets, open(b, n, "udp"))
			took = append(took, time.Since(start))
		}
		report(b, n, before, "unpinned")

		pinAll(b, n, sockets)
		report(b, n, before, "socket")
		for name, window := range map[string][]time.Duration{
			"µs-first": took[:latencyWindow],
			"µs-last":  took[manySockets-latencyWindow:],
		} {
			slices.Sort(window)
			median := window[latencyWindow/2].Microseconds()
			b.ReportMetric(float64(median), name)
		}
		stop()
	}
}

// pinAll has one client pin every leg of the sockets.
func pinAll(b *testing.B, n *node, sockets []*socketrpc.StartSocketResponse) {
	b.Helper()

	client, err := net.ListenUDP("udp4", &net.UDPAddr{
		IP: net.IPv4(127, 0, 0, 1),
	})
	require.NoError(b, err)
	defer client.Close()

	for _, socket := range sockets {
		for _, port := range []string{socket.Port1, socket.Port2} {
			_, err := client.WriteToUDPAddrPort(
				nil, netip.MustParseAddrPort("127.0.0.1:"+port),
			)
			require.NoError(b, err)
		}
	}

	require.Eventually(b, func() bool {
		for _, socket := range listAll(b, n) {
			if socket.Leg1.ClientAddr == "" ||
				socket.Leg2.ClientAddr == "" {

				return false
			}
		}

		return true
	}, testTimeout, 100*time.Millisecond)
}

// listAll returns the open sockets.
func listAll(tb testing.TB, n *node) []*socketrpc.SocketInfo {
	tb.Helper()

	list, err := n.client.ListSockets(
		tb.Context(), &socketrpc.ListSocketsRequest{},
	)
	require.NoError(tb, err)

	return list.Sockets
}

// BenchmarkIdlePairs measures what idle pairs of connections cost a daemon.
func BenchmarkIdlePairs(b *testing.B) {
	for b.Loop() {
		n, stop := startBig(b, manySockets/pairsPerSocket)

		var sockets []*socketrpc.StartSocketResponse
		for range manySockets / pairsPerSocket {
			sockets = append(sockets, open(b, n, "tcp"))
		}
		before := usageOf(b, n)

		conns := make([]net.Conn, 0, 2*manySockets)
		for _, socket := range sockets {
			for range pairsPerSocket {
				for _, port := range []string{
					socket.Port1, socket.Port2,
				} {
					conns = append(conns, dialTCP(b, port))
				}
			}
		}

		awaitPaired(b, n)
		report(b, n, before, "pair")

		for _, conn := range conns {
			require.NoError(b, conn.Close())
		}
		stop()
	}
}

// awaitPaired waits until every connection has its partner.
func awaitPaired(b *testing.B, n *node) {
	b.Helper()

	var paired uint32
	require.Eventually(b, func() bool {
		paired = 0
		for _, socket := range listAll(b, n) {
			paired += socket.Leg1.Open - socket.Leg1.Waiting
			paired += socket.Leg2.Open - socket.Leg2.Waiting
		}

		return paired == 2*manySockets
	}, testTimeout, 100*time.Millisecond)
}

// dialTCP connects to a port on loopback.
func dialTCP(tb testing.TB, port string) net.Conn {
	tb.Helper()

	var dialer net.Dialer
	conn, err := dialer.DialContext(
		tb.Context(), "tcp", net.JoinHostPort("127.0.0.1", port),
	)
	require.NoError(tb, err)

	return conn
}

// TestManySockets opens as many sockets as the daemon is to bear, and closes
// them: the API works all the while, and nothing stays behind.
func TestManySockets(t *testing.T) {
	n, stop := startBig(t, manySockets)
	defer stop()

	// A fresh daemon tells how many goroutines there are without sockets.
	idle := goroutines(t, n)
	before := usageOf(t, n)

	sockets := make([]*socketrpc.StartSocketResponse, manySockets)
	var group errgroup.Group
	group.SetLimit(8)
	for i := range sockets {
		group.Go(func() (err error) {
			sockets[i], err = n.client.StartSocket(
				t.Context(), &socketrpc.StartSocketRequest{
					Protocol: []string{"udp", "tcp"}[i%2],
				},
			)

			return err
		})
	}
	require.NoError(t, group.Wait())

	_, err := n.client.StartSocket(
		t.Context(), &socketrpc.StartSocketRequest{},
	)
	requireCode(t, err, codes.ResourceExhausted, "8000")
	require.Equal(
		t, before.files+2*manySockets, usageOf(t, n).files,
	)
	require.Len(t, listAll(t, n), manySockets)
	require.Equal(t, manySockets, countOverREST(t, n))

	for _, socket := range sockets {
		group.Go(func() error {
			_, err := n.client.StopSocket(
				t.Context(), &socketrpc.StopSocketRequest{
					SocketId: socket.SocketId,
				},
			)

			return err
		})
	}
	require.NoError(t, group.Wait())
	require.Empty(t, listAll(t, n))
	require.Eventually(t, func() bool {
		return usageOf(t, n).files == before.files
	}, testTimeout, 10*time.Millisecond, "%d files before, now %d",
		before.files, usageOf(t, n).files)
	require.InDelta(t, idle, goroutines(t, n), 3)
}

// countOverREST counts the open sockets by a list over REST.
func countOverREST(t *testing.T, n *node) int {
	t.Helper()

	resp := n.restRequest(
		t, http.MethodGet, "/v1/socket/sockets", "", http.Header{
			macaroonHTTPHeader: {n.macaroonHex(t)},
			"Connection":       {"close"},
		},
	)
	require.Equal(t, http.StatusOK, resp.StatusCode)

	var list struct {
		Sockets []json.RawMessage `json:"sockets"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&list))

	return len(list.Sockets)
}

// goroutines counts the goroutines of a node's daemon, which ends by it, and is
// started again.
func goroutines(t *testing.T, n *node) int {
	t.Helper()

	// The first call over REST connects inside the daemon.
	countOverREST(t, n)

	before, err := n.Socketd.Output()
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(n.Socketd.Pid(), syscall.SIGQUIT))
	<-n.Socketd.Done()
	after, err := n.Socketd.Output()
	require.NoError(t, err)
	trace := []byte(after[len(before):])

	require.NoError(t, n.Socketd.Start(testContext(t)))
	warmUp(t, n)

	return bytes.Count(trace, []byte("\ngoroutine "))
}
