package offer

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// grid has the outcome of every trigger for an offer of a direction and state:
//
//   - cannot happen
//     =       changes nothing
//     late    the other node has to be told that the offer has ended
//     denied  we may not do this any more
//
// and else the next state. Behind that, ! stops what is being sent about the
// offer, >name sends that message, and the letters behind + are the events.
const grid = `
OUTGOING  sent delivered accept decline refuse close used stop expire lacc lrej
          wdraw answer

QUEUED    SENT PENDING!+D ACCEPTED!+DA REJECTED!+DR REJECTED!+R CLOSED!+DC
          ACCEPTED+DA WITHDRAWN!>close+C EXPIRED!+E - - WITHDRAWN!>close+C -

SENT      = PENDING!+D ACCEPTED!+DA REJECTED!+DR REJECTED!+R CLOSED!+DC
          ACCEPTED+DA WITHDRAWN!>close+C EXPIRED!+E - - WITHDRAWN!>close+C -

PENDING   = = ACCEPTED!+A REJECTED!+R REJECTED!+R CLOSED!+C
          ACCEPTED+A WITHDRAWN!>close+C EXPIRED!+E - - WITHDRAWN!>close+C -

ACCEPTED  = =! =! CLOSED!+C =! CLOSED!+C - CLOSED!>close+C = - -
          CLOSED!>close+C -

REJECTED  = =>close late = = = - - - - - denied -

EXPIRED   = = late = = = - - - - - denied -

CLOSED    = =>close late = = = - - - - - = -

WITHDRAWN = =>close late = = = - - - - - = -

FAILED    - - - - - - - - - - - - -

INCOMING  sent delivered accept decline refuse close used stop expire lacc lrej
          wdraw answer

QUEUED    - - - - - - - - - - - - -

SENT      - - - - - - - - - - - - -

PENDING   - - - - - WITHDRAWN+C - - EXPIRED!+E ACCEPTED>accept REJECTED>reject
          denied -

ACCEPTED  - - - - CLOSED!+C CLOSED!+C - - = = denied
          CLOSED!>close+C -

REJECTED  - - - - - =! - - - denied = denied -

EXPIRED   - - - - = =! - - - denied denied denied -

CLOSED    - - - - = =! - - - denied denied = -

WITHDRAWN - - - - = =! - - - denied denied = -

FAILED    - - - - - - - - - - - - -
`

// requestGrid has the same for requests.
const requestGrid = `
OUTGOING  sent delivered accept decline refuse close used stop expire lacc lrej
          wdraw answer

QUEUED    SENT PENDING!+D - REJECTED!+R REJECTED!+R CLOSED!+C - - EXPIRED!+E - -
          WITHDRAWN!>close+C ACCEPTED!

SENT      = PENDING!+D - REJECTED!+R REJECTED!+R CLOSED!+C - - EXPIRED!+E - -
          WITHDRAWN!>close+C ACCEPTED!

PENDING   = = - REJECTED!+R REJECTED!+R CLOSED!+C - - EXPIRED!+E - -
          WITHDRAWN!>close+C ACCEPTED!

ACCEPTED  = = - = = = - - - - - denied late

REJECTED  = =>close - = = = - - - - - denied late

EXPIRED   = = - = = = - - - - - denied late

CLOSED    = =>close - = = = - - - - - = late

WITHDRAWN = =>close - = = = - - - - - = late

FAILED    - - - - - - - - - - - - -

INCOMING  sent delivered accept decline refuse close used stop expire lacc lrej
          wdraw answer

QUEUED    - - - - - - - - - - - - -

SENT      - - - - - - - - - - - - -

PENDING   - - - - - WITHDRAWN+C - - EXPIRED!+E - REJECTED>reject denied
          ACCEPTED!

ACCEPTED  - - - - - =! - - - - = denied late

REJECTED  - - - - - =! - - - - = denied late

EXPIRED   - - - - - =! - - - - = denied late

CLOSED    - - - - - - - - - - - - -

WITHDRAWN - - - - - =! - - - - = denied late

FAILED    - - - - - - - - - - - - -
`

