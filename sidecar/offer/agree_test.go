package offer

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// deal is an offer, and what becomes of it if nothing is in the way.
type deal struct {
	// FromBob tells that the offer is Bob's, and else it is Alice's.
	FromBob bool

	// At is when it is sent, in seconds.
	At int

	// Decision is what the far end does when it has the offer, and Wait
	// how many seconds later.
	Decision string
	Wait     int

	// Stop is how many seconds later the socket stops; 0 for never. If
	// Withdraw is set the socket stays, and the offer is taken back.
	Stop     int
	Withdraw bool

	// Life is for how many seconds the offer is good.
	Life int

	// ByToken tells that the socket's admission is TOKEN.
	ByToken bool
}

// drawDeal draws an offer.
func drawDeal(t *rapid.T) deal {
	return deal{
		FromBob: rapid.Bool().Draw(t, "from bob"),
		At:      rapid.IntRange(0, 60).Draw(t, "at"),
		Decision: rapid.SampledFrom([]string{
			"", "accept", "reject", "accept twice", "change mind",
			"accept and end",
		}).Draw(t, "decision"),
		Wait:     rapid.IntRange(0, 600).Draw(t, "wait"),
		Stop:     rapid.IntRange(0, 600).Draw(t, "stop"),
		Withdraw: rapid.Bool().Draw(t, "withdraw"),
		Life:     rapid.IntRange(400, 800).Draw(t, "life"),
		ByToken:  rapid.Bool().Draw(t, "by token"),
	}
}

// decide has a node do what the plan says when it has got an offer.
func (d deal) decide(t *testing.T, n *node, id ID) {
	t.Helper()

	// Whether the offer is still there to be decided about is the chance
	// of the test.
	switch d.Decision {
	case "accept":
		_, _, _ = n.Accept(t.Context(), id)

	case "reject":
		_, _ = n.Reject(t.Context(), id, "no")

	case "accept twice":
		first, tokens, err := n.Accept(t.Context(), id)
		if err == nil {
			again, same, err := n.Accept(t.Context(), id)
			if errors.Is(err, ErrState) {
				// The host has ended it in between.
				return
			}
			require.NoError(t, err)
			require.Equal(t, first.DecisionID, again.DecisionID)
			require.Equal(t, tokens, same)
			require.Equal(t, d.ByToken, !tokens[1].IsZero())
		}

	case "accept and end":
		_, _, err := n.Accept(t.Context(), id)
		if err == nil {
			o, _, err := n.Withdraw(t.Context(), id, "enough")
			require.NoError(t, err)
			require.True(t, o.State.Ended())
		}

	case "change mind":
		_, err := n.Reject(t.Context(), id, "no")
		if err == nil {
			_, _, err = n.Accept(t.Context(), id)
			require.ErrorIs(t, err, ErrState)
		}
	}
}

// play runs deals in some weather between nodes with some habits, and returns
// what is wrong in the end.
func play(t *testing.T, we weather, deals []deal, habits [2]habit) []string {
	t.Helper()

	var wrong []string
	inWorld(t, func(w *world) {
		t := w.t
		limits := DefaultLimits()
		nodes := map[bool]*node{
			false: w.addWith(alice, limits, NewMemStore()),
			true:  w.addWith(bob, limits, NewMemStore()),
		}
		ids := make([]ID, len(deals))
		dealOf := make(map[ID]deal)
		for i, d := range deals {
			dealOf[numID(i)] = d
		}

		// A node decides about an offer some time after it has got it.
		for fromBob, n := range nodes {
			n.deps.Notify = func(e Event) {
				n.notified(e)
				if e.Kind != EventReceived {
					return
				}
				d := dealOf[e.Offer.SocketID]
				require.NotEqual(t, fromBob, d.FromBob)
				time.AfterFunc(
					time.Duration(d.Wait)*time.Second,
					func() { d.decide(t, n, e.Offer.ID) },
				)
			}
		}
		a, b := nodes[false], nodes[true]
		a.setPolicy(habits[0].policy(bob))
		b.setPolicy(habits[1].policy(alice))
		habits[0].setChannels(a, bob)
		habits[1].setChannels(b, alice)
		w.link(we, map[PubKey]*node{
			alice: a, bob: b,
		}, map[PubKey]func(){
			alice: func() { a.PeerOnline(bob) },
			bob:   func() { b.PeerOnline(alice) },
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
				ids[i] = w.sendUnderWay(host, p, d)
			})
		}

		// The last offer has expired by then, and all messages have
		// arrived. The first one is not forgotten yet.
		time.Sleep(950 * time.Second)
		synctest.Wait()
		for i, d := range deals {
			host, farEnd := nodes[d.FromBob], nodes[!d.FromBob]
			wrong = append(wrong, disagreements(
				t, ids[i], host, farEnd,
			)...)
		}
		wrong = append(wrong, habits[0].misjudged(t, a)...)
		wrong = append(wrong, habits[1].misjudged(t, b)...)
		w.requireGranted(a)
		w.requireGranted(b)

		// Whatever is still accepted ends with its socket, and then
		// nothing is left.
		w.perfect()
		for i := range deals {
			for _, n := range nodes {
				err := n.SocketClosed(t.Context(), numID(i), "")
				require.NoError(t, err)
			}
		}
		time.Sleep(30 * time.Minute)
		w.requireNone(a)
		w.requireNone(b)
		for _, n := range nodes {
			for _, name := range []string{
				"malformed", "oversized", "version", "limit",
				"unsupported",
			} {
				require.Zero(t, n.Counters()[name], name)
			}
		}
	})

	return wrong
}

