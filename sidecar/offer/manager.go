package offer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"golang.org/x/time/rate"
)

const (
	// sendTimeout is how long the messenger may take for one message.
	sendTimeout = 10 * time.Second

	// maxInbound is how many received messages may wait to be read.
	maxInbound = 1024

	// storeRetry is how long to wait after the store has failed.
	storeRetry = 5 * time.Second

	// storeLogInterval is how often a failure of the store is logged at
	// most. Each message of a peer would cause another one.
	storeLogInterval = time.Minute
)

// Config has the values that a Manager works with.
type Config struct {
	// Self is our own public key.
	Self PubKey

	// Limits bound what the manager keeps. See DefaultLimits.
	Limits Limits

	// Policy tells which offers are accepted without anybody being asked.
	Policy Policy

	// CannotHost tells that no socket can be hosted, so that every request
	// is refused.
	CannotHost bool

	// Requests tells whose requests are met before SetRequestPolicy says
	// otherwise.
	Requests RequestPolicy
}

// Deps are what a Manager works on. All of them must be set.
type Deps struct {
	// Messenger sends messages to other nodes.
	Messenger Messenger

	// Store keeps the records. Run goes on with what is in it. Nobody else
	// changes it.
	Store Store

	// Connector has lnd connect to peers for which something waits.
	Connector Connector

	// Channels knows the peers that we have channels with. The policy asks.
	Channels Channels

	// Opener lets the far ends of TOKEN sockets into their legs.
	Opener Opener

	// Host opens the sockets that other nodes request.
	Host Host

	// Notify is called for every event once it was written to the store.
	// The events of one offer come in order, and one call at a time is
	// made. It must not block, and may call the manager. If the process
	// ends right after an event was written Notify is never called for it.
	Notify func(Event)

	// Logger takes what is worth to be known. What other nodes do is logged
	// at debug level.
	Logger *slog.Logger
}

// Manager makes offers and takes them in, and keeps them in agreement with the
// other nodes. Its methods are safe for concurrent use. Those that take a
// context wait until Run has read the store, and what they want to be sent is
// sent while it runs.
type Manager struct {
	cfg  Config
	deps Deps

	counters counters

	// requestsRefused counts the requests that were refused.
	requestsRefused requestCounters

	limiter *rateLimiter
	inbound chan inbound

	// wake tells Run that there may be something to do.
	wake chan struct{}

	// loaded is closed when the store was read, so that what follows from
	// it is known.
	loaded chan struct{}

	// stopped is closed when Run has returned.
	stopped chan struct{}

	// storeLog limits how often failures of the store are logged.
	storeLog rate.Sometimes

	// mu guards what follows, and is held while the store and the opener
	// are called: what is read of the store stays true until it is written,
	// and what is granted is what it says. It is not held while the
	// messenger or Notify are called.
	mu sync.Mutex

	timers *timers
	outbox *outbox
	tally  *tally
	dials  *dials

	// hosting has the sockets that are to be opened for requests, and to be
	// ended.
	hosting hosting

	// requests tells whose requests are met. It is replaced, never changed.
	requests RequestPolicy

	// early has the closes that came before their offer, until their timer
	// fires.
	early map[offerKey]struct{}

	// events have happened and were not passed to Notify yet. They are by
	// the one goroutine that has set notifying.
	events    []Event
	notifying bool
}

// inbound is a message that was received.
type inbound struct {
	peer    PubKey
	msgType wire.MsgType
	body    []byte
}

// New returns a Manager. It does nothing before Run runs.
func New(cfg Config, deps Deps) *Manager {
	timers := newTimers()

	return &Manager{
		cfg:      cfg,
		deps:     deps,
		limiter:  newRateLimiter(cfg.Limits),
		inbound:  make(chan inbound, maxInbound),
		wake:     make(chan struct{}, 1),
		loaded:   make(chan struct{}),
		stopped:  make(chan struct{}),
		storeLog: rate.Sometimes{Interval: storeLogInterval},
		timers:   timers,
		outbox:   newOutbox(timers),
		tally:    newTally(),
		dials:    newDials(timers),
		requests: cfg.Requests.Clone(),
		early:    make(map[offerKey]struct{}),
	}
}

