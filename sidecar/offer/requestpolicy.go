package offer

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// RequestPolicy tells whose requests we host sockets for, and within which
// bounds. The zero policy refuses all.
type RequestPolicy struct {
	// Any allows all nodes, and Channel those that we have an open channel
	// with.
	Any     bool
	Channel bool

	// Nodes are further nodes that are allowed.
	Nodes []PubKey

	// OpenFor are the nodes that may ask for an OPEN socket.
	OpenFor []PubKey

	// MaxHosted is how many sockets are hosted at once, for all nodes.
	MaxHosted int

	// MaxPerNode is how many sockets of ours a node may have at once, both
	// hosted for it and offered to it.
	MaxPerNode int

	// MaxLifetime is how long a hosted socket lives at most, more than 0
	// and at most MaxLifetime.
	MaxLifetime time.Duration

	// MaxBandwidth is how many bytes a hosted socket may pass in a second,
	// in each direction; 0 for no limit.
	MaxBandwidth uint64
}

// Clone returns a copy that shares no memory.
func (p RequestPolicy) Clone() RequestPolicy {
	p.Nodes = slices.Clone(p.Nodes)
	p.OpenFor = slices.Clone(p.OpenFor)

	return p
}

// requestFacts are what a policy goes by.
type requestFacts struct {
	// hasChannel tells that we have an open channel with the node that
	// asks.
	hasChannel bool

	// ofNode is how many sockets of ours the node has, and hosted is how
	// many we host for all nodes.
	ofNode int
	hosted int
}

// RequestRefusal is why a request was refused.
type RequestRefusal uint8

const (
	// RequestNone is that we host for nobody.
	RequestNone RequestRefusal = iota

	// RequestChannel is that we have no channel with the node.
	RequestChannel

	// RequestList is that the node is not on the list.
	RequestList

	// RequestOpen is that the node may not have an OPEN socket.
	RequestOpen

	// RequestNode is that the node has as many sockets as it may have.
	RequestNode

	// RequestHosted is that we host as many sockets as we may.
	RequestHosted

	// RequestLifetime is that the socket was to live for too long.
	RequestLifetime

	// RequestBandwidth is that too much was to pass through it.
	RequestBandwidth

	// RequestLimit is that there was no room for another record or socket.
	RequestLimit

	// numRequestRefusals is how many there are.
	numRequestRefusals
)

// requestRefusalNames has the API's names of the refusals, by number.
var requestRefusalNames = [numRequestRefusals]string{
	"none", "channel", "list", "open", "node", "hosted", "lifetime",
	"bandwidth", "limit",
}

// String returns the refusal's name as the API has it.
func (r RequestRefusal) String() string {
	return requestRefusalNames[r]
}

// requestCounters counts the refusals of requests. The zero value is ready to
// use.
type requestCounters [numRequestRefusals]atomic.Uint64

// snapshot returns all counts by name.
func (c *requestCounters) snapshot() map[string]uint64 {
	counts := make(map[string]uint64, len(c))
	for i := range c {
		counts[requestRefusalNames[i]] = c[i].Load()
	}

	return counts
}

// refusedRequest tells why a request is refused. The text is for the one who
// asked; it is one that wire.CheckText allows.
type refusedRequest struct {
	why  RequestRefusal
	text string
}

// judge returns nil if a request is allowed, and else why it is not. It has no
// other inputs and no effects.
func (p *RequestPolicy) judge(r *Offer, facts requestFacts) *refusedRequest {
	if refused := p.judgeNode(r.Peer, facts.hasChannel); refused != nil {
		return refused
	}

	lifetime := p.MaxLifetime / time.Second
	switch {
	case r.Admission == Open && !slices.Contains(p.OpenFor, r.Peer):
		return refuse(RequestOpen, "sockets here need tokens")

	case facts.ofNode >= p.MaxPerNode:
		return refuse(RequestNode, "you have %d sockets of ours, the "+
			"most we allow", facts.ofNode)

	case facts.hosted >= p.MaxHosted:
		return refuse(RequestHosted, "as many as we allow are hosted")

	case r.Limits.Lifetime > uint64(lifetime):
		return refuse(RequestLifetime, "at most %d s", lifetime)

	case p.MaxBandwidth != 0 && r.Limits.Bandwidth > p.MaxBandwidth:
		return refuse(RequestBandwidth, "at most %d bytes/s",
			p.MaxBandwidth)
	}

	return nil
}

// judgeNode returns nil if a node may ask for a socket, and else why not.
func (p *RequestPolicy) judgeNode(node PubKey,
	hasChannel bool) *refusedRequest {

	switch {
	case p.Any || p.Channel && hasChannel,
		slices.Contains(p.Nodes, node):

		return nil

	case p.Channel:
		return refuse(RequestChannel, "we have no channel with you")

	case len(p.Nodes) > 0:
		return refuse(RequestList, "you are not on our list")

	default:
		return refuse(RequestNone, "this node hosts for nobody")
	}
}

// refuse returns a refusal with its text.
func refuse(why RequestRefusal, format string, args ...any) *refusedRequest {
	return &refusedRequest{
		why: why,
		text: fmt.Sprintf("policy %v: %s", why,
			fmt.Sprintf(format, args...)),
	}
}
