package relay

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/socketd/socketd/relay/bind"
)

// Socket is an open pair of ports. Its methods may be called by anybody at any
// time, also after its end.
type Socket struct {
	// The following fields are set by Open and never change.

	relay     *Relay
	id        ID
	opts      Options
	createdAt time.Time

	// seq orders sockets by age.
	seq uint64

	// passedBefore is how many bytes had passed before the socket was
	// restored.
	passedBefore uint64

	// legs holds leg 1 and leg 2.
	legs [2]*leg

	// carrier moves the socket's bytes.
	carrier carrier

	// seated is where the socket is counted in the share of all sockets,
	// and charged where it is in that of an account, nil for nowhere. This
	// and what follows changes.
	seated  atomic.Pointer[seat]
	charged atomic.Pointer[seat]

	// read is how many bytes of a TCP socket's connections were read, if
	// Limits.TotalBytes bounds them.
	read atomic.Uint64

	// isExhausted is set when Limits.TotalBytes have passed.
	isExhausted atomic.Bool

	// ending is set by the one caller that ends the socket.
	ending atomic.Bool

	// ended is closed when the socket has ended and that was told.
	ended chan struct{}

	// closeErr is what went wrong with closing the ports. It is written
	// before ended is closed, and read after.
	closeErr error

	// The relay's lock guards the following fields.

	// wakeAt is when to see whether the socket's time is over.
	wakeAt instant

	// queueIndex is the socket's place in the relay's queue.
	queueIndex int

	// account names the account that the socket is counted against.
	account string
}

// carrier moves the bytes of one socket from one leg to the other. It is what
// differs between protocols and between systems.
type carrier interface {
	// start begins to relay. If it fails the ports are still open.
	start() error

	// stop closes the ports, and every connection. When it returns nothing
	// is under way any more. The error is what the system said to closing.
	// It is called once, whether start was called or not.
	stop() error

	// expel resets the connections of a leg that were bound by a key, which
	// was taken out before. When it returns there is none, and none will
	// come.
	expel(l *leg, key *legKey)
}

// newSocket makes a socket of two open ports. Nothing is relayed before its
// carrier is started.
func (r *Relay) newSocket(opts Options, ports [2]*port) *Socket {
	opts = opts.clone()

	// Without its monotonic part the time is compared by the wall clock.
	opts.ExpiresAt = opts.ExpiresAt.Round(0)

	now := time.Now()
	id, restored := opts.name(), opts.Restore
	opts.ID, opts.Restore = ID{}, nil

	s := &Socket{
		relay:      r,
		id:         id,
		opts:       opts,
		createdAt:  now.Round(0),
		ended:      make(chan struct{}),
		queueIndex: notQueued,
	}

	var tokens [2]Token
	for i := range tokens {
		tokens[i] = NewToken()
	}
	if restored != nil {
		tokens = restored.Tokens
	}

	for i, port := range ports {
		s.legs[i] = s.newLeg(Leg1+Leg(i), port, tokens[i])
		s.legs[i].traffic.lastPassed.Store(r.instant(now))
	}

	s.legs[0].peer, s.legs[1].peer = s.legs[1], s.legs[0]
	if restored != nil {
		s.restore(restored)
	}
	s.carrier = r.plane.newCarrier(s)

	r.mu.Lock()
	s.sit(r.share)
	r.mu.Unlock()

	return s
}

// newLeg makes one side of the socket.
func (s *Socket) newLeg(num Leg, port *port, token Token) *leg {
	l := &leg{
		relay:    s.relay,
		socket:   s,
		socketID: s.id,
		num:      num,
		port:     port,
		allow:    s.opts.Allow[num-Leg1],
	}
	l.meter.limits = s.opts.Limits

	if s.opts.Admission == ByToken {
		l.keys = newKeyring(bind.Leg{
			SocketID: s.id,
			Num:      uint8(num),
			Protocol: uint8(s.opts.Protocol),
		}, token)
	}

	return l
}

// maxPairs returns how many pairs of connections the socket may have.
func (s *Socket) maxPairs() int {
	if pairs := s.opts.Limits.Pairs; pairs > 0 {
		return min(pairs, s.relay.cfg.MaxPairs)
	}

	return s.relay.cfg.MaxPairs
}

// exhausted is called when Limits.TotalBytes have passed. Run ends the socket.
func (s *Socket) exhausted() {
	if s.isExhausted.CompareAndSwap(false, true) {
		s.relay.endLater(s, CloseBytes)
	}
}

// fail is called by the carrier when a port is gone although nobody closed it.
// The caller cannot wait for the end of what it is part of, so Run has to end
// the socket.
func (s *Socket) fail(port *port, err error) {
	s.relay.log.Warn("Port failed", "socket", s.id.String(),
		"port", port.num, "err", err)

	s.relay.endLater(s, CloseError)
}

