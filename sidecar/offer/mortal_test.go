package offer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// errKilled is what a process is told that has been killed. Nobody hears what
// it makes of that.
var errKilled = errors.New("killed")

// killing is the end of a process, and what follows.
type killing struct {
	// Steps is at which step the process is killed: each message that it
	// sends is one before and one after, and so is whatever it writes.
	Steps int

	// Down is after how many milliseconds the next one starts.
	Down int
}

// mortal is a node whose socketd is killed and started again, on the same
// store. What arrives in between is lost, as it is by lnd.
type mortal struct {
	*world

	key    PubKey
	limits Limits
	node   *node
	store  Store
	host   *testHost

	// killable is until when it is killed.
	killable time.Time

	// told is called for every event that is written.
	told func(Event)

	mu sync.Mutex

	// policy is what every process is started with.
	policy Policy

	// killings are those to come.
	killings []killing

	// life is the process that runs, nil while none does.
	life *life

	// events are those that were written, in order, as a stream of events
	// shows them.
	events []Event

	// gone are the sockets that were stopped.
	gone map[ID]bool
}

// life is one process, from its start until it is killed. It is what its
// manager works on, which can do nothing any more from then on.
type life struct {
	*Manager

	of    *mortal
	doors *doors
	stop  func()

	mu sync.Mutex

	// left is how many steps there are until it is killed, if killing is
	// set.
	left    int
	killing *killing
	dead    bool

	// passed is how many events Notify was called for.
	passed []Event
}

// addMortal starts a node that is killed at some steps before a time.
func (w *world) addMortal(key PubKey, limits Limits, killings []killing,
	killable time.Time) *mortal {

	m := &mortal{
		world:    w,
		key:      key,
		limits:   limits,
		node:     w.addStranger(key),
		store:    NewMemStore(),
		host:     newTestHost(w.t),
		killable: killable,
		told:     func(Event) {},
		killings: killings,
		gone:     make(map[ID]bool),
	}
	m.start()

	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case p := <-m.node.inbox:
				if l := m.current(); l != nil {
					l.Receive(
						p.from, uint32(p.typ), p.body,
					)
				}

			case <-ctx.Done():
				return
			}
		}
	})
	w.t.Cleanup(func() {
		cancel()
		running.Wait()
		m.current().stop()
	})

	return m
}

// start starts a process.
func (m *mortal) start() {
	l := &life{of: m, doors: newDoors(m.t)}
	l.doors.gone = m.isGone

	m.mu.Lock()
	if len(m.killings) > 0 {
		l.killing = &m.killings[0]
		l.left = l.killing.Steps
		m.killings = m.killings[1:]
	}
	policy := m.policy
	m.mu.Unlock()

	l.Manager = New(Config{
		Self:     m.key,
		Limits:   m.limits,
		Policy:   policy,
		Requests: testRequests(),
	}, Deps{
		Messenger: mortalMessenger{l},
		Connector: m.node,
		Channels:  m.node,
		Store:     mortalStore{l},
		Opener:    mortalOpener{l},
		Host:      mortalHost{l},
		Notify:    l.notified,
		Logger:    slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(m.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		err := l.Run(ctx)
		if err != nil && !errors.Is(err, errKilled) {
			m.t.Errorf("run: %v", err)
		}
	})
	l.stop = func() {
		cancel()
		running.Wait()
	}

	m.mu.Lock()
	m.life = l
	m.mu.Unlock()

	// It may have been killed before it was there.
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		m.over(l)
	}
}

// setPolicy sets the policy of a node before anything is sent to it.
func (m *mortal) setPolicy(p Policy) {
	m.mu.Lock()
	m.policy = p
	m.mu.Unlock()

	l := m.current()
	l.Manager.mu.Lock()
	defer l.Manager.mu.Unlock()

	l.cfg.Policy = p
}

// online tells the process that runs that a peer is online.
func (m *mortal) online(peer PubKey) {
	if l := m.current(); l != nil {
		l.PeerOnline(peer)
	}
}

// current returns the process that runs, nil if none does.
func (m *mortal) current() *life {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.life
}

// over notes that a process was killed, and has the next one started.
func (m *mortal) over(l *life) {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.life != l {
		return
	}
	m.life = nil
	go func() {
		l.stop()
		time.Sleep(time.Duration(l.killing.Down) * time.Millisecond)
		m.start()
	}()
}

// isGone tells whether a socket was stopped.
func (m *mortal) isGone(id ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.gone[id]
}

