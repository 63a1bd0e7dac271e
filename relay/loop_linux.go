//go:build !portable

package relay

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxEvents is how many ready descriptors a loop takes at once.
const maxEvents = 64

// plane moves the bytes of all sockets of a relay: on Linux by one loop per
// processor.
type plane struct {
	// relay is what the plane belongs to. It is immutable.
	relay *Relay

	// pipes counts the pipes of all loops.
	pipes atomic.Int64

	// mu guards the following fields.
	mu sync.Mutex

	// loops holds the loops. They are started with the first socket, so
	// that a relay without one holds neither descriptor nor goroutine.
	loops []*loop
}

// newPlane returns the plane of a relay.
func newPlane(r *Relay) *plane {
	return &plane{relay: r}
}

// newCarrier returns what carries the bytes of a socket whose ports are open.
func (p *plane) newCarrier(s *Socket) carrier {
	if s.opts.Protocol == TCP {
		return newTCPCarrier(p, s)
	}

	return newUDPCarrier(p, s)
}

// pick returns the loop with the fewest sockets, and counts one more there.
func (p *plane) pick() (*loop, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if len(p.loops) == 0 {
		loops, err := startLoops(p.relay)
		if err != nil {
			return nil, err
		}
		p.loops = loops
	}

	least := p.loops[0]
	for _, l := range p.loops[1:] {
		if l.sockets < least.sockets {
			least = l
		}
	}
	least.sockets++

	return least, nil
}

// leave takes back what pick has counted.
func (p *plane) leave(l *loop) {
	p.mu.Lock()
	defer p.mu.Unlock()

	l.sockets--
}

// stop ends the loops and waits for them. All sockets have ended.
func (p *plane) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	var failed error
	for _, l := range p.loops {
		failed = errors.Join(failed, l.stop())
	}
	p.loops = nil

	return failed
}

// hurry lets every connection that waits for bandwidth see again whether there
// is some: a limit has changed.
func (p *plane) hurry() {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, l := range p.loops {
		l.hurry()
	}
}

// startLoops starts one loop per processor. If it fails none is left.
func startLoops(r *Relay) ([]*loop, error) {
	loops := make([]*loop, 0, runtime.GOMAXPROCS(0))
	for range cap(loops) {
		l, err := startLoop(r)
		if err != nil {
			for _, started := range loops {
				err = errors.Join(err, started.stop())
			}

			return nil, err
		}

		loops = append(loops, l)
	}

	return loops, nil
}

// loop serves sockets with one goroutine: it waits until any of their
// descriptors is ready, and moves what there is.
//
// The descriptors are in an epoll descriptor of the loop's own, and that one is
// what the goroutine waits for through the runtime's poller. So no thread of
// the process ever blocks in a system call, and neither an idle leg nor an idle
// connection holds a goroutine or a buffer.
type loop struct {
	// The following fields are set by startLoop and never change.

	relay *Relay

	// file is the epoll descriptor, as the runtime's poller has it, raw is
	// file's, and fd is its number.
	file *os.File
	raw  syscall.RawConn
	fd   int

	// done is closed when the goroutine is gone.
	done chan struct{}

	// sockets is how many sockets the loop serves. The plane's lock guards
	// it.
	sockets int

	// mu guards the following fields and everything that belongs to the
	// sockets that the loop serves. The goroutine holds it for a turn, in
	// which it handles what is ready, not for each packet; who starts or
	// stops a socket takes it in between.
	mu sync.Mutex

	// watchers holds who waits for a descriptor, by slot; free the slots
	// that nobody has, and retired those that were given back in this
	// turn: events that were taken with it may still name them.
	watchers []watcher
	free     []int32
	retired  []int32

	// turning is set during a turn.
	turning bool

	// events is what a turn handles.
	events [maxEvents]unix.EpollEvent

	// at is when the turn began.
	at moment

	// again holds who has more to do although no event will tell.
	again []watcher

	// engine is the borrowed buffer for packets, nil while there is nothing
	// to read.
	engine *engine

	// chunk is the buffer for bytes of connections that are not worth a
	// pipe. It is nil before the first.
	chunk []byte

	// pipes lends pipes to connections that have more.
	pipes pipePool

	// conns is how many connections the loop serves.
	conns int

	// timer wakes the loop for what no descriptor tells.
	timer timer
}

// watcher has a descriptor that a loop waits for.
type watcher interface {
	// ready is called with the loop's lock held when something happened to
	// the descriptor. The events are a hint: they may be late.
	ready(events uint32)
}

// startLoop starts a loop.
func startLoop(r *Relay) (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}

	// The runtime takes it for its poller only if it does not block.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err),
			unix.Close(fd))
	}

	l := &loop{
		relay: r,
		file:  os.NewFile(uintptr(fd), "epoll"),
		fd:    fd,
		done:  make(chan struct{}),
		pipes: pipePool{open: &r.plane.pipes},
	}
	l.timer.file = l.file

	if l.raw, err = l.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, l.file.Close())
	}

	go l.run()

	return l, nil
}

// stop ends the loop and waits for its goroutine. The loop serves no socket any
// more.
func (l *loop) stop() error {
	err := l.file.Close()
	<-l.done

	l.mu.Lock()
	defer l.mu.Unlock()

	return errors.Join(err, l.pipes.close())
}

