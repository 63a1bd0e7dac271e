package offer

import (
	"fmt"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// numID returns an id that has a number in it.
func numID(n int) ID {
	var id ID
	copy(id[:], fmt.Sprintf("id%030d", n))

	return id
}

// limitsWith returns the default limits with a change, and no limit of rate.
func limitsWith(change func(*Limits)) Limits {
	limits := DefaultLimits()
	limits.Rate, limits.Burst = 1e9, 1e9
	limits.TotalRate, limits.TotalBurst = 1e9, 1e9
	change(&limits)

	return limits
}

// TestDefaultLimits checks the limits that the documents name.
func TestDefaultLimits(t *testing.T) {
	require.Equal(t, Limits{
		PendingPerPeer: 20, Pending: 1000, RecordsPerPeer: 200,
		Records: 10000, Rate: 10, Burst: 30,
		TotalRate: 1000, TotalBurst: 2000,
	}, DefaultLimits())
}

// TestPendingPerPeer checks how many undecided offers of a peer are kept.
func TestPendingPerPeer(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		limits := limitsWith(func(*Limits) {})
		a := w.addWith(alice, limits, NewMemStore())
		w.addStranger(bob)
		w.addStranger(carol)
		for i := range limits.PendingPerPeer {
			w.inject(a, bob, offerMsg(numID(i)))
		}
		w.takeSent(alice)
		require.Equal(t, limits.PendingPerPeer, a.NumPending())

		// One more is too many, but only for Bob.
		w.inject(a, bob, offerMsg(numID(100)))
		w.requireAnswers(a, bob, rejectOf(numID(100), wire.CodeLimit))
		w.requireCounts(a, map[string]uint64{"limit": 1})
		w.inject(a, carol, offerMsg(numID(101)))
		w.requireAnswers(a, carol, ackOf(numID(101)))

		// What is known is still known.
		w.inject(a, bob, offerMsg(numID(0)))
		w.requireAnswers(a, bob, ackOf(numID(0)))

		// Our own offers are not among Bob's.
		w.sendOffer(a, proposal(bob))
		w.takeSent(alice)

		// Whatever ends the wait of one makes room for another.
		room := []func(ID){
			func(id ID) {
				_, _, err := a.Accept(t.Context(), id)
				require.NoError(t, err)
			},
			func(id ID) {
				_, err := a.Reject(t.Context(), id, "")
				require.NoError(t, err)
			},
			func(id ID) {
				w.inject(a, bob, &wire.Close{
					ID: newID(), ReplyTo: id,
				})
			},
		}
		for i, make := range room {
			make(numID(i))
			w.inject(a, bob, offerMsg(numID(200+i)))
			w.requireState(a, numID(200+i), StatePending)
			w.inject(a, bob, offerMsg(numID(300+i)))
		}
		require.Equal(t, uint64(4), a.Counters()["limit"])

		time.Sleep(time.Hour)
		w.inject(a, bob, offerMsg(numID(400)))
		w.requireState(a, numID(400), StatePending)
	})
}

// TestPending checks how many offers may be undecided in both directions.
func TestPending(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.addWith(alice, limitsWith(func(l *Limits) {
			l.Pending = 3
		}), NewMemStore())
		w.addStranger(bob)
		w.addStranger(carol)
		w.inject(a, bob, offerMsg(numID(1)))
		out := w.sendOffer(a, proposal(bob))
		w.inject(a, carol, offerMsg(numID(2)))
		w.takeSent(alice)
		require.Equal(t, 3, a.NumPending())

		w.inject(a, carol, offerMsg(numID(3)))
		_, err := a.Manager.Send(t.Context(), proposal(carol))
		require.ErrorIs(t, err, ErrLimit)
		require.ErrorContains(t, err, "3 are pending")
		require.Equal(t, 3, a.NumPending())

		require.NoError(t, a.LegUsed(t.Context(), testSocket, 2))
		w.requireState(a, out.ID, StateAccepted)
		w.inject(a, carol, offerMsg(numID(3)))
		w.requireState(a, numID(3), StatePending)
		require.Equal(t, uint64(1), a.Counters()["limit"])
	})
}

