package offer

import (
	"container/heap"
	"time"
)

// timerKind is what a timer is for.
type timerKind uint8

const (
	// timerOffer is for what comes next for an offer: its expiry, or its
	// being forgotten.
	timerOffer timerKind = iota

	// timerResend is for a message that is sent again.
	timerResend

	// timerEarly is for the end of the memory of an early close.
	timerEarly

	// timerConnect is for an attempt to have a peer connected. Its key has
	// no id.
	timerConnect
)

// timerKey names a timer: there is one at most for each purpose.
type timerKey struct {
	kind timerKind

	// offerKey has the peer, and the id of the offer or of the message.
	offerKey
}

// timerItem is a timer.
type timerItem struct {
	key   timerKey
	at    time.Time
	index int
}

// timers is a set of timers that somebody else waits for. The zero value is not
// ready to use.
type timers struct {
	byKey map[timerKey]*timerItem
	heap  timerHeap
}

// newTimers returns an empty set.
func newTimers() *timers {
	return &timers{byKey: make(map[timerKey]*timerItem)}
}

// set sets a timer, or changes the one of the same key.
func (t *timers) set(key timerKey, at time.Time) {
	if item, ok := t.byKey[key]; ok {
		item.at = at
		heap.Fix(&t.heap, item.index)

		return
	}

	item := &timerItem{key: key, at: at}
	t.byKey[key] = item
	heap.Push(&t.heap, item)
}

// advance makes a timer due at a time, if it is there.
func (t *timers) advance(key timerKey, at time.Time) {
	if _, ok := t.byKey[key]; ok {
		t.set(key, at)
	}
}

// at returns when a timer is due, and false if it is not there.
func (t *timers) at(key timerKey) (time.Time, bool) {
	item, ok := t.byKey[key]
	if !ok {
		return time.Time{}, false
	}

	return item.at, true
}

// remove removes a timer, if it is there.
func (t *timers) remove(key timerKey) {
	if item, ok := t.byKey[key]; ok {
		heap.Remove(&t.heap, item.index)
		delete(t.byKey, key)
	}
}

// next returns when the first timer is due, and false if there is none.
func (t *timers) next() (time.Time, bool) {
	if len(t.heap) == 0 {
		return time.Time{}, false
	}

	return t.heap[0].at, true
}

// pop removes the first timer if it is due, and returns its key.
func (t *timers) pop(now time.Time) (timerKey, bool) {
	at, ok := t.next()
	if !ok || at.After(now) {
		return timerKey{}, false
	}
	key := t.heap[0].key
	t.remove(key)

	return key, true
}

// timerHeap implements heap.Interface, first due first.
type timerHeap []*timerItem

// Len implements sort.Interface.
func (h timerHeap) Len() int {
	return len(h)
}

// Less implements sort.Interface.
func (h timerHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at)
}

// Swap implements sort.Interface.
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *timerHeap) Push(x any) {
	item := x.(*timerItem)
	item.index = len(*h)
	*h = append(*h, item)
}

// Pop implements heap.Interface.
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	item := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]

	return item
}
