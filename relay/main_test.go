package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const (
	// limit is how long anything may take that happens at once on an idle
	// machine.
	limit = 30 * time.Second

	// tick is how often a condition is looked at.
	tick = time.Millisecond
)

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.IPv6Loopback()
)

// TestMain fails if the tests leave a goroutine or a file descriptor behind.
func TestMain(m *testing.M) {
	if order := os.Getenv(benchEnv); order != "" {
		os.Exit(runBenchProcess(order))
	}

	os.Exit(runTests(m))
}

// runTests runs the tests and returns the exit code.
func runTests(m *testing.M) int {
	// The runtime opens descriptors of its own for the first socket.
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}
	_ = conn.Close()

	before := openFiles()

	code := m.Run()
	if code != 0 {
		return code
	}

	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}

	if after := openFiles(); after != before {
		fmt.Fprintf(os.Stderr, "%d files open before the tests, %d "+
			"after\n", before, after)

		return 1
	}

	return 0
}

// openFiles counts the open file descriptors. It is 0 where the system does
// not tell.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}

	return len(entries)
}

// testConfig returns a configuration with generous limits and 64 ports.
func testConfig(tb testing.TB) Config {
	tb.Helper()

	return Config{
		Ports:      freePorts(tb, 64),
		PortRest:   time.Minute,
		MaxSockets: 1000,
		PinTimeout: time.Hour,

		MaxPairs:    100,
		MaxWaiting:  100,
		WaitTimeout: time.Hour,
		MaxConns:    1000,
		KeepAlive:   time.Hour,
	}
}

// world is a relay that runs, and what it tells.
type world struct {
	*Relay

	t      testing.TB
	events chan Event
	stop   func()
}

// newWorld runs a relay until the test ends.
func newWorld(tb testing.TB, change func(*Config)) *world {
	tb.Helper()

	cfg := testConfig(tb)
	if change != nil {
		change(&cfg)
	}

	w := &world{t: tb, events: make(chan Event, 1<<14)}

	relay, err := New(cfg, func(event Event) {
		w.events <- event
	})
	require.NoError(tb, err)
	w.Relay = relay

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- relay.Run(ctx)
	}()

	w.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(tb, <-done)
		require.Zero(tb, relay.NumSockets())
	})
	tb.Cleanup(w.stop)

	return w
}

// stopRelay ends a relay that does not run.
func stopRelay(tb testing.TB, relay *Relay) {
	tb.Helper()

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(tb, relay.Run(ctx))
}

// open opens a UDP socket without limits.
func (w *world) open() *Socket {
	w.t.Helper()

	return w.openWith(Options{Protocol: UDP})
}

// openWith opens a socket.
func (w *world) openWith(opts Options) *Socket {
	w.t.Helper()

	s, err := w.Open(opts)
	require.NoError(w.t, err)

	return s
}

// event waits for the next event.
func (w *world) event() Event {
	w.t.Helper()

	select {
	case event := <-w.events:
		return event

	case <-time.After(limit):
		require.FailNow(w.t, "no event")

		return nil
	}
}

// noEvent fails if an event waits. What was to cause one must have happened.
func (w *world) noEvent() {
	w.t.Helper()

	select {
	case event := <-w.events:
		require.FailNow(w.t, "unexpected event", "%T %+v", event, event)

	default:
	}
}

// pair opens a socket and two clients that both legs know.
func (w *world) pair(ip1, ip2 netip.Addr) (*Socket, *client, *client) {
	w.t.Helper()

	s := w.open()
	c1, c2 := w.join(s, ip1, ip2)

	return s, c1, c2
}

// join makes two clients known to a socket. Leg 1 has dropped one packet then,
// for want of a client on the other leg, and leg 2 has passed one.
func (w *world) join(s *Socket, ip1, ip2 netip.Addr) (*client, *client) {
	w.t.Helper()

	c1, c2 := newClient(w.t, ip1), newClient(w.t, ip2)

	// The first packet pins, and has nowhere to go.
	c1.send(s.Port(Leg1), nil)
	require.Equal(w.t, EventPinned{
		SocketID: s.ID(), Leg: Leg1, New: c1.addr(),
	}, w.event())
	waitDrops(w.t, s, Leg1, DropNoClient, 1)

	c2.send(s.Port(Leg2), nil)
	require.Equal(w.t, EventPinned{
		SocketID: s.ID(), Leg: Leg2, New: c2.addr(),
	}, w.event())
	require.Empty(w.t, c1.receive())

	// A packet is counted after it was sent.
	require.Eventually(w.t, func() bool {
		return s.Stats().Leg1.PacketsOut == 1
	}, limit, tick)

	return c1, c2
}

// client is a program that talks to a leg.
type client struct {
	t      testing.TB
	conn   *net.UDPConn
	buffer [1 << 16]byte
}

// newClient returns a client at a free port of the address.
func newClient(tb testing.TB, ip netip.Addr) *client {
	tb.Helper()

	return newClientAt(tb, netip.AddrPortFrom(ip, 0))
}

