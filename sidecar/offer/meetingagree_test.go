package offer

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// meetingPlan is a meeting of three nodes, and what becomes of it if nothing is
// in the way. Times are in seconds.
type meetingPlan struct {
	// Pass is how long the asker waits before it passes leg 2 on, 0 for
	// never.
	Pass int

	// Decision is what the friend does, and Wait how long it waits.
	Decision string
	Wait     int

	// Act is what somebody does at a time, whatever has happened until
	// then.
	Act string
	At  int
}

// drawMeeting draws a meeting.
func drawMeeting(t *rapid.T) meetingPlan {
	return meetingPlan{
		Pass: rapid.IntRange(0, 60).Draw(t, "pass"),
		Decision: rapid.SampledFrom([]string{
			"", "accept", "reject",
		}).Draw(t, "decision"),
		Wait: rapid.IntRange(0, 200).Draw(t, "wait"),
		Act: rapid.SampledFrom([]string{
			"", "host stops", "asker stops", "asker takes back",
			"asker withdraws", "friend stops",
		}).Draw(t, "act"),
		At: rapid.IntRange(0, 300).Draw(t, "at"),
	}
}

// mortalMeeting is a meeting of nodes that are killed now and then.
type mortalMeeting struct {
	*world

	plan                meetingPlan
	host, asker, friend *mortal
}

// playMeeting runs a meeting in some weather between nodes that are killed, and
// returns how many sockets are open in the end, and what is wrong.
func playMeeting(t *testing.T, we weather, plan meetingPlan,
	killings [3][]killing) (int, []string) {

	t.Helper()

	var (
		open  int
		wrong []string
	)
	inWorld(t, func(w *world) {
		limits := DefaultLimits()
		until := time.Now().Add(900 * time.Second)
		m := &mortalMeeting{world: w, plan: plan}
		m.host = w.addMortal(rose, limits, killings[0], until)
		m.asker = w.addMortal(anna, limits, killings[1], until)
		m.friend = w.addMortal(bert, limits, killings[2], until)
		w.setFate(we.fate())
		m.host.host.closed = m.socketClosed
		m.asker.told = m.askerTold
		m.friend.told = m.friendTold

		go m.ask()
		time.AfterFunc(time.Duration(plan.At)*time.Second, m.act)

		// The network is perfect by then, and nobody is killed.
		time.Sleep(1000 * time.Second)
		synctest.Wait()
		wrong = m.disagreements()
		open = len(m.host.host.sockets())

		// Then all is ended, and nothing is left.
		for _, id := range m.host.host.sockets() {
			m.host.host.stop(id)
		}
		time.Sleep(30 * time.Hour)
		for _, n := range []*mortal{m.host, m.asker, m.friend} {
			n.requirePassed()
			w.requireNone(n.asNode())
		}
	})

	return open, wrong
}

// insist has a node do something, and lets it fail because there is nothing, or
// nothing any more, to do it to.
func (m *mortalMeeting) insist(n *mortal, do func(l *life) error) {
	err := n.insist(do)
	if err != nil && !errors.Is(err, ErrNotFound) &&
		!errors.Is(err, ErrState) && !errors.Is(err, ErrGranted) {

		m.t.Errorf("%v: %v", m.plan, err)
	}
}

// ask makes the request, once.
func (m *mortalMeeting) ask() {
	q := inquiry(rose)
	q.ExpiresAt = time.Now().Add(800 * time.Second)
	m.insist(m.asker, func(l *life) error {
		offers, err := l.List(m.t.Context())
		if err != nil || len(offers) > 0 {
			return err
		}
		_, err = l.Request(m.t.Context(), q)

		return err
	})
}

// socketClosed is what the host's relay does when a socket has ended.
func (m *mortalMeeting) socketClosed(id ID) {
	m.host.mu.Lock()
	m.host.gone[id] = true
	m.host.mu.Unlock()

	go m.insist(m.host, func(l *life) error {
		return l.SocketClosed(m.t.Context(), id, "")
	})
}

// askerTold has the asker pass on what it got.
func (m *mortalMeeting) askerTold(e Event) {
	if e.Kind != EventReceived || m.plan.Pass == 0 {
		return
	}
	time.AfterFunc(time.Duration(m.plan.Pass)*time.Second, func() {
		m.insist(m.asker, func(l *life) error {
			_, err := l.PassOn(m.t.Context(), Passing{
				Peer: bert, SocketID: e.Offer.SocketID,
				Legs:      Leg2,
				ExpiresAt: time.Now().Add(500 * time.Second),
			})

			return err
		})
	})
}

// friendTold has the friend decide about what it got.
func (m *mortalMeeting) friendTold(e Event) {
	if e.Kind != EventReceived || m.plan.Decision == "" {
		return
	}
	time.AfterFunc(time.Duration(m.plan.Wait)*time.Second, func() {
		m.insist(m.friend, func(l *life) error {
			var err error
			if m.plan.Decision == "accept" {
				_, _, err = l.Accept(
					m.t.Context(), e.Offer.ID,
				)
			} else {
				_, err = l.Reject(
					m.t.Context(), e.Offer.ID, "no",
				)
			}

			return err
		})
	})
}

