package offer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// The nodes of a meeting: the host, and two who cannot host. Their keys have
// the form of keys, as they travel in messages.
var (
	rose = keyOf(0x11)
	anna = keyOf(0x22)
	bert = keyOf(0x33)
	carl = keyOf(0x44)
)

// keyOf returns a key that has the form of one.
func keyOf(b byte) PubKey {
	key := testKey(b)
	key[0] = 2

	return key
}

// meeting is a socket at a host that one node got on its request and has passed
// on to another one.
type meeting struct {
	host, asker, friend *node

	// hosted is the host's offer to the asker, and passed the asker's to
	// the friend.
	hosted, passed Offer
}

// meet makes a meeting. The friend has not decided yet.
func (w *world) meet() *meeting {
	w.t.Helper()

	m := &meeting{
		host: w.add(rose), asker: w.add(anna), friend: w.add(bert),
	}
	request := w.request(m.asker, inquiry(rose))
	m.hosted = w.answerTo(m.asker, request.ID)

	var err error
	m.passed, err = m.asker.PassOn(w.t.Context(), m.passing())
	require.NoError(w.t, err)
	synctest.Wait()

	return m
}

// passing returns what passes leg 2 on to the friend.
func (m *meeting) passing() Passing {
	return Passing{
		Peer: m.friend.key, SocketID: m.hosted.SocketID, Legs: Leg2,
	}
}

// requireOver requires that all is over, everywhere, and that in time nothing
// is left.
func (w *world) requireOver(m *meeting) {
	w.t.Helper()

	synctest.Wait()
	require.True(w.t, w.get(m.asker, m.passed.ID).Ended())
	require.True(w.t, w.get(m.asker, m.hosted.ID).Ended())
	require.True(w.t, w.get(m.host, m.hosted.ID).Ended())
	require.Empty(w.t, m.host.host.sockets())
	require.Empty(w.t, m.host.doors.granted())

	time.Sleep(2 * MaxLifetime)
	w.requireNone(m.host)
	w.requireNone(m.asker)
	w.requireNone(m.friend)
}

// TestMeeting checks what each of three nodes knows of a meeting.
func TestMeeting(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		m := w.meet()
		require.Equal(t, rose, m.passed.Host)
		require.Equal(t, m.hosted.ID, m.passed.Parent)
		require.Zero(t, m.passed.ReplyTo)

		// The friend has what the asker has, and the host as a claim.
		got := w.get(m.friend, m.passed.ID)
		require.Equal(t, StatePending, got.State)
		require.Equal(t, anna, got.Peer)
		require.Equal(t, rose, got.Host)
		require.Equal(t, m.hosted.Addrs, got.Addrs)
		require.Equal(t, m.hosted.Port2, got.Port2)
		require.Equal(t, m.hosted.SocketID, got.SocketID)
		require.Equal(t, Leg2, got.Legs)
		require.Zero(t, got.Parent)
		require.False(t, got.ExpiresAt.After(m.hosted.ExpiresAt))

		_, tokens, err := m.friend.Accept(t.Context(), got.ID)
		require.NoError(t, err)
		require.Equal(t, Tokens{
			{}, w.record(m.host, m.hosted.ID).Tokens[1],
		}, tokens)
		w.requireState(m.asker, m.passed.ID, StateAccepted)

		// The host knows of one node, and has sent nothing to the
		// other. The asker opens no legs.
		require.Len(t, w.list(m.host), 2)
		for _, p := range w.takeSent(rose) {
			require.Equal(t, anna, p.to)
		}
		require.Equal(t, bert, w.get(m.asker, m.passed.ID).Peer)
		require.Empty(t, m.asker.doors.granted())
		require.Equal(t, 1, m.host.NumHosted())
		require.Zero(t, m.asker.NumHosted())
	})
}

