//go:build itest

package itest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// runAll runs functions until all of them have returned.
func runAll(ctx context.Context, run ...func(context.Context)) {
	var wg sync.WaitGroup
	for _, f := range run {
		wg.Go(func() { f(ctx) })
	}
	wg.Wait()
}

// counter is a number that grows, which can be waited for.
type counter struct {
	mu      sync.Mutex
	n       int
	changed chan struct{}
}

// add counts one more.
func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.n++
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// get returns the number.
func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.n
}

// await waits until the number is as large.
func (c *counter) await(t *testing.T, n int) {
	t.Helper()

	timeout := time.After(testTimeout)
	for {
		c.mu.Lock()
		if c.n >= n {
			c.mu.Unlock()

			return
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()

		select {
		case <-changed:
		case <-timeout:
			require.Fail(t, "nothing passed")
		}
	}
}

// pause waits for a moment. It returns false if ctx is done.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true

	case <-ctx.Done():
		return false
	}
}

// datagrams is a flow through a UDP socket: one client sends numbers, the other
// one sends them back. Neither does anything else, whatever happens to them.
type datagrams struct {
	one, two net.Conn

	// passed counts the numbers that came back.
	passed counter
}

// newDatagrams returns a flow between two clients.
func newDatagrams(t *testing.T, one, two net.Conn) *datagrams {
	t.Helper()

	for _, conn := range []net.Conn{one, two} {
		require.NoError(t, conn.SetDeadline(time.Time{}))
	}

	return &datagrams{one: one, two: two}
}

// run sends and receives until ctx is done.
func (d *datagrams) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() {
		_ = d.one.SetDeadline(time.Now())
		_ = d.two.SetDeadline(time.Now())
	})()

	runAll(ctx, d.send, d.echo, d.receive)
}

// send sends numbers, and at first something so that the legs have clients.
func (d *datagrams) send(ctx context.Context) {
	_, _ = d.two.Write(nil)
	var number [8]byte
	for n := uint64(1); pause(ctx, time.Millisecond); n++ {
		binary.BigEndian.PutUint64(number[:], n)
		_, _ = d.one.Write(number[:])
	}
}

// echo sends back what comes.
func (d *datagrams) echo(ctx context.Context) {
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		// A port that is closed for a moment is told as an error.
		if n, err := d.two.Read(buf); err == nil && n == 8 {
			_, _ = d.two.Write(buf[:n])
		}
	}
}

// receive counts what comes back.
func (d *datagrams) receive(ctx context.Context) {
	buf := make([]byte, 2048)
	var last uint64
	for ctx.Err() == nil {
		n, err := d.one.Read(buf)
		if err != nil || n != 8 {
			continue
		}
		if number := binary.BigEndian.Uint64(buf); number > last {
			last = number
			d.passed.add()
		}
	}
}

// streams are pairs of connections through a TCP socket, one after the other,
// each as long as nothing breaks it.
type streams struct {
	port1, port2 string

	// passed counts the messages that went through, opened and broken the
	// pairs.
	passed, opened, broken counter
}

// newStreams returns streams through the ports of a socket.
func newStreams(port1, port2 string) *streams {
	return &streams{port1: port1, port2: port2}
}

// run connects and sends until ctx is done.
func (s *streams) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.pair(ctx)
		if !pause(ctx, 5*time.Millisecond) {
			return
		}
	}
}

