package sidecar

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// testNode returns the key of a node by a number.
func testNode(n int) offer.PubKey {
	return offer.PubKey(fmt.Appendf(nil, "%033d", n))
}

// graph is a graph whose nodes are named by a test.
type graph struct {
	mu sync.Mutex

	names map[offer.PubKey]string

	// delay is how long a look-up takes.
	delay time.Duration

	// asked is how often, now and most how many there are and were at a
	// time.
	asked     int
	now, most int
}

// lookUp returns the alias of a node.
func (g *graph) lookUp(ctx context.Context, node offer.PubKey) (string,
	error) {

	g.mu.Lock()
	g.asked++
	g.now++
	g.most = max(g.most, g.now)
	name, ok := g.names[node]
	g.mu.Unlock()

	defer func() {
		g.mu.Lock()
		g.now--
		g.mu.Unlock()
	}()
	if !sleep(ctx, g.delay) {
		return "", ctx.Err()
	}
	if !ok {
		return "", errors.New("unable to find node")
	}

	return name, nil
}

// takeAsked returns how often it was asked since this was called last.
func (g *graph) takeAsked() int {
	g.mu.Lock()
	defer g.mu.Unlock()

	asked := g.asked
	g.asked = 0

	return asked
}

// nodeSet returns a set of nodes by their numbers.
func nodeSet(n ...int) map[offer.PubKey]struct{} {
	set := make(map[offer.PubKey]struct{})
	for _, i := range n {
		set[testNode(i)] = struct{}{}
	}

	return set
}

// TestAliases checks that aliases are looked up, cleaned and remembered, and
// for how long.
func TestAliases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &graph{names: map[offer.PubKey]string{
			testNode(1): "one",
			testNode(2): "\x1b[31mt\u202ewo\n",
		}}
		a := newAliases(g.lookUp)
		get := func() map[offer.PubKey]string {
			return a.of(t.Context(), nodeSet(1, 2, 3))
		}
		want := map[offer.PubKey]string{
			testNode(1): "one", testNode(2): "[31mtwo",
			testNode(3): "",
		}
		require.Equal(t, want, get())
		require.Equal(t, 3, g.takeAsked())
		require.Equal(t, want, get())
		require.Zero(t, g.takeAsked())

		// Who was not there may be soon.
		time.Sleep(unknownTTL)
		require.Equal(t, want, get())
		require.Equal(t, 1, g.takeAsked())
		time.Sleep(aliasTTL)
		require.Equal(t, want, get())
		require.Equal(t, 3, g.takeAsked())
	})
}

// TestAliasesBounded checks that a call does not look up and wait for too much,
// and that not too much is remembered.
func TestAliasesBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &graph{names: make(map[offer.PubKey]string)}
		a := newAliases(g.lookUp)
		for i := range 2 * maxAliases {
			g.names[testNode(i)] = "name"
			a.of(t.Context(), nodeSet(i))
		}
		require.Len(t, a.known, maxAliases)
		g.takeAsked()

		all := make(map[offer.PubKey]struct{})
		for i := range 1000 {
			all[testNode(10_000+i)] = struct{}{}
		}
		require.Len(t, a.of(t.Context(), all), 1000)
		require.Equal(t, maxAliasLookups, g.takeAsked())
		require.LessOrEqual(t, g.most, aliasLookups)

		// A graph that does not answer is not waited for.
		g.delay = time.Hour
		start := time.Now()
		a.of(t.Context(), nodeSet(20_000, 20_001))
		require.Equal(t, aliasTimeout, time.Since(start))
	})
}
