package offer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// maxHosting is how many sockets are opened or ended at a time.
const maxHosting = 4

// The texts with which a request is rejected that the policy allows.
const (
	textNoRoom     = "there is no room for another socket"
	textNotOpened  = "the socket could not be opened"
	textCannotHost = "this node cannot host sockets"
)

// ErrNoRoom is returned by a Host that has as many sockets as it can have.
var ErrNoRoom = errors.New("no room for another socket")

// Order is the socket that a request asks for.
type Order struct {
	// SocketID is the id that the socket is to have.
	SocketID ID

	// Peer is the node that it is opened for.
	Peer PubKey

	// Legs are the legs that it will be granted.
	Legs Legs

	Protocol  Protocol
	Admission Admission

	// Label is the name of the socket, or empty.
	Label string

	// Limits are those that were asked for. One that is 0 is for the host
	// to choose.
	Limits SocketLimits

	// MaxLifetime is how long the socket may live, and MaxBandwidth how
	// many bytes it may pass in a second, in each direction, 0 for no
	// limit. They hold for what is chosen as well.
	MaxLifetime  time.Duration
	MaxBandwidth uint64
}

// Hosted is a socket that was opened for a request.
type Hosted struct {
	// Addrs are the addresses at which it is reached, and Port1 and Port2
	// the ports of its legs.
	Addrs []netip.Addr
	Port1 uint16
	Port2 uint16

	// ExpiresAt is when it ends in any case.
	ExpiresAt time.Time
}

// Host opens the sockets that other nodes request. It is called by several
// goroutines, and may call the manager.
type Host interface {
	// Open opens a socket. If it is open already nothing happens, and it is
	// returned. The error wraps ErrNoRoom if there are too many.
	Open(ctx context.Context, order Order) (Hosted, error)

	// Close ends a socket. It does nothing if it is not there.
	Close(ctx context.Context, socketID ID) error
}

// hostJob is a socket that is to be opened or ended.
type hostJob struct {
	// key is that of the request to open it for, or of what it ends with.
	key offerKey

	// end is the socket to end, zero if one is to be opened.
	end ID
}

// hosting are the sockets that are to be opened and ended, in order. The zero
// value is ready to use. It is not safe for concurrent use.
type hosting struct {
	jobs []hostJob

	// busy is how many are being opened or ended.
	busy int
}

// add adds a socket. There are as many as there are records at most.
func (h *hosting) add(j hostJob) {
	h.jobs = append(h.jobs, j)
}

// take returns the sockets whose turn it is. done must be called for each.
func (h *hosting) take() []hostJob {
	n := min(len(h.jobs), maxHosting-h.busy)
	jobs := h.jobs[:n:n]
	h.jobs = h.jobs[n:]
	h.busy += n

	return jobs
}

// done ends the work on a socket.
func (h *hosting) done() {
	h.busy--
}

// host opens or ends a socket.
func (m *Manager) host(ctx context.Context, j hostJob) {
	var err error
	if j.end.IsZero() {
		err = m.meet(ctx, j.key)
	} else {
		err = m.deps.Host.Close(ctx, j.end)
	}

	// What was begun is done after the next start.
	again := err != nil && ctx.Err() == nil
	if again {
		m.storeFailed(err)
	}

	m.mu.Lock()
	m.hosting.done()
	if again {
		m.setTimer(j.key, time.Now().Add(storeRetry))
	}
	m.mu.Unlock()

	m.wakeUp()
}

// meet opens the socket that a request asks for, and offers it.
func (m *Manager) meet(ctx context.Context, key offerKey) error {
	order, ok, err := m.order(ctx, key)
	if err != nil || !ok {
		return err
	}

	hosted, openErr := m.deps.Host.Open(ctx, order)
	if ctx.Err() != nil {
		return ctx.Err()
	}

	return m.locked(func() error {
		r, ok, err := m.get(ctx, key, Incoming)
		if err != nil || !ok {
			return err
		}
		if openErr != nil {
			return m.cannotMeet(ctx, r, openErr)
		}

		return m.answer(ctx, r, hosted)
	})
}

