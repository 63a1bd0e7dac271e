package sidecar

import (
	"context"
	"encoding/json"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
)

const (
	// relayQueue is how many events of the relay may wait for their turn.
	relayQueue = 1024

	// writeInterval is how long what may wait is collected before it is
	// written, so that many of them are written at once.
	writeInterval = 250 * time.Millisecond

	// countInterval is how often what sockets have counted is written. What
	// came later is not known after a crash.
	countInterval = 10 * time.Second
)

// connection is the connection information of a socket as the data of an event
// has it: StartSocket's names first, then ours.
type connection struct {
	Protocol string `json:"protocol"`
	IP       string `json:"ip"`
	Port1    string `json:"port1"`
	Port2    string `json:"port2"`
	SocketID string `json:"socket_id"`

	// IPs are all addresses of the host, the preferred one, which is IP,
	// first.
	IPs []string `json:"ips,omitempty"`

	// Admission says whether a client has to prove that it holds a token.
	// The token itself is in no event.
	Admission string `json:"admission"`

	// Leg is the leg that an offer grants; 0 where there is no offer. With
	// BothLegs it is leg 1.
	Leg      uint32 `json:"leg,omitempty"`
	BothLegs bool   `json:"both_legs,omitempty"`

	// HostPubkey is the node that hosts the socket, as the sender of the
	// offer says; empty where there is no offer.
	HostPubkey string `json:"host_pubkey,omitempty"`

	// IsRequest tells that it is of a request: what is asked for.
	IsRequest bool `json:"is_request,omitempty"`

	Label     string `json:"label,omitempty"`
	ExpiresAt int64  `json:"expires_at,omitempty"`
}

// pinChange is the data of a CLIENT_PINNED event.
type pinChange struct {
	Leg           uint32 `json:"leg"`
	ClientAddr    string `json:"client_addr"`
	OldClientAddr string `json:"old_client_addr"`
}

// limitData is the data of a LIMIT event.
type limitData struct {
	Leg   uint32 `json:"leg"`
	Limit string `json:"limit"`
}

// mustJSON encodes a struct of strings and numbers, which cannot fail.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}

	return data
}

// formatPort returns a port as the API has it.
func formatPort(port uint16) string {
	return strconv.FormatUint(uint64(port), 10)
}

// relayEvents takes events from the relay's own goroutines, which must not
// wait, and acts on them in one of its own. It writes what is to be known after
// a restart.
type relayEvents struct {
	// What follows is immutable.
	queue    chan relay.Event
	ends     chan endRequest
	done     chan struct{}
	sockets  *sockets
	accounts *accounts
	offers   *offer.Manager
	log      btclog.Logger

	// missed counts the events that were let go because the queue was full.
	missed atomic.Uint64

	// journal is what is to be written. Only Run uses it.
	journal *journal
}

// endRequest asks that the end of a socket is written.
type endRequest struct {
	id     relay.ID
	reason string
	result chan<- endResult
}

// endResult is the socket whose end was written.
type endResult struct {
	socket *knownSocket
	err    error
}

// newRelayEvents returns where the events of the relay go. What they are about
// is set before it runs.
func newRelayEvents(db *store.DB, log btclog.Logger) *relayEvents {
	return &relayEvents{
		queue:   make(chan relay.Event, relayQueue),
		ends:    make(chan endRequest),
		done:    make(chan struct{}),
		log:     log,
		journal: newJournal(db, log),
	}
}

// notify is called by the relay. That a socket was closed is always passed on;
// its caller may wait for a moment. Other events come from the data path: if
// the queue is full they are let go and counted.
func (e *relayEvents) notify(event relay.Event) {
	if _, ok := event.(relay.EventClosed); ok {
		select {
		case e.queue <- event:
		case <-e.done:
		}

		return
	}

	select {
	case e.queue <- event:
		return

	default:
	}
	e.missed.Add(1)

	// Whether a leg is used must not be missed: the next packet tells.
	if used, ok := event.(relay.EventUsed); ok {
		socket, ok := e.sockets.relay.Socket(used.SocketID)
		if ok {
			socket.Watch(used.Leg)
		}
	}
}

// writeEnd writes that a socket has ended, behind all that happened to it
// before, and returns the socket. It is ended in the relay afterwards. The
// error wraps errNoSocket if there is no such socket.
func (e *relayEvents) writeEnd(ctx context.Context, id relay.ID,
	reason string) (*knownSocket, error) {

	result := make(chan endResult, 1)
	select {
	case e.ends <- endRequest{id: id, reason: reason, result: result}:
		// It has begun, and does not take long.
		r := <-result

		return r.socket, r.err

	case <-ctx.Done():
		return nil, ctx.Err()

	case <-e.done:
		return nil, relay.ErrClosed
	}
}

// Run acts on events until ctx is done. Then it writes what is left to be
// written: the relay has to have stopped.
func (e *relayEvents) Run(ctx context.Context) error {
	defer close(e.done)

	write := time.NewTimer(0)
	defer write.Stop()
	count := time.NewTicker(countInterval)
	defer count.Stop()

	for {
		select {
		case event := <-e.queue:
			e.handle(ctx, event)

		case end := <-e.ends:
			e.drain(ctx)
			end.result <- e.end(ctx, end.id, end.reason)

		case <-write.C:
			e.drain(ctx)
			_ = e.write(ctx)

		case <-count.C:
			e.drain(ctx)
			e.count(ctx)

		case <-ctx.Done():
			return e.finish(ctx)
		}

		if wait, ok := e.journal.due(time.Now()); ok {
			write.Reset(wait)
		}
	}
}

