package offer

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// habit is whose offers a node accepts without anybody being asked.
type habit struct {
	AutoAccept AutoAccept

	// Listed tells that the other node is on the list.
	Listed bool

	// Channel tells that there is a channel with the other node in the
	// beginning, and Flips when it goes, comes again, and so on, in
	// seconds.
	Channel bool
	Flips   []int
}

// drawHabit draws a habit.
func drawHabit(t *rapid.T) habit {
	return habit{
		AutoAccept: rapid.SampledFrom([]AutoAccept{
			AutoAcceptNone, AutoAcceptChannel, AutoAcceptList,
		}).Draw(t, "auto-accept"),
		Listed:  rapid.Bool().Draw(t, "listed"),
		Channel: rapid.Bool().Draw(t, "channel"),
		Flips: rapid.SliceOfN(
			rapid.IntRange(0, 120), 0, 4,
		).Draw(t, "flips"),
	}
}

// drawHabits draws the habits of both nodes, Alice's first.
func drawHabits(t *rapid.T) [2]habit {
	return [2]habit{
		rapid.Custom(drawHabit).Draw(t, "alice"),
		rapid.Custom(drawHabit).Draw(t, "bob"),
	}
}

// policy returns the policy of a node with the habit. The list has others
// anyway.
func (h habit) policy(peer PubKey) Policy {
	p := Policy{AutoAccept: h.AutoAccept, List: []PubKey{carol}}
	if h.Listed {
		p.List = append(p.List, peer)
	}

	return p
}

// setChannels lets a node's channel with a peer come and go.
func (h habit) setChannels(n *node, peer PubKey) {
	set := func(has bool) {
		n.mu.Lock()
		defer n.mu.Unlock()

		n.channels = map[PubKey]bool{peer: has}
	}
	set(h.Channel)

	// They may be planned in any order.
	for _, at := range h.Flips {
		time.AfterFunc(time.Duration(at)*time.Second, func() {
			set(!n.HasChannel(peer))
		})
	}
}

// wrong returns what is wrong about the event that an offer was received, for a
// node with the habit; nothing if all is well.
func (h habit) wrong(e Event) []string {
	isAccepted := e.Offer.State == StateAccepted
	always := h.AutoAccept == AutoAcceptList && h.Listed
	never := h.AutoAccept == AutoAcceptNone ||
		h.AutoAccept == AutoAcceptList && !h.Listed ||
		h.AutoAccept == AutoAcceptChannel && !h.Channel &&
			len(h.Flips) == 0

	want := ""
	switch {
	case isAccepted && h.AutoAccept == AutoAcceptChannel:
		want = reasonChannel

	case isAccepted:
		want = reasonList
	}

	isTold := e.Reason == want && e.Offer.Reason == want &&
		(isAccepted || e.Offer.State == StatePending)
	isWrong := always && !isAccepted || never && isAccepted
	if isTold && !isWrong {
		return nil
	}

	return []string{fmt.Sprintf(
		"%+v: received as %v, because %q", h, e.Offer.State, e.Reason,
	)}
}

// misjudged returns what is wrong with what a node with the habit accepted
// without being asked.
func (h habit) misjudged(t *testing.T, n *node) []string {
	t.Helper()

	n.mu.Lock()
	defer n.mu.Unlock()

	var wrong []string
	for _, e := range n.events {
		if e.Kind == EventReceived {
			wrong = append(wrong, h.wrong(e)...)
		}
	}

	return wrong
}