// run is the loop's goroutine.
func (l *loop) run() {
	defer close(l.done)

	drain := func(uintptr) bool {
		l.drain()

		return false
	}

	for {
		err := l.raw.Read(drain)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}

		// The timer is due. A read calls nobody before that has set
		// the clock again.
		l.drain()
	}
}

// drain takes turns until nothing is ready.
func (l *loop) drain() {
	for l.turn() {
		// Whoever waits for the lock gets it.
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	if l.engine != nil {
		engines.Put(l.engine)
		l.engine = nil
	}
}

// turn handles what is ready, and reports whether there was anything.
func (l *loop) turn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	n, err := epollWait(l.fd, l.events[:])
	if err != nil {
		// Nothing that may be wrong here passes by itself, except a
		// signal.
		return errors.Is(err, unix.EINTR)
	}

	l.at = l.relay.moment()
	due := l.timer.isDue(l.at.now)
	if n == 0 && len(l.again) == 0 && !due {
		return false
	}

	l.turning = true

	again := l.again
	l.again = nil

	for _, event := range l.events[:n] {
		if w := l.watchers[event.Fd]; w != nil {
			w.ready(event.Events)
		}
	}

	for _, w := range again {
		w.ready(0)
	}

	if due {
		l.timer.fire(l.at.now)
	}

	l.free = append(l.free, l.retired...)
	l.retired = l.retired[:0]
	l.turning = false

	return true
}

// watch waits for the events of a descriptor from now on, and returns the slot
// for unwatch. The lock is held.
func (l *loop) watch(fd int, events uint32, w watcher) (int32, error) {
	slot := int32(len(l.watchers))
	if last := len(l.free) - 1; last >= 0 {
		slot = l.free[last]
	}

	err := l.control(unix.EPOLL_CTL_ADD, fd, slot, events)
	if err != nil {
		return 0, err
	}

	if int(slot) == len(l.watchers) {
		l.watchers = append(l.watchers, w)
	} else {
		l.free = l.free[:len(l.free)-1]
		l.watchers[slot] = w
	}

	return slot, nil
}

// rewatch waits for other events of a descriptor. The lock is held.
func (l *loop) rewatch(fd int, slot int32, events uint32) error {
	return l.control(unix.EPOLL_CTL_MOD, fd, slot, events)
}

// unwatch forgets a descriptor that is about to be closed, which also takes it
// out of the epoll descriptor. The lock is held.
func (l *loop) unwatch(slot int32) {
	l.watchers[slot] = nil

	if l.turning {
		l.retired = append(l.retired, slot)
	} else {
		l.free = append(l.free, slot)
	}
}

// control changes what the loop waits for.
func (l *loop) control(op, fd int, slot int32, events uint32) error {
	err := unix.EpollCtl(l.fd, op, fd, &unix.EpollEvent{
		Events: events, Fd: slot,
	})
	if err != nil {
		return fmt.Errorf("wait for a socket: %w",
			os.NewSyscallError("epoll_ctl", err))
	}

	return nil
}

// bytes returns the buffer for bytes of connections.
func (l *loop) bytes() []byte {
	if l.chunk == nil {
		l.chunk = make([]byte, chunkSize)
	}

	return l.chunk
}

// trimPipes closes the pipes that nobody will want if there is no connection.
func (l *loop) trimPipes() error {
	if l.conns > 0 {
		return nil
	}

	return l.pipes.close()
}

// timer wakes a loop at set times, for what asked for it. The loop's lock
// guards it.
//
// What is waited for is usually over long before its time, thousands of times a
// second. So nothing is taken out of the timer when that happens, and the clock
// is only set for the earliest time: whoever is woken looks for itself.
type timer struct {
	// file is the loop's, whose deadline is the clock. It is immutable.
	file *os.File

	// alarms holds who wants to be woken, and when.
	alarms map[alarm]instant

	// next is the time that the clock is set for; 0 if it is not set.
	next instant
}

// alarm wants to be woken.
type alarm interface {
	// ring is called with the loop's lock held. It returns when it wants to
	// be called again; 0 for never.
	ring(now instant) instant
}

// set asks to wake an alarm at a time, or before.
func (t *timer) set(a alarm, now, at instant) {
	if earlier, ok := t.alarms[a]; ok && earlier <= at {
		return
	}

	if t.alarms == nil {
		t.alarms = make(map[alarm]instant)
	}
	t.alarms[a] = at

	if t.next == 0 || at < t.next {
		t.wind(now, at)
	}
}

// isDue tells whether it is time to wake an alarm.
func (t *timer) isDue(now instant) bool {
	return t.next != 0 && t.next <= now
}

// drop takes an alarm out that is about to go.
func (t *timer) drop(a alarm) {
	delete(t.alarms, a)
}

// fire wakes the alarms whose time has come, and sets the clock again.
func (t *timer) fire(now instant) {
	for a, at := range t.alarms {
		if at > now {
			continue
		}

		if at = a.ring(now); at == 0 {
			delete(t.alarms, a)
		} else {
			t.alarms[a] = at
		}
	}

	next := instant(0)
	for _, at := range t.alarms {
		if next == 0 || at < next {
			next = at
		}
	}
	t.wind(now, next)
}

// wind sets the clock; 0 stops it.
func (t *timer) wind(now, at instant) {
	t.next = at

	deadline := time.Time{}
	if at != 0 {
		deadline = time.Now().Add(at.sub(now))
	}

	// It only fails when the loop ends.
	_ = t.file.SetReadDeadline(deadline)
}