// act does what the plan has somebody do.
func (m *mortalMeeting) act() {
	ctx := m.t.Context()
	endRemote := func(l *life) error {
		for _, o := range m.offers(l) {
			if o.Direction != Incoming || o.IsRequest {
				continue
			}
			_, err := l.EndRemote(ctx, o.SocketID, "bye")

			return err
		}

		return nil
	}
	withdraw := func(isRequest bool) func(l *life) error {
		return func(l *life) error {
			for _, o := range m.offers(l) {
				if o.Direction != Outgoing ||
					o.IsRequest != isRequest {

					continue
				}
				_, _, err := l.Withdraw(ctx, o.ID, "no more")

				return err
			}

			return nil
		}
	}

	switch m.plan.Act {
	case "host stops":
		for _, id := range m.host.host.sockets() {
			m.host.host.stop(id)
		}

	case "asker stops":
		m.insist(m.asker, endRemote)

	case "asker takes back":
		m.insist(m.asker, withdraw(true))

	case "asker withdraws":
		m.insist(m.asker, withdraw(false))

	case "friend stops":
		m.insist(m.friend, endRemote)
	}
}

// offers returns the offers that a process has, none if it is killed meanwhile.
func (m *mortalMeeting) offers(l *life) []Offer {
	offers, _ := l.List(m.t.Context())

	return offers
}

// disagreements returns what the three nodes do not agree about.
func (m *mortalMeeting) disagreements() []string {
	var wrong []string
	complain := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf(format, args...))
	}

	atHost := m.offers(m.host.current())
	atAsker := m.offers(m.asker.current())
	atFriend := m.offers(m.friend.current())
	find := func(offers []Offer, id ID) (Offer, bool) {
		i := slices.IndexFunc(offers, func(o Offer) bool {
			return o.ID == id
		})
		if i < 0 {
			return Offer{}, false
		}

		return offers[i], true
	}

	// The host has as many sockets as it has offers that live.
	var live []ID
	for _, o := range atHost {
		if o.IsRequest {
			if !o.Ended() {
				complain("request is %v at the host", o.State)
			}

			continue
		}
		theirs, ok := find(atAsker, o.ID)
		if !o.Ended() {
			live = append(live, o.SocketID)
			if !ok || theirs.State != StateAccepted ||
				o.State != StateAccepted {

				complain("hosted: %v and %v", o.State,
					theirs.State)
			}
		} else if ok && !theirs.Ended() {
			complain("hosted: %v and %v", o.State, theirs.State)
		}
	}
	if open := m.host.host.sockets(); !sameIDs(open, live) {
		complain("%d sockets are open and %d are offered", len(open),
			len(live))
	}

	for _, o := range atAsker {
		if o.IsRequest && !o.Ended() {
			complain("request is %v at the asker", o.State)
		}
		if o.Parent.IsZero() {
			continue
		}
		parent, ok := find(atAsker, o.Parent)
		if !ok || parent.Ended() != o.Ended() {
			complain("passed on: %v, and the host's %v", o.State,
				parent.State)
		}
		theirs, ok := find(atFriend, o.ID)
		if ok && theirs.Ended() != o.Ended() || !ok && !o.Ended() {
			complain("passed on: %v and %v", o.State, theirs.State)
		}
	}

	return wrong
}

// sameIDs tells whether two lists have the same ids.
func sameIDs(a, b []ID) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(id ID) bool {
		return !slices.Contains(b, id)
	})
}

// TestMeetingAgreement checks that three nodes agree in the end about a socket
// that one of them hosts for another one, which passes a leg on to the third,
// and that nothing is left behind, whatever the network does and at whichever
// step any of them is killed.
func TestMeetingAgreement(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		we := drawWeather(rt)
		plan := drawMeeting(rt)
		killings := [3][]killing{
			drawKillings(rt, "host"), drawKillings(rt, "asker"),
			drawKillings(rt, "friend"),
		}
		_, wrongs := playMeeting(t, we, plan, killings)
		for _, wrong := range wrongs {
			rt.Errorf("%s", wrong)
		}
	})
}

// TestMeetingEveryStep checks the same for some meetings, with each of the
// nodes killed at every step that there is.
func TestMeetingEveryStep(t *testing.T) {
	for _, plan := range []meetingPlan{
		{Pass: 2, Decision: "accept", Wait: 2},
		{
			Pass: 2, Decision: "accept", Wait: 2,
			Act: "friend stops", At: 10,
		},
		{
			Pass: 2, Decision: "accept", Wait: 2, Act: "host stops",
			At: 10,
		},
		{Pass: 2, Decision: "reject", Wait: 2},
		{Act: "asker stops", At: 10},
		{Act: "asker takes back", At: 0},
	} {
		for who := range 3 {
			for steps := 1; steps < 24; steps++ {
				var killings [3][]killing
				killings[who] = []killing{{
					Steps: steps, Down: 3000,
				}}
				open, wrong := playMeeting(
					t, weather{}, plan, killings,
				)
				require.Empty(
					t, wrong, "%+v, %d killed at step %d",
					plan, who, steps,
				)

				// Nobody wanted it to end.
				if plan.Decision == "accept" && plan.Act == "" {
					require.Equal(
						t, 1, open, "%d at step %d",
						who, steps,
					)
				}
			}
		}
	}
}