// describe returns an outcome as the grid has it.
func describe(state State, out outcome, err error) string {
	if err != nil {
		return "-"
	}

	var s strings.Builder
	switch out.verdict {
	case verdictMove:
		s.WriteString(out.next.String())

	case verdictStay:
		s.WriteString("=")

	case verdictLate:
		s.WriteString("late")

	case verdictDenied:
		s.WriteString("denied")
	}
	if out.verdict != verdictMove && out.next != state {
		s.WriteString(" but moves")
	}

	if out.silence {
		s.WriteString("!")
	}
	if out.send != 0 {
		s.WriteString(">" + out.send.String())
	}
	if len(out.notify) > 0 {
		s.WriteString("+")
	}
	for _, kind := range out.notify {
		s.WriteString(strings.ToUpper(kind.String()[:1]))
	}

	return s.String()
}

// TestTransitions checks every trigger in every direction and state.
func TestTransitions(t *testing.T) {
	t.Run("offers", func(t *testing.T) {
		testTransitions(t, transitions, grid)
	})
	t.Run("requests", func(t *testing.T) {
		testTransitions(t, requestTransitions, requestGrid)
	})
}

// testTransitions checks all cells of a table.
func testTransitions(t *testing.T, rows table, grid string) {
	t.Helper()

	var (
		cells int
		block = map[string]Direction{
			"OUTGOING": Outgoing, "INCOMING": Incoming,
		}
		dir Direction
	)
	for line := range strings.SplitSeq(strings.TrimSpace(grid), "\n\n") {
		fields := strings.Fields(line)
		name, want := fields[0], fields[1:]
		require.Len(t, want, int(numTriggers), name)

		if d, ok := block[name]; ok {
			dir = d

			continue
		}

		var state State
		for state.String() != name {
			state++
			require.LessOrEqual(t, state, StateFailed, name)
		}

		for i, cell := range want {
			trig := trigger(i)
			out, err := rows.transition(dir, state, trig)
			require.Equal(
				t, cell, describe(state, out, err), "%v %v %v",
				dir, state, trig,
			)
			if err != nil {
				require.ErrorIs(t, err, errImpossible)
				require.Zero(t, out)
			}
			cells++
		}
	}

	require.Equal(t, 2*9*int(numTriggers), cells)
}

// TestTransitionUnknown checks that numbers that mean nothing are refused.
func TestTransitionUnknown(t *testing.T) {
	_, err := transitions.transition(2, StatePending, triggerClose)
	require.ErrorIs(t, err, errImpossible)

	_, err = transitions.transition(Outgoing, StateFailed+1, triggerClose)
	require.ErrorIs(t, err, errImpossible)
}

// TestTransitionShape checks what must hold for the whole table, whatever its
// cells are.
func TestTransitionShape(t *testing.T) {
	for _, states := range transitions {
		for state, row := range states {
			for trig, out := range row {
				if out.verdict != verdictMove {
					require.Empty(t, out.notify)

					continue
				}

				// An offer goes forward, and ends once.
				require.False(t, state.Ended())
				require.Greater(t, out.next, state)

				// The other node is told unless it told us, or
				// its clock does.
				if trig == triggerStop ||
					trig == triggerWithdraw {

					require.NotZero(t, out.send)
				}
			}
		}
	}
}

// TestNames checks the names and numbers that the API has.
func TestNames(t *testing.T) {
	for state, name := range map[State]string{
		0: "QUEUED", 1: "SENT", 2: "PENDING", 3: "ACCEPTED",
		4: "REJECTED", 5: "EXPIRED", 6: "CLOSED", 7: "WITHDRAWN",
		8: "FAILED", 9: "9",
	} {
		require.Equal(t, name, state.String())
		require.Equal(t, state < 3, state.Pending())
		require.Equal(t, state > 3, state.Ended())
	}

	require.Equal(t, "INCOMING", Direction(0).String())
	require.Equal(t, "OUTGOING", Direction(1).String())
	require.Equal(t, "2", Direction(2).String())

	for kind, name := range map[EventKind]string{
		EventReceived: "received", EventDelivered: "delivered",
		EventAccepted: "accepted", EventRejected: "rejected",
		EventExpired: "expired", EventClosed: "closed", 0: "0", 7: "7",
	} {
		require.Equal(t, name, kind.String())
	}

	require.Equal(t, strings.Repeat("02", 33), testKey(2).String())
	require.Equal(t, "local reject", triggerLocalReject.String())
}
