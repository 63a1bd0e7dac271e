//go:build !portable

package relay

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"golang.org/x/sys/unix"
)

const (
	// rounds is how many batches are read from a leg before the others of
	// the loop get their turn.
	rounds = 4

	// plainTime is how long datagrams are sent one by one after the system
	// refused to cut them out of larger messages. What was wrong with the
	// path may have passed then.
	plainTime = 10 * time.Second
)

// udpCarrier carries the datagrams of one socket. Both legs belong to one loop,
// so that nothing passes between goroutines with a packet.
type udpCarrier struct {
	// The following fields are immutable.

	plane  *plane
	socket *Socket
	legs   [2]udpLeg

	// loop serves the socket from start to stop. It is nil before.
	loop *loop
}

// udpLeg receives at one leg, and sends to the client of that leg what came in
// at the other.
type udpLeg struct {
	// The following fields are set by newUDPCarrier and start, and never
	// change after.

	*leg
	carrier *udpCarrier
	other   *udpLeg

	// slot is the leg's place in the loop.
	slot int32

	// The loop's lock guards the following fields.

	// watching tells that the loop waits for the port.
	watching bool

	// failures is the number of reads that failed one after the other.
	failures int

	// info is what the kernel says about the way of the current client's
	// packets. A packet with the pin's name and this is the client's.
	info []byte

	// plainFrom is the segment size from which on datagrams to the leg's
	// client are sent one by one, until plainUntil. Both are void when the
	// client changes.
	plainFrom  int
	plainUntil instant
}

// newUDPCarrier returns the carrier of a UDP socket.
func newUDPCarrier(p *plane, s *Socket) *udpCarrier {
	c := &udpCarrier{plane: p, socket: s}
	for i := range c.legs {
		c.legs[i] = udpLeg{
			leg:     s.legs[i],
			carrier: c,
			other:   &c.legs[1-i],
		}
	}

	return c
}

// start begins to relay.
func (c *udpCarrier) start() error {
	loop, err := c.plane.pick()
	if err != nil {
		return err
	}

	loop.mu.Lock()
	defer loop.mu.Unlock()

	c.loop = loop
	for i := range c.legs {
		u := &c.legs[i]

		u.slot, err = loop.watch(u.port.fd, unix.EPOLLIN, u)
		if err != nil {
			return err
		}
		u.watching = true
	}

	return nil
}

// stop ends it.
func (c *udpCarrier) stop() error {
	if c.loop == nil {
		return c.close()
	}
	defer c.plane.leave(c.loop)

	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()

	return c.close()
}

// expel does nothing: a leg that has lost its pin takes nothing in.
func (*udpCarrier) expel(*leg, *legKey) {}

// close closes the ports.
func (c *udpCarrier) close() error {
	var failed error
	for i := range c.legs {
		u := &c.legs[i]

		u.unwatch()
		failed = errors.Join(failed, u.port.close())
	}

	return failed
}

// unwatch makes the loop wait for the port no longer.
func (u *udpLeg) unwatch() {
	if u.watching {
		u.carrier.loop.unwatch(u.slot)
		u.watching = false
	}
}

// ready relays what has arrived at the port.
func (u *udpLeg) ready(events uint32) {
	loop := u.carrier.loop
	if loop.engine == nil {
		loop.engine = engines.Get().(*engine)
	}

	for range rounds {
		n, err := loop.engine.receive(u.port.fd)
		switch {
		case err == nil:
			u.failures = 0
			u.relayBatch(loop.engine, n, loop.at)

			if n < batch {
				return
			}

		case !errors.Is(err, unix.EAGAIN):
			u.failed(err)

		case events&unix.EPOLLHUP != 0:
			// A port that was shut down is always ready, and never
			// has anything.
			u.failed(err)

			return

		default:
			u.failures = 0

			return
		}
	}
}

// failed counts a read that failed. After many the port is dead.
func (u *udpLeg) failed(err error) {
	u.failures++
	if u.failures != maxReadFailures {
		return
	}

	port := u.port
	_ = u.carrier.loop.control(unix.EPOLL_CTL_DEL, port.fd, u.slot, 0)
	u.unwatch()

	u.carrier.socket.fail(port, fmt.Errorf("%d reads failed: %w",
		u.failures, err))
}

