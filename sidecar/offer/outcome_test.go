package offer

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// agreed has the states that the two sides of an offer may end in, the host's
// first. No record is "".
var agreed = map[[2]string]bool{
	{"ACCEPTED", "ACCEPTED"}: true,
	{"REJECTED", "REJECTED"}: true,
	{"EXPIRED", "EXPIRED"}:   true,
	{"CLOSED", "CLOSED"}:     true,

	// The offer was taken back before it was decided about, while the
	// decision was on its way, and before it arrived.
	{"WITHDRAWN", "WITHDRAWN"}: true,
	{"WITHDRAWN", "CLOSED"}:    true,
	{"WITHDRAWN", "REJECTED"}:  true,
	{"WITHDRAWN", ""}:          true,

	// The acceptance was on its way when the time ran out.
	{"EXPIRED", "CLOSED"}: true,

	// So was the rejection.
	{"EXPIRED", "REJECTED"}: true,

	// So was the news that it was taken back.
	{"WITHDRAWN", "EXPIRED"}: true,
}

// allowed has the events of each side that may have led to a state.
var allowed = map[Direction]map[State][][]EventKind{
	Outgoing: {
		StateAccepted: {{EventDelivered, EventAccepted}},
		StateRejected: {{EventDelivered, EventRejected}},
		StateExpired:  {{EventDelivered, EventExpired}, {EventExpired}},
		// The far end's close may overtake its accept.
		StateClosed: {
			{EventDelivered, EventAccepted, EventClosed},
			{EventDelivered, EventClosed},
		},
		StateWithdrawn: {{EventDelivered, EventClosed}, {EventClosed}},
	},
	Incoming: {
		StateAccepted:  {{EventReceived}},
		StateRejected:  {{EventReceived}},
		StateExpired:   {{EventReceived, EventExpired}},
		StateClosed:    {{EventReceived, EventClosed}},
		StateWithdrawn: {{EventReceived, EventClosed}},
	},
}

// disagreements returns what is wrong with an offer in the end.
func disagreements(t *testing.T, id ID, host, farEnd *node) []string {
	t.Helper()

	var (
		wrong     []string
		states    [2]string
		decisions [2]ID
	)
	for i, n := range []*node{host, farEnd} {
		dir := []Direction{Outgoing, Incoming}[i]

		n.mu.Lock()
		events := slices.Clone(n.events)
		n.mu.Unlock()
		kinds := kindsOf(slices.DeleteFunc(events, func(e Event) bool {
			return e.Offer.ID != id
		}))

		offers, err := n.List(t.Context())
		require.NoError(t, err)
		at := slices.IndexFunc(offers, func(o Offer) bool {
			return o.ID == id
		})
		if at < 0 {
			if len(kinds) > 0 {
				wrong = append(wrong, fmt.Sprintf(
					"%v: no record but %v", dir, kinds,
				))
			}

			continue
		}

		o := offers[at]
		states[i] = o.State.String()
		decisions[i] = o.DecisionID
		if !slices.ContainsFunc(
			allowed[dir][o.State], func(want []EventKind) bool {
				return slices.Equal(want, kinds)
			},
		) {

			wrong = append(wrong, fmt.Sprintf(
				"%v: %v after %v", dir, o.State, kinds,
			))
		}
	}

	// A close may overtake what was decided.
	isDecided := states[0] == "ACCEPTED" || states[0] == "REJECTED"
	if isDecided && states[1] == states[0] && decisions[0] != decisions[1] {
		wrong = append(wrong, fmt.Sprintf(
			"%v by %v and by %v", states[0], decisions[0],
			decisions[1],
		))
	}
	if !agreed[states] {
		wrong = append(wrong, fmt.Sprintf(
			"host says %q, far end %q", states[0], states[1],
		))
	}

	return wrong
}