// Run goes on with what is in the store, reads messages and sends what is due
// until ctx is done. It returns nil when everything that it started has ended,
// or an error if the store cannot be read. It can run once.
func (m *Manager) Run(ctx context.Context) error {
	defer close(m.stopped)

	if err := m.load(ctx); err != nil {
		return err
	}

	var calls sync.WaitGroup
	defer calls.Wait()

	timer := time.NewTimer(0)
	defer timer.Stop()

	for {
		now, next, ok := m.due(ctx)
		for _, j := range now.sends {
			calls.Go(func() { m.send(ctx, j) })
		}
		for _, peer := range now.connects {
			calls.Go(func() { m.connect(ctx, peer) })
		}
		for _, j := range now.hosts {
			calls.Go(func() { m.host(ctx, j) })
		}
		m.notify()

		if ok {
			timer.Reset(time.Until(next))
		} else {
			timer.Stop()
		}

		select {
		case in := <-m.inbound:
			m.handle(ctx, in)

		case <-m.wake:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Receive takes a custom message of a peer. It returns at once. Messages that
// are not of this protocol are ignored; the body is copied.
func (m *Manager) Receive(peer PubKey, msgType uint32, body []byte) {
	typ, ok := wire.ParseMsgType(msgType)
	if !ok {
		return
	}

	// Whatever is sent counts for the rate.
	in := inbound{peer: peer, msgType: typ}
	if !m.limiter.allow(peer) {
		m.refused(in, refusedRate, nil)

		return
	}
	if len(body) > wire.MaxSize {
		m.refused(in, refusedOversized, nil)

		return
	}

	in.body = bytes.Clone(body)
	select {
	case m.inbound <- in:
	default:
		m.refused(in, refusedLimit, nil)
	}
}

// refused counts and logs a message that is not acted on.
func (m *Manager) refused(in inbound, why refusal, err error) {
	m.counters.add(why)
	m.deps.Logger.Debug("Message refused", "peer", in.peer, "type",
		in.msgType, "why", why, "err", err)
}

// work is what is to be done now and takes time.
type work struct {
	// sends are the messages to send, and connects the peers to connect to.
	sends    []job
	connects []PubKey

	// hosts are the sockets to open for requests, or to end.
	hosts []hostJob
}

// due does what is due by now. It returns what is to be done besides, and when
// the next thing is due, if any is.
func (m *Manager) due(ctx context.Context) (work, time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()

	now := time.Now()
	for {
		key, ok := m.timers.pop(now)
		if !ok {
			break
		}

		switch key.kind {
		case timerOffer:
			if err := m.offerDue(ctx, key.offerKey); err != nil {
				m.storeFailed(err)
				m.timers.set(key, now.Add(storeRetry))
			}

		case timerResend:
			err := m.resendDue(ctx, key.offerKey, now)
			if err != nil {
				m.storeFailed(err)
				m.timers.set(key, now.Add(storeRetry))
			}

		case timerEarly:
			delete(m.early, key.offerKey)

		case timerConnect:
			m.dials.due(key.peer, m.outbox.waits(key.peer))
		}
	}

	w := work{
		sends:    m.outbox.take(now),
		connects: m.dials.take(now),
		hosts:    m.hosting.take(),
	}
	next, ok := m.timers.next()

	return w, next, ok
}

// storeFailed logs that the store has failed.
func (m *Manager) storeFailed(err error) {
	m.storeLog.Do(func() {
		m.deps.Logger.Error("Offer store failed", "err", err)
	})
}

// send sends a message and notes how it went.
func (m *Manager) send(ctx context.Context, j job) {
	sendCtx, cancel := context.WithTimeout(ctx, sendTimeout)
	err := m.deps.Messenger.Send(sendCtx, j.peer, uint16(j.msgType), j.body)
	cancel()

	if err != nil {
		m.deps.Logger.Debug("Message not sent", "peer", j.peer, "type",
			j.msgType, "err", err)
	}

	// What was sent is recorded even if we are stopping.
	ctx = context.WithoutCancel(ctx)
	err = m.locked(func() error {
		m.outbox.done(j.peer)
		if j.delivery == nil {
			return nil
		}

		return m.attempted(ctx, j.delivery, err)
	})
	if err != nil {
		m.storeFailed(err)
	}
}

// attempted notes how an attempt to deliver a message went. The caller holds
// mu.
func (m *Manager) attempted(ctx context.Context, d *delivery,
	sendErr error) error {

	var err error
	opens := d.Type == wire.TypeOffer || d.Type == wire.TypeRequest
	if opens && sendErr == nil {
		err = m.sent(ctx, d.key())
	}
	if d.gone {
		return err
	}

	now := time.Now()
	d.offline = errors.Is(sendErr, ErrNotConnected)
	switch {
	case d.offline:
		m.dials.want(d.Peer, now)

	case sendErr == nil:
		m.dials.reached(d.Peer)
	}
	m.outbox.retry(d, now)

	return err
}

// locked calls a function with mu held, and then has done what follows from it.
func (m *Manager) locked(f func() error) error {
	m.mu.Lock()
	err := f()
	m.mu.Unlock()

	m.notify()
	m.wakeUp()

	return err
}

// notify passes the events that have happened to Notify, unless somebody else
// does so already, who then passes these too. The caller does not hold mu.
func (m *Manager) notify() {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.notifying {
		return
	}
	m.notifying = true

	for len(m.events) > 0 {
		event := m.events[0]
		m.events = m.events[1:]

		m.mu.Unlock()
		m.deps.Notify(event)
		m.mu.Lock()
	}
	m.notifying = false
}

// newID returns a random id.
func newID() ID {
	var id ID

	// It never fails, and never returns less.
	_, _ = rand.Read(id[:])

	return id
}