// passage is one batch on its way through a leg. What its messages have in
// common is looked up once, what they add up to is counted once.
type passage struct {
	engine *engine
	at     moment

	// known is the leg's client, and to the one of the other leg. From the
	// segment size plainFrom on it is sent datagrams one by one.
	known     *pin
	to        *pin
	plainFrom int

	// budget is what may pass.
	budget budget

	// in adds up what was admitted, and noClient the packets of it that
	// came while there was nobody to send them to.
	in       tally
	noClient uint64
}

// relayBatch relays messages that were received at the leg.
func (u *udpLeg) relayBatch(e *engine, n int, at moment) {
	p := passage{
		engine:    e,
		at:        at,
		known:     u.pin.Load(),
		to:        u.other.pin.Load(),
		plainFrom: u.other.plain(at),
		budget:    u.budget(at.now),
	}

	for i := range n {
		a, err := e.arrival(i)
		u.lose(a.lost)

		if u.keys != nil && a.hasSize(bind.Size) {
			u.relayApart(&p, &a)
		} else {
			u.relayMessage(&p, &a, err == nil)
		}
	}

	u.flush(&p.in, at)
	u.spend(&p.budget, at.now)
	if p.noClient > 0 {
		u.drop(DropNoClient, p.noClient)
	}

	u.forward(&p)
}

// relayMessage relays a message. Its source can be compared with the client's
// unless there was something wrong with how the kernel told it.
func (u *udpLeg) relayMessage(p *passage, a *arrival, comparable bool) {
	packets := uint64(a.packets())
	if comparable && u.isFrom(p.known, a) {
		p.in.add(packets, len(a.payload))
	} else {
		// Those that came before were counted before anybody hears of
		// this one.
		u.flush(&p.in, p.at)

		p.known = u.admitNew(a, p.at)
		if p.known == nil {
			p.known = u.pin.Load()

			return
		}
	}

	switch {
	case p.to == nil:
		p.noClient += packets

	case p.budget.take(packets, len(a.payload)):
		p.engine.add(a.payload, a.segment, p.plainFrom)
	}
}

// forward sends on what is to be sent.
func (u *udpLeg) forward(p *passage) {
	if p.to != nil && p.engine.numRuns > 0 {
		u.other.send(p.engine, p.to, p.at)
	}
}

// flush counts what was added up, all of it from the leg's client.
func (u *udpLeg) flush(in *tally, at moment) {
	if in.packets == 0 {
		return
	}

	u.countIn(in.packets, in.bytes, at)
	if u.keys == nil {
		u.tellUsed(Token{})
	}
	*in = tally{}
}

// isFrom tells whether a message came from the pin's client, the same way as
// before, without looking at what the addresses mean.
func (u *udpLeg) isFrom(client *pin, a *arrival) bool {
	return client != nil && bytes.Equal(a.name, client.route.name) &&
		bytes.Equal(a.info, u.info)
}

// admitNew decides on a message that is not like those before. It returns the
// leg's pin if the message was admitted, else nil.
func (u *udpLeg) admitNew(a *arrival, at moment) *pin {
	src, err := a.source()
	if err != nil {
		// An address that cannot be read is nobody's.
		u.drop(DropStranger, uint64(a.packets()))

		return nil
	}

	old := u.pin.Load()
	client := u.admit(
		src, uint64(a.packets()), uint64(len(a.payload)), at,
	)
	if client == nil {
		return nil
	}

	u.info = append(u.info[:0], a.info...)
	if client != old {
		u.plainFrom, u.plainUntil = 0, 0
	}

	return client
}

// plain returns the segment size from which on datagrams to the leg's client
// are sent one by one.
func (u *udpLeg) plain(at moment) int {
	if u.plainFrom == 0 || at.now >= u.plainUntil {
		return math.MaxInt
	}

	return u.plainFrom
}

// send sends what the engine holds to the leg's client, and counts it at the
// leg that it came from.
func (u *udpLeg) send(e *engine, to *pin, at moment) {
	s := e.send(u.port.fd, &to.route)

	from := u.other
	if s.packets > 0 {
		from.countOut(s.packets, s.bytes, at)
	}
	if s.dropped > 0 {
		from.drop(DropSendError, s.dropped)
	}

	if s.plainFrom > 0 {
		u.plainFrom = s.plainFrom
		u.plainUntil = at.now.add(plainTime)
	}
}
