package offer

import (
	"log/slog"
	"testing"

	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// fuzzLimits let little be kept, so that the limits are met soon.
func fuzzLimits() Limits {
	limits := DefaultLimits()
	limits.PendingPerPeer, limits.RecordsPerPeer = 2, 3

	return limits
}

// fuzzManager returns a manager that does not run, and that knows an offer of
// each direction, one that has ended, and a request of its own.
func fuzzManager(t *testing.T) *Manager {
	t.Helper()

	m := New(Config{
		Self:     alice,
		Limits:   fuzzLimits(),
		Requests: testRequests(),
	}, Deps{
		Store:  NewMemStore(),
		Opener: newDoors(t),
		Host:   newTestHost(t),
		Notify: func(Event) {},
		Logger: slog.New(slog.DiscardHandler),
	})
	ours, err := tokenProposal(bob).record(alice)
	require.NoError(t, err)
	ours.ID = testID(1)

	theirs := inbound{peer: bob}.record(
		offerMsg(testID(2)), ours.CreatedAt, ours.ExpiresAt,
	)
	ended := theirs
	ended.ID, ended.State = testID(3), StateRejected
	asked := Record{Offer: Offer{
		ID: testID(5), IsRequest: true, Peer: bob, Host: bob,
		Direction: Outgoing, Protocol: UDP, Legs: Leg2,
		CreatedAt: ours.CreatedAt, ExpiresAt: ours.ExpiresAt,
	}}

	require.NoError(t, m.locked(func() error {
		for _, r := range []Record{ours, theirs, ended, asked} {
			err := m.create(t.Context(), r, Batch{})
			if err != nil {
				return err
			}
		}

		return m.grant(t.Context(), ours)
	}))

	return m
}

// FuzzReceive fuzzes what a peer can send: twice the same message to a node
// that knows some offers.
func FuzzReceive(f *testing.F) {
	add := func(msg wire.Message) {
		body, err := wire.Encode(msg)
		require.NoError(f, err)
		f.Add(uint32(msg.Type()), body)
		f.Add(uint32(wire.TypeRequest), body)
		f.Add(uint32(wire.TypeOffer), body)
	}
	offer := offerMsg(testID(4))
	add(offer)
	offer.Admission, offer.Tokens = wire.AdmissionToken, newTokens(Leg2)
	add(offer)
	add(requestMsg(testID(4)))
	for _, request := range []ID{testID(5), testID(6)} {
		answer := offerMsg(testID(4))
		answer.ReplyTo = request
		add(answer)
		answer.Legs = BothLegs
		add(answer)
	}
	passed := offerMsg(testID(4))
	passed.Host = keyOf(7)
	add(passed)
	for id := range byte(6) {
		id := testID(id + 1)
		add(&wire.Accept{ID: testID(9), ReplyTo: id})
		add(&wire.Close{ID: testID(9), ReplyTo: id, Text: "bye"})
		add(&wire.Ack{ID: testID(9), ReplyTo: id})
		for code := wire.CodeDeclined; code <= 9; code++ {
			add(&wire.Reject{
				ID: testID(9), ReplyTo: id, Code: code,
			})
		}
	}
	f.Add(uint32(wire.TypeOffer), []byte{0, 1, 2})
	f.Add(uint32(50502), []byte{})

	f.Fuzz(func(t *testing.T, msgType uint32, body []byte) {
		m := fuzzManager(t)
		for range 2 {
			m.Receive(bob, msgType, body)
		}
		close(m.inbound)
		for in := range m.inbound {
			before := m.outbox.replies
			m.handle(t.Context(), in)

			// One message causes one answer at most, and a short
			// one.
			require.LessOrEqual(t, m.outbox.replies-before, 1)
		}
		for _, job := range m.outbox.peers[bob].waiting() {
			require.Less(t, len(job.body), 200)
			_, err := wire.Decode(job.msgType, job.body)
			require.NoError(t, err)
		}
		require.LessOrEqual(t, len(m.early), 1)

		// The legs are open to whom they are granted.
		records, err := m.deps.Store.List(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, len(records), 5)
		var open int
		for _, r := range records {
			if r.IsOwn() && !r.Ended() {
				open++
			}
		}
		require.Len(t, m.deps.Opener.(*doors).granted(), open)
	})
}

// waiting returns the jobs that wait for a peer, none if there is no queue.
func (q *peerQueue) waiting() []job {
	if q == nil {
		return nil
	}

	return q.jobs
}
