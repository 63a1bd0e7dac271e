package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Relay opens sockets and ends them.
type Relay struct {
	// The following fields are set by New and never change.

	cfg    Config
	log    *slog.Logger
	notify func(Event)
	ports  *portPool
	self   *selfAddrs

	// cookies makes the challenges of clients that bind.
	cookies *cookies

	// plane makes the carriers of sockets.
	plane *plane

	// conns counts the connections of all TCP sockets.
	conns atomic.Int64

	// epoch is what an instant counts from.
	epoch time.Time

	// wake tells Run to look at doomed and queue again. It holds one
	// token.
	wake chan struct{}

	// opening counts the calls of Open that are under way. It only grows
	// with mu held and closed not set, so that Run can wait for it.
	opening sync.WaitGroup

	// mu guards the following fields, and those of Socket that say so. It
	// is never held during a system call or a call of notify. The locks of
	// the plane are taken before it.
	mu sync.Mutex

	// running is set when Run is called.
	running bool

	// closed is set when no socket may be opened any more.
	closed bool

	// sockets holds the open sockets.
	sockets map[ID]*Socket

	// reserved holds the places that calls of Open have for sockets to
	// come.
	reserved map[ID]struct{}

	// opened is the number of sockets that ever were open.
	opened uint64

	// queue orders the sockets that can end by themselves.
	queue deadlines

	// doomed holds sockets that Run has to end.
	doomed []doomed

	// share bounds what all sockets pass together; nil if nothing does.
	share *share

	// accounts holds the accounts that sockets are charged to.
	accounts map[string]*account

	// bandwidth and accountBandwidth are what the shares of all sockets and
	// of each account are made for.
	bandwidth, accountBandwidth uint64
}

// doomed is a socket that Run has to end.
type doomed struct {
	socket *Socket
	reason CloseReason
}

// New makes a relay. It does no I/O; an error means that the configuration is
// wrong.
//
// The relay calls notify with what happens to its sockets, from many goroutines
// at once; the events of one leg come in order. Packets wait meanwhile, so
// notify must not block. It may ask the relay and its sockets anything, but
// must call neither Relay.Open nor Socket.Close, which wait for events under
// way. An event may come before the call of Open that it follows from has
// returned. Nil means that nobody wants to know.
func New(cfg Config, notify func(Event)) (*Relay, error) {
	cfg.Listen = cfg.Listen.Unmap()
	cfg.SelfAddrs = slices.Clone(cfg.SelfAddrs)

	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}

	if notify == nil {
		notify = func(Event) {}
	}

	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	r := &Relay{
		cfg:    cfg,
		log:    log,
		notify: notify,
		ports:  newPortPool(cfg.Ports, cfg.PortRest),
		self: newSelfAddrs(
			append(slices.Clone(cfg.SelfAddrs), cfg.Listen)...,
		),
		cookies:  newCookies(),
		epoch:    time.Now(),
		wake:     make(chan struct{}, 1),
		sockets:  make(map[ID]*Socket),
		reserved: make(map[ID]struct{}),
		accounts: make(map[string]*account),
	}
	r.plane = newPlane(r)
	r.setTotal(cfg.Bandwidth)
	r.setAccounts(cfg.AccountBandwidth)

	return r, nil
}

// Run ends sockets whose time is over until the context is done. Then it ends
// all of them, and Open fails with ErrClosed from then on. When Run returns
// every port is closed, every goroutine of the relay is gone, and every event
// was delivered. It can be called once; it returns nil after a shutdown.
func (r *Relay) Run(ctx context.Context) error {
	r.mu.Lock()
	running := r.running
	r.running = true
	r.mu.Unlock()

	if running {
		return errors.New("relay: Run was called twice")
	}

	timer := time.NewTimer(maxWait)
	defer timer.Stop()

	for ctx.Err() == nil {
		timer.Reset(r.endDue(ctx))

		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
		}
	}

	r.shutdown()

	return nil
}

// Open opens a socket on two ports and relays from then on. If it fails
// nothing stays behind. The error is ErrClosed, ErrTooManySockets,
// ErrNoFreePort, ErrPortTaken, ErrProtocol, ErrAdmission, ErrOptions, also if a
// socket of that name is open, or what the system said.
func (r *Relay) Open(opts Options) (*Socket, error) {
	if err := opts.validate(time.Now()); err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}

	opts.ID = opts.name()
	if err := r.reserve(opts.ID); err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	defer r.opening.Done()

	ports, err := r.listenFor(&opts)
	if err != nil {
		r.unreserve(opts.ID)

		return nil, fmt.Errorf("open socket: %w", err)
	}

	s := r.newSocket(opts, ports)
	if err := s.carrier.start(); err != nil {
		r.unreserve(opts.ID)
		r.discard(s)

		return nil, fmt.Errorf("open socket: %w", err)
	}

	if !r.register(s) {
		r.discard(s)

		return nil, fmt.Errorf("open socket: %w", ErrClosed)
	}

	r.log.Debug("Socket opened", "socket", s.id.String(), "port1",
		s.Port(Leg1), "port2", s.Port(Leg2))

	return s, nil
}