// insist does what needs a process that runs, and does it again until it was
// done without that one being killed.
func (m *mortal) insist(do func(l *life) error) error {
	for {
		if l := m.current(); l != nil {
			err := do(l)
			if !l.isDead() {
				return err
			}
		}
		time.Sleep(time.Second)
	}
}

// asNode returns the process that runs as the node that it is.
func (m *mortal) asNode() *node {
	l := m.current()

	return &node{
		Manager: l.Manager,
		key:     m.key,
		store:   m.store,
		doors:   l.doors,
		host:    m.host,
		events:  slices.Clone(m.events),
	}
}

// isDead tells whether the process was killed.
func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.dead
}

// step takes a step, and tells whether the process is alive after it.
func (l *life) step() bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.dead {
		return false
	}
	if l.killing == nil || !time.Now().Before(l.of.killable) {
		return true
	}

	l.left--
	if l.left > 0 {
		return true
	}
	l.dead = true
	l.of.over(l)

	return false
}

// notified takes an event.
func (l *life) notified(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if !l.dead {
		l.passed = append(l.passed, e)
	}
}

// mortalStore is the store of a process. Embedded would be too much of it.
type mortalStore struct {
	l *life
}

// Write implements Store. The process may end before or after it.
func (s mortalStore) Write(ctx context.Context, b Batch) error {
	if !s.l.step() {
		return errKilled
	}
	m := s.l.of
	if err := m.store.Write(ctx, b); err != nil {
		return err
	}

	m.mu.Lock()
	m.events = append(m.events, b.Events...)
	m.mu.Unlock()
	for _, e := range b.Events {
		m.told(e)
	}
	if !s.l.step() {
		return errKilled
	}

	return nil
}

// Get implements Store.
func (s mortalStore) Get(ctx context.Context, peer PubKey,
	id ID) (Record, error) {

	if s.l.isDead() {
		return Record{}, errKilled
	}

	return s.l.of.store.Get(ctx, peer, id)
}

// Find implements Store.
func (s mortalStore) Find(ctx context.Context, id ID) ([]Record, error) {
	if s.l.isDead() {
		return nil, errKilled
	}

	return s.l.of.store.Find(ctx, id)
}

// List implements Store.
func (s mortalStore) List(ctx context.Context) ([]Record, error) {
	if s.l.isDead() {
		return nil, errKilled
	}

	return s.l.of.store.List(ctx)
}

// Messages implements Store.
func (s mortalStore) Messages(ctx context.Context) ([]Message, error) {
	if s.l.isDead() {
		return nil, errKilled
	}

	return s.l.of.store.Messages(ctx)
}

// mortalMessenger is the messenger of a process.
type mortalMessenger struct {
	l *life
}

// Send implements Messenger. The process may end before or after it.
func (s mortalMessenger) Send(ctx context.Context, peer PubKey, msgType uint16,
	body []byte) error {

	if !s.l.step() {
		return errKilled
	}
	err := s.l.of.node.Send(ctx, peer, msgType, body)
	if !s.l.step() {
		return errKilled
	}

	return err
}

// mortalOpener is the opener of a process.
type mortalOpener struct {
	l *life
}

// Grant implements Opener.
func (o mortalOpener) Grant(socketID ID, leg uint8, token Token) error {
	if o.l.isDead() {
		return errKilled
	}

	return o.l.doors.Grant(socketID, leg, token)
}

// Revoke implements Opener.
func (o mortalOpener) Revoke(socketID ID, leg uint8, token Token) {
	if !o.l.isDead() {
		o.l.doors.Revoke(socketID, leg, token)
	}
}

// offerOf returns the offer of a socket that a node has made, and false if it
// has made none.
func (l *life) offerOf(ctx context.Context, socketID ID) (Offer, bool, error) {
	offers, err := l.List(ctx)
	if err != nil {
		return Offer{}, false, err
	}
	for _, o := range offers {
		if o.Direction == Outgoing && o.SocketID == socketID {
			return o, true, nil
		}
	}

	return Offer{}, false, nil
}

// requirePassed requires that the process has passed on the events that were
// written last, each once.
func (m *mortal) requirePassed() {
	m.t.Helper()
	synctest.Wait()

	l := m.current()
	passed := len(l.passed)
	require.GreaterOrEqual(m.t, len(m.events), passed)
	require.Equal(
		m.t, kindsOf(m.events[len(m.events)-passed:]),
		kindsOf(l.passed),
	)
}
