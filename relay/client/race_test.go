package client

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// parseAddrs parses addresses with ports.
func parseAddrs(t *testing.T, text string) []netip.AddrPort {
	t.Helper()

	var addrs []netip.AddrPort
	for _, one := range strings.Fields(text) {
		addr, err := netip.ParseAddrPort(one)
		require.NoError(t, err)
		addrs = append(addrs, addr)
	}

	return addrs
}

// TestInterleave checks that the families take turns, beginning with that of
// the preferred address, and that each keeps its order.
func TestInterleave(t *testing.T) {
	t.Parallel()

	for given, want := range map[string]string{
		"":                    "",
		"1.1.1.1:1":           "1.1.1.1:1",
		"1.1.1.1:1 2.2.2.2:1": "1.1.1.1:1 2.2.2.2:1",
		"1.1.1.1:1 2.2.2.2:1 [2a::1]:1": "" +
			"1.1.1.1:1 [2a::1]:1 2.2.2.2:1",
		"[2a::1]:1 [2a::2]:1 [2a::3]:1 1.1.1.1:1": "[2a::1]:1 " +
			"1.1.1.1:1 [2a::2]:1 [2a::3]:1",
		"[2a::1]:1 1.1.1.1:1 2.2.2.2:1 3.3.3.3:1 [2a::2]:1": "" +
			"[2a::1]:1 1.1.1.1:1 [2a::2]:1 2.2.2.2:1 3.3.3.3:1",

		// It is IPv4 that is spoken to it.
		"[::ffff:1.1.1.1]:1 2.2.2.2:1 [2a::1]:1": "" +
			"[::ffff:1.1.1.1]:1 [2a::1]:1 2.2.2.2:1",
	} {
		addrs := parseAddrs(t, given)
		require.Equal(t, parseAddrs(t, want), Interleave(addrs), given)
		require.Equal(t, parseAddrs(t, given), addrs)
	}
}

// heat is a race in a test, in which time passes only while all wait.
type heat struct {
	t     *testing.T
	began time.Time

	// fails has after how long an address fails, and answers after how long
	// it answers. One that is in none of them says nothing.
	fails, answers map[string]time.Duration

	// mu guards the following fields.
	mu sync.Mutex

	// order has the addresses in the order in which they were tried, each
	// after how long.
	order []string

	// ended has when tries of those that say nothing were ended.
	ended []time.Duration
}

// run races addresses.
func (h *heat) run(addrs string) (*entrant, error) {
	h.t.Helper()

	h.began = time.Now()

	return race(h.t.Context(), parseAddrs(h.t, addrs), h.try)
}

// try tries an address.
func (h *heat) try(ctx context.Context, addr netip.AddrPort) (*entrant,
	error) {

	name := addr.Addr().String()
	h.mu.Lock()
	h.order = append(h.order, name+" "+time.Since(h.began).String())
	h.mu.Unlock()

	after, isFailure := h.fails[name]
	answer, isAnswer := h.answers[name]
	if isAnswer {
		after = answer
	}

	var over <-chan time.Time
	if isFailure || isAnswer {
		over = time.After(after)
	}
	select {
	case <-over:
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()

		h.ended = append(h.ended, time.Since(h.began))

		return nil, ctx.Err()
	}

	if isFailure {
		return nil, errors.New("no")
	}

	return &entrant{addr: addr}, nil
}

// TestRaceTimes checks when each address is tried, as RFC 8305, section 5, has
// it.
func TestRaceTimes(t *testing.T) {
	t.Parallel()

	const all = "[2a::1]:1 [2a::2]:1 1.1.1.1:1 2.2.2.2:1"
	type times = map[string]time.Duration

	for name, test := range map[string]struct {
		fails, answers times
		order          []string
		won            string
		took           time.Duration
		ended          int
	}{
		"the first answers in time": {
			answers: times{"2a::1": 249 * time.Millisecond},
			order:   []string{"2a::1 0s"},
			won:     "2a::1",
			took:    249 * time.Millisecond,
		},
		"the first is late, and first all the same": {
			answers: times{
				"2a::1":   300 * time.Millisecond,
				"1.1.1.1": 100 * time.Millisecond,
			},
			order: []string{"2a::1 0s", "1.1.1.1 250ms"},
			won:   "2a::1",
			took:  300 * time.Millisecond,
			ended: 1,
		},
		"one family is silent": {
			answers: times{"1.1.1.1": 40 * time.Millisecond},
			order:   []string{"2a::1 0s", "1.1.1.1 250ms"},
			won:     "1.1.1.1",
			took:    290 * time.Millisecond,
			ended:   1,
		},
		"one after the other": {
			answers: times{"2.2.2.2": 40 * time.Millisecond},
			order: []string{
				"2a::1 0s", "1.1.1.1 250ms", "2a::2 500ms",
				"2.2.2.2 750ms",
			},
			won:   "2.2.2.2",
			took:  790 * time.Millisecond,
			ended: 3,
		},
		"the next one at once": {
			fails: times{
				"2a::1": 10 * time.Millisecond,
				"2a::2": 10 * time.Millisecond,
			},
			answers: times{"2.2.2.2": 10 * time.Millisecond},
			order: []string{
				"2a::1 0s", "1.1.1.1 10ms", "2a::2 260ms",
				"2.2.2.2 270ms",
			},
			won:   "2.2.2.2",
			took:  280 * time.Millisecond,
			ended: 1,
		},
		"none": {
			fails: times{
				"2a::1": 0, "2a::2": 0, "1.1.1.1": time.Second,
				"2.2.2.2": time.Millisecond,
			},
			order: []string{
				"2a::1 0s", "1.1.1.1 0s", "2a::2 250ms",
				"2.2.2.2 250ms",
			},
			took: time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			synctest.Test(t, func(t *testing.T) {
				h := heat{
					t: t, fails: test.fails,
					answers: test.answers,
				}
				won, err := h.run(all)
				require.Equal(t, test.order, h.order)
				require.Equal(t, test.took, time.Since(h.began))
				require.Len(t, h.ended, test.ended)
				for _, ended := range h.ended {
					require.Equal(t, test.took, ended)
				}

				if test.won == "" {
					require.EqualError(t, err, ""+
						"[2a::1]:1: no; [2a::2]:1: "+
						"no; 2.2.2.2:1: no; "+
						"1.1.1.1:1: no")

					return
				}
				require.NoError(t, err)
				require.Equal(t, test.won,
					won.addr.Addr().String())
				require.False(t, won.closed)
			})
		})
	}
}

// TestRaceEnds checks that the end of the context ends all tries, and that none
// begins after it.
func TestRaceEnds(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(
			t.Context(), 2*stagger-time.Millisecond,
		)
		defer cancel()

		h := heat{t: t, began: time.Now()}
		_, err := race(ctx, parseAddrs(
			t, "1.1.1.1:1 2.2.2.2:1 3.3.3.3:1",
		), h.try)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Len(t, h.order, 2)
		require.Len(t, h.ended, 2)
	})
}
