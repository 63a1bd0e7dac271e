package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// TestOfferStore checks what the offers want of a store, with every kind of
// database and with the one in memory.
func TestOfferStore(t *testing.T) {
	for name, test := range map[string]func(*testing.T, offer.Store){
		"records":  testRecords,
		"messages": testMessages,
		"batch":    testBatch,
	} {
		t.Run(name+"/memory", func(t *testing.T) {
			test(t, offer.NewMemStore())
		})
		t.Run(name, func(t *testing.T) {
			withDatabases(t, func(db *database) {
				test(db.t, db.open().Offers(encodeEvent))
			})
		})
	}
}

// write writes a batch, which must succeed.
func write(t *testing.T, s offer.Store, b offer.Batch) {
	t.Helper()
	require.NoError(t, s.Write(t.Context(), b))
}

// requireRecords requires that a store has these records and no others.
func requireRecords(t *testing.T, s offer.Store, want ...offer.Record) {
	t.Helper()

	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, want, all)

	for _, r := range want {
		got, err := s.Get(t.Context(), r.Peer, r.ID)
		require.NoError(t, err)
		require.Equal(t, r, got)
	}
}

// requireMessages requires that a store has these messages and no others.
func requireMessages(t *testing.T, s offer.Store, want ...offer.Message) {
	t.Helper()

	all, err := s.Messages(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, want, all)
}

// testRecords checks that records are kept as they are, by peer and id.
func testRecords(t *testing.T, s offer.Store) {
	t.Helper()

	ctx := t.Context()
	requireRecords(t, s)
	_, err := s.Get(ctx, testKey(2), testID(1))
	require.ErrorIs(t, err, offer.ErrNotFound)
	found, err := s.Find(ctx, testID(1))
	require.NoError(t, err)
	require.Empty(t, found)

	full := fullRecord()
	plain := plainRecord(testID(1), testKey(9))
	other := plainRecord(testID(2), testKey(2))
	write(t, s, offer.Batch{Put: []offer.Record{full, plain}})
	write(t, s, offer.Batch{Put: []offer.Record{other}})
	requireRecords(t, s, full, plain, other)
	found, err = s.Find(ctx, testID(1))
	require.NoError(t, err)
	require.ElementsMatch(t, []offer.Record{full, plain}, found)

	// Everything of it may change but its key.
	changed := plainRecord(full.ID, full.Peer)
	write(t, s, offer.Batch{Put: []offer.Record{changed}})
	requireRecords(t, s, changed, plain, other)
	write(t, s, offer.Batch{Put: []offer.Record{full}})
	requireRecords(t, s, full, plain, other)

	ends := offer.Batch{
		Forget: []offer.Offer{full.Offer},
		Drop:   []offer.Offer{other.Offer},
	}
	write(t, s, ends)
	requireRecords(t, s, plain)
	_, err = s.Get(ctx, full.Peer, full.ID)
	require.ErrorIs(t, err, offer.ErrNotFound)
	found, err = s.Find(ctx, full.ID)
	require.NoError(t, err)
	require.Equal(t, []offer.Record{plain}, found)

	// It is no error if there is none, and what was forgotten may come
	// again.
	write(t, s, ends)
	write(t, s, offer.Batch{Put: []offer.Record{full}})
	requireRecords(t, s, full, plain)
}

// testMessages checks that messages are kept until they are removed, alone or
// with their offer.
func testMessages(t *testing.T, s offer.Store) {
	t.Helper()

	requireMessages(t, s)

	full := fullRecord()
	plain := plainRecord(full.ID, testKey(9))
	all := []offer.Message{
		messageOf(full, full.ID, 50501),
		messageOf(full, testID(11), 50509),
		messageOf(plain, testID(12), 50505),
	}
	write(t, s, offer.Batch{Add: all})
	requireMessages(t, s, all...)

	// Offers have the same id with several peers, and so may messages of
	// an older version.
	write(t, s, offer.Batch{Remove: all[1:2]})
	requireMessages(t, s, all[0], all[2])
	write(t, s, offer.Batch{Remove: all[1:2]})
	requireMessages(t, s, all[0], all[2])

	for _, end := range []func(o offer.Offer) offer.Batch{
		func(o offer.Offer) offer.Batch {
			return offer.Batch{Silence: []offer.Offer{o}}
		},
		func(o offer.Offer) offer.Batch {
			return offer.Batch{Forget: []offer.Offer{o}}
		},
		func(o offer.Offer) offer.Batch {
			return offer.Batch{Drop: []offer.Offer{o}}
		},
	} {
		write(t, s, offer.Batch{Remove: all, Add: all})
		write(t, s, end(full.Offer))
		requireMessages(t, s, all[2])
	}

	// The old ones go before the new one comes.
	instead := messageOf(full, testID(13), 50509)
	write(t, s, offer.Batch{Remove: all, Add: all})
	write(t, s, offer.Batch{
		Silence: []offer.Offer{full.Offer},
		Add:     []offer.Message{instead},
	})
	requireMessages(t, s, all[2], instead)
}

