package relay

import (
	"container/heap"
	"time"
)

// maxWait bounds a wait, so that adding it to an instant cannot overflow. It
// is some 73 years.
const maxWait = time.Duration(1) << 61

// deadlines orders sockets by when they have to be looked at next.
//
// A packet that passes moves a socket's idle deadline, but must not touch this
// queue. So the queue holds a time at which the socket cannot have ended yet or
// just has. When it comes the socket is looked at, and ended or put back: once
// per idle time, however much passes.
//
// It implements heap.Interface. The relay's lock guards it, and the fields
// wakeAt and queueIndex of every socket.
type deadlines []*Socket

// Len returns the number of sockets.
func (d deadlines) Len() int {
	return len(d)
}

// Less tells whether socket i has to be looked at before socket j.
func (d deadlines) Less(i, j int) bool {
	return d[i].wakeAt < d[j].wakeAt
}

// Swap swaps two sockets.
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].queueIndex = i
	d[j].queueIndex = j
}

// Push appends a socket.
func (d *deadlines) Push(x any) {
	s := x.(*Socket)
	s.queueIndex = len(*d)

	*d = append(*d, s)
}

// Pop takes the last socket off.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	s := (*d)[last]
	s.queueIndex = notQueued

	(*d)[last] = nil
	*d = (*d)[:last]

	return s
}

// notQueued is the index of a socket that is not in the queue.
const notQueued = -1

// add puts a socket in the queue if it can end by itself. It reports whether
// the socket is now the first to look at.
func (d *deadlines) add(s *Socket, now instant, wall time.Time) bool {
	s.queueIndex = notQueued

	if !s.canEnd() {
		return false
	}

	_, wait := s.due(now, wall)
	s.wakeAt = now.add(wait)
	heap.Push(d, s)

	return s.queueIndex == 0
}

// remove takes a socket out of the queue if it is there.
func (d *deadlines) remove(s *Socket) {
	if s.queueIndex != notQueued {
		heap.Remove(d, s.queueIndex)
	}
}

// next takes a socket that has ended out of the queue and tells why it ended.
// If there is none it returns nil.
func (d *deadlines) next(now instant, wall time.Time) (*Socket, CloseReason) {
	for len(*d) > 0 && (*d)[0].wakeAt <= now {
		s := (*d)[0]

		reason, wait := s.due(now, wall)
		if wait <= 0 {
			heap.Pop(d)

			return s, reason
		}

		s.wakeAt = now.add(wait)
		heap.Fix(d, 0)
	}

	return nil, 0
}

// wait returns how long nothing has to be looked at.
func (d *deadlines) wait(now instant) time.Duration {
	if len(*d) == 0 {
		return maxWait
	}

	return (*d)[0].wakeAt.sub(now)
}

// instant is a point on the monotonic clock: nanoseconds since the relay was
// made. It fits in an atomic, and no step of the wall clock moves it.
type instant int64

// add returns the instant that is d later.
func (i instant) add(d time.Duration) instant {
	return i + instant(min(d, maxWait))
}

// sub returns the time since the other instant.
func (i instant) sub(other instant) time.Duration {
	return time.Duration(i - other)
}
