package client

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxQueued is how many bytes of payload are kept for a program that
	// does not read.
	maxQueued = 1 << 20

	// queuedCost is what a payload counts beside its bytes, so that empty
	// ones are not kept without end.
	queuedCost = 64
)

// queue keeps payloads that came when nobody read: while a message of the
// handshake was waited for, or by the way that was used before. They are few.
type queue struct {
	// count is the number of payloads. It is written with mu held.
	count atomic.Int64

	// dropped counts payloads for which there was no room.
	dropped atomic.Uint64

	// mu guards the following fields.
	mu sync.Mutex

	// payloads are what came, the oldest first, and size what they count.
	payloads [][]byte
	size     int
}

// push keeps a copy of a payload, if there is room.
func (q *queue) push(payload []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()

	cost := len(payload) + queuedCost
	if q.size+cost > maxQueued {
		q.dropped.Add(1)

		return
	}

	q.size += cost
	q.payloads = append(q.payloads, slices.Clone(payload))
	q.count.Store(int64(len(q.payloads)))
}

// pop copies the oldest payload to b. It reports false if there is none.
func (q *queue) pop(b []byte) (int, bool) {
	if q.count.Load() == 0 {
		return 0, false
	}

	q.mu.Lock()
	defer q.mu.Unlock()

	if len(q.payloads) == 0 {
		return 0, false
	}

	payload := q.payloads[0]
	q.payloads = slices.Delete(q.payloads, 0, 1)
	q.count.Store(int64(len(q.payloads)))
	q.size -= len(payload) + queuedCost

	return copy(b, payload), true
}