// TestRecords checks how many offers are remembered, of a peer and in all, and
// which ones give way.
func TestRecords(t *testing.T) {
	limits := map[string]func(*Limits){
		"per peer": func(l *Limits) { l.RecordsPerPeer = 3 },
		"in all":   func(l *Limits) { l.Records = 3 },
	}
	for name, change := range limits {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				limits := limitsWith(change)
				a := w.addWith(alice, limits, NewMemStore())
				w.addStranger(bob)
				for i := range 3 {
					w.inject(a, bob, offerMsg(numID(i)))
					_, _, err := a.Accept(
						t.Context(), numID(i),
					)
					require.NoError(t, err)
				}

				// All of them may be needed yet.
				full := func(id ID) {
					t.Helper()
					w.takeSent(alice)
					w.inject(a, bob, offerMsg(id))
					sent := w.takeSent(alice)
					reject := sent[0].msg(t).(*wire.Reject)
					require.Equal(
						t, wire.CodeLimit, reject.Code,
					)
				}
				full(numID(10))

				// The first one was closed after it was past
				// its time, so that it is remembered.
				time.Sleep(time.Hour)
				full(numID(13))
				time.Sleep(Slack)
				w.inject(a, bob, &wire.Close{
					ID: newID(), ReplyTo: numID(0),
				})
				w.inject(a, bob, offerMsg(numID(10)))
				w.inject(a, bob, offerMsg(numID(11)))
				full(numID(12))

				var ids []ID
				offers, err := a.List(t.Context())
				require.NoError(t, err)
				for _, o := range offers {
					ids = append(ids, o.ID)
				}
				require.Equal(t, []ID{
					numID(0), numID(10), numID(11),
				}, ids)
				require.Equal(
					t, uint64(3), a.Counters()["limit"],
				)

				time.Sleep(3 * time.Hour)
				w.requireNone(a)
			})
		})
	}
}

// TestRecordsOfAnother checks that the accepted offers of a peer do not give
// way to those of another.
func TestRecordsOfAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.addWith(alice, limitsWith(func(l *Limits) {
			l.Records = 1
		}), NewMemStore())
		w.addStranger(bob)
		w.addStranger(carol)
		w.inject(a, bob, offerMsg(numID(1)))
		_, _, err := a.Accept(t.Context(), numID(1))
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		w.takeSent(alice)

		w.inject(a, carol, offerMsg(numID(2)))
		w.requireAnswers(a, carol, rejectOf(numID(2), wire.CodeLimit))
		w.requireState(a, numID(1), StateAccepted)

		// A message that comes to be sent is not sent about what has
		// given way.
		w.inject(a, bob, offerMsg(numID(3)))
		w.requireState(a, numID(3), StatePending)
	})
}

// TestRecordsOutgoing checks how many of our own offers are remembered.
func TestRecordsOutgoing(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.addWith(alice, limitsWith(func(l *Limits) {
			l.Records = 2
			l.RecordsPerPeer = 1
		}), NewMemStore())
		w.addStranger(bob)
		w.addStranger(carol)
		for _, peer := range []PubKey{bob, bob} {
			o := w.sendOffer(a, proposal(peer))
			w.inject(a, bob, &wire.Accept{
				ID: newID(), ReplyTo: o.ID,
			})
		}
		for _, peer := range []PubKey{bob, carol} {
			_, err := a.Manager.Send(t.Context(), proposal(peer))
			require.ErrorIs(t, err, ErrLimit)
			require.ErrorContains(t, err, "remembered")
		}

		// Incoming ones are counted apart.
		w.inject(a, bob, offerMsg(numID(1)))
		w.requireState(a, numID(1), StatePending)

		time.Sleep(2 * time.Hour)
		w.sendOffer(a, proposal(bob))
		_, err := a.Manager.Send(t.Context(), proposal(carol))
		require.ErrorIs(t, err, ErrLimit)
	})
}

