package offer

import (
	"container/list"
	"sync"

	"golang.org/x/time/rate"
)

// maxRatedPeers is how many peers the rate limiter keeps apart. The one that
// was silent for longest gives way, and starts anew when it is heard again.
const maxRatedPeers = 1024

// rateLimiter limits how many messages per second each peer may send, and all
// of them together. It is safe for concurrent use.
type rateLimiter struct {
	// rate and burst are those of each peer. They are immutable.
	rate  rate.Limit
	burst int

	// total limits all peers together. It is immutable, and locks itself.
	total *rate.Limiter

	mu sync.Mutex

	// peers has the element of order of each peer.
	peers map[PubKey]*list.Element

	// order has a *ratedPeer for each peer, last heard first.
	order *list.List
}

// ratedPeer is what the rate limiter knows of a peer.
type ratedPeer struct {
	peer    PubKey
	limiter *rate.Limiter
}

// newRateLimiter returns a limiter of as many messages as the limits say.
func newRateLimiter(limits Limits) *rateLimiter {
	return &rateLimiter{
		rate:  rate.Limit(limits.Rate),
		burst: limits.Burst,
		total: rate.NewLimiter(
			rate.Limit(limits.TotalRate), limits.TotalBurst,
		),
		peers: make(map[PubKey]*list.Element),
		order: list.New(),
	}
}

// allow tells whether a message of a peer may be read now. One that is over the
// peer's own limit takes nothing from the others.
func (l *rateLimiter) allow(peer PubKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	elem, ok := l.peers[peer]
	if ok {
		l.order.MoveToFront(elem)
	} else {
		elem = l.order.PushFront(&ratedPeer{
			peer:    peer,
			limiter: rate.NewLimiter(l.rate, l.burst),
		})
		l.peers[peer] = elem
	}

	if l.order.Len() > maxRatedPeers {
		last := l.order.Back()
		l.order.Remove(last)
		delete(l.peers, last.Value.(*ratedPeer).peer)
	}

	return elem.Value.(*ratedPeer).limiter.Allow() && l.total.Allow()
}