// TestMeetingEnds checks that whoever ends a meeting ends all of it.
func TestMeetingEnds(t *testing.T) {
	ends := map[string]struct {
		accept bool
		end    func(w *world, m *meeting) error

		// toHost and toFriend are the reasons that the host and the
		// friend are told.
		toHost, toFriend string
	}{
		"socket ends": {
			accept: true,
			end: func(w *world, m *meeting) error {
				return m.host.SocketClosed(w.t.Context(),
					m.hosted.SocketID, "idle")
			},
			toHost: "idle", toFriend: reasonHost + ": idle",
		},
		"socket ends before a decision": {
			end: func(w *world, m *meeting) error {
				return m.host.SocketClosed(w.t.Context(),
					m.hosted.SocketID, "idle")
			},
			toHost: "idle", toFriend: reasonHost + ": idle",
		},
		"asker stops": {
			accept: true,
			end: func(w *world, m *meeting) error {
				_, err := m.asker.EndRemote(w.t.Context(),
					m.hosted.SocketID, "stopped")

				return err
			},
			toHost: "stopped", toFriend: reasonHost + ": stopped",
		},
		"asker withdraws": {
			end: func(w *world, m *meeting) error {
				_, _, err := m.asker.Withdraw(w.t.Context(),
					m.passed.ID, "changed my mind")

				return err
			},
			toHost: reasonPassedOn, toFriend: "changed my mind",
		},
		"friend stops": {
			accept: true,
			end: func(w *world, m *meeting) error {
				_, err := m.friend.EndRemote(w.t.Context(),
					m.hosted.SocketID, "bye")

				return err
			},
			toHost: reasonPassedOn, toFriend: "bye",
		},
		"friend declines": {
			end: func(w *world, m *meeting) error {
				_, err := m.friend.Reject(w.t.Context(),
					m.passed.ID, "no")

				return err
			},
			toHost: reasonPassedOn, toFriend: "no",
		},
		"friend does nothing": {
			end: func(*world, *meeting) error {
				time.Sleep(time.Hour)

				return nil
			},
			toHost: reasonPassedOn, toFriend: "",
		},
	}
	for name, test := range ends {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				m := w.meet()
				if test.accept {
					_, _, err := m.friend.Accept(
						w.t.Context(), m.passed.ID,
					)
					require.NoError(w.t, err)
				}
				synctest.Wait()
				require.NoError(w.t, test.end(w, m))
				require.Equal(w.t, test.toHost,
					w.get(m.host, m.hosted.ID).Reason)
				require.Equal(w.t, test.toFriend,
					w.get(m.friend, m.passed.ID).Reason)
				w.requireOver(m)
			})
		})
	}
}

// TestMeetingRestart checks that a meeting ends everywhere if the asker does
// not run when it ends at the host, and if it is stopped after the one end was
// written and before the other one.
func TestMeetingRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		m := w.meet()
		m.asker.stop()
		err := m.host.SocketClosed(
			w.t.Context(), m.hosted.SocketID, "lifetime",
		)
		require.NoError(w.t, err)
		synctest.Wait()
		require.Empty(w.t, m.host.host.sockets())
		m.asker = w.restart(m.asker, DefaultLimits(), time.Minute)
		time.Sleep(time.Minute)
		w.requireState(m.friend, m.passed.ID, StateWithdrawn)
		w.requireOver(m)
	})

	for _, which := range []string{"hosted", "passed"} {
		t.Run(which, func(t *testing.T) {
			inWorld(t, func(w *world) {
				m := w.meet()
				m.asker.stop()
				id, state := m.hosted.ID, StateClosed
				if which == "passed" {
					id, state = m.passed.ID, StateRejected
				}
				r := w.record(m.asker, id)
				r.State, r.EndedAt = state, time.Now()
				r.Tokens = Tokens{}
				err := m.asker.store.Write(
					w.t.Context(),
					Batch{Put: []Record{r}},
				)
				require.NoError(w.t, err)
				m.asker = w.restart(
					m.asker, DefaultLimits(), 0,
				)
				time.Sleep(time.Minute)
				require.True(w.t, w.get(
					m.asker, m.hosted.ID,
				).Ended())
				require.True(w.t, w.get(
					m.asker, m.passed.ID,
				).Ended())
			})
		})
	}
}

