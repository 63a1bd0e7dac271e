package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A test that kills a process runs this program once more.
	if role := os.Getenv(childEnv); role != "" {
		os.Exit(runChild(role, os.Args[len(os.Args)-1]))
	}

	goleak.VerifyTestMain(m)
}

// database is one that can be opened and closed again and again.
type database struct {
	// t is the test that it is for.
	t *testing.T

	// open opens it.
	open func() *DB
}

// databases has how a new one of every kind is opened. All that is not about
// files is tested with each of them.
var databases = map[string]func(t *testing.T) func() *DB{
	"sqlite": func(t *testing.T) func() *DB {
		t.Helper()
		path := filepath.Join(t.TempDir(), "dir", "socketd.db")

		return func() *DB {
			t.Helper()

			return openPath(t, path)
		}
	},
}

// withDatabases runs a test with a new database of every kind.
func withDatabases(t *testing.T, test func(db *database)) {
	t.Helper()

	for kind, create := range databases {
		t.Run(kind, func(t *testing.T) {
			test(&database{t: t, open: create(t)})
		})
	}
}

// quiet is a log that nobody reads.
var quiet = slog.New(slog.DiscardHandler)

// openPath opens the database in a file, and closes it with the test.
func openPath(t *testing.T, path string) *DB {
	t.Helper()

	d, err := Open(t.Context(), Config{Path: path}, quiet)
	require.NoError(t, err)
	closeLater(t, d)

	return d
}

// closeLater closes a database with the test, if the test did not do so.
func closeLater(t *testing.T, d *DB) {
	t.Helper()

	t.Cleanup(func() {
		// It may have been closed; the lock is then gone as well.
		_ = d.Close()
	})
}

// testID returns an id that is easy to tell from others.
func testID(b byte) offer.ID {
	return offer.ID(bytes.Repeat([]byte{b}, len(offer.ID{})))
}

// testKey returns a key that is easy to tell from others.
func testKey(b byte) offer.PubKey {
	return offer.PubKey(bytes.Repeat([]byte{b}, len(offer.PubKey{})))
}

// testToken returns a token that is easy to tell from others.
func testToken(b byte) offer.Token {
	return offer.Token(bytes.Repeat([]byte{b}, len(offer.Token{})))
}

// testTime returns a time, some seconds after another one.
func testTime(seconds int) time.Time {
	return time.UnixMicro(1_800_000_000_123_456).Add(
		time.Duration(seconds) * time.Second,
	)
}

// fullRecord returns a record in which everything is set.
func fullRecord() offer.Record {
	return offer.Record{
		Offer: offer.Offer{
			ID:        testID(1),
			Peer:      testKey(2),
			Direction: offer.Outgoing,
			State:     offer.StateAccepted,
			Host:      testKey(3),
			Protocol:  offer.TCP,
			Addrs: []netip.Addr{
				netip.MustParseAddr("2001:db8::7"),
				netip.MustParseAddr("203.0.113.7"),
			},
			Port1:      21000,
			Port2:      65535,
			Legs:       offer.Leg1 | offer.Leg2,
			Admission:  offer.ByToken,
			Label:      "ein Löffel 🥄",
			ReplyTo:    testID(4),
			SocketID:   testID(5),
			CreatedAt:  testTime(0),
			ExpiresAt:  testTime(3600),
			EndedAt:    testTime(60),
			Reason:     "it's over",
			DecisionID: testID(6),
			IsRequest:  true,
			Parent:     testID(10),
			Limits: offer.SocketLimits{
				Bandwidth: 1, Packets: 2, TotalBytes: 3,
				IdleTimeout: 4, Lifetime: 5,
				Pairs: math.MaxUint64,
			},
		},
		Tokens: offer.Tokens{testToken(7), testToken(8)},
	}
}

// plainRecord returns a record in which nothing is set that need not be.
func plainRecord(id offer.ID, peer offer.PubKey) offer.Record {
	return offer.Record{Offer: offer.Offer{
		ID:        id,
		Peer:      peer,
		Host:      peer,
		State:     offer.StatePending,
		Protocol:  offer.UDP,
		Addrs:     []netip.Addr{netip.MustParseAddr("203.0.113.7")},
		Port1:     1,
		Port2:     2,
		Legs:      offer.Leg2,
		SocketID:  testID(9),
		CreatedAt: testTime(0),
		ExpiresAt: testTime(1),
	}}
}

// messageOf returns a message about an offer.
func messageOf(r offer.Record, id offer.ID, typ offer.MsgType) offer.Message {
	return offer.Message{
		Peer:     r.Peer,
		OfferID:  r.ID,
		ID:       id,
		Type:     typ,
		Body:     []byte{1, 2, 0, 3},
		Deadline: testTime(600),
	}
}

// encodeEvent encodes an event of an offer in a way that is easy to read.
func encodeEvent(e offer.Event) ([]byte, error) {
	return fmt.Appendf(nil, "%v of %v", e.Kind, e.Offer.ID), nil
}

// texts returns the data of all events after a cursor.
func texts(t *testing.T, d *DB, after uint64) []string {
	t.Helper()

	events, err := d.Events(t.Context(), after, 1000)
	require.NoError(t, err)
	var data []string
	for i, e := range events {
		require.Equal(t, after+uint64(i)+1, e.Cursor)
		data = append(data, string(e.Data))
	}

	return data
}
