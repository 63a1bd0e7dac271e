//go:build itest

package itest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

const (
	// killsEnv is the environment variable that says how often TestKills
	// kills the daemon, defaultKills how often it does if that is not set.
	killsEnv     = "ITEST_KILLS"
	defaultKills = 10

	// maxPause is how long the daemon lives at most between two kills.
	maxPause = 600 * time.Millisecond

	// restoreTime is within which time of the process's start all sockets
	// are back.
	restoreTime = time.Second
)

// restoredLine is the line in which socketd tells that its sockets are back.
var restoredLine = regexp.MustCompile(
	`Sockets restored: (\d+) open, 0 FAILED, 0 expired, (\S+) after`,
)

// readyLine is the line in which it tells that every method works.
var readyLine = regexp.MustCompile(`Ready$`)

// numKills returns how often the daemon is to be killed.
func numKills(t *testing.T) int {
	t.Helper()

	text := os.Getenv(killsEnv)
	if text == "" {
		return defaultKills
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)

	return n
}

// TestKills kills a daemon under load, at random instants, also while it
// starts, and with and without its lnd. Every time all of its sockets are back
// at once, the clients of UDP go on without doing anything, those of TCP
// connect again, offers go on, and not an event is lost, told twice, or
// changed.
func TestKills(t *testing.T) {
	w := newKillWorld(t)

	var took []time.Duration
	kills := numKills(t)
	for i := range kills {
		randomPause(maxPause)
		withoutLnd := i%5 == 4
		if withoutLnd {
			require.NoError(t, w.a.Lnd.Stop())
		}

		w.a.Socketd.Kill()
		if i%4 == 3 {
			// It is killed while it starts, too.
			_, err := w.a.Socketd.Launch(testContext(t))
			require.NoError(t, err)
			randomPause(maxPause / 2)
			w.a.Socketd.Kill()
		}
		r := w.restart()
		took = append(took, r.restored)
		t.Logf("kill %d of %d: %d sockets restored after %v, UDP "+
			"passed after %v, with tokens after %v, TCP after %v, "+
			"lnd %s", i+1, kills, r.sockets, r.restored, r.open,
			r.token, r.tcp, map[bool]string{
				true: "away", false: "there",
			}[withoutLnd])

		if withoutLnd {
			require.NoError(t, w.a.Lnd.Start(testContext(t)))
			require.NoError(t, w.a.Lnd.ConnectPeer(
				testContext(t), w.b.Lnd,
			))
		}
	}
	w.check()

	slices.Sort(took)
	median, longest := took[len(took)/2], took[len(took)-1]
	t.Logf("%d kills: restored after %v (median), %v (longest); %s",
		kills, median, longest, w.summary())
	require.Less(t, median, restoreTime)
}

// killWorld is a daemon that is killed, and the load on it.
type killWorld struct {
	t *testing.T

	// a is the node whose socketd is killed, b the other one.
	a, b *node

	// open and token are flows through UDP sockets, and stream goes through
	// a TCP socket.
	open, token *datagrams
	stream      *streams

	// sockets are those that carry them.
	sockets []*socketrpc.StartSocketResponse

	// load is what uses the API meanwhile.
	load *apiLoad

	// stop ends the load.
	stop context.CancelFunc
}