// testBatch checks that a batch may have everything.
func testBatch(t *testing.T, s offer.Store) {
	t.Helper()

	gone := plainRecord(testID(1), testKey(1))
	ended := plainRecord(testID(2), testKey(1))
	write(t, s, offer.Batch{
		Put: []offer.Record{gone, ended},
		Add: []offer.Message{
			messageOf(gone, testID(3), 50505),
			messageOf(ended, testID(4), 50505),
		},
	})

	put := fullRecord()
	ended.State = offer.StateClosed
	add := messageOf(put, put.ID, 50501)
	write(t, s, offer.Batch{
		Put:     []offer.Record{put, ended},
		Forget:  []offer.Offer{gone.Offer},
		Silence: []offer.Offer{ended.Offer},
		Add:     []offer.Message{add},
		Events:  []offer.Event{{Kind: offer.EventClosed}},
	})
	requireRecords(t, s, put, ended)
	requireMessages(t, s, add)
}

// TestOffersReopened checks that everything of offers is there after a restart,
// and that their events are among the others.
func TestOffersReopened(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		s := d.Offers(encodeEvent)
		full := fullRecord()
		msg := messageOf(full, testID(11), 50509)
		require.NoError(t, d.Write(t.Context(), Batch{
			Events: [][]byte{[]byte("first")},
		}))
		write(t, s, offer.Batch{
			Put: []offer.Record{full},
			Add: []offer.Message{msg},
			Events: []offer.Event{
				{Kind: offer.EventDelivered, Offer: full.Offer},
				{Kind: offer.EventAccepted, Offer: full.Offer},
			},
		})
		require.NoError(t, d.Close())

		d = db.open()
		s = d.Offers(encodeEvent)
		requireRecords(t, s, full)
		requireMessages(t, s, msg)
		require.Equal(t, []string{
			"first",
			"delivered of " + full.ID.String(),
			"accepted of " + full.ID.String(),
		}, texts(t, d, 0))
	})
}

// TestRequest checks that a request is kept that has neither addresses nor
// ports, nor a socket before it is answered, and that nothing is left of it in
// a record that is none.
func TestRequest(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		s := db.open().Offers(encodeEvent)
		all := requestsOf(latestSchema)
		request := all[0]
		write(t, s, offer.Batch{Put: all})
		requireRecords(t, s, all...)

		request.SocketID = testID(9)
		request.State = offer.StateAccepted
		write(t, s, offer.Batch{Put: []offer.Record{request}})
		requireRecords(t, s, request, all[1])

		write(t, s, offer.Batch{Forget: []offer.Offer{request.Offer}})
		forgotten, err := s.Forgotten(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, []offer.Offer{request.Offer}, forgotten)

		plain := plainRecord(request.ID, request.Peer)
		write(t, s, offer.Batch{Put: []offer.Record{plain}})
		requireRecords(t, s, plain, all[1])
	})
}

// TestForgotten checks that offers that were forgotten can be looked back on,
// without their secrets.
func TestForgotten(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		s := d.Offers(encodeEvent)
		full := fullRecord()
		plain := plainRecord(testID(2), testKey(2))
		dropped := plainRecord(testID(3), testKey(2))
		known := plainRecord(testID(4), testKey(2))
		write(t, s, offer.Batch{
			Put: []offer.Record{full, plain, dropped, known},
		})
		write(t, s, offer.Batch{Forget: []offer.Offer{full.Offer}})
		sleepMicro()
		write(t, s, offer.Batch{
			Forget: []offer.Offer{plain.Offer},
			Drop:   []offer.Offer{dropped.Offer},
		})

		forgotten, err := s.Forgotten(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(
			t, []offer.Offer{plain.Offer, full.Offer}, forgotten,
		)
		forgotten, err = s.Forgotten(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, []offer.Offer{plain.Offer}, forgotten)

		var tokens int
		require.NoError(t, d.backend.base().QueryRowContext(
			t.Context(), "SELECT COUNT(*) FROM offers WHERE "+
				"token1 IS NOT NULL OR token2 IS NOT NULL",
		).Scan(&tokens))
		require.Zero(t, tokens)
	})
}

// sleepMicro waits until the clock shows another microsecond.
func sleepMicro() {
	for now := time.Now().UnixMicro(); time.Now().UnixMicro() == now; {
		continue
	}
}