// TestMeetingStoreFails checks that what follows from an end is done later if
// the store fails in between, in both directions.
func TestMeetingStoreFails(t *testing.T) {
	ends := map[string]func(w *world, m *meeting) error{
		"host": func(w *world, m *meeting) error {
			return m.host.SocketClosed(
				w.t.Context(), m.hosted.SocketID, "idle",
			)
		},
		"friend": func(w *world, m *meeting) error {
			_, err := m.friend.Reject(
				w.t.Context(), m.passed.ID, "no",
			)

			return err
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				m := w.meet()
				m.asker.stop()
				s := newFailingStore()
				s.Store = m.asker.store
				m.asker = w.addWith(anna, DefaultLimits(), s)
				synctest.Wait()

				// The first end is written, the other is not.
				s.setAfter("Put", 1)
				require.NoError(w.t, end(w, m))
				synctest.Wait()
				require.NotEqual(w.t,
					w.get(m.asker, m.hosted.ID).Ended(),
					w.get(m.asker, m.passed.ID).Ended())

				s.set()
				time.Sleep(storeRetry)
				w.requireOver(m)
			})
		})
	}
}

// TestPassOnTwice checks that a leg is passed on to one node, once.
func TestPassOnTwice(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		m := w.meet()
		again, err := m.asker.PassOn(t.Context(), m.passing())
		require.NoError(t, err)
		require.Equal(t, m.passed.ID, again.ID)

		other := m.passing()
		other.Peer = carl
		_, err = m.asker.PassOn(t.Context(), other)
		require.ErrorIs(t, err, ErrGranted)
		var granted *GrantedError
		require.ErrorAs(t, err, &granted)
		require.Equal(t, bert, granted.Peer)
		require.Equal(t, m.passed.ID, granted.ID)

		// The other leg is another one.
		other.Legs = Leg1
		_, err = m.asker.PassOn(t.Context(), other)
		require.NoError(t, err)

		// After its close there is nothing to pass on, and nothing of
		// the socket to end.
		_, err = m.asker.EndRemote(t.Context(), m.hosted.SocketID, "")
		require.NoError(t, err)
		_, err = m.asker.PassOn(t.Context(), m.passing())
		require.ErrorIs(t, err, ErrNotFound)
		_, err = m.asker.EndRemote(t.Context(), m.hosted.SocketID, "")
		require.ErrorIs(t, err, ErrNotFound)
		w.requireOver(m)
	})
}

// TestPassOnRefused checks what cannot be passed on.
func TestPassOnRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		m := w.meet()
		for name, test := range map[string]struct {
			spoil func(*Passing)
			want  error
		}{
			"to the host": {
				func(p *Passing) { p.Peer = rose }, ErrInvalid,
			},
			"to itself": {
				func(p *Passing) { p.Peer = anna }, ErrInvalid,
			},
			"both legs": {
				func(p *Passing) { p.Legs = BothLegs },
				ErrInvalid,
			},
			"unknown socket": {
				func(p *Passing) { p.SocketID = testID(9) },
				ErrNotFound,
			},
			"longer than the host's": {
				func(p *Passing) {
					p.ExpiresAt = m.hosted.ExpiresAt.Add(
						time.Second,
					)
				}, ErrInvalid,
			},
			"past": {
				func(p *Passing) {
					p.ExpiresAt = time.Now()
				}, ErrInvalid,
			},
		} {
			p := m.passing()
			p.Legs = Leg1
			p.Peer = carl
			test.spoil(&p)
			_, err := m.asker.PassOn(t.Context(), p)
			require.ErrorIs(t, err, test.want, name)
		}
		require.Len(t, w.list(m.asker), 3)

		// What was passed on is not passed on again.
		_, err := m.friend.PassOn(t.Context(), Passing{
			Peer: carl, SocketID: m.hosted.SocketID, Legs: Leg2,
		})
		require.ErrorIs(t, err, ErrState)
		_, _, err = m.friend.Accept(t.Context(), m.passed.ID)
		require.NoError(t, err)
		_, err = m.friend.PassOn(t.Context(), Passing{
			Peer: carl, SocketID: m.hosted.SocketID, Legs: Leg2,
		})
		require.ErrorIs(t, err, ErrState)

		// Neither is a leg that was not granted.
		o := offerMsg(testID(1))
		o.SocketID = testID(0x51)
		w.addStranger(carl)
		w.inject(m.friend, carl, o)
		_, _, err = m.friend.Accept(t.Context(), o.ID)
		require.NoError(t, err)
		_, err = m.friend.PassOn(t.Context(), Passing{
			Peer: rose, SocketID: o.SocketID, Legs: Leg1,
		})
		require.ErrorIs(t, err, ErrState)
	})
}