// order returns what a request orders, and false if it is over.
func (m *Manager) order(ctx context.Context, key offerKey) (Order, bool,
	error) {

	var (
		order Order
		isDue bool
	)
	err := m.locked(func() error {
		r, ok, err := m.get(ctx, key, Incoming)
		if err != nil || !ok {
			return err
		}
		r, err = m.expire(ctx, r)
		if err != nil || r.Ended() {
			return err
		}

		isDue = true
		order = Order{
			SocketID:     r.SocketID,
			Peer:         r.Peer,
			Legs:         r.Legs,
			Protocol:     r.Protocol,
			Admission:    r.Admission,
			Label:        r.Label,
			Limits:       r.Limits,
			MaxLifetime:  m.requests.MaxLifetime,
			MaxBandwidth: m.requests.MaxBandwidth,
		}

		return nil
	})

	return order, isDue, err
}

// cannotMeet rejects a request whose socket could not be opened or offered,
// unless it is over. The caller holds mu.
func (m *Manager) cannotMeet(ctx context.Context, r Record,
	openErr error) error {

	// Whoever took it back is not told.
	if r.Ended() {
		return nil
	}

	text := textNotOpened
	if errors.Is(openErr, ErrNoRoom) {
		text = textNoRoom
	}
	m.deps.Logger.Info("Request not met", "id", r.ID, "peer", r.Peer, "err",
		openErr)
	m.requestsRefused[RequestLimit].Add(1)

	_, _, err := m.apply(ctx, r, change{
		trigger:  triggerLocalReject,
		decision: newID(),
		code:     wire.CodeLimit,
		reason:   text,
	})

	return err
}

// answer offers the socket that was opened for a request to the one who asked.
// If the request is over, the socket ends. The caller holds mu.
func (m *Manager) answer(ctx context.Context, r Record, hosted Hosted) error {
	out, err := r.transition(triggerAnswer)
	if err != nil {
		return err
	}
	if out.verdict != verdictMove {
		m.endSocket(r.Offer)

		return nil
	}

	o, d, err := m.answerTo(r, hosted)
	if err == nil {
		err = m.makeRoom(ctx, o.Offer)
	}
	switch {
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrLimit):
		return m.cannotMeet(ctx, r, fmt.Errorf("%w: %w", ErrNoRoom,
			err))

	case err != nil:
		return err
	}

	// The socket may have ended already. Nobody knows the tokens before the
	// offer is recorded.
	if err := m.openLegs(o); err != nil {
		m.revoke(o)

		return m.cannotMeet(ctx, r, err)
	}
	met := change{trigger: triggerAnswer}.moved(r, out.next)
	err = m.create(ctx, o, Batch{
		Put: []Record{met},
		Add: []Message{d.Message},
	})
	if err != nil {
		m.revoke(o)

		return err
	}
	m.moved(ctx, r, met)
	m.outbox.add(d)

	return nil
}

// answerTo returns the offer that answers a request, and its message.
func (m *Manager) answerTo(r Record, hosted Hosted) (Record, *delivery,
	error) {

	// It may be accepted as long as the socket is there.
	expiresAt := hosted.ExpiresAt
	if longest := time.Now().Add(MaxLifetime); expiresAt.After(longest) {
		expiresAt = longest
	}
	o, err := Proposal{
		Peer:      r.Peer,
		SocketID:  r.SocketID,
		Protocol:  r.Protocol,
		Addrs:     hosted.Addrs,
		Port1:     hosted.Port1,
		Port2:     hosted.Port2,
		Legs:      r.Legs,
		Admission: r.Admission,
		Label:     r.Label,
		ExpiresAt: expiresAt,
	}.record(m.cfg.Self)
	if err != nil {
		return o, nil, err
	}
	o.ReplyTo = r.ID
	d, err := newOpening(o)

	return o, d, err
}

// endSocket has the socket ended that was opened for a request. The offer is
// the request, or the offer that answered it. The caller holds mu.
func (m *Manager) endSocket(o Offer) {
	m.hosting.add(hostJob{key: o.key(), end: o.SocketID})
}