// newClientAt returns a client at the address.
func newClientAt(tb testing.TB, addr netip.AddrPort) *client {
	tb.Helper()

	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	require.NoError(tb, err)
	_ = conn.SetReadBuffer(socketBuffer)

	c := &client{t: tb, conn: conn}
	tb.Cleanup(func() {
		c.close()
	})

	return c
}

// close ends the client. It may be called again.
func (c *client) close() {
	_ = c.conn.Close()
}

// addr returns the client's source address.
func (c *client) addr() netip.AddrPort {
	return c.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// send sends a packet to a port of the relay, over loopback.
func (c *client) send(port uint16, payload []byte) {
	c.t.Helper()

	require.NoError(c.t, c.trySend(port, payload))
}

// trySend is send for goroutines, which must not end the test.
func (c *client) trySend(port uint16, payload []byte) error {
	ip := loopback4
	if c.addr().Addr().Is6() {
		ip = loopback6
	}

	addr := netip.AddrPortFrom(ip, port)
	_, err := c.conn.WriteToUDPAddrPort(payload, addr)

	return err
}

// receive waits for a packet and returns its payload, which is valid until the
// next call.
func (c *client) receive() []byte {
	c.t.Helper()

	payload, _, err := c.tryReceive()
	require.NoError(c.t, err)

	return payload
}

// tryReceive waits for a packet and returns its payload and source.
func (c *client) tryReceive() ([]byte, netip.AddrPort, error) {
	err := c.conn.SetReadDeadline(time.Now().Add(limit))
	if err != nil {
		return nil, netip.AddrPort{}, err
	}

	n, from, err := c.conn.ReadFromUDPAddrPort(c.buffer[:])

	return c.buffer[:n], from, err
}

// exchange sends a packet and waits for one.
func (c *client) exchange(port uint16, payload []byte) ([]byte, error) {
	if err := c.trySend(port, payload); err != nil {
		return nil, err
	}

	got, _, err := c.tryReceive()

	return got, err
}

// legStats returns the counters of one leg.
func legStats(s *Socket, leg Leg) LegStats {
	stats := s.Stats()
	if leg == Leg1 {
		return stats.Leg1
	}

	return stats.Leg2
}

// drops are counts by reason.
type drops = map[DropReason]uint64

// waitDrops waits until a leg has dropped so many packets for the reason, and
// none for any other.
func waitDrops(tb testing.TB, s *Socket, leg Leg, why DropReason, want uint64) {
	tb.Helper()

	require.Eventually(tb, func() bool {
		return legStats(s, leg).Drops[why] >= want
	}, limit, tick)

	requireDrops(tb, s, leg, drops{why: want})
}

// requireDrops checks all drops of a leg. Reasons that are missing are 0.
func requireDrops(tb testing.TB, s *Socket, leg Leg, want drops) {
	tb.Helper()

	got := legStats(s, leg).Drops
	require.Len(tb, got, int(numDropReasons))

	for reason, count := range got {
		require.Equal(tb, want[reason], count, "reason %v", reason)
	}
}

const (
	// lowestPort and highestPort bound the ports that tests use. Below are
	// those that socketd uses as it comes, above those that the system
	// gives to clients.
	lowestPort, highestPort = 22000, 31999

	// chunk is how many ports a test takes at least.
	chunk = 64
)

// nextPort is where the next test looks for ports.
var nextPort atomic.Int64

// freePorts returns a range of so many ports that no program uses, and no other
// test until this one ends, also in another process that runs these tests.
func freePorts(tb testing.TB, count int) PortRange {
	tb.Helper()

	chunks := (count + chunk - 1) / chunk
	all := (highestPort - lowestPort + 1) / chunk

	for range all {
		first := int(nextPort.Add(int64(chunks))) % (all - chunks + 1)
		low := uint16(lowestPort + first*chunk)
		ports := PortRange{Low: low, High: low + uint16(count) - 1}

		if guard(tb, low, chunks) && areFree(ports) {
			return ports
		}
	}

	require.FailNow(tb, "no free ports")

	return PortRange{}
}

// guard takes chunks of UDP ports by listening on the TCP port of the same
// number as the first of each. It reports false if somebody else does.
func guard(tb testing.TB, low uint16, chunks int) bool {
	tb.Helper()

	for i := range chunks {
		at := netip.AddrPortFrom(loopback4, low+uint16(i*chunk))
		listener, err := net.ListenTCP(
			"tcp", net.TCPAddrFromAddrPort(at),
		)
		if err != nil {
			return false
		}

		tb.Cleanup(func() {
			_ = listener.Close()
		})
	}

	return true
}

// areFree tells whether every port of the range can be had.
func areFree(ports PortRange) bool {
	for i := range ports.size() {
		if !isFree(ports.Low + uint16(i)) {
			return false
		}
	}

	return true
}

// isFree tells whether a port can be had.
func isFree(port uint16) bool {
	p, err := openUDP(netip.Addr{}, port)
	if err != nil {
		return false
	}

	return p.close() == nil
}

// dialUDP returns a connection to a port of the relay, which tells when nobody
// is there.
func dialUDP(from netip.AddrPort, port uint16) (*net.UDPConn, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(
		netip.AddrPortFrom(from.Addr(), port),
	))
	if err != nil {
		return nil, err
	}

	return conn, conn.SetDeadline(time.Now().Add(limit))
}
