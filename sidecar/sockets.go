package sidecar

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/socketd/socketd/relay"
)

var (
	// errCannotHost is wrapped with what the owner has to set.
	errCannotHost = errors.New("this node cannot host sockets")

	// errNoSocket is returned for an id that no open socket has.
	errNoSocket = errors.New("no open socket has this id")
)

// sockets is what the daemon knows of the relay's sockets beyond what the
// relay needs to know: their labels, and which one is the default.
type sockets struct {
	// What follows is immutable.
	relay    *relay.Relay
	addrs    []netip.Addr
	ports    string
	defaults socketDefaults
	hub      *hub

	// mu guards what follows. It is held while a socket is opened, so that
	// two callers cannot both start the default one.
	mu sync.Mutex

	// defaultID is the id of the default socket, the zero id before the
	// first one. The socket may have been stopped.
	defaultID relay.ID

	// labels holds the labels of open sockets that have one.
	labels map[relay.ID]string
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

// startDefault returns the default socket, and opens it if it does not run.
func (s *sockets) startDefault() (*relay.Socket, error) {
	if err := s.canHost(); err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if socket, ok := s.relay.Socket(s.defaultID); ok {
		return socket, nil
	}

	socket, err := s.relay.Open(s.defaults.defaultSocket())
	if err != nil {
		return nil, err
	}
	s.defaultID = socket.ID()
	s.hub.publish(s.socketStarted(socket, ""))

	return socket, nil
}

// start opens a further socket.
func (s *sockets) start(opts relay.Options, label string) (*relay.Socket,
	error) {

	if err := s.canHost(); err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	socket, err := s.relay.Open(opts)
	if err != nil {
		return nil, err
	}
	if label != "" {
		s.labels[socket.ID()] = label
	}
	s.hub.publish(s.socketStarted(socket, label))

	return socket, nil
}

// find returns an open socket by its id.
func (s *sockets) find(id relay.ID) (*relay.Socket, error) {
	socket, ok := s.relay.Socket(id)
	if !ok {
		return nil, errNoSocket
	}

	return socket, nil
}

// stopDefault closes the default socket, if it runs.
func (s *sockets) stopDefault() error {
	s.mu.Lock()
	socket, ok := s.relay.Socket(s.defaultID)
	s.mu.Unlock()

	if !ok {
		return nil
	}

	return socket.Close()
}

// describe returns the label of a socket, and whether it is the default one.
func (s *sockets) describe(id relay.ID) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.labels[id], id == s.defaultID
}

// forget drops what is known of a socket that was closed.
func (s *sockets) forget(id relay.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()

	delete(s.labels, id)
}