// ID returns the socket's name.
func (s *Socket) ID() ID {
	return s.id
}

// Protocol returns what the clients speak.
func (s *Socket) Protocol() Protocol {
	return s.opts.Protocol
}

// Port returns the public port of a leg, which is Leg1 or Leg2.
func (s *Socket) Port(leg Leg) uint16 {
	return s.leg(leg).port.num
}

// CreatedAt returns when the socket was opened.
func (s *Socket) CreatedAt() time.Time {
	return s.createdAt
}

// ExpiresAt returns when the socket's lifetime ends. The zero value means
// never.
func (s *Socket) ExpiresAt() time.Time {
	return s.opts.ExpiresAt
}

// Watch asks for one EventUsed when the leg, Leg1 or Leg2, next admits a
// packet or a connection. Asking again before it came changes nothing.
func (s *Socket) Watch(leg Leg) {
	s.leg(leg).watched.Store(true)
}

// Stats is what a socket's counters say at one moment. Packets go on while
// they are read, so that sums may be a few packets apart.
type Stats struct {
	// Leg1 is about the side of the first port.
	Leg1 LegStats

	// Leg2 is about the side of the second port.
	Leg2 LegStats
}

// LegStats is what the counters of one leg say.
type LegStats struct {
	// Port is the leg's public port.
	Port uint16

	// Client is the address that the leg is pinned to; with TCP that of the
	// connection which did it. It is the zero value while the leg has no
	// client.
	Client netip.AddrPort

	// PacketsIn and BytesIn count what the leg's clients sent and the leg
	// admitted, also what was dropped afterwards for want of a client on
	// the other leg or by a send error. Bytes are bytes of payload. With
	// TCP no packets are counted.
	PacketsIn uint64
	BytesIn   uint64

	// PacketsOut and BytesOut count what was sent to the leg's clients.
	PacketsOut uint64
	BytesOut   uint64

	// Drops counts the packets, and with TCP the connections, that arrived
	// at this leg and were dropped. It has every reason, also those with a
	// count of 0.
	Drops map[DropReason]uint64

	// Accepted counts the connections that the leg's clients opened and
	// the leg admitted. This and what follows is 0 with UDP.
	Accepted uint64

	// Open is how many of them are open.
	Open int

	// Waiting is how many of the open ones have no partner at the other
	// leg yet.
	Waiting int

	// Unbound is how many connections are open that have not bound yet.
	// They are not counted by Accepted and Open.
	Unbound int

	// Resets counts those that had a partner and ended otherwise than by a
	// clean close of their client: it reset the connection, or fell silent.
	Resets uint64

	// LastSeen is when the leg last admitted a packet. The zero value
	// means never.
	LastSeen time.Time
}

// Stats returns the socket's counters as they are now.
func (s *Socket) Stats() Stats {
	return Stats{
		Leg1: s.leg(Leg1).stats(),
		Leg2: s.leg(Leg2).stats(),
	}
}

// Close ends the socket. When it returns the ports are closed, nothing is
// relayed any more, and EventClosed was delivered. It may be called again, and
// then returns the same; only the first call has an effect. The error is what
// the system said to closing the ports, which are gone all the same.
func (s *Socket) Close() error {
	return s.end(CloseStopped)
}

// end ends the socket for the reason, unless that is done or under way. It
// returns when the socket has ended.
func (s *Socket) end(reason CloseReason) error {
	if !s.ending.CompareAndSwap(false, true) {
		<-s.ended

		return s.closeErr
	}

	s.closeErr = s.carrier.stop()
	s.relay.remove(s)

	s.relay.log.Debug("Socket closed", "socket", s.id.String(),
		"reason", reason)

	s.relay.notify(EventClosed{SocketID: s.id, Reason: reason})
	close(s.ended)

	return s.closeErr
}

// canEnd tells whether the socket has a limit that can end it.
func (s *Socket) canEnd() bool {
	return s.opts.IdleTimeout > 0 || !s.opts.ExpiresAt.IsZero()
}

// due returns how long the socket still has if nothing passes, and what will
// end it then. Its time is over if that is not positive.
func (s *Socket) due(now instant, wall time.Time) (CloseReason, time.Duration) {
	reason, left := CloseLifetime, maxWait

	if !s.opts.ExpiresAt.IsZero() {
		left = s.opts.ExpiresAt.Sub(wall)
	}

	if s.opts.IdleTimeout > 0 {
		passed := max(
			s.legs[0].traffic.lastPassed.Load(),
			s.legs[1].traffic.lastPassed.Load(),
		)

		idle := s.opts.IdleTimeout - now.sub(passed)
		if idle < left {
			reason, left = CloseIdle, idle
		}
	}

	return reason, left
}

// leg returns the leg of that number, which is Leg1 or Leg2.
func (s *Socket) leg(num Leg) *leg {
	return s.legs[num-Leg1]
}