// finish acts on what is left when there will be no more, and writes it.
func (e *relayEvents) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(
		context.WithoutCancel(ctx), stopTimeout,
	)
	defer cancel()

	e.drain(ctx)
	err := e.write(ctx)
	e.count(ctx)

	return err
}

// drain acts on the events that are there.
func (e *relayEvents) drain(ctx context.Context) {
	for {
		select {
		case event := <-e.queue:
			e.handle(ctx, event)

		default:
			return
		}
	}
}

// handle acts on one event.
func (e *relayEvents) handle(ctx context.Context, event relay.Event) {
	switch event := event.(type) {
	case relay.EventPinned:
		e.sockets.reach.pinned(event.New)
		e.journal.add(entry{
			id:  event.SocketID,
			leg: event.Leg,
			event: &socketrpc.Event{
				Type:     socketrpc.Event_CLIENT_PINNED,
				SocketId: event.SocketID.String(),
				Data: mustJSON(pinChange{
					Leg:           uint32(event.Leg),
					ClientAddr:    formatAddr(event.New),
					OldClientAddr: formatAddr(event.Old),
				}),
			},
		})

	case relay.EventUsed:
		if err := e.used(ctx, event); err != nil {
			e.log.Errorf("Socket %v, leg %d is used: %v",
				event.SocketID, event.Leg, err)
		}

	case relay.EventLimit:
		limit := event.Reason.String()
		e.journal.add(entry{
			id: event.SocketID,
			event: &socketrpc.Event{
				Type:     socketrpc.Event_LIMIT,
				SocketId: event.SocketID.String(),
				Reason:   limit,
				Data: mustJSON(limitData{
					Leg:   uint32(event.Leg),
					Limit: limit,
				}),
			},
		})

	case relay.EventClosed:
		e.closed(ctx, event)
	}
}

// used acts on the coming of a leg's client.
func (e *relayEvents) used(ctx context.Context, event relay.EventUsed) error {
	id, leg := offer.ID(event.SocketID), uint8(event.Leg)
	if event.Token.IsZero() {
		return e.offers.LegUsed(ctx, id, leg)
	}

	return e.offers.TokenUsed(ctx, id, leg, offer.Token(event.Token))
}

// closed acts on the end of a socket.
func (e *relayEvents) closed(ctx context.Context, event relay.EventClosed) {
	// When the daemon stops its sockets are not over.
	if event.Reason == relay.CloseShutdown {
		return
	}

	// One that was stopped, and one that was never known, is not in the
	// database. One that has FAILED was opened again, and could not be
	// kept.
	reason := event.Reason.String()
	k := e.sockets.get(event.SocketID)
	if k != nil && e.sockets.openSocket(k) != nil {
		if _, ok := e.sockets.beginEnd(event.SocketID); ok {
			e.journal.add(endEntry(event.SocketID, reason))
			_ = e.write(ctx)
		}
	}

	e.gone(ctx, event.SocketID, reason)
}

// gone ends what depended on a socket.
func (e *relayEvents) gone(ctx context.Context, id relay.ID, reason string) {
	e.accounts.forget(id)
	err := e.offers.SocketClosed(ctx, offer.ID(id), reason)
	if err != nil {
		e.log.Errorf("Ending the offers of socket %v: %v", id, err)
	}
}

// end writes the end of a socket.
func (e *relayEvents) end(ctx context.Context, id relay.ID,
	reason string) endResult {

	k, ok := e.sockets.beginEnd(id)
	if !ok {
		return endResult{err: errNoSocket}
	}

	last := endEntry(id, reason)
	e.journal.add(last)
	if err := e.write(ctx); err != nil {
		// It stays open, so that it must not be over after a restart.
		e.journal.remove(last)
		e.sockets.cancelEnd(k)

		return endResult{err: err}
	}

	return endResult{socket: k}
}

// endEntry returns what is to be written when a socket has ended.
func endEntry(id relay.ID, reason string) entry {
	return entry{
		id:    id,
		ended: true,
		event: &socketrpc.Event{
			Type:     socketrpc.Event_SOCKET_STOPPED,
			SocketId: id.String(),
			Reason:   reason,
		},
	}
}

// write writes what is to be written now. If that fails, it is logged, and
// tried again later.
func (e *relayEvents) write(ctx context.Context) error {
	return e.journal.write(ctx, e.sockets)
}

// count writes what sockets have counted, and who their clients are, should
// that have been missed.
func (e *relayEvents) count(ctx context.Context) {
	if missed := e.missed.Swap(0); missed > 0 {
		e.log.Warnf("%d events of the relay came too fast, and are "+
			"not told", missed)
	}
	e.journal.count(ctx, e.sockets)
}

// formatIPs returns addresses without ports as the API has them.
func formatIPs(addrs []netip.Addr) []string {
	texts := make([]string, 0, len(addrs))
	for _, addr := range addrs {
		texts = append(texts, addr.String())
	}

	return texts
}

// formatAddr returns an address as the API has it, empty for none.
func formatAddr(addr netip.AddrPort) string {
	if !addr.IsValid() {
		return ""
	}

	return addr.String()
}