// setMaxPerNode sets how many sockets of a node another one may have.
func (n *node) setMaxPerNode(limit int) {
	p := n.RequestPolicy()
	p.MaxPerNode = limit
	n.SetRequestPolicy(p)
}

// TestMaxPerNode checks how many sockets may be offered to a peer at once,
// and what ends that.
func TestMaxPerNode(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		a.setMaxPerNode(2)
		w.addStranger(bob)
		w.addStranger(carol)
		socket := func(peer PubKey, n int) Proposal {
			p := proposal(peer)
			p.SocketID = numID(n)

			return p
		}
		full := func() {
			t.Helper()
			_, err := a.Manager.Send(t.Context(), socket(bob, 3))
			require.ErrorIs(t, err, ErrLimit)
			require.ErrorContains(t, err, "this peer has 2 sockets")
			require.ErrorContains(t, err, "at most 2 are allowed")
		}

		first := w.sendOffer(a, socket(bob, 1))
		second := w.sendOffer(a, socket(bob, 2))
		full()

		// Another offer of the same socket is none of another one, and
		// Carol has her own.
		again := w.sendOffer(a, socket(bob, 2))
		w.sendOffer(a, socket(carol, 3))

		// Bob's own sockets are his.
		w.inject(a, bob, offerMsg(numID(100)))
		w.requireState(a, numID(100), StatePending)

		// An accepted offer counts, however old.
		w.inject(a, bob, &wire.Accept{ID: newID(), ReplyTo: first.ID})
		w.requireState(a, first.ID, StateAccepted)
		full()

		// The second socket is offered twice.
		decline := func(o Offer) {
			w.inject(a, bob, &wire.Reject{
				ID: newID(), ReplyTo: o.ID,
				Code: wire.CodeDeclined,
			})
		}
		decline(second)
		full()
		decline(again)
		third := w.sendOffer(a, socket(bob, 3))
		w.requireState(a, third.ID, StateSent)

		time.Sleep(2 * time.Hour)
		w.requireState(a, first.ID, StateAccepted)
		w.sendOffer(a, socket(bob, 4))
		full()
		err := a.SocketClosed(t.Context(), numID(1), "")
		require.NoError(t, err)
		w.sendOffer(a, socket(bob, 5))
		full()
	})

	inWorld(t, func(w *world) {
		t := w.t
		a := w.add(alice)
		a.setMaxPerNode(0)
		_, err := a.Manager.Send(t.Context(), proposal(bob))
		require.ErrorIs(t, err, ErrLimit)
		require.ErrorContains(t, err, "at most 0 are allowed")
		w.requireNone(a)
	})
}

// TestInboundQueue checks that no more messages wait than there is room for.
func TestInboundQueue(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.addWith(
			alice, limitsWith(func(*Limits) {}), NewMemStore(),
		)

		// Nobody reads.
		a.stop()
		for range maxInbound + 7 {
			a.Receive(bob, uint32(wire.TypeAck), nil)
		}
		w.requireCounts(a, map[string]uint64{"limit": 7})
	})
}

// TestReplyQueue checks that no more replies wait than there is room for, to
// one peer and in all, and that they are sent in the end.
func TestReplyQueue(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		a := w.addWith(
			alice, limitsWith(func(*Limits) {}), NewMemStore(),
		)
		var peers []PubKey
		for i := range maxReplies/maxRepliesPerPeer + 1 {
			peers = append(peers, testKey(byte(i)))
			w.addStranger(peers[i])
		}
		w.freeze(a, peers...)

		// Nothing but replies is to be sent, but the first of each peer
		// does not wait.
		const most = maxRepliesPerPeer + 1
		flood := func(peer PubKey, n int) {
			for range n {
				w.inject(a, peer, &wire.Close{
					ID: newID(), ReplyTo: testID(1),
				})
			}
		}
		flood(peers[0], most)
		require.Zero(t, a.Counters()["limit"])
		flood(peers[0], 3)
		require.Equal(t, uint64(3), a.Counters()["limit"])

		for _, peer := range peers[1:maxInFlight] {
			flood(peer, most)
		}
		require.Equal(t, uint64(3), a.Counters()["limit"])
		flood(peers[maxInFlight], 2)
		require.Equal(t, uint64(5), a.Counters()["limit"])

		// Each takes until it is given up.
		time.Sleep(2 * most * sendTimeout)
		w.requireNone(a)
	})
}

