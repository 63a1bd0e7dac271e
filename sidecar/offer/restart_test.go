package offer

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawKillings draws when a node is killed.
func drawKillings(t *rapid.T, whose string) []killing {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) killing {
		return killing{
			Steps: rapid.IntRange(1, 30).Draw(t, "steps"),
			Down:  rapid.IntRange(0, 20_000).Draw(t, "down"),
		}
	}), 0, 8).Draw(t, whose)
}

// playMortal runs deals in some weather between nodes with some habits that are
// killed, and returns what is wrong in the end.
func playMortal(t *testing.T, we weather, deals []deal, habits [2]habit,
	killings [2][]killing) []string {

	t.Helper()

	var wrong []string
	inWorld(t, func(w *world) {
		t := w.t
		limits := DefaultLimits()
		until := time.Now().Add(900 * time.Second)
		nodes := map[bool]*mortal{
			false: w.addMortal(alice, limits, killings[0], until),
			true:  w.addMortal(bob, limits, killings[1], until),
		}
		for _, n := range nodes {
			n.told = func(e Event) { n.follow(e, deals) }
		}
		a, b := nodes[false], nodes[true]
		a.setPolicy(habits[0].policy(bob))
		b.setPolicy(habits[1].policy(alice))
		habits[0].setChannels(a.node, bob)
		habits[1].setChannels(b.node, alice)
		w.link(we, map[PubKey]*node{
			alice: a.node, bob: b.node,
		}, map[PubKey]func(){
			alice: func() { a.online(bob) },
			bob:   func() { b.online(alice) },
		})

		start := time.Now()
		for i, d := range deals {
			p := proposal(map[bool]PubKey{
				false: bob, true: alice,
			}[d.FromBob])
			p.SocketID = numID(i)
			if d.ByToken {
				p.Admission = ByToken
			}
			p.ExpiresAt = start.Add(
				time.Duration(d.At+d.Life) * time.Second,
			)
			host := nodes[d.FromBob]
			time.AfterFunc(time.Duration(d.At)*time.Second, func() {
				host.offer(p, d)
			})
		}

		// The last offer has expired by then, and all messages have
		// arrived. The first one is not forgotten yet.
		time.Sleep(970 * time.Second)
		synctest.Wait()
		for i, d := range deals {
			host, farEnd := nodes[d.FromBob], nodes[!d.FromBob]
			o, ok, err := host.current().offerOf(
				t.Context(), numID(i),
			)
			require.NoError(t, err)
			require.True(t, ok, "the offer was lost")
			wrong = append(wrong, disagreements(
				t, o.ID, host.asNode(), farEnd.asNode(),
			)...)
		}

		for i, n := range []*mortal{a, b} {
			wrong = append(
				wrong, habits[i].misjudged(t, n.asNode())...,
			)
		}

		// Whatever is still accepted ends with its socket, and then
		// nothing is left.
		w.perfect()
		for _, n := range nodes {
			n.requirePassed()
			w.requireGranted(n.asNode())
			for i := range deals {
				err := n.current().SocketClosed(
					t.Context(), numID(i), "",
				)
				require.NoError(t, err)
			}
		}
		time.Sleep(30 * time.Minute)
		for _, n := range nodes {
			w.requireNone(n.asNode())
		}
	})

	return wrong
}

// follow has a node do what the plan says when it is told of an offer. It does
// not forget that when it is killed.
func (m *mortal) follow(e Event, deals []deal) {
	if e.Kind != EventReceived {
		return
	}
	i := 0
	for numID(i) != e.Offer.SocketID {
		i++
	}

	wait := time.Duration(deals[i].Wait) * time.Second
	time.AfterFunc(wait, func() {
		ctx := m.t.Context()
		err := m.insist(func(l *life) error {
			var err error
			switch deals[i].Decision {
			case "accept", "accept twice":
				_, _, err = l.Accept(ctx, e.Offer.ID)

			case "accept and end":
				_, _, err = l.Accept(ctx, e.Offer.ID)
				if err == nil {
					_, _, err = l.Withdraw(
						ctx, e.Offer.ID, "enough",
					)
				}

			case "reject", "change mind":
				_, err = l.Reject(ctx, e.Offer.ID, "no")
			}

			return err
		})
		if err != nil && !errors.Is(err, ErrState) {
			m.t.Errorf("decide: %v", err)
		}
	})
}

