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
}

// diagram draws the states of one side of an offer, in Mermaid's language: what
// moves an offer, and what is sent then.
func diagram(dir Direction) string {
	var b strings.Builder
	b.WriteString("```mermaid\nstateDiagram-v2\n")
	line := func(from, to, label string) {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", from, to, label)
	}

	if dir == Outgoing {
		line("[*]", StateQueued.String(), "it makes the offer")
	} else {
		line("[*]", StatePending.String(), "offer")
		line("[*]", StateAccepted.String(),
			"offer that its policy accepts, sends accept")
	}

	states := slices.Sorted(maps.Keys(transitions[dir]))
	for _, from := range states {
		moves := make(map[State][]string)
		for trig := range numTriggers {
			out, ok := transitions[dir][from][trig]
			if !ok || out.verdict != verdictMove {
				continue
			}
			label := triggerWords[trig]
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
// table. With -update it writes them.
func TestDiagram(t *testing.T) {
	raw, err := os.ReadFile(specification)
	require.NoError(t, err)

	text := string(raw)
	for dir, name := range map[Direction]string{
		Outgoing: "host", Incoming: "far end",
	} {
		begin := "<!-- states of the " + name + ": begin -->\n"
		end := "<!-- states of the " + name + ": end -->\n"
		before, rest, ok := strings.Cut(text, begin)
		require.True(t, ok, "no %q", begin)
		old, after, ok := strings.Cut(rest, end)
		require.True(t, ok, "no %q", end)

		if !*update {
			require.Equal(t, diagram(dir), old, "run go test "+
				"./sidecar/offer -run TestDiagram -update")
		}
		text = before + begin + diagram(dir) + end + after
	}

	if *update {
		err := os.WriteFile(specification, []byte(text), 0600)
		require.NoError(t, err)
	}
}

// TestDiagramIsWhole checks that the diagrams have every state and every
// trigger that moves anything, and nothing twice.
func TestDiagramIsWhole(t *testing.T) {
	for _, dir := range []Direction{Incoming, Outgoing} {
		drawn := diagram(dir)
		for state, row := range transitions[dir] {
			require.Contains(t, drawn, state.String())
			for trig, out := range row {
				if out.verdict == verdictMove {
					require.Contains(
						t, drawn, triggerWords[trig],
					)
				}
			}
		}

		lines := strings.Split(strings.TrimSpace(drawn), "\n")
		sorted := slices.SortedFunc(
			slices.Values(lines), cmp.Compare[string],
		)
		require.Len(t, slices.Compact(sorted), len(lines))
	}
}