// TestEarlyCloses checks that no more closes of unknown offers are remembered
// than there is room for, of a peer and in all.
func TestEarlyCloses(t *testing.T) {
	of := func(peer PubKey, n int) offerKey {
		return offerKey{peer: peer, id: numID(n)}
	}
	tests := []struct {
		perPeer, inAll int
		want           map[offerKey]struct{}
	}{
		{
			perPeer: 2, inAll: 10,
			want: map[offerKey]struct{}{
				of(bob, 0): {}, of(bob, 1): {},
				of(carol, 0): {}, of(carol, 1): {},
			},
		},
		{
			perPeer: 10, inAll: 3,
			want: map[offerKey]struct{}{
				of(bob, 0): {}, of(carol, 0): {},
				of(bob, 1): {},
			},
		},
	}
	for _, test := range tests {
		inWorld(t, func(w *world) {
			t := w.t
			a := w.addWith(alice, limitsWith(func(l *Limits) {
				l.PendingPerPeer = test.perPeer
				l.Pending = test.inAll
			}), NewMemStore())
			w.addStranger(bob)
			w.addStranger(carol)
			for i := range 3 {
				for _, peer := range []PubKey{bob, carol} {
					w.inject(a, peer, &wire.Close{
						ID: newID(), ReplyTo: numID(i),
					})
				}
			}
			a.Manager.mu.Lock()
			require.Equal(t, test.want, a.early)
			a.Manager.mu.Unlock()

			time.Sleep(Slack)
			w.requireNone(a)
		})
	}
}

// TestInvalidProposals checks what cannot be offered.
func TestInvalidProposals(t *testing.T) {
	tests := map[string]func(*Proposal){
		"to ourselves": func(p *Proposal) { p.Peer = alice },
		"in the past": func(p *Proposal) {
			p.ExpiresAt = time.Now().Add(-time.Second)
		},
		"now": func(p *Proposal) { p.ExpiresAt = time.Now() },
		"within the second": func(p *Proposal) {
			p.ExpiresAt = time.Now().Add(time.Second / 2)
		},
		"without end": func(p *Proposal) { p.ExpiresAt = time.Time{} },
		"for too long": func(p *Proposal) {
			p.ExpiresAt = time.Now().Add(MaxLifetime + time.Second)
		},
		"no socket":     func(p *Proposal) { p.SocketID = ID{} },
		"no protocol":   func(p *Proposal) { p.Protocol = 0 },
		"no address":    func(p *Proposal) { p.Addrs = nil },
		"no port":       func(p *Proposal) { p.Port2 = 0 },
		"no admission":  func(p *Proposal) { p.Admission = 2 },
		"no leg":        func(p *Proposal) { p.Legs = 0 },
		"a bad label":   func(p *Proposal) { p.Label = "\u202e" },
		"too many legs": func(p *Proposal) { p.Legs = 7 },
		"tokens of no leg": func(p *Proposal) {
			p.Admission, p.Legs = ByToken, 0
		},
		"tokens of too many legs": func(p *Proposal) {
			p.Admission, p.Legs = ByToken, 7
		},
		"the same ports": func(p *Proposal) { p.Port1 = p.Port2 },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				a, _ := w.add(alice), w.addStranger(bob)
				p := proposal(bob)
				change(&p)
				o, err := a.Manager.Send(t.Context(), p)
				require.ErrorIs(t, err, ErrInvalid)
				require.Zero(t, o)
				w.requireNone(a)
				require.Empty(t, w.takeSent(alice))
			})
		})
	}

	inWorld(t, func(w *world) {
		a, _ := w.add(alice), w.addStranger(bob)
		p := proposal(bob)
		p.ExpiresAt = time.Now().Add(MaxLifetime)
		w.sendOffer(a, p)
	})
}
