package store

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// errDown is what a messenger returns while the other side does not run.
var errDown = errors.New("the other side is down")

// party is a node that makes offers or takes them, on a database. It is stopped
// and started again.
type party struct {
	t    *testing.T
	key  offer.PubKey
	path string

	// other is the party that it talks to.
	other *party

	mu sync.Mutex

	// db and manager are nil while it does not run, and stop stops it.
	db      *DB
	manager *offer.Manager
	stop    func()

	// granted has the tokens that are let in.
	granted map[offer.Token]bool
}

// newParties returns two nodes that talk to each other and do not run yet.
func newParties(t *testing.T) (*party, *party) {
	t.Helper()

	a := &party{t: t, key: testKey(0xa1)}
	b := &party{t: t, key: testKey(0xb0), other: a}
	a.other = b
	for _, p := range []*party{a, b} {
		p.path = filepath.Join(t.TempDir(), "socketd.db")
		t.Cleanup(func() { p.down() })
	}

	return a, b
}

// up starts the party on its database.
func (p *party) up() {
	p.t.Helper()

	db, err := Open(p.t.Context(), Config{Path: p.path}, quiet)
	require.NoError(p.t, err)
	manager := offer.New(offer.Config{
		Self: p.key, Limits: offer.DefaultLimits(),
		Requests: offer.RequestPolicy{MaxPerNode: 5},
	}, offer.Deps{
		Messenger: p,
		Store:     db.Offers(encodeEvent),
		Opener:    p,
		Notify:    func(offer.Event) {},
		Logger:    quiet,
	})

	// Nobody is let in before the manager says so.
	p.mu.Lock()
	p.granted = make(map[offer.Token]bool)
	p.mu.Unlock()

	ctx, cancel := context.WithCancel(p.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := manager.Run(ctx); err != nil {
			p.t.Errorf("run: %v", err)
		}
	})

	p.mu.Lock()
	defer p.mu.Unlock()
	p.db, p.manager = db, manager
	p.stop = func() {
		cancel()
		running.Wait()
		if err := db.Close(); err != nil {
			p.t.Errorf("close: %v", err)
		}
	}
}

// down stops the party, if it runs.
func (p *party) down() {
	p.mu.Lock()
	stop := p.stop
	p.manager, p.stop = nil, nil
	p.mu.Unlock()

	if stop != nil {
		stop()
	}
}

// restart stops the party and starts it again.
func (p *party) restart() {
	p.t.Helper()
	p.down()
	p.up()
}

// Send implements offer.Messenger.
func (p *party) Send(_ context.Context, _ offer.PubKey, msgType uint16,
	body []byte) error {

	p.other.mu.Lock()
	defer p.other.mu.Unlock()

	if p.other.manager == nil {
		return errDown
	}
	p.other.manager.Receive(p.key, uint32(msgType), body)

	return nil
}

// Grant implements offer.Opener.
func (p *party) Grant(_ offer.ID, _ uint8, token offer.Token) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.granted[token] = true

	return nil
}

// Revoke implements offer.Opener.
func (p *party) Revoke(_ offer.ID, _ uint8, token offer.Token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.granted, token)
}

// lets returns the tokens that are let in.
func (p *party) lets() []offer.Token {
	p.mu.Lock()
	defer p.mu.Unlock()

	return slices.Collect(maps.Keys(p.granted))
}

// waitEvents waits until as many events have happened, and requires that they
// are of these kinds.
func (p *party) waitEvents(kinds ...string) {
	p.t.Helper()

	for {
		last, changed := p.db.Cursor()
		if last >= uint64(len(kinds)) {
			break
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			require.Fail(p.t, "nothing happens", "%v",
				texts(p.t, p.db, 0))
		}
	}

	var got []string
	for _, text := range texts(p.t, p.db, 0) {
		kind, _, _ := strings.Cut(text, " of ")
		got = append(got, kind)
	}
	require.Equal(p.t, kinds, got)
}

// TestManager checks that the offers' manager works on a database, and goes on
// with it when it is started again at any point of an offer's life.
func TestManager(t *testing.T) {
	a, b := newParties(t)
	a.up()
	p := offer.Proposal{
		Peer:      b.key,
		SocketID:  testID(1),
		Protocol:  offer.UDP,
		Addrs:     fullRecord().Addrs,
		Port1:     21000,
		Port2:     21001,
		Legs:      offer.Leg2,
		Admission: offer.ByToken,
		ExpiresAt: time.Now().Add(time.Hour),
	}
	sent, err := a.manager.Send(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, offer.StateQueued, sent.State)

	// Nobody has it yet. It is delivered when both are there.
	a.restart()
	b.up()
	a.waitEvents("delivered")
	b.waitEvents("received")
	require.Len(t, a.lets(), 1)

	b.restart()
	accepted, tokens, err := b.manager.Accept(t.Context(), sent.ID)
	require.NoError(t, err)
	a.waitEvents("delivered", "accepted")
	require.Equal(t, tokens[1:], a.lets())

	// Both know it still, and the socket's end is told.
	a.restart()
	b.restart()
	again, same, err := b.manager.Accept(t.Context(), sent.ID)
	require.NoError(t, err)
	require.Equal(t, accepted.DecisionID, again.DecisionID)
	require.Equal(t, tokens, same)
	offers, err := a.manager.OfSocket(t.Context(), p.SocketID)
	require.NoError(t, err)
	require.Len(t, offers, 1)
	require.Equal(t, tokens[1:], a.lets())

	b.down()
	err = a.manager.SocketClosed(t.Context(), p.SocketID, "stopped")
	require.NoError(t, err)
	require.Empty(t, a.lets())
	a.restart()
	b.up()
	b.waitEvents("received", "closed")
	a.waitEvents("delivered", "accepted", "closed")
	offers, err = b.manager.List(t.Context())
	require.NoError(t, err)
	require.Len(t, offers, 1)
	require.Equal(t, offer.StateClosed, offers[0].State)
	require.Equal(t, "stopped", offers[0].Reason)
}
