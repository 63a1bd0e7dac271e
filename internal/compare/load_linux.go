package compare

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// overloadLoss is what is lost when a third is, and overloadTime how
	// long it is looked for at each rate.
	overloadLoss = 0.33
	overloadTime = 600 * time.Millisecond

	// overloadShare is the part of a rate that has to be offered.
	overloadShare = 0.9
)

// load is many sessions with datagrams both ways.
type load struct {
	clients []client

	// index is the client of each descriptor.
	index map[int32]int

	// outs send a burst from a first and from a second client. All clients
	// of a side send the same.
	outs [2]*outbox
	in   *inbox
	size int

	epoll  int
	events []unix.EpollEvent

	sent, delivered uint64
}

// runLoad does a Load.
func runLoad(ctx context.Context, spec Spec) (Result, error) {
	pairs, closeAll, err := openPairs(ctx, spec, spec.Sessions)
	if err != nil {
		return Result{}, err
	}
	defer closeAll()

	l, err := newLoad(pairs, spec)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		_ = unix.Close(l.epoll)
	}()

	rate := spec.Rate
	if len(spec.Rates) > 0 {
		if rate, err = l.overload(ctx, spec); err != nil {
			return Result{}, err
		}
	}
	every := l.every(rate, spec.Burst)
	if _, err := l.run(ctx, every, warmTime); err != nil {
		return Result{}, err
	}
	l.sent, l.delivered = 0, 0

	before, err := readCPU(spec.PIDs)
	if err != nil {
		return Result{}, err
	}
	elapsed, err := l.run(ctx, every, spec.Duration)
	if err != nil {
		return Result{}, err
	}
	after, err := readCPU(spec.PIDs)
	if err != nil {
		return Result{}, err
	}
	rss, err := readRSS(spec.PIDs)
	if err != nil {
		return Result{}, err
	}

	return Result{
		Sent:      l.sent,
		Delivered: l.delivered,
		Elapsed:   elapsed,
		CPU:       after - before,
		RSS:       rss,
		Rate:      rate,
	}, nil
}

// every returns how long after each other bursts make up a rate.
func (l *load) every(rate, burst int) time.Duration {
	return time.Second * time.Duration(len(l.clients)*burst) /
		time.Duration(rate)
}

// overload returns the first of the rates at which a third is lost. If there is
// no such it is the last one that the generator can offer.
func (l *load) overload(ctx context.Context, spec Spec) (int, error) {
	best := spec.Rates[0]
	for _, rate := range spec.Rates {
		l.sent, l.delivered = 0, 0
		elapsed, err := l.run(
			ctx, l.every(rate, spec.Burst), overloadTime,
		)
		if err != nil {
			return 0, err
		}

		offered := perSecond(float64(l.sent), elapsed)
		if offered < float64(rate)*overloadShare {
			break
		}
		best = rate

		r := Result{Sent: l.sent, Delivered: l.delivered}
		if r.Loss() >= overloadLoss {
			break
		}
	}

	return best, nil
}

// newLoad returns the load of the sessions. Its epoll descriptor is to be
// closed.
func newLoad(pairs []pair, spec Spec) (*load, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}

	l := &load{
		index:  make(map[int32]int),
		in:     newInbox(spec.Offload),
		size:   spec.Size,
		epoll:  epoll,
		events: make([]unix.EpollEvent, 256),
		outs: [2]*outbox{
			newOutbox(
				pairs[0].a.frame(spec.Size), spec.Burst,
				spec.Offload,
			),
			newOutbox(
				pairs[0].b.frame(spec.Size), spec.Burst,
				spec.Offload,
			),
		},
	}

	// All first clients send, then all second ones.
	for _, p := range pairs {
		l.clients = append(l.clients, p.a)
	}
	for _, p := range pairs {
		l.clients = append(l.clients, p.b)
	}
	for i, c := range l.clients {
		l.index[int32(c.fd)] = i
		err := unix.EpollCtl(
			epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{
				Events: unix.EPOLLIN,
				Fd:     int32(c.fd),
			},
		)
		if err != nil {
			return nil, errors.Join(
				fmt.Errorf("epoll: %w", err), unix.Close(epoll),
			)
		}
	}

	return l, nil
}

// run sends a burst from every client at each tick and receives in between,
// until what is under way has arrived or is lost. It returns how long it sent.
func (l *load) run(ctx context.Context, every,
	duration time.Duration) (time.Duration, error) {

	begin := time.Now()
	for next := begin; next.Sub(begin) < duration; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}

		if err := l.burst(); err != nil {
			return 0, err
		}

		next = next.Add(every)
		for {
			left := max(time.Until(next), 0)
			if _, err := l.receive(left); err != nil {
				return 0, err
			}
			if left == 0 {
				break
			}
		}
	}
	elapsed := time.Since(begin)

	for l.delivered < l.sent {
		some, err := l.receive(stallLimit)
		if err != nil {
			return 0, err
		}
		if !some {
			break
		}
	}

	return elapsed, nil
}

// burst sends a burst from every client.
func (l *load) burst() error {
	for i, c := range l.clients {
		side := i / (len(l.clients) / 2)
		n, err := l.outs[side].send(c.fd)
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		l.sent += uint64(n)
	}

	return nil
}

// receive waits for datagrams and takes them. It says whether there were any.
func (l *load) receive(limit time.Duration) (bool, error) {
	n, err := unix.EpollWait(
		l.epoll, l.events, int(limit/time.Millisecond),
	)
	if errors.Is(err, unix.EINTR) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("epoll: %w", err)
	}

	for _, event := range l.events[:n] {
		i := l.index[event.Fd]
		c := l.clients[i]

		datagrams, bytes, err := l.in.receive(c.fd)
		if err != nil {
			return false, fmt.Errorf("receive: %w", err)
		}
		if bytes != datagrams*(len(c.head)+l.size) {
			return false, fmt.Errorf("%d datagrams have %d bytes",
				datagrams, bytes)
		}
		l.delivered += uint64(datagrams)
	}

	return n > 0, nil
}
