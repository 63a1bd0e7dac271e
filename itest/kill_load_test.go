//go:build itest

package itest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

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
