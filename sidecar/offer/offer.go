// Package offer is the deal between two nodes about a socket: the states of an
// offer, what moves it from one to another, and the manager that keeps both
// sides of it in agreement over messages that may be lost.
//
// The package knows neither lnd nor the relay. Messages go out through a
// Messenger and come in through Manager.Receive; records go to a Store; what
// happened goes out as events. docs/protocol.md is the specification.
package offer

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

const (
	// MaxLifetime is how far ahead the expiry of an offer may be.
	MaxLifetime = 7 * 24 * time.Hour

	// Slack is by how much the clocks of two nodes may differ. It is also
	// how long an offer that has ended is remembered after its expiry, so
	// that a late message acts on nothing.
	Slack = 10 * time.Minute
)

// ID names an offer, a message or a socket. Its String is hex.
type ID = wire.ID

// Protocol is what a socket relays.
type Protocol = wire.Protocol

const (
	// UDP is datagrams.
	UDP = wire.ProtocolUDP

	// TCP is streams.
	TCP = wire.ProtocolTCP
)

// Legs is a set of legs, those that an offer grants.
type Legs = wire.Legs

const (
	// Leg1 has only leg 1.
	Leg1 = wire.Leg1

	// Leg2 has only leg 2.
	Leg2 = wire.Leg2

	// BothLegs has both.
	BothLegs = wire.BothLegs
)

// Admission is how the legs of a socket decide whom they take as their client.
type Admission = wire.Admission

const (
	// Open takes the first source that comes.
	Open = wire.AdmissionOpen

	// ByToken takes whoever proves that it holds a token of the leg.
	ByToken = wire.AdmissionToken
)

// Token admits whoever holds it to a leg. It is a secret: nothing prints it by
// mistake.
type Token = wire.Token

// Tokens has the token of leg 1 and that of leg 2, zero for none.
type Tokens = wire.Tokens

// PubKey is the public key of a node, compressed. Its String is hex.
type PubKey = wire.PubKey

// SocketLimits are the limits that a request asks for.
type SocketLimits = wire.SocketLimits

// Direction tells whether an offer came in or went out.
type Direction uint8

const (
	// Incoming offers were made by the peer. We are the far end.
	Incoming Direction = 0

	// Outgoing offers were made by us. We are the host.
	Outgoing Direction = 1
)

// String returns the direction's name.
func (d Direction) String() string {
	switch d {
	case Incoming:
		return "INCOMING"

	case Outgoing:
		return "OUTGOING"
	}

	return strconv.Itoa(int(d))
}

// State is where an offer stands. Names and numbers are those of the API.
type State uint8

const (
	// StateQueued is an outgoing offer that was not sent yet.
	StateQueued State = 0

	// StateSent is an outgoing offer that was sent. No socketd has
	// answered.
	StateSent State = 1

	// StatePending is an offer that the far end has, and that nobody has
	// decided about.
	StatePending State = 2

	// StateAccepted is an offer that was accepted. It stays so past its
	// expiry, until one of the nodes ends it.
	StateAccepted State = 3

	// StateRejected is an offer that the far end, or its socketd, turned
	// down.
	StateRejected State = 4

	// StateExpired is an offer whose time ran out before it was used.
	StateExpired State = 5

	// StateClosed is an offer that was ended after it was accepted, or by
	// the far end before.
	StateClosed State = 6

	// StateWithdrawn is an offer that the host took back before it was
	// accepted.
	StateWithdrawn State = 7

	// StateFailed is a number of the API. No offer gets there.
	StateFailed State = 8
)

// stateNames has the API's names of the states, by number.
var stateNames = [...]string{
	"QUEUED", "SENT", "PENDING", "ACCEPTED", "REJECTED", "EXPIRED",
	"CLOSED", "WITHDRAWN", "FAILED",
}

// String returns the state's name as the API has it.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}

	return strconv.Itoa(int(s))
}

// Pending tells whether nobody has decided about an offer in this state.
func (s State) Pending() bool {
	return s <= StatePending
}

// Ended tells whether an offer in this state is over.
func (s State) Ended() bool {
	return s > StateAccepted
}