// offer makes an offer as the plan says, once, and stops its socket later.
func (m *mortal) offer(p Proposal, d deal) {
	ctx := m.t.Context()
	err := m.insist(func(l *life) error {
		// Whoever was not answered looks whether it was done.
		_, ok, err := l.offerOf(ctx, p.SocketID)
		if err != nil || ok {
			return err
		}
		_, err = l.Send(ctx, p)

		return err
	})
	if err != nil {
		m.t.Errorf("send: %v", err)
	}
	if d.Stop == 0 {
		return
	}

	time.AfterFunc(time.Duration(d.Stop)*time.Second, func() {
		// The relay and its store come first.
		if !d.Withdraw {
			m.mu.Lock()
			m.gone[p.SocketID] = true
			m.mu.Unlock()
		}

		err := m.insist(func(l *life) error {
			o, ok, err := l.offerOf(ctx, p.SocketID)
			if err != nil || !ok {
				return err
			}

			return d.end(m.t, l.Manager, o)
		})
		if err != nil {
			m.t.Errorf("end: %v", err)
		}
	})
}

// TestAgreementKilled checks that two nodes agree in the end about what became
// of every offer, that none is lost, and that each event happens once, whatever
// the network does and at whichever step either of them is killed.
func TestAgreementKilled(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		we := drawWeather(rt)
		deals := rapid.SliceOfN(
			rapid.Custom(drawDeal), 1, 8,
		).Draw(rt, "deals")
		killings := [2][]killing{
			drawKillings(rt, "alice"), drawKillings(rt, "bob"),
		}

		wrongs := playMortal(t, we, deals, drawHabits(rt), killings)
		for _, wrong := range wrongs {
			rt.Errorf("%s", wrong)
		}
	})
}

// TestAgreementEveryStep checks the same for one offer and its whole life, with
// either node killed at every step that there is, for no time and for some.
func TestAgreementEveryStep(t *testing.T) {
	for _, d := range []deal{
		{
			Decision: "accept", Wait: 2, Stop: 4, Life: 400,
			ByToken: true,
		},
		{Decision: "reject", Wait: 2, Life: 400, ByToken: true},
		{Decision: "accept", Wait: 2, Life: 400},
		{
			Decision: "accept", Wait: 2, Stop: 4, Withdraw: true,
			Life: 400, ByToken: true,
		},
		{Stop: 4, Withdraw: true, Life: 400, ByToken: true},
		{Decision: "accept and end", Wait: 2, Life: 400, ByToken: true},
		{Life: 400},
	} {
		everyStep(t, weather{}, d, [2]habit{})
	}
}

// TestAgreementEveryStepAlone checks the same for an offer that is accepted
// without anybody being asked, and waits for its peer before.
func TestAgreementEveryStepAlone(t *testing.T) {
	everyStep(t, weather{
		Ends: 10,
		Outages: outages{
			Cuts: []cut{{At: 0, For: 5}}, Refused: 100,
		},
	}, deal{At: 1, Stop: 12, Life: 400, ByToken: true}, [2]habit{
		{}, {AutoAccept: AutoAcceptChannel, Channel: true},
	})
}

// everyStep plays a deal, with either node killed at every step that there is,
// for no time and for some.
func everyStep(t *testing.T, we weather, d deal, habits [2]habit) {
	t.Helper()

	for who := range 2 {
		for steps := 1; steps < 24; steps++ {
			for _, down := range []int{0, 7000} {
				var killings [2][]killing
				killings[who] = []killing{{
					Steps: steps, Down: down,
				}}
				wrong := playMortal(
					t, we, []deal{d}, habits, killings,
				)
				require.Empty(
					t, wrong, "%+v, %d killed at step %d "+
						"for %d ms", d, who, steps,
					down,
				)
			}
		}
	}
}