// Socket returns the open socket of that id.
func (r *Relay) Socket(id ID) (*Socket, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	s, ok := r.sockets[id]

	return s, ok
}

// Sockets returns the open sockets, the oldest first.
func (r *Relay) Sockets() []*Socket {
	r.mu.Lock()
	sockets := make([]*Socket, 0, len(r.sockets))
	for _, s := range r.sockets {
		sockets = append(sockets, s)
	}
	r.mu.Unlock()

	slices.SortFunc(sockets, func(a, b *Socket) int {
		return cmp.Compare(a.seq, b.seq)
	})

	return sockets
}

// NumSockets returns the number of open sockets.
func (r *Relay) NumSockets() int {
	r.mu.Lock()
	defer r.mu.Unlock()

	return len(r.sockets)
}

// endDue ends the sockets that have to end and those whose time is over, and
// returns how long nothing else has to end. It stops early if the context ends.
func (r *Relay) endDue(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		s, reason, wait := r.nextDue()
		if s == nil {
			return wait
		}

		r.end(s, reason)
	}

	return 0
}

// end ends a socket that nobody else waits for.
func (r *Relay) end(s *Socket, reason CloseReason) {
	if err := s.end(reason); err != nil {
		r.log.Warn("Closing a socket's ports", "socket", s.id.String(),
			"err", err)
	}
}

// nextDue returns a socket to end and why, or nil and how long there is none.
func (r *Relay) nextDue() (*Socket, CloseReason, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if last := len(r.doomed) - 1; last >= 0 {
		next := r.doomed[last]
		r.doomed = slices.Delete(r.doomed, last, last+1)

		return next.socket, next.reason, 0
	}

	wall := time.Now()
	now := r.instant(wall)
	s, reason := r.queue.next(now, wall)

	return s, reason, r.queue.wait(now)
}

// shutdown lets no further socket be opened and ends all that are open.
func (r *Relay) shutdown() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()

	r.opening.Wait()

	for _, s := range r.Sockets() {
		r.end(s, CloseShutdown)
	}

	if err := r.plane.stop(); err != nil {
		r.log.Warn("Stopping the relay", "err", err)
	}
}

// reserve holds a place for one socket, and its name. Once it succeeds, the
// caller must see to opening.Done, and give the place back by unreserve or
// register.
func (r *Relay) reserve(id ID) error {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.closed {
		return ErrClosed
	}

	_, isOpen := r.sockets[id]
	_, isComing := r.reserved[id]
	if isOpen || isComing {
		return fmt.Errorf("%w: socket %v is open already", ErrOptions,
			id)
	}

	if len(r.sockets)+len(r.reserved) >= r.cfg.MaxSockets {
		return fmt.Errorf("%w: all %d are open", ErrTooManySockets,
			r.cfg.MaxSockets)
	}

	r.reserved[id] = struct{}{}
	r.opening.Add(1)

	return nil
}

// unreserve gives a place back.
func (r *Relay) unreserve(id ID) {
	r.mu.Lock()
	defer r.mu.Unlock()

	delete(r.reserved, id)
}

// register puts the socket on its reserved place. It reports false, and gives
// the place back, if the relay has shut down or the socket lost a port.
func (r *Relay) register(s *Socket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()

	delete(r.reserved, s.id)
	if r.closed || s.ending.Load() {
		return false
	}

	// The limit may have changed since the socket was made.
	s.sit(r.share)

	s.seq = r.opened
	r.opened++
	r.sockets[s.id] = s

	now := time.Now()
	if r.queue.add(s, r.instant(now), now) {
		r.wakeRun()
	}

	return true
}

// remove forgets a socket whose ports are closed.
func (r *Relay) remove(s *Socket) {
	r.mu.Lock()
	delete(r.sockets, s.id)
	r.queue.remove(s)
	r.closeAccount(s.account)
	s.account = ""
	r.mu.Unlock()

	r.ports.retire(time.Now(), s.Port(Leg1), s.Port(Leg2))
}

// endLater hands Run a socket to end: its carrier cannot wait for the end of
// what it is part of.
func (r *Relay) endLater(s *Socket, reason CloseReason) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.doomed = append(r.doomed, doomed{socket: s, reason: reason})
	r.wakeRun()
}

// wakeRun makes Run look again.
func (r *Relay) wakeRun() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// discard stops a socket that nobody has heard of.
func (r *Relay) discard(s *Socket) {
	if !s.ending.CompareAndSwap(false, true) {
		// It lost a port, and Run ends it.
		<-s.ended

		return
	}

	if err := s.carrier.stop(); err != nil {
		r.log.Warn("Closing ports", "err", err)
	}

	r.ports.giveBack(s.Port(Leg1), s.Port(Leg2))
}

// instant returns a time on the relay's monotonic clock.
func (r *Relay) instant(now time.Time) instant {
	return instant(now.Sub(r.epoch))
}