// TestAllOrNothing checks that nothing of a batch is written if a part of it
// cannot be, and that what comes next is.
func TestAllOrNothing(t *testing.T) {
	errEncode := errors.New("cannot be encoded")
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		s := d.Offers(func(e offer.Event) ([]byte, error) {
			if e.Reason != "" {
				return nil, errEncode
			}

			return encodeEvent(e)
		})
		full := fullRecord()
		event := offer.Event{Kind: offer.EventClosed, Offer: full.Offer}
		unreadable := event
		unreadable.Reason = "x"
		empty := messageOf(full, testID(11), 50509)
		empty.Body = nil

		err := s.Write(t.Context(), offer.Batch{
			Put:    []offer.Record{full},
			Events: []offer.Event{event, unreadable},
		})
		require.ErrorIs(t, err, errEncode)
		err = s.Write(t.Context(), offer.Batch{
			Put:    []offer.Record{full},
			Add:    []offer.Message{empty},
			Events: []offer.Event{event},
		})
		require.ErrorContains(t, err, "put message")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = s.Write(ctx, offer.Batch{
			Put:    []offer.Record{full},
			Events: []offer.Event{event},
		})
		require.ErrorIs(t, err, context.Canceled)

		requireRecords(t, s)
		requireMessages(t, s)
		require.Empty(t, texts(t, d, 0))
		last, _ := d.Cursor()
		require.Zero(t, last)

		write(t, s, offer.Batch{
			Put:    []offer.Record{full},
			Events: []offer.Event{event},
		})
		requireRecords(t, s, full)
		require.Len(t, texts(t, d, 0), 1)
	})
}

// TestClosed checks that nothing works on a database that was closed.
func TestClosed(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		s := d.Offers(encodeEvent)
		full := fullRecord()
		write(t, s, offer.Batch{Put: []offer.Record{full}})
		require.NoError(t, d.Close())

		ctx := t.Context()
		for name, call := range map[string]func() error{
			"write": func() error {
				return d.Write(ctx, Batch{})
			},
			"sockets": func() error {
				_, err := d.Sockets(ctx)

				return err
			},
			"events": func() error {
				_, err := d.Events(ctx, 0, 1)

				return err
			},
			"first cursor": func() error {
				_, err := d.FirstCursor(ctx)

				return err
			},
			"prune": func() error {
				_, err := d.Prune(ctx, Keep{})

				return err
			},
			"node": func() error {
				_, _, err := d.Node(ctx)

				return err
			},
			"claim": func() error {
				return d.Claim(ctx, testKey(1))
			},
			"policy": func() error {
				_, _, err := d.Policy(ctx)

				return err
			},
			"set policy": func() error {
				return d.SetPolicy(ctx, Policy{})
			},
			"clear policy": func() error {
				return d.ClearPolicy(ctx)
			},
			"write offers": func() error {
				return s.Write(ctx, offer.Batch{})
			},
			"get": func() error {
				_, err := s.Get(ctx, full.Peer, full.ID)

				return err
			},
			"find": func() error {
				_, err := s.Find(ctx, full.ID)

				return err
			},
			"list": func() error {
				_, err := s.List(ctx)

				return err
			},
			"messages": func() error {
				_, err := s.Messages(ctx)

				return err
			},
			"forgotten": func() error {
				_, err := s.Forgotten(ctx, 1)

				return err
			},
		} {
			err := call()
			require.ErrorContains(t, err, "closed", name)
			require.NotErrorIs(t, err, offer.ErrNotFound)
		}
	})
}

// TestDamagedOffer checks that a record that nobody can have written is not
// taken for one.
func TestDamagedOffer(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		s := d.Offers(encodeEvent)
		full := fullRecord()
		for _, change := range []string{
			"host = decision_id", "token1 = host",
			"reply_to = host", "addrs = 'x'",
			"parent_id = host", "limits = 'x'", "limits = 'x=1'",
			"limits = 'pairs=-1'",
		} {
			write(t, s, offer.Batch{Put: []offer.Record{full}})
			_, err := d.backend.base().ExecContext(
				t.Context(), "UPDATE offers SET "+change,
			)
			require.NoError(t, err)

			_, err = s.Get(t.Context(), full.Peer, full.ID)
			require.ErrorIs(t, err, ErrDamaged, change)
			_, err = s.Find(t.Context(), full.ID)
			require.ErrorIs(t, err, ErrDamaged, change)
			_, err = s.List(t.Context())
			require.ErrorIs(t, err, ErrDamaged, change)
		}

		write(t, s, offer.Batch{Add: []offer.Message{
			messageOf(full, full.ID, 50501),
		}})
		_, err := d.backend.base().ExecContext(
			t.Context(), "UPDATE outbox SET message_id = peer",
		)
		require.NoError(t, err)
		_, err = s.Messages(t.Context())
		require.ErrorIs(t, err, ErrDamaged)
	})
}
