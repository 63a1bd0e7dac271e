package offer

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cut is a time for which the connection of two nodes is lost, unless one of
// them connects before.
type cut struct {
	// At is when it begins, and For how long it lasts, in seconds.
	At, For int
}

// outages is what becomes of the connection of two nodes, as long as the
// weather lasts.
type outages struct {
	Cuts []cut

	// Refused is how many of 100 attempts to connect fail, and Pretended
	// how many of the others seem to succeed and do not.
	Refused, Pretended int

	// Untold is how often out of 100 a node is not told that the other one
	// is online again. Whenever it is not, it is told while that one is
	// offline.
	Untold int
}

// drawOutages draws what becomes of a connection.
func drawOutages(t *rapid.T) outages {
	return outages{
		Cuts: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) cut {
			return cut{
				At:  rapid.IntRange(0, 300).Draw(t, "at"),
				For: rapid.IntRange(1, 200).Draw(t, "for"),
			}
		}), 0, 4).Draw(t, "cuts"),
		Refused:   rapid.IntRange(0, 100).Draw(t, "refused"),
		Pretended: rapid.IntRange(0, 50).Draw(t, "pretended"),
		Untold:    rapid.IntRange(0, 100).Draw(t, "untold"),
	}
}

// link is the connection of two nodes.
type link struct {
	// ends is when the weather does, and online tells a node that its peer
	// is. They are immutable.
	ends   time.Time
	online map[PubKey]func()

	// mu guards what follows. It is not held while a node is told.
	mu   sync.Mutex
	we   weather
	rng  *rand.Rand
	isUp bool

	// used counts what has happened to it, so that a test can tell whether
	// it was put to use.
	used linkUse
}

// linkUse is how often what has happened.
type linkUse struct {
	// refused are the messages that found nobody, and told is how often a
	// node was told.
	refused, told int
}

// link lets the weather loose on the connection of two nodes. online tells each
// of them that the other one is.
func (w *world) link(we weather, nodes map[PubKey]*node,
	online map[PubKey]func()) *link {

	l := &link{
		we:     we,
		ends:   time.Now().Add(time.Duration(we.Ends) * time.Second),
		online: online,
		rng:    rand.New(rand.NewPCG(we.Seed, 2)),
		isUp:   true,
	}
	for key, n := range nodes {
		n.mu.Lock()
		n.reach = func(ctx context.Context, _ PubKey) error {
			return l.connect(ctx)
		}
		n.mu.Unlock()

		for _, c := range we.Outages.Cuts {
			l.plan(key, c)
		}
	}
	for _, c := range we.Outages.Cuts {
		at := time.Duration(c.At) * time.Second
		time.AfterFunc(at, l.down)
		time.AfterFunc(min(
			at+time.Duration(c.For)*time.Second,
			time.Until(l.ends),
		), l.up)
	}

	next := we.fate()
	w.setFate(func(p packet) fate {
		if !l.carries() {
			return fate{err: ErrNotConnected}
		}

		return next(p)
	})

	return l
}

// roll tells whether something happens that does so often out of 100. The lock
// is held.
func (l *link) roll(percent int) bool {
	return l.rng.IntN(100) < percent
}

// plan has a node told that the other one is online sometime in a cut, when it
// may not be.
func (l *link) plan(key PubKey, c cut) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.roll(l.we.Outages.Untold) {
		l.tell(key, time.Duration(c.At)*time.Second, c.For*1000)
	}
}

// tell tells a node that the other one is online, after some time and up to so
// many milliseconds. The lock is held.
func (l *link) tell(key PubKey, after time.Duration, more int) {
	l.used.told++
	time.AfterFunc(after+time.Duration(
		l.rng.IntN(more+1),
	)*time.Millisecond, l.online[key])
}

// carries tells whether a message finds its peer connected, and counts it if
// not.
func (l *link) carries() bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	if !l.isUp {
		l.used.refused++
	}

	return l.isUp
}

// down loses the connection, unless the weather is over.
func (l *link) down() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.isUp = !time.Now().Before(l.ends)
}

// up connects the nodes, and tells each of it, or not.
func (l *link) up() {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.isUp {
		return
	}
	l.isUp = true

	for key := range l.online {
		if !l.roll(l.we.Outages.Untold) {
			l.tell(key, 0, l.we.Delay)
		}
	}
}

// connect is an attempt of a node to connect to the other one.
func (l *link) connect(ctx context.Context) error {
	l.mu.Lock()
	refused := l.roll(l.we.Outages.Refused)
	pretended := l.roll(l.we.Outages.Pretended)
	takes := time.Duration(l.rng.IntN(20_000)) * time.Millisecond
	l.mu.Unlock()

	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}

	switch {
	case refused:
		return errLnd

	case !pretended:
		l.up()
	}

	return nil
}

// TestLink checks that a connection of these tests is lost and comes back as it
// was planned, and that the nodes try and are told.
func TestLink(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a, b := w.add(alice), w.add(bob)
		l := w.link(weather{
			Ends: 100,
			Outages: outages{
				Cuts: []cut{
					{At: 10, For: 10}, {At: 90, For: 50},
					{At: 101, For: 10},
				},
				Refused: 100,
			},
		}, map[PubKey]*node{alice: a, bob: b}, map[PubKey]func(){
			alice: func() { a.PeerOnline(bob) },
			bob:   func() { b.PeerOnline(alice) },
		})

		time.Sleep(11 * time.Second)
		o := w.sendOffer(a, proposal(bob))
		require.Equal(t, StateQueued, o.State)
		require.True(t, a.Outlooks([]Offer{o})[0].Offline)
		require.Len(t, a.takeConnects(), 1)

		// But for the connection the offer would wait for 6.5 seconds
		// more.
		time.Sleep(9 * time.Second)
		w.requireState(b, o.ID, StatePending)
		require.Equal(t, linkUse{refused: 5, told: 2}, l.used)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.True(t, l.carries())

		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.False(t, l.carries())
		time.Sleep(9 * time.Second)
		synctest.Wait()
		require.True(t, l.carries())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.True(t, l.carries())

		// An attempt to connect may help, or seem to, or not.
		for _, c := range []struct {
			outages outages
			err     error
			isUp    bool
		}{
			{outages{Refused: 100}, errLnd, false},
			{outages{}, nil, true},
			{outages{Pretended: 100}, nil, false},
		} {
			l.mu.Lock()
			l.we.Outages, l.isUp = c.outages, false
			l.mu.Unlock()
			require.ErrorIs(t, a.reach(t.Context(), bob), c.err)
			require.Equal(t, c.isUp, l.carries())
		}
		w.perfect()
		require.NoError(t, a.SocketClosed(t.Context(), testSocket, ""))
		time.Sleep(time.Hour)
	})
}
