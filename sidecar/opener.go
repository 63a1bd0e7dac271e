package sidecar

import (
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
)

// opener lets the far ends of offers into the sockets of the relay. The manager
// of the offers calls it with its lock held: nothing here waits for the queue
// of the relay's events, which may wait for the manager.
type opener struct {
	relay *relay.Relay
}

// A compile-time check that opener is what the offers need.
var _ offer.Opener = opener{}

// Grant makes a token admit clients to a leg of a socket.
func (o opener) Grant(socketID offer.ID, leg uint8, token offer.Token) error {
	socket, ok := o.relay.Socket(relay.ID(socketID))
	if !ok {
		return errNoSocket
	}

	return socket.Grant(relay.Leg(leg), relay.Token(token))
}

// Revoke ends that. Whoever was admitted by the token is out.
func (o opener) Revoke(socketID offer.ID, leg uint8, token offer.Token) {
	socket, ok := o.relay.Socket(relay.ID(socketID))
	if ok {
		socket.Revoke(relay.Leg(leg), relay.Token(token))
	}
}
