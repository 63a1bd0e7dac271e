package relay

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// portPool hands out the ports of a range, each to one taker at a time.
//
// A port is in one of three places: free, taken, or resting. Taking and giving
// back cost the same however many ports are taken.
type portPool struct {
	// ports is the range. It is immutable.
	ports PortRange

	// rest is how long a port that was in use is not handed out. It is
	// immutable.
	rest time.Duration

	// taken has one bit for each port there is: those that are handed out
	// or held. It is written with mu held and read without, from the packet
	// path.
	taken [1 << 16 / 64]atomic.Uint64

	// mu guards the following fields.
	mu sync.Mutex

	// free holds the ports that may be handed out, in no order.
	free []uint16

	// resting holds the ports that rest, the one that is over first in
	// front: all rest for the same time.
	resting []restingPort

	// held has the ports that are kept for a socket to be restored. They
	// may be outside the range.
	held map[uint16]struct{}
}

// restingPort is a port that is not handed out yet.
type restingPort struct {
	// port is the port.
	port uint16

	// until is when its rest is over.
	until time.Time
}

// newPortPool returns a pool in which every port is free.
func newPortPool(ports PortRange, rest time.Duration) *portPool {
	p := &portPool{
		ports: ports,
		rest:  rest,
		free:  make([]uint16, 0, ports.size()),
		held:  make(map[uint16]struct{}),
	}

	for i := range ports.size() {
		p.free = append(p.free, ports.Low+uint16(i))
	}

	return p
}

// take hands out a free port, picked at random so that nobody can tell which
// one comes next. It reports false if none is free.
func (p *portPool) take(now time.Time) (uint16, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.wake(now)

	if len(p.free) == 0 {
		return 0, false
	}

	var random [8]byte
	_, _ = rand.Read(random[:])

	pick := binary.NativeEndian.Uint64(random[:]) % uint64(len(p.free))
	last := len(p.free) - 1

	port := p.free[pick]
	p.free[pick] = p.free[last]
	p.free = p.free[:last]

	word, bit := p.bit(port)
	p.taken[word].Or(bit)

	return port, true
}

// giveBack returns ports that were taken but that no client has heard of. They
// are free at once.
func (p *portPool) giveBack(ports ...uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, port := range ports {
		p.untake(port)
		p.setFree(port)
	}
}

// retire returns ports that were in use. They rest, so that a client that has
// not heard of the end does not send into somebody else's socket.
func (p *portPool) retire(now time.Time, ports ...uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, port := range ports {
		p.untake(port)
		if !p.ports.contains(port) {
			continue
		}
		p.resting = append(p.resting, restingPort{
			port:  port,
			until: now.Add(p.rest),
		})
	}
}

// isTaken tells whether the port is handed out. It takes no lock.
func (p *portPool) isTaken(port uint16) bool {
	word, bit := p.bit(port)

	return p.taken[word].Load()&bit != 0
}

// describe tells in words where the ports of the range are. Of those that are
// taken, foreign belong to other programs.
func (p *portPool) describe(now time.Time, foreign int) string {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.wake(now)

	inUse := p.ports.size() - len(p.free) - len(p.resting) - foreign
	words := fmt.Sprintf("a socket needs two of %v, where the relay uses "+
		"%d, other programs use %d, and %d are free", p.ports, inUse,
		foreign, len(p.free))

	if len(p.resting) == 0 {
		return words
	}

	wait := p.resting[0].until.Sub(now).Round(time.Second)

	return fmt.Sprintf("%s; %d rest after use, the next for %v", words,
		len(p.resting), max(wait, time.Second))
}

// wake frees the ports whose rest is over. The lock is held.
func (p *portPool) wake(now time.Time) {
	over := 0
	for over < len(p.resting) && !p.resting[over].until.After(now) {
		p.free = append(p.free, p.resting[over].port)
		over++
	}

	p.resting = p.resting[over:]
}

// setFree puts a port among those that may be handed out, if it is of the
// range. The lock is held.
func (p *portPool) setFree(port uint16) {
	if p.ports.contains(port) {
		p.free = append(p.free, port)
	}
}

// hold takes ports that are not handed out to others, and holds them. It
// reports false, and changes nothing, if one of them is handed out.
func (p *portPool) hold(ports ...uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, port := range ports {
		if _, ok := p.held[port]; !ok && p.isTaken(port) {
			return false
		}
	}

	fresh := make(map[uint16]bool)
	for _, port := range ports {
		if _, ok := p.held[port]; ok {
			continue
		}
		word, bit := p.bit(port)
		p.taken[word].Or(bit)
		p.held[port] = struct{}{}
		fresh[port] = true
	}
	if len(fresh) == 0 {
		return true
	}

	// Once for all of them: there may be many.
	p.free = slices.DeleteFunc(p.free, func(port uint16) bool {
		return fresh[port]
	})
	p.resting = slices.DeleteFunc(
		p.resting, func(resting restingPort) bool {
			return fresh[resting.port]
		},
	)

	return true
}

// unhold gives ports back that are held.
func (p *portPool) unhold(ports ...uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, port := range ports {
		if _, ok := p.held[port]; ok {
			delete(p.held, port)
			p.untake(port)
			p.setFree(port)
		}
	}
}

// use hands out ports that are held.
func (p *portPool) use(ports ...uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, port := range ports {
		delete(p.held, port)
	}
}

// untake marks the port as not handed out. The lock is held.
func (p *portPool) untake(port uint16) {
	word, bit := p.bit(port)
	p.taken[word].And(^bit)
}

// bit returns where the port is in taken.
func (p *portPool) bit(port uint16) (int, uint64) {
	return int(port / 64), 1 << (port % 64)
}