// newKillWorld starts two nodes and the load.
func newKillWorld(t *testing.T) *killWorld {
	t.Helper()

	w := &killWorld{
		t: t,
		a: startNode(
			t, "--relay.maxsockets=4000", "--relay.nodesockets=500",
			"--relay.ports=10000-19999",
		),
		b: startNode(t),
	}
	ctx := testContext(t)
	require.NoError(t, w.a.Lnd.ConnectPeer(ctx, w.b.Lnd))

	for _, req := range []*socketrpc.StartSocketRequest{
		{}, {Label: "token"}, {Protocol: "tcp", Admission: "open"},
	} {
		socket, err := w.a.client.StartSocket(ctx, req)
		require.NoError(t, err)
		w.sockets = append(w.sockets, socket)
	}

	// B's client has the token of the offer, A's its own.
	token := w.sockets[1]
	onB := w.b.subscribe(t)
	id := w.a.send(t, w.b, token.SocketId)
	onB.match(t, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_RECEIVED && e.Id == id
	})
	granted := w.b.acceptOffer(t, id)
	one, two := dialLeg(t, token.Port1), dialLeg(t, token.Port2)
	bindRaw(t, one, token.SocketId, 1, token.Token1)
	bindRaw(t, two, token.SocketId, 2, granted.Token2)

	var runCtx context.Context
	runCtx, w.stop = context.WithCancel(t.Context())
	w.token = newDatagrams(t, one, two)
	w.open = newDatagrams(
		t, dialLeg(t, w.sockets[0].Port1),
		dialLeg(t, w.sockets[0].Port2),
	)
	w.stream = newStreams(w.sockets[2].Port1, w.sockets[2].Port2)
	w.load = newAPILoad(t, w.a, w.b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runAll(runCtx, w.open.run, w.token.run, w.stream.run,
			w.load.run, w.load.acceptAll, w.load.follow)
	}()
	t.Cleanup(func() {
		w.stop()
		<-done
	})

	for _, count := range []*counter{
		&w.open.passed, &w.token.passed, &w.stream.passed,
	} {
		count.await(t, count.get()+3)
	}
	time.Sleep(restoreTime) // A pin is stored within a second.

	return w
}

// restarted is how long after the start of the process what was back.
type restarted struct {
	sockets                    int
	restored, open, token, tcp time.Duration
}

// restart starts the daemon, and waits until all is back.
func (w *killWorld) restart() restarted {
	w.t.Helper()

	start := time.Now()
	proc, err := w.a.Socketd.Launch(testContext(w.t))
	require.NoError(w.t, err)
	match, err := proc.WaitLine(testContext(w.t), restoredLine)
	require.NoError(w.t, err)
	r := restarted{restored: time.Since(start)}
	r.sockets, err = strconv.Atoi(match[1])
	require.NoError(w.t, err)

	for _, flow := range []struct {
		passed *counter
		took   *time.Duration
	}{
		{&w.open.passed, &r.open}, {&w.token.passed, &r.token},
		{&w.stream.passed, &r.tcp},
	} {
		// What is read now may have passed before the kill.
		flow.passed.await(w.t, flow.passed.get()+2)
		*flow.took = time.Since(start)
	}

	return r
}

// check ends the load and checks that nothing was lost.
func (w *killWorld) check() {
	w.t.Helper()

	_, err := w.a.Socketd.WaitLine(testContext(w.t), readyLine)
	require.NoError(w.t, err)
	for _, socket := range w.sockets {
		again, err := w.a.client.StartSocket(
			testContext(w.t), &socketrpc.StartSocketRequest{
				SocketId: socket.SocketId,
			},
		)
		require.NoError(w.t, err)
		require.True(w.t, proto.Equal(socket, again))
	}
	w.load.check(w.t)
	w.stop()

	// Neither client was told to the relay anew.
	for _, socket := range w.sockets[:2] {
		var pinned int
		for _, e := range w.a.replay(w.t) {
			if e.SocketId == socket.SocketId &&
				e.Type == socketrpc.Event_CLIENT_PINNED {

				pinned++
			}
		}
		require.Equal(w.t, 2, pinned)
	}

	out, err := w.a.Socketd.Output()
	require.NoError(w.t, err)
	require.NotContains(w.t, out, "[ERR]")
	require.NotContains(w.t, out, "[CRT]")
}

// summary tells what the load was.
func (w *killWorld) summary() string {
	return fmt.Sprintf("%d and %d datagrams there and back, %d of %d TCP "+
		"pairs broke, %s", w.open.passed.get(), w.token.passed.get(),
		w.stream.broken.get(), w.stream.opened.get(), w.load.summary())
}

