package sidecar

import (
	"context"
	"sync"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/wire"
)

const (
	// maxAliases is how many aliases are remembered.
	maxAliases = 1024

	// aliasTTL is how long an alias is remembered, and unknownTTL how long
	// that there is none.
	aliasTTL   = 10 * time.Minute
	unknownTTL = time.Minute

	// maxAliasLookups is how many aliases are looked up for one call, and
	// aliasLookups how many of them at a time.
	maxAliasLookups = 64
	aliasLookups    = 4

	// aliasTimeout is how long a call waits for aliases.
	aliasTimeout = 2 * time.Second
)

// aliases remembers the aliases of nodes. They are a convenience: where one is
// not to be had in time there is none.
type aliases struct {
	// lookUp returns the alias of a node, as the node has it. It is
	// immutable.
	lookUp func(context.Context, offer.PubKey) (string, error)

	mu    sync.Mutex
	known map[offer.PubKey]alias
}

// alias is what is known of a node's alias until some time.
type alias struct {
	name  string
	until time.Time
}

// newAliases returns aliases of which none is known.
func newAliases(
	lookUp func(context.Context, offer.PubKey) (string, error)) *aliases {

	return &aliases{
		lookUp: lookUp,
		known:  make(map[offer.PubKey]alias),
	}
}

// of returns the aliases of nodes, empty for those that have none or are not
// known.
func (a *aliases) of(ctx context.Context,
	nodes map[offer.PubKey]struct{}) map[offer.PubKey]string {

	now := time.Now()
	names := make(map[offer.PubKey]string, len(nodes))
	var unknown []offer.PubKey
	a.mu.Lock()
	for node := range nodes {
		known, ok := a.known[node]
		names[node] = known.name
		if (!ok || !now.Before(known.until)) &&
			len(unknown) < maxAliasLookups {

			unknown = append(unknown, node)
		}
	}
	a.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, aliasTimeout)
	defer cancel()

	var (
		looking sync.WaitGroup
		next    = make(chan offer.PubKey)
		mu      sync.Mutex
	)
	for range min(aliasLookups, len(unknown)) {
		looking.Go(func() {
			for node := range next {
				name := a.ask(ctx, node)
				mu.Lock()
				names[node] = name
				mu.Unlock()
			}
		})
	}
	for _, node := range unknown {
		next <- node
	}
	close(next)
	looking.Wait()

	return names
}

// ask looks up the alias of a node and remembers it.
func (a *aliases) ask(ctx context.Context, node offer.PubKey) string {
	name, err := a.lookUp(ctx, node)
	if ctx.Err() != nil {
		return ""
	}

	known := alias{name: wire.CleanText(name)}
	known.until = time.Now().Add(aliasTTL)
	if err != nil || known.name == "" {
		known = alias{until: time.Now().Add(unknownTTL)}
	}
	a.remember(node, known)

	return known.name
}

// remember remembers an alias. If there is no room any other one gives way.
func (a *aliases) remember(node offer.PubKey, known alias) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if _, ok := a.known[node]; !ok && len(a.known) >= maxAliases {
		for other := range a.known {
			delete(a.known, other)

			break
		}
	}
	a.known[node] = known
}