// pair has one pair of connections until something breaks it.
func (s *streams) pair(ctx context.Context) {
	var conns [2]net.Conn
	for i, port := range []string{s.port1, s.port2} {
		var dialer net.Dialer
		conn, err := dialer.DialContext(
			ctx, "tcp", net.JoinHostPort("127.0.0.1", port),
		)
		if err != nil {
			return
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		conns[i] = conn
	}
	s.opened.add()

	buf := make([]byte, 5)
	for pause(ctx, time.Millisecond) {
		for i := range conns {
			_, err := conns[i].Write([]byte("hello"))
			if err == nil {
				_, err = io.ReadFull(conns[1-i], buf)
			}
			if err != nil {
				s.broken.add()

				return
			}
		}
		s.passed.add()
	}
}

// bindRaw binds a client to a leg of a UDP socket, and leaves it alone
// afterwards.
func bindRaw(t *testing.T, conn net.Conn, socketID string, leg uint8,
	token string) {

	t.Helper()

	cfg := bindConfig(t, socketID, "udp", leg, "1", token)
	cfg.Leg.Protocol = 1
	key := bind.NewKey(cfg.Leg, cfg.Token)
	msg := bind.Message{Type: bind.Hello, Nonce: bind.Nonce{1, leg}}
	for _, want := range []bind.Type{bind.Challenge, bind.Bound} {
		_, err := conn.Write(msg.Append(nil, key))
		require.NoError(t, err)
		buf := make([]byte, 2048)
		n, err := conn.Read(buf)
		require.NoError(t, err)
		require.True(t, key.Verify(buf[:n]))
		msg, err = bind.Decode(buf[:n])
		require.NoError(t, err)
		require.Equal(t, want, msg.Type)
		msg.Type = bind.Bind
	}
}

// apiLoad uses the API of a node whose daemon is killed now and then, and
// remembers what it was told.
type apiLoad struct {
	a, b *node

	// conn is a connection to A's socketd that does not wait for long until
	// it connects again, and client uses it.
	conn   *grpc.ClientConn
	client socketrpc.SocketClient

	// mu guards what follows.
	mu sync.Mutex

	// started and stopped are the sockets of which it was told that they
	// are. What is in neither of them may be there or not.
	started map[string]*socketrpc.StartSocketResponse
	stopped map[string]bool

	// sent has the offers that were sent.
	sent []string

	// seen has the events that were told, by cursor, and twice is what was
	// told differently.
	seen  map[uint64]*socketrpc.Event
	twice []string
}

// newAPILoad returns a load on A, which offers sockets to B.
func newAPILoad(t *testing.T, a, b *node) *apiLoad {
	t.Helper()

	conn, err := a.Socketd.Dial(grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{
			BaseDelay: 20 * time.Millisecond, Multiplier: 1,
			MaxDelay: 20 * time.Millisecond,
		},
	}))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })

	return &apiLoad{
		a: a, b: b, conn: conn,
		client:  socketrpc.NewSocketClient(conn),
		started: make(map[string]*socketrpc.StartSocketResponse),
		stopped: make(map[string]bool),
		seen:    make(map[uint64]*socketrpc.Event),
	}
}

// run starts and stops sockets and offers them until ctx is done.
func (l *apiLoad) run(ctx context.Context) {
	for n := 0; pause(ctx, 3*time.Millisecond); n++ {
		socket, err := l.client.StartSocket(
			ctx, &socketrpc.StartSocketRequest{
				Admission: []string{"open", "token"}[n%2],
				Limits: &socketrpc.SocketLimits{
					Lifetime:    proto.Uint64(0),
					IdleTimeout: proto.Uint64(0),
				},
			},
		)
		if err != nil {
			continue
		}
		l.mu.Lock()
		l.started[socket.SocketId] = socket
		l.mu.Unlock()

		switch {
		case n%100 == 0:
			l.send(ctx, socket.SocketId)

		case n%20 != 0:
			l.end(ctx, socket.SocketId)
		}
	}
}

