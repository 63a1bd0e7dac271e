package relay

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// fakeSocket returns a socket without ports, opened at the instant.
func fakeSocket(opts Options, now instant) *Socket {
	s := &Socket{opts: opts}
	for i := range s.legs {
		s.legs[i] = &leg{}
		s.legs[i].traffic.lastPassed.Store(now)
	}

	return s
}

// TestDue checks when a socket's time is over, and why.
func TestDue(t *testing.T) {
	t.Parallel()

	const now = instant(100 * time.Second)
	wall := time.Unix(1_000_000, 0)

	tests := []struct {
		name   string
		idle   time.Duration
		left   time.Duration
		passed [2]instant
		reason CloseReason
		wait   time.Duration
	}{{
		name:   "idle from the opening",
		idle:   3 * time.Second,
		passed: [2]instant{now, now},
		reason: CloseIdle,
		wait:   3 * time.Second,
	}, {
		name:   "leg 1 counts",
		idle:   3 * time.Second,
		passed: [2]instant{now - instant(time.Second), 0},
		reason: CloseIdle,
		wait:   2 * time.Second,
	}, {
		name:   "leg 2 counts",
		idle:   3 * time.Second,
		passed: [2]instant{0, now - instant(time.Second)},
		reason: CloseIdle,
		wait:   2 * time.Second,
	}, {
		name:   "idle is over",
		idle:   3 * time.Second,
		passed: [2]instant{now - instant(3*time.Second), 0},
		reason: CloseIdle,
	}, {
		name:   "lifetime only",
		left:   time.Hour,
		reason: CloseLifetime,
		wait:   time.Hour,
	}, {
		name:   "lifetime is over",
		idle:   time.Second,
		left:   -time.Second,
		passed: [2]instant{now, now},
		reason: CloseLifetime,
		wait:   -time.Second,
	}, {
		name:   "lifetime comes first",
		idle:   2 * time.Second,
		left:   time.Second,
		passed: [2]instant{now, now},
		reason: CloseLifetime,
		wait:   time.Second,
	}, {
		name:   "idle comes first",
		idle:   2 * time.Second,
		left:   time.Hour,
		passed: [2]instant{now, now},
		reason: CloseIdle,
		wait:   2 * time.Second,
	}}

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()

			opts := Options{IdleTimeout: test.idle}
			if test.left != 0 {
				opts.ExpiresAt = wall.Add(test.left)
			}

			s := fakeSocket(opts, 0)
			for i, passed := range test.passed {
				s.legs[i].traffic.lastPassed.Store(passed)
			}

			require.True(t, s.canEnd())

			reason, wait := s.due(now, wall)
			require.Equal(t, test.reason, reason)
			require.Equal(t, test.wait, wait)
		})
	}

	require.False(t, fakeSocket(Options{}, 0).canEnd())
}

// TestDueFar checks that limits that never come do not overflow.
func TestDueFar(t *testing.T) {
	t.Parallel()

	var queue deadlines
	now := instant(math.MaxInt64 / 4)
	wall := time.Now()

	for _, opts := range []Options{
		{IdleTimeout: math.MaxInt64},
		{ExpiresAt: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		queue.add(fakeSocket(opts, now), now, wall)
	}

	s, _ := queue.next(now, wall)
	require.Nil(t, s)
	require.Equal(t, maxWait, queue.wait(now))
}

// TestDeadlines checks the queue against a plain search over all sockets.
func TestDeadlines(t *testing.T) {
	t.Parallel()

	rapid.Check(t, checkDeadlines)
}

// queueModel is a queue and the sockets that should be in it.
type queueModel struct {
	queue deadlines
	now   instant
	wall  time.Time

	// all holds every socket that ever was opened, in order.
	all []*Socket

	// open tells which of them have not ended.
	open map[*Socket]bool
}

// seconds draws times between which something else can happen.
var seconds = rapid.Map(rapid.IntRange(0, 20), func(s int) time.Duration {
	return time.Duration(s) * time.Second
})

// checkDeadlines does what happens to a relay's sockets, at random.
func checkDeadlines(t *rapid.T) {
	m := &queueModel{
		wall: time.Unix(1_000_000, 0),
		open: make(map[*Socket]bool),
	}

	t.Repeat(map[string]func(*rapid.T){
		"open": m.opens,
		"pass": func(t *rapid.T) {
			leg := rapid.IntRange(0, 1).Draw(t, "leg")
			m.draw(t).legs[leg].traffic.lastPassed.Store(m.now)
		},
		"close": func(t *rapid.T) {
			s := m.draw(t)
			m.queue.remove(s)
			m.queue.remove(s)
			delete(m.open, s)
		},
		"wait": func(t *rapid.T) {
			d := seconds.Draw(t, "wait")
			m.now, m.wall = m.now.add(d), m.wall.Add(d)
		},
		"": m.checkEnds,
	})
}

// draw returns one of the open sockets.
func (m *queueModel) draw(t *rapid.T) *Socket {
	var sockets []*Socket
	for _, s := range m.all {
		if m.open[s] {
			sockets = append(sockets, s)
		}
	}

	if len(sockets) == 0 {
		t.Skip("none is open")
	}

	return rapid.SampledFrom(sockets).Draw(t, "socket")
}

// opens adds a socket, and checks that it is told if the queue has to be
// looked at earlier than was known.
func (m *queueModel) opens(t *rapid.T) {
	opts := Options{IdleTimeout: seconds.Draw(t, "idle")}
	if left := seconds.Draw(t, "left"); left > 0 {
		opts.ExpiresAt = m.wall.Add(left)
	}

	s := fakeSocket(opts, m.now)
	before := m.queue.wait(m.now)
	first := m.queue.add(s, m.now, m.wall)
	require.Equal(t, m.queue.wait(m.now) < before, first)

	m.all = append(m.all, s)
	m.open[s] = true
}

// checkEnds ends what is due, and checks that it is exactly what a search over
// all sockets finds.
func (m *queueModel) checkEnds(t *rapid.T) {
	due := make(map[*Socket]CloseReason)
	for s := range m.open {
		reason, wait := s.due(m.now, m.wall)
		if s.canEnd() && wait <= 0 {
			due[s] = reason
		}
	}

	for {
		s, reason := m.queue.next(m.now, m.wall)
		if s == nil {
			break
		}

		require.Equal(t, due[s], reason)
		delete(due, s)
		delete(m.open, s)
	}
	require.Empty(t, due)

	// Nothing may end before the queue is looked at again.
	wait := m.queue.wait(m.now)
	require.Positive(t, wait)

	for s := range m.open {
		if s.canEnd() {
			_, left := s.due(m.now, m.wall)
			require.LessOrEqual(t, wait, left)
		}
	}
}
