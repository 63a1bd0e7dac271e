package offer

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// update has TestDiagram write the diagrams instead of comparing them.
var update = flag.Bool("update", false, "write the diagrams of the states "+
	"into docs/protocol.md")

// specification is the file that has the diagrams.
const specification = "../../docs/protocol.md"

// triggerWords has what the diagrams call the triggers.
var triggerWords = [numTriggers]string{
	triggerSent:        "first copy sent",
	triggerDelivered:   "ack",
	triggerAccept:      "accept",
	triggerDecline:     "reject declined",
	triggerRefuse:      "other reject",
	triggerClose:       "close",
	triggerUsed:        "client came",
	triggerStop:        "socket stopped",
	triggerExpire:      "expiry",
	triggerLocalAccept: "it accepts",
	triggerLocalReject: "it declines",
	triggerWithdraw:    "it ends the offer",
	triggerAnswer:      "an offer answers it",
}

// requestWords has what the diagrams of requests call triggers differently.
var requestWords = map[trigger]string{
	triggerRefuse:      "other reject / answer that cannot be taken",
	triggerLocalReject: "no socket can be opened",
	triggerWithdraw:    "it takes the request back",
}

// picture is a diagram of the specification.
type picture struct {
	// name is what it is called, after "states of".
	name string

	// rows is the table that it shows, of one direction.
	rows map[State]row

	// begin has the labels of the arrows at which it begins, by the state
	// that they lead to.
	begin map[State]string

	// words has what triggers are called here, if that is not what
	// triggerWords says.
	words map[trigger]string
}

// pictures are all diagrams.
var pictures = []picture{
	{
		name: "the host",
		rows: transitions[Outgoing],
		begin: map[State]string{
			StateQueued: "it makes the offer",
		},
	},
	{
		name: "the far end",
		rows: transitions[Incoming],
		begin: map[State]string{
			StatePending: "offer",
			StateAccepted: "offer that its policy accepts or " +
				"that answers its request, sends accept",
		},
	},
	{
		name: "a request at the requester",
		rows: requestTransitions[Outgoing],
		begin: map[State]string{
			StateQueued: "it makes the request",
		},
		words: requestWords,
	},
	{
		name: "a request at the host",
		rows: requestTransitions[Incoming],
		begin: map[State]string{
			StatePending: "request that its policy allows",
		},
		words: requestWords,
	},
}

// word returns what a trigger is called.
func (p *picture) word(t trigger) string {
	if word, ok := p.words[t]; ok {
		return word
	}

	return triggerWords[t]
}

// draw draws the states of one side of an offer or request, in Mermaid's
// language: what moves it, and what is sent then.
func (p *picture) draw() string {
	var b strings.Builder
	b.WriteString("```mermaid\nstateDiagram-v2\n")
	line := func(from, to, label string) {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", from, to, label)
	}

	for _, state := range slices.Sorted(maps.Keys(p.begin)) {
		line("[*]", state.String(), p.begin[state])
	}

	for _, from := range slices.Sorted(maps.Keys(p.rows)) {
		moves := make(map[State][]string)
		for trig := range numTriggers {
			out, ok := p.rows[from][trig]
			if !ok || out.verdict != verdictMove {
				continue
			}
			label := p.word(trig)
			if out.send != 0 {
				label += ", sends " + out.send.String()
			}
			moves[out.next] = append(moves[out.next], label)
		}
		for _, to := range slices.Sorted(maps.Keys(moves)) {
			line(from.String(), to.String(), strings.Join(
				moves[to], " / ",
			))
		}
		if len(moves) == 0 {
			line(from.String(), "[*]", "forgotten")
		}
	}
	b.WriteString("```\n")

	return b.String()
}

// TestDiagram checks that the diagrams of the specification are those of the
// tables. With -update it writes them.
func TestDiagram(t *testing.T) {
	raw, err := os.ReadFile(specification)
	require.NoError(t, err)

	text := string(raw)
	for _, p := range pictures {
		begin := "<!-- states of " + p.name + ": begin -->\n"
		end := "<!-- states of " + p.name + ": end -->\n"
		before, rest, ok := strings.Cut(text, begin)
		require.True(t, ok, "no %q", begin)
		old, after, ok := strings.Cut(rest, end)
		require.True(t, ok, "no %q", end)

		if !*update {
			require.Equal(t, p.draw(), old, "run go test "+
				"./sidecar/offer -run TestDiagram -update")
		}
		text = before + begin + p.draw() + end + after
	}

	if *update {
		err := os.WriteFile(specification, []byte(text), 0600)
		require.NoError(t, err)
	}
}

// TestDiagramIsWhole checks that the diagrams have every state and every
// trigger that moves anything, and nothing twice, and that there is one of each
// table and direction.
func TestDiagramIsWhole(t *testing.T) {
	require.Len(t, pictures, len(transitions)+len(requestTransitions))

	for _, p := range pictures {
		drawn := p.draw()
		for state, row := range p.rows {
			require.Contains(t, drawn, state.String())
			for trig, out := range row {
				if out.verdict == verdictMove {
					require.Contains(t, drawn, p.word(trig))
				}
			}
		}
		for state := range p.begin {
			require.Contains(t, p.rows, state)
		}

		lines := strings.Split(strings.TrimSpace(drawn), "\n")
		sorted := slices.SortedFunc(
			slices.Values(lines), cmp.Compare[string],
		)
		require.Len(t, slices.Compact(sorted), len(lines))
	}
}
