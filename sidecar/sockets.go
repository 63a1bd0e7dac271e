package sidecar

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
)

var (
	// errCannotHost is wrapped with what the owner has to set.
	errCannotHost = errors.New("this node cannot host sockets")

	// errNoSocket is returned for an id that no open socket has.
	errNoSocket = errors.New("no open socket has this id")

	// errFailed is wrapped for a socket that is there and not open, with
	// why.
	errFailed = errors.New("the socket is FAILED")
)

// sockets are the sockets of this node: those that are open in the relay, and
// those that could not be opened again. What is known of them beyond what the
// relay needs to know is here, and all of it is in the database too.
type sockets struct {
	// What follows is immutable.
	relay    *relay.Relay
	addrs    []netip.Addr
	reach    *reach
	ports    string
	defaults socketDefaults
	db       *store.DB

	// events is who writes the end of a socket.
	events *relayEvents

	// opening is held while the default socket is started, and while one
	// that has FAILED is opened again or ended, so that this is not done
	// twice. It is taken before mu.
	opening sync.Mutex

	// mu guards what follows. Nobody waits for anything while it is held.
	mu sync.Mutex

	// defaultID is the id of the default socket, the zero id before the
	// first one. The socket may have ended.
	defaultID relay.ID

	// known has the sockets that are in the database. One that has just
	// ended may be here for a moment.
	known map[relay.ID]*knownSocket
}

// knownSocket is a socket that is in the database.
type knownSocket struct {
	// before is what the legs had counted before the last start, nil for a
	// socket that was opened since. It is immutable.
	before *[2]store.Counters

	// written is closed when it is in the database. It is known a moment
	// before: whoever is told of it must find it.
	written chan struct{}

	// The lock of sockets guards the following fields.

	// kept is the socket as it was written last.
	kept store.Socket

	// socket is the open socket, nil while it has FAILED.
	socket *relay.Socket

	// ending tells that its end is about to be written.
	ending bool

	// The following fields are what was written last of the legs. Only the
	// one who writes them uses them: at first who restores the socket, then
	// the goroutine of the relay's events.
	pins     [2]store.Pin
	counters [2]store.Counters
}

// canHost returns nil if this node can host sockets, and else what to set.
func (s *sockets) canHost() error {
	if len(s.addrs) > 0 {
		return nil
	}

	return fmt.Errorf("%w: set relay.externalip=<public address> and "+
		"open UDP and TCP %s", errCannotHost, s.ports)
}

// ip is the preferred address at which clients reach the sockets.
func (s *sockets) ip() string {
	if len(s.addrs) == 0 {
		return ""
	}

	return s.addrs[0].String()
}

// ips are all addresses at which clients reach the sockets, the preferred one
// first.
func (s *sockets) ips() []string {
	return formatIPs(s.addrs)
}

// startDefault returns the default socket, and opens it if it does not run. One
// that has FAILED keeps its place: its ports may be known to others.
func (s *sockets) startDefault() (*relay.Socket, error) {
	if err := s.canHost(); err != nil {
		return nil, err
	}

	s.opening.Lock()
	defer s.opening.Unlock()

	s.mu.Lock()
	id := s.defaultID
	s.mu.Unlock()

	socket, err := s.find(id)
	if !errors.Is(err, errNoSocket) {
		return socket, err
	}

	return s.open(s.defaults.defaultSocket(), "", true)
}

// start opens a further socket.
func (s *sockets) start(opts relay.Options, label string) (*relay.Socket,
	error) {

	if err := s.canHost(); err != nil {
		return nil, err
	}

	return s.open(opts, label, false)
}

// open opens a socket. When it returns the socket is in the database, so that
// it is there again after a restart.
func (s *sockets) open(opts relay.Options, label string,
	isDefault bool) (*relay.Socket, error) {

	socket, err := s.relay.Open(opts)
	if err != nil {
		return nil, err
	}

	k := &knownSocket{
		written: make(chan struct{}),
		kept:    keptSocket(socket, label, isDefault),
		socket:  socket,
	}
	event, err := encodeEvent(s.socketStarted(&k.kept))
	if err == nil {
		s.add(k)

		// What has begun goes on, whoever has given up waiting for it.
		err = s.db.Write(context.Background(), store.Batch{
			Sockets: []store.Socket{k.kept},
			Events:  [][]byte{event},
		})
	}
	if err != nil {
		s.forget(socket.ID())
		close(k.written)

		return nil, errors.Join(
			fmt.Errorf("keep socket: %w", err), socket.Close(),
		)
	}
	close(k.written)

	return socket, nil
}

// add makes a socket known.
func (s *sockets) add(k *knownSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()

	id := relay.ID(k.kept.ID)
	s.known[id] = k
	if k.kept.Default {
		s.defaultID = id
	}
}

// find returns an open socket by its id. The error wraps errNoSocket, or
// errFailed.
func (s *sockets) find(id relay.ID) (*relay.Socket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	k, ok := s.known[id]
	if !ok || k.ending {
		return nil, errNoSocket
	}
	if k.socket == nil {
		return nil, fmt.Errorf("%w: %s", errFailed, k.kept.Reason)
	}

	// It may have ended a moment ago.
	socket, ok := s.relay.Socket(id)
	if !ok {
		return nil, errNoSocket
	}

	return socket, nil
}

