package sidecar

import (
	"context"
	"encoding/json"
	"net/netip"
	"strconv"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/socketrpc"
)

// relayQueue is how many events of the relay may wait for their turn.
const relayQueue = 1024

// connection is the connection information of a socket as the data of an event
// has it: StartSocket's names first, then ours.
type connection struct {
	Protocol string `json:"protocol"`
	IP       string `json:"ip"`
	Port1    string `json:"port1"`
	Port2    string `json:"port2"`
	SocketID string `json:"socket_id"`

	// Admission says whether a client has to prove that it holds a token.
	// The token itself is in no event.
	Admission string `json:"admission"`

	// Leg is the leg that an offer grants; 0 where there is no offer.
	Leg       uint32 `json:"leg,omitempty"`
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
// wait, and acts on them in one of its own.
type relayEvents struct {
	queue chan relay.Event
	done  chan struct{}

	sockets  *sockets
	accounts *accounts
	offers   *offer.Manager
	hub      *hub
	log      btclog.Logger
}

// newRelayEvents returns relayEvents without what acts on the events, which
// the relay itself is needed for; the caller sets it before the relay runs.
func newRelayEvents(hub *hub, log btclog.Logger) *relayEvents {
	return &relayEvents{
		queue: make(chan relay.Event, relayQueue),
		done:  make(chan struct{}),
		hub:   hub,
		log:   log,
	}
}

// notify is called by the relay. That a socket was closed is always passed on;
// its caller may wait for a moment. Other events come from the data path: if
// the queue is full they are let go.
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

	// Whether a leg is used must not be missed: the next packet tells.
	if used, ok := event.(relay.EventUsed); ok {
		socket, ok := e.sockets.relay.Socket(used.SocketID)
		if ok {
			socket.Watch(used.Leg)
		}
	}
}

// Run acts on events until ctx is done.
func (e *relayEvents) Run(ctx context.Context) error {
	defer close(e.done)

	for {
		select {
		case event := <-e.queue:
			e.handle(ctx, event)

		case <-ctx.Done():
			return nil
		}
	}
}

// handle acts on one event.
func (e *relayEvents) handle(ctx context.Context, event relay.Event) {
	switch event := event.(type) {
	case relay.EventPinned:
		e.hub.publish(&socketrpc.Event{
			Type:     socketrpc.Event_CLIENT_PINNED,
			SocketId: event.SocketID.String(),
			Data: mustJSON(pinChange{
				Leg:           uint32(event.Leg),
				ClientAddr:    formatAddr(event.New),
				OldClientAddr: formatAddr(event.Old),
			}),
		})

	case relay.EventUsed:
		if err := e.used(ctx, event); err != nil {
			e.log.Errorf("Socket %v, leg %d is used: %v",
				event.SocketID, event.Leg, err)
		}

	case relay.EventLimit:
		limit := event.Reason.String()
		e.hub.publish(&socketrpc.Event{
			Type:     socketrpc.Event_LIMIT,
			SocketId: event.SocketID.String(),
			Reason:   limit,
			Data: mustJSON(limitData{
				Leg:   uint32(event.Leg),
				Limit: limit,
			}),
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
	// When the daemon stops there is nobody left to tell.
	if event.Reason == relay.CloseShutdown {
		return
	}

	reason := event.Reason.String()
	e.sockets.forget(event.SocketID)
	e.accounts.forget(event.SocketID)
	e.hub.publish(&socketrpc.Event{
		Type:     socketrpc.Event_SOCKET_STOPPED,
		SocketId: event.SocketID.String(),
		Reason:   reason,
	})

	err := e.offers.SocketClosed(ctx, offer.ID(event.SocketID), reason)
	if err != nil {
		e.log.Errorf("Ending the offers of socket %v: %v",
			event.SocketID, err)
	}
}

// formatAddr returns an address as the API has it, empty for none.
func formatAddr(addr netip.AddrPort) string {
	if !addr.IsValid() {
		return ""
	}

	return addr.String()
}

// socketStarted returns the event that a socket was opened.
func (s *sockets) socketStarted(socket *relay.Socket,
	label string) *socketrpc.Event {

	return &socketrpc.Event{
		Type:     socketrpc.Event_SOCKET_STARTED,
		SocketId: socket.ID().String(),
		Data: mustJSON(connection{
			Protocol: socket.Protocol().String(),
			IP:       s.ip(),
			Port1:    formatPort(socket.Port(relay.Leg1)),
			Port2:    formatPort(socket.Port(relay.Leg2)),
			SocketID: socket.ID().String(),
			Label:    label,

			Admission: socket.Options().Admission.String(),
		}),
	}
}