// TestCircles checks that an offer of a socket that we host, or have passed on
// ourselves, is refused when it comes from a third node.
func TestCircles(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		m := w.meet()
		w.addStranger(carl)
		circle := func(id ID) *wire.Offer {
			o := offerMsg(id)
			o.Host = rose
			o.SocketID = m.hosted.SocketID

			return o
		}
		reject := func(id ID, text string) wire.Message {
			return &wire.Reject{
				ReplyTo: id, Code: wire.CodePolicy, Text: text,
			}
		}
		time.Sleep(time.Minute)
		w.takeSent(rose)
		w.takeSent(anna)

		w.inject(m.host, carl, circle(testID(1)))
		w.requireAnswers(m.host, carl,
			reject(testID(1), textOwnSocket))
		w.inject(m.asker, carl, circle(testID(2)))
		w.requireAnswers(m.asker, carl, reject(testID(2), textCircle))

		// Another socket of the host is another one, and the host may
		// grant another leg of this one.
		o := circle(testID(3))
		o.SocketID = testID(0x51)
		w.inject(m.asker, carl, o)
		w.requireState(m.asker, testID(3), StatePending)
		o = circle(testID(4))
		w.inject(m.asker, rose, o)
		w.requireState(m.asker, testID(4), StatePending)
		require.Equal(t, rose, w.get(m.asker, testID(4)).Host)
	})
}

// TestRemoteAmbiguous checks whose offer is meant by the id of a socket that
// several nodes say they host.
func TestRemoteAmbiguous(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		asker := w.add(anna)
		accept := func(id ID, peer PubKey, socketID ID) {
			w.addStranger(peer)
			o := offerMsg(id)
			o.SocketID = socketID
			w.inject(asker, peer, o)
			_, _, err := asker.Accept(t.Context(), id)
			require.NoError(t, err)
		}
		accept(testID(1), bert, testSocket)
		accept(testID(2), carl, testSocket)
		_, err := asker.EndRemote(t.Context(), testSocket, "")
		require.ErrorIs(t, err, ErrAmbiguous)

		// The one that was asked for counts for more.
		w.add(rose)
		request := w.request(asker, inquiry(rose))
		hosted := w.answerTo(asker, request.ID)
		accept(testID(3), carl, hosted.SocketID)
		ended, err := asker.EndRemote(
			t.Context(), hosted.SocketID, "",
		)
		require.NoError(t, err)
		require.Equal(t, hosted.ID, ended.ID)
		w.requireState(asker, testID(3), StateAccepted)

		// One that is not accepted has to be.
		o := offerMsg(testID(4))
		o.SocketID = testID(0x52)
		w.inject(asker, bert, o)
		_, err = asker.EndRemote(t.Context(), o.SocketID, "")
		require.ErrorIs(t, err, ErrState)
		_, err = asker.EndRemote(t.Context(), o.SocketID, "\n")
		require.ErrorIs(t, err, ErrInvalid)
	})
}