// sendUnderWay makes an offer without waiting for anything to come to rest,
// plans the stop of its socket, and returns its id.
func (w *world) sendUnderWay(host *node, p Proposal, d deal) ID {
	o, err := host.Manager.Send(w.t.Context(), p)
	if err != nil {
		w.t.Errorf("send: %v", err)
	}
	if d.Stop > 0 {
		time.AfterFunc(time.Duration(d.Stop)*time.Second, func() {
			err := d.end(w.t, host.Manager, o)
			if err != nil {
				w.t.Errorf("end: %v", err)
			}
		})
	}

	return o.ID
}

// end has a host end an offer as the plan says.
func (d deal) end(t *testing.T, host *Manager, o Offer) error {
	t.Helper()

	if !d.Withdraw {
		return host.SocketClosed(t.Context(), o.SocketID, "stop")
	}
	_, _, err := host.Withdraw(t.Context(), o.ID, "no more")
	if errors.Is(err, ErrState) {
		return nil
	}

	return err
}

// TestAgreement checks that two nodes agree in the end about what became of
// every offer, whatever the network does to their messages on the way, whether
// they are connected or not, whatever they accept by themselves, and that each
// event happens once.
func TestAgreement(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		we := drawWeather(rt)
		deals := rapid.SliceOfN(
			rapid.Custom(drawDeal), 1, 8,
		).Draw(rt, "deals")

		habits := drawHabits(rt)
		for _, wrong := range play(t, we, deals, habits) {
			rt.Errorf("%s", wrong)
		}
	})
}

// TestAgreementCrossing checks the same where messages of both nodes are likely
// to cross each other.
func TestAgreementCrossing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		we := drawWeather(rt)
		we.Delay = 5000
		deals := make([]deal, rapid.IntRange(1, 8).Draw(rt, "deals"))
		for i := range deals {
			deals[i] = deal{
				FromBob: i%2 == 0,
				Decision: rapid.SampledFrom([]string{
					"accept", "reject", "accept and end",
				}).Draw(rt, "decision"),
				Wait: rapid.IntRange(0, 5).Draw(rt, "wait"),
				Stop: rapid.IntRange(0, 8).Draw(rt, "stop"),
				Withdraw: rapid.Bool().Draw(
					rt, "withdraw",
				),
				Life:    400,
				ByToken: true,
			}
		}

		habits := drawHabits(rt)
		for _, wrong := range play(t, we, deals, habits) {
			rt.Errorf("%s", wrong)
		}
	})
}

// TestAgreementAtExpiry checks the same where decisions are made just before
// the time runs out.
func TestAgreementAtExpiry(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		we := drawWeather(rt)
		we.Ends = rapid.IntRange(400, 430).Draw(rt, "ends late")
		we.Loss = min(we.Loss, 50)

		// The far end has the offer when the time runs out.
		for i := range we.Outages.Cuts {
			we.Outages.Cuts[i].At += 100
			we.Outages.Cuts[i].For = 20
		}
		deals := make([]deal, rapid.IntRange(1, 8).Draw(rt, "deals"))
		for i := range deals {
			deals[i] = deal{
				FromBob: i%2 == 0,
				Decision: rapid.SampledFrom([]string{
					"accept", "reject",
				}).Draw(rt, "decision"),
				Wait: rapid.IntRange(390, 402).Draw(
					rt, "wait",
				),
				Life:    400,
				ByToken: i%4 < 2,
			}
		}

		habits := drawHabits(rt)
		for _, wrong := range play(t, we, deals, habits) {
			rt.Errorf("%s", wrong)
		}
	})
}