// replay returns all events of a node, from the first one on, and checks that
// their cursors have no gap.
func (n *node) replay(t *testing.T) []*socketrpc.Event {
	t.Helper()

	// The first event that is told from now on ends the replay.
	last := n.start(t, &socketrpc.StartSocketRequest{Label: "last"})
	stream, err := n.client.SubscribeEvents(
		testContext(t), &socketrpc.SubscribeEventsRequest{Since: 1},
	)
	require.NoError(t, err)

	var all []*socketrpc.Event
	for {
		event, err := stream.Recv()
		require.NoError(t, err)
		require.EqualValues(t, len(all)+1, event.Cursor)
		all = append(all, event)
		if event.SocketId == last.SocketId {
			return all
		}
	}
}

// TestStartWithoutLnd starts a daemon without its lnd: its sockets are there at
// once, its API says since when lnd is away, and all goes on when lnd comes.
func TestStartWithoutLnd(t *testing.T) {
	n := startNode(t)
	ctx := testContext(t)
	socket, err := n.client.StartSocket(
		ctx, &socketrpc.StartSocketRequest{},
	)
	require.NoError(t, err)
	events := n.subscribe(t)
	one, two := dialLeg(t, socket.Port1), dialLeg(t, socket.Port2)
	pin(t, one, events)
	pin(t, two, events)
	receive(t, one, nil)

	require.NoError(t, n.Lnd.Stop())
	require.NoError(t, n.Socketd.Stop())
	proc, err := n.Socketd.Launch(ctx)
	require.NoError(t, err)
	_, err = proc.WaitLine(ctx, restoredLine)
	require.NoError(t, err)
	sendTo(t, one, []byte("without lnd"))
	receive(t, two, []byte("without lnd"))
	_, err = n.client.GetInfo(ctx, &socketrpc.GetInfoRequest{})
	require.ErrorContains(t, err, "lnd is away since 20")
	require.ErrorContains(t, err, "has not been reached")

	require.NoError(t, n.Lnd.Start(ctx))
	_, err = proc.WaitLine(ctx, readyLine)
	require.NoError(t, err)
	require.Equal(t, n.pubkey(), n.info(t).NodePubkey)
	again, err := n.client.StartSocket(ctx, &socketrpc.StartSocketRequest{})
	require.NoError(t, err)
	require.True(t, proto.Equal(socket, again))
}

// TestSecondSocketd checks that a second socketd does not start: neither in the
// same directory nor beside the same lnd. And that none starts on what belongs
// to another node.
func TestSecondSocketd(t *testing.T) {
	var (
		n   = startNode(t)
		dir = t.TempDir()
		mac = filepath.Join(dir, "lnd.macaroon")
		ctx = testContext(t)
	)
	bake := func(lnd *regtest.Lnd) {
		t.Helper()
		require.NoError(t, lnd.BakeSocketdMacaroon(
			ctx, mac, regtest.SocketdLndPermissions(),
		))
	}
	refused := func(dir string, lnd *regtest.Lnd, want string) {
		t.Helper()

		proc, err := regtest.NewSocketd(regtest.SocketdConfig{
			Name: "second", BinDir: binDir, Dir: dir,
			LndAddr: lnd.RPCAddr(), LndTLSPath: lnd.TLSCertPath(),
			LndMacaroonPath: mac,
		}).Launch(ctx)
		require.NoError(t, err)
		before, err := proc.Output()
		require.NoError(t, err)
		var exit *regtest.ExitError
		require.ErrorAs(t, proc.WaitExit(ctx), &exit)
		out, err := proc.Output()
		require.NoError(t, err)
		require.Contains(t, out[len(before):], want)
	}

	bake(n.Lnd)
	refused(n.Socketd.Dir(), n.Lnd, "database is in use by another "+
		"process ("+strconv.Itoa(n.Socketd.Pid())+")")
	refused(dir, n.Lnd, "another socketd uses this lnd already")
	require.Equal(t, n.pubkey(), n.info(t).NodePubkey)

	// The lock ends with the process, whose database is of its node.
	n.Socketd.Kill()
	other := startLnd(t)
	bake(other)
	refused(n.Socketd.Dir(), other, "database belongs to another node: "+
		"to "+n.pubkey())
	require.NoError(t, n.Socketd.Start(ctx))
}
