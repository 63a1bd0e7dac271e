package offer

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestRequestPolicy checks the policy as a table: who asks, for what, while how
// many are hosted, and what becomes of it.
func TestRequestPolicy(t *testing.T) {
	t.Parallel()

	bounds := func(p RequestPolicy) RequestPolicy {
		p.MaxHosted, p.MaxPerNode = 3, 2
		p.MaxLifetime, p.MaxBandwidth = time.Hour, 1000

		return p
	}
	var (
		none    = bounds(RequestPolicy{})
		channel = bounds(RequestPolicy{Channel: true})
		list    = bounds(RequestPolicy{Nodes: []PubKey{carol, bob}})
		both    = bounds(RequestPolicy{
			Channel: true, Nodes: []PubKey{carol},
		})
		anybody = bounds(RequestPolicy{Any: true})
		openFor = bounds(RequestPolicy{
			Any: true, OpenFor: []PubKey{bob},
		})
		fast = bounds(RequestPolicy{Any: true})
	)
	fast.MaxBandwidth = 0

	type ask struct {
		peer   PubKey
		open   bool
		limits SocketLimits
		facts  requestFacts
	}
	tests := []struct {
		name   string
		policy RequestPolicy
		ask    ask
		want   RequestRefusal
		text   string
	}{
		{"none", none, ask{peer: bob}, RequestNone,
			"policy none: this node hosts for nobody"},
		{"none, with a channel", none, ask{
			peer: bob, facts: requestFacts{hasChannel: true},
		}, RequestNone, "policy none: this node hosts for nobody"},
		{"channel", channel, ask{
			peer: bob, facts: requestFacts{hasChannel: true},
		}, 0, ""},
		{"no channel", channel, ask{peer: bob}, RequestChannel,
			"policy channel: we have no channel with you"},
		{"on the list", list, ask{peer: bob}, 0, ""},
		{"not on the list", list, ask{peer: alice}, RequestList,
			"policy list: you are not on our list"},
		{"list beside channel", both, ask{peer: carol}, 0, ""},
		{"channel beside list", both, ask{
			peer: bob, facts: requestFacts{hasChannel: true},
		}, 0, ""},
		{"neither", both, ask{peer: bob}, RequestChannel,
			"policy channel: we have no channel with you"},
		{"any", anybody, ask{peer: bob}, 0, ""},
		{"open", anybody, ask{peer: bob, open: true}, RequestOpen,
			"policy open: sockets here need tokens"},
		{"open for it", openFor, ask{peer: bob, open: true}, 0, ""},
		{"open for another", openFor, ask{peer: carol, open: true},
			RequestOpen, "policy open: sockets here need tokens"},
		{"one less than too many of it", anybody, ask{
			peer: bob, facts: requestFacts{ofNode: 1, hosted: 2},
		}, 0, ""},
		{"too many of it", anybody, ask{
			peer: bob, facts: requestFacts{ofNode: 2, hosted: 2},
		}, RequestNode, "policy node: you have 2 sockets of ours, " +
			"the most we allow"},
		{"too many of all", anybody, ask{
			peer: bob, facts: requestFacts{hosted: 3},
		}, RequestHosted,
			"policy hosted: as many as we allow are hosted"},
		{"as long as may be", anybody, ask{
			peer: bob, limits: SocketLimits{Lifetime: 3600},
		}, 0, ""},
		{"too long", anybody, ask{
			peer: bob, limits: SocketLimits{Lifetime: 3601},
		}, RequestLifetime, "policy lifetime: at most 3600 s"},
		{"as fast as may be", anybody, ask{
			peer: bob, limits: SocketLimits{Bandwidth: 1000},
		}, 0, ""},
		{"too fast", anybody, ask{
			peer: bob, limits: SocketLimits{Bandwidth: 1001},
		}, RequestBandwidth,
			"policy bandwidth: at most 1000 bytes/s"},
		{"as fast as it likes", fast, ask{
			peer: bob, limits: SocketLimits{Bandwidth: 1 << 62},
		}, 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()

			o := Offer{
				IsRequest: true, Peer: test.ask.peer,
				Admission: ByToken, Limits: test.ask.limits,
			}
			if test.ask.open {
				o.Admission = Open
			}
			refused := test.policy.judge(&o, test.ask.facts)
			if test.text == "" {
				require.Nil(t, refused)

				return
			}
			require.NotNil(t, refused)
			require.Equal(t, test.want, refused.why)
			require.Equal(t, test.text, refused.text)
			require.NoError(t, wire.CheckText(refused.text))
		})
	}
}

// TestRequestBounds checks that what the policy bounds is counted: sockets that
// are hosted, that are about to be, and that are offered otherwise.
func TestRequestBounds(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		host := w.add(alice)
		w.addStranger(bob)
		w.addStranger(carol)
		policy := testRequests()
		policy.MaxHosted, policy.MaxPerNode = 3, 2
		host.SetRequestPolicy(policy)
		refused := func(why string) uint64 {
			return host.RequestsRefused()[why]
		}

		// The first socket is offered, the second is being opened.
		w.sendOffer(host, proposal(bob))
		hold := make(chan struct{})
		host.host.setHold(hold)
		w.inject(host, bob, requestMsg(testID(1)))
		w.inject(host, bob, requestMsg(testID(2)))
		require.EqualValues(t, 1, refused("node"))
		require.Equal(t, 1, host.NumHosted())

		// Neither can another one be offered.
		p := proposal(bob)
		p.SocketID = testID(0x51)
		_, err := host.Manager.Send(t.Context(), p)
		require.ErrorIs(t, err, ErrLimit)
		close(hold)
		w.requireState(host, testID(1), StateAccepted)

		for id := byte(3); id <= 5; id++ {
			w.inject(host, carol, requestMsg(testID(id)))
		}
		require.EqualValues(t, 2, refused("node"))
		require.Equal(t, 3, host.NumHosted())
		dave := testKey(0xd1)
		w.addStranger(dave)
		w.inject(host, dave, requestMsg(testID(6)))
		require.EqualValues(t, 1, refused("hosted"))

		// What ends makes room.
		o := w.answerTo(host, testID(3))
		w.inject(host, carol, &wire.Close{ID: newID(), ReplyTo: o.ID})
		w.inject(host, dave, requestMsg(testID(7)))
		w.requireState(host, testID(7), StateAccepted)
		require.Equal(t, 3, host.NumHosted())

		host = w.restart(host, DefaultLimits(), 0)
		host.SetRequestPolicy(policy)
		synctest.Wait()
		require.Equal(t, 3, host.NumHosted())
		w.inject(host, carol, requestMsg(testID(8)))
		require.EqualValues(t, 1, host.RequestsRefused()["hosted"])
		require.Len(t, host.host.sockets(), 3, fmt.Sprint(w.list(host)))
	})
}