// send offers a socket to B.
func (l *apiLoad) send(ctx context.Context, id string) {
	sent, err := l.client.SendSocket(ctx, &socketrpc.SendSocketRequest{
		Pubkey: l.b.pubkey(), SocketId: id,
	})
	if err != nil {
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	l.sent = append(l.sent, sent.Id)
}

// end stops a socket. If that is not confirmed it may be stopped or not.
func (l *apiLoad) end(ctx context.Context, id string) {
	l.mu.Lock()
	delete(l.started, id)
	l.mu.Unlock()

	_, err := l.client.StopSocket(ctx, &socketrpc.StopSocketRequest{
		SocketId: id,
	})
	if err != nil {
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	l.stopped[id] = true
}

// acceptAll has B accept every offer.
func (l *apiLoad) acceptAll(ctx context.Context) {
	stream, err := l.b.client.SubscribeEvents(
		ctx, &socketrpc.SubscribeEventsRequest{},
	)
	for err == nil {
		var event *socketrpc.Event
		event, err = stream.Recv()
		if err != nil ||
			event.Type != socketrpc.Event_OFFER_RECEIVED {

			continue
		}

		// Its socket may have ended already.
		_, _ = l.b.client.AcceptOffer(
			ctx, &socketrpc.AcceptOfferRequest{Id: event.Id},
		)
	}
}

// follow reads A's events as a program does that must not miss one: from its
// cursor, again and again.
func (l *apiLoad) follow(ctx context.Context) {
	var cursor uint64
	for pause(ctx, time.Millisecond) {
		req := &socketrpc.SubscribeEventsRequest{After: cursor}
		if cursor == 0 {
			req.Since = 1
		}
		stream, err := l.client.SubscribeEvents(ctx, req)
		for err == nil {
			var event *socketrpc.Event
			event, err = stream.Recv()
			if err == nil {
				l.see(event, cursor)
				cursor = event.Cursor
			}
		}

		// A cursor that was told is never unknown afterwards.
		if status.Code(err) == codes.OutOfRange {
			l.mu.Lock()
			l.twice = append(l.twice, err.Error())
			l.mu.Unlock()

			return
		}
	}
}

// see notes an event that follows a cursor.
func (l *apiLoad) see(event *socketrpc.Event, after uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if event.Cursor != after+1 {
		l.twice = append(l.twice, fmt.Sprintf("%d after %d",
			event.Cursor, after))
	}
	l.seen[event.Cursor] = event
}

// check checks that all that was told is so.
func (l *apiLoad) check(t *testing.T) {
	t.Helper()

	l.mu.Lock()
	started, stopped := maps.Clone(l.started), maps.Clone(l.stopped)
	sent := append([]string{}, l.sent...)
	l.mu.Unlock()

	open := make(map[string]*socketrpc.SocketInfo)
	for _, info := range listAll(t, l.a) {
		open[info.SocketId] = info
	}
	for id, socket := range started {
		info := open[id]
		if info == nil {
			l.mu.Lock()
			_, still := l.started[id]
			l.mu.Unlock()
			require.False(t, still, "socket %s is lost", id)

			continue
		}
		require.Equal(t, socket.Port1, info.Leg1.Port)
		require.Equal(t, socket.Port2, info.Leg2.Port)
		require.Equal(t, socket.Admission, info.Admission)
		require.Equal(t, socketrpc.SocketInfo_ACTIVE, info.State)
	}
	for id := range stopped {
		require.NotContains(t, open, id)
	}

	// Every offer arrives, and is accepted, once.
	for _, id := range sent {
		require.Eventually(t, func() bool {
			return l.a.offer(t, id).State ==
				socketrpc.Offer_ACCEPTED
		}, testTimeout, 50*time.Millisecond, id)
	}
	l.checkEvents(t, started, stopped, sent)
}

// checkEvents checks that each thing was told once, and is told again the same.
func (l *apiLoad) checkEvents(t *testing.T,
	started map[string]*socketrpc.StartSocketResponse,
	stopped map[string]bool, sent []string) {

	t.Helper()

	type key struct {
		kind socketrpc.Event_Type
		id   string
	}
	all := l.a.replay(t)
	told := make(map[key]int)
	for _, e := range all {
		id := e.SocketId
		if e.ReplyToId != "" {
			id = e.ReplyToId
		}
		told[key{e.Type, id}]++
	}
	received := make(map[string]int)
	for _, e := range l.b.replay(t) {
		if e.Type == socketrpc.Event_OFFER_RECEIVED {
			received[e.Id]++
		}
	}

	for id := range started {
		require.Equal(t, 1, told[key{
			socketrpc.Event_SOCKET_STARTED, id,
		}])
	}
	for id := range stopped {
		require.Equal(t, 1, told[key{
			socketrpc.Event_SOCKET_STOPPED, id,
		}])
	}
	for _, id := range sent {
		require.Equal(t, 1, received[id])
		require.Equal(t, 1, told[key{
			socketrpc.Event_OFFER_ACCEPTED, id,
		}])
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	require.Empty(t, l.twice)
	require.NotEmpty(t, l.seen)
	for cursor, event := range l.seen {
		if cursor <= uint64(len(all)) {
			require.True(t, proto.Equal(event, all[cursor-1]),
				"%v\n%v", event, all[cursor-1])
		}
	}
}

// summary tells what the load was.
func (l *apiLoad) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return fmt.Sprintf("%d sockets started and kept, %d stopped, %d "+
		"offers, %d events followed", len(l.started), len(l.stopped),
		len(l.sent), len(l.seen))
}

// randomPause waits for less than a time.
func randomPause(most time.Duration) {
	time.Sleep(rand.N(most))
}