// stop ends a socket, open or not. The error wraps errNoSocket if there is
// none.
func (s *sockets) stop(ctx context.Context, id relay.ID) error {
	s.opening.Lock()
	defer s.opening.Unlock()

	return s.end(ctx, id, relay.CloseStopped.String())
}

// end ends a socket, open or not: first in the database, then in the relay. The
// caller holds opening.
func (s *sockets) end(ctx context.Context, id relay.ID, reason string) error {
	if k := s.get(id); k != nil {
		<-k.written
	}

	k, err := s.events.writeEnd(ctx, id, reason)
	if err != nil {
		return err
	}
	if k.socket == nil {
		s.relay.Unhold(k.kept.Ports[:]...)

		return nil
	}

	return k.socket.Close()
}

// stopDefault ends the default socket, if there is one.
func (s *sockets) stopDefault(ctx context.Context) error {
	s.mu.Lock()
	id := s.defaultID
	s.mu.Unlock()

	err := s.stop(ctx, id)
	if errors.Is(err, errNoSocket) {
		return nil
	}

	return err
}

// describe returns the label of a socket, and whether it is the default one.
func (s *sockets) describe(id relay.ID) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	k, ok := s.known[id]
	if !ok {
		return "", false
	}

	return k.kept.Label, id == s.defaultID
}

// get returns a known socket, nil if there is none.
func (s *sockets) get(id relay.ID) *knownSocket {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.known[id]
}

// isWritten tells whether a known socket is in the database.
func (k *knownSocket) isWritten() bool {
	select {
	case <-k.written:
		return true

	default:
		return false
	}
}

// openSocket returns the open socket of a known one, nil while there is none.
func (s *sockets) openSocket(k *knownSocket) *relay.Socket {
	s.mu.Lock()
	defer s.mu.Unlock()

	return k.socket
}

// setOpen notes whether a socket that had FAILED is open: without a socket it
// is not.
func (s *sockets) setOpen(k *knownSocket, kept store.Socket,
	socket *relay.Socket) {

	s.mu.Lock()
	defer s.mu.Unlock()

	k.kept, k.socket = kept, socket
}

// opened returns the known sockets that are open, or were until the relay
// stopped. What is open stays so: their socket can be read.
func (s *sockets) opened() []*knownSocket {
	s.mu.Lock()
	defer s.mu.Unlock()

	opened := make([]*knownSocket, 0, len(s.known))
	for _, k := range s.known {
		if k.socket != nil && !k.ending {
			opened = append(opened, k)
		}
	}

	return opened
}

// beginEnd marks a known socket as ending, and returns it. It reports false if
// there is none, or somebody has done so.
func (s *sockets) beginEnd(id relay.ID) (*knownSocket, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	k, ok := s.known[id]
	if !ok || k.ending {
		return nil, false
	}
	k.ending = true

	return k, true
}

// cancelEnd takes that back.
func (s *sockets) cancelEnd(k *knownSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()

	k.ending = false
}

// forget drops what is known of a socket that is not in the database any more.
func (s *sockets) forget(id relay.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()

	delete(s.known, id)
}

// socketView is a socket at one moment.
type socketView struct {
	kept      store.Socket
	before    *[2]store.Counters
	socket    *relay.Socket
	isDefault bool
}

// list returns the sockets that have not ended, oldest first.
func (s *sockets) list() []socketView {
	s.mu.Lock()
	views := make([]socketView, 0, len(s.known))
	for id, k := range s.known {
		if k.ending {
			continue
		}
		views = append(views, socketView{
			kept:      k.kept,
			before:    k.before,
			socket:    k.socket,
			isDefault: id == s.defaultID,
		})
	}
	s.mu.Unlock()

	views = slices.DeleteFunc(views, func(v socketView) bool {
		if v.socket == nil {
			return false
		}
		_, ok := s.relay.Socket(v.socket.ID())

		return !ok
	})
	slices.SortFunc(views, func(a, b socketView) int {
		return cmp.Or(
			a.kept.CreatedAt.Compare(b.kept.CreatedAt),
			bytes.Compare(a.kept.ID[:], b.kept.ID[:]),
		)
	})

	return views
}

// socketStarted returns the event that a socket was opened.
func (s *sockets) socketStarted(kept *store.Socket) *socketrpc.Event {
	return &socketrpc.Event{
		Type:     socketrpc.Event_SOCKET_STARTED,
		SocketId: kept.ID.String(),
		Data:     s.connectionData(kept),
	}
}

// connectionData returns the connection information of a socket as the data of
// an event has it.
func (s *sockets) connectionData(kept *store.Socket) []byte {
	return mustJSON(connection{
		Protocol:  kept.Protocol.String(),
		IP:        s.ip(),
		IPs:       s.ips(),
		Port1:     formatPort(kept.Ports[0]),
		Port2:     formatPort(kept.Ports[1]),
		SocketID:  kept.ID.String(),
		Label:     kept.Label,
		Admission: kept.Admission.String(),
	})
}
