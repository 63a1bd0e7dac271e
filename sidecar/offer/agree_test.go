package offer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// weather is what a network does to messages until it becomes perfect.
type weather struct {
	Seed uint64

	// Loss, Again and Fail are how many of 100 messages are lost, arrive
	// twice, and are reported to have failed, whether they arrive or not.
	Loss  int
	Again int
	Fail  int

	// Delay is how long a message takes at most, in milliseconds.
	Delay int

	// Ends is when the network becomes perfect, in seconds.
	Ends int
}

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

// drawWeather draws the weather of a test.
func drawWeather(t *rapid.T) weather {
	return weather{
		Seed:  rapid.Uint64().Draw(t, "seed"),
		Loss:  rapid.IntRange(0, 90).Draw(t, "loss"),
		Again: rapid.IntRange(0, 90).Draw(t, "again"),
		Fail:  rapid.IntRange(0, 50).Draw(t, "fail"),
		Delay: rapid.IntRange(0, 5000).Draw(t, "delay"),
		Ends:  rapid.IntRange(0, 300).Draw(t, "ends"),
	}
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

// fate returns the fate of messages in this weather.
func (we weather) fate() func(packet) fate {
	rng := rand.New(rand.NewPCG(we.Seed, 1))
	ends := time.Now().Add(time.Duration(we.Ends) * time.Second)
	roll := func(percent int) bool { return rng.IntN(100) < percent }

	// Both nodes send at the same time.
	var mu sync.Mutex

	return func(p packet) fate {
		mu.Lock()
		defer mu.Unlock()

		if !p.at.Before(ends) {
			return fate{delays: []time.Duration{0}}
		}

		var f fate
		copies := 1
		if roll(we.Again) {
			copies++
		}
		for range copies {
			if roll(we.Loss) {
				continue
			}
			f.delays = append(f.delays, time.Duration(
				rng.IntN(we.Delay+1),
			)*time.Millisecond)
		}
		if roll(we.Fail) {
			f.err = errLnd
		}
		if roll(we.Fail) {
			f.err = ErrNotConnected
		}

		return f
	}
}

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

// play runs deals in some weather, and returns what is wrong in the end.
func play(t *testing.T, we weather, deals []deal) []string {
	t.Helper()

	var wrong []string
	inWorld(t, func(w *world) {
		t := w.t
		limits := DefaultLimits()
		limits.SocketsPerPeer = len(deals)
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
		w.setFate(we.fate())

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
		w.requireGranted(nodes[false])
		w.requireGranted(nodes[true])

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
		w.requireNone(nodes[false])
		w.requireNone(nodes[true])
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

// disagreements returns what is wrong with an offer in the end.
func disagreements(t *testing.T, id ID, host, farEnd *node) []string {
	t.Helper()

	var (
		wrong  []string
		states [2]string
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
	if !agreed[states] {
		wrong = append(wrong, fmt.Sprintf(
			"host says %q, far end %q", states[0], states[1],
		))
	}

	return wrong
}

// TestAgreement checks that two nodes agree in the end about what became of
// every offer, whatever the network does to their messages on the way, and that
// each event happens once.
func TestAgreement(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		we := drawWeather(rt)
		deals := rapid.SliceOfN(
			rapid.Custom(drawDeal), 1, 8,
		).Draw(rt, "deals")

		for _, wrong := range play(t, we, deals) {
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

		for _, wrong := range play(t, we, deals) {
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

		for _, wrong := range play(t, we, deals) {
			rt.Errorf("%s", wrong)
		}
	})
}

// TestWorld checks that the network of these tests does what it is told.
func TestWorld(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		from, to := w.addStranger(alice), w.addStranger(bob)
		const second = time.Second
		w.setFate(func(p packet) fate {
			switch p.typ {
			case wire.TypeOffer:
				return fate{delays: []time.Duration{second, 0}}

			case wire.TypeAck:
				return fate{err: errLnd}

			default:
				return fate{}
			}
		})
		for _, typ := range []wire.MsgType{
			wire.TypeOffer, wire.TypeAck, wire.TypeClose,
		} {
			err := from.Send(
				t.Context(), bob, uint16(typ), []byte{1},
			)
			if typ == wire.TypeAck {
				require.ErrorIs(t, err, errLnd)
			} else {
				require.NoError(t, err)
			}
		}
		err := from.Send(t.Context(), carol, 0, nil)
		require.ErrorIs(t, err, ErrNotConnected)

		require.Len(t, to.inbox, 1)
		time.Sleep(second)
		synctest.Wait()
		require.Len(t, to.inbox, 2)
		require.Equal(t, []byte{1}, (<-to.inbox).body)
	})
}