// Offer is an offer, or a request for one, as it is told on either side. It has
// no secrets. Addrs is not changed once it is made.
type Offer struct {
	// ID is the id of the message that made the offer.
	ID ID

	// IsRequest tells that it is a request. It has no addresses and ports;
	// its legs, admission, label and limits are what was asked for.
	IsRequest bool

	// Peer is the other node: the one that an incoming offer or request
	// came from, and that an outgoing one went to.
	Peer PubKey

	Direction Direction
	State     State

	// Host is the node that hosts the socket, or that a request asks to. Of
	// an incoming offer it is what the peer says. If it is neither the peer
	// nor this node, the offer passes on what its sender got from the host.
	Host PubKey

	Protocol Protocol

	// Addrs are the addresses of the host, the preferred one first. What an
	// incoming offer has here is what the peer says, and may point
	// anywhere.
	Addrs []netip.Addr

	Port1 uint16
	Port2 uint16

	// Legs are the legs that are granted to the far end.
	Legs Legs

	// Admission is how the legs admit their client.
	Admission Admission

	// Label is the name that the socket's owner gave it, or empty.
	Label string

	// Limits are what a request asks for. An offer has none.
	Limits SocketLimits

	// ReplyTo is the request that the offer answers, or zero.
	ReplyTo ID

	// Parent is the offer of the host that an outgoing offer passes on a
	// leg of, or zero. It is an incoming one from Host.
	Parent ID

	// SocketID is the id of the socket on its host. A request of ours has
	// none before it is answered; one that came in has that of the socket
	// which is opened for it.
	SocketID ID

	// CreatedAt is when the record was made, by our clock.
	CreatedAt time.Time

	// ExpiresAt is when the offer ends here if it is not used.
	ExpiresAt time.Time

	// EndedAt is when the offer ended, and zero while it has not.
	EndedAt time.Time

	// Reason is why the offer was rejected or closed, or why it was
	// accepted without anybody being asked, or empty.
	Reason string

	// DecisionID is the id of the accept or reject message that decided
	// about the offer, or zero.
	DecisionID ID
}

// Record is what is kept of an offer: the offer, and its secrets. Only the
// store gets it: what else leaves the manager is the Offer, so that nothing can
// tell the tokens by mistake.
type Record struct {
	Offer

	// Tokens admit the far end to the legs that it is granted, one for each
	// if the admission is ByToken. They are zero once the offer has ended.
	Tokens Tokens
}

// Ended tells whether the offer is over. A request is as soon as it is
// answered: what comes then is the offer's.
func (o Offer) Ended() bool {
	return o.State.Ended() || o.IsRequest && o.State == StateAccepted
}

// IsOwn tells whether it is an offer of a socket of ours.
func (o Offer) IsOwn() bool {
	return o.Direction == Outgoing && !o.IsRequest && o.Parent.IsZero()
}

// isHosted tells whether it is an offer of a socket of ours that was opened on
// a request, and ends with the offer.
func (o Offer) isHosted() bool {
	return o.IsOwn() && !o.ReplyTo.IsZero()
}

// isAsked tells whether it is a request that a peer makes of us.
func (o Offer) isAsked() bool {
	return o.IsRequest && o.Direction == Incoming
}

// parentKey returns the key of the offer that this one passes on a leg of.
func (o Offer) parentKey() offerKey {
	return offerKey{peer: o.Host, id: o.Parent}
}

// key returns the offer's key.
func (o Offer) key() offerKey {
	return offerKey{peer: o.Peer, id: o.ID}
}

// forgetAt returns when an offer that has ended is forgotten.
func (o Offer) forgetAt() time.Time {
	return later(o.ExpiresAt, o.EndedAt).Add(Slack)
}

// message returns the message that makes the offer or request.
func (r Record) message() wire.Message {
	if r.IsRequest {
		return &wire.Request{
			ID:        r.ID,
			Protocol:  r.Protocol,
			Label:     r.Label,
			Legs:      r.Legs,
			Admission: r.Admission,
			Expiry:    uint64(r.ExpiresAt.Unix()),
			Limits:    r.Limits,
		}
	}

	msg := &wire.Offer{
		ID:        r.ID,
		ReplyTo:   r.ReplyTo,
		Protocol:  r.Protocol,
		Addrs:     r.Addrs,
		Port1:     r.Port1,
		Port2:     r.Port2,
		Legs:      r.Legs,
		Admission: r.Admission,
		Tokens:    r.Tokens,
		Expiry:    uint64(r.ExpiresAt.Unix()),
		SocketID:  r.SocketID,
		Label:     r.Label,
	}

	// Of an own socket the receiver knows.
	if !r.Parent.IsZero() {
		msg.Host = r.Host
	}

	return msg
}

// offerKey is what an offer is looked up by: its id, and the node that the id
// counts for.
type offerKey struct {
	peer PubKey
	id   ID
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}

	return b
}

// sortOffers sorts offers by when they were made, oldest first.
func sortOffers(offers []Offer) {
	slices.SortFunc(offers, compareOffers)
}

// compareOffers compares offers by when they were made.
func compareOffers(a, b Offer) int {
	return cmp.Or(
		a.CreatedAt.Compare(b.CreatedAt),
		bytes.Compare(a.ID[:], b.ID[:]),
		bytes.Compare(a.Peer[:], b.Peer[:]),
	)
}
