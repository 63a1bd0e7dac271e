package store

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// fullSocket returns a socket in which everything is set.
func fullSocket(id offer.ID) Socket {
	return Socket{
		ID:        id,
		Protocol:  offer.TCP,
		Admission: offer.ByToken,
		Ports:     [2]uint16{21000, 65535},
		Label:     "ein Löffel 🥄",
		Default:   true,
		Allow: [2][]netip.Prefix{
			{
				netip.MustParsePrefix("192.0.2.0/24"),
				netip.MustParsePrefix("2001:db8::/32"),
			},
			{netip.MustParsePrefix("198.51.100.7/32")},
		},
		Limits: Limits{
			Bandwidth:  1,
			Packets:    2,
			TotalBytes: math.MaxInt64,
			Pairs:      1000,
		},
		IdleTimeout: 10 * time.Minute,
		CreatedAt:   testTime(0),

		// The longest lifetime that can be asked for.
		ExpiresAt: testTime(0).Add(math.MaxInt64 / 1000 * 1000),
		Tokens:    offer.Tokens{testToken(1), testToken(2)},
		State:     SocketFailed,
		Reason:    "port 21000 is taken",
		Account:   testKey(3).String(),
	}
}

// plainSocket returns a socket in which nothing is set that need not be.
func plainSocket(id offer.ID) Socket {
	return Socket{
		ID:        id,
		Protocol:  offer.UDP,
		Ports:     [2]uint16{1, 2},
		CreatedAt: testTime(1),
	}
}

// testPins returns a pin for each leg of a socket.
func testPins(id offer.ID) [2]Pin {
	return [2]Pin{
		{
			SocketID: id,
			Leg:      1,
			Client:   netip.MustParseAddrPort("198.51.100.7:1234"),
			Local:    netip.MustParseAddr("203.0.113.7"),
			Token:    testToken(1),
			At:       testTime(2),
		},
		{
			SocketID: id,
			Leg:      2,
			Client: netip.MustParseAddrPort(
				"[fe80::1%eth0]:65535",
			),
			At: testTime(3),
		},
	}
}

// testCounters returns counters for each leg of a socket.
func testCounters(id offer.ID) [2]Counters {
	return [2]Counters{
		{
			SocketID:   id,
			Leg:        1,
			PacketsIn:  1,
			BytesIn:    2,
			PacketsOut: 3,
			BytesOut:   math.MaxInt64,
			Accepted:   5,
			Resets:     6,
			Drops: map[string]uint64{
				"stranger": math.MaxUint64, "bad_bind": 1,
			},
			LastSeen: testTime(4),
		},
		{SocketID: id, Leg: 2},
	}
}

// requireSockets requires that a database has these sockets, in this order.
func requireSockets(t *testing.T, d *DB, want ...Kept) {
	t.Helper()

	got, err := d.Sockets(t.Context())
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i], got[i])
	}
}

// writeBatch writes a batch, which must succeed.
func writeBatch(t *testing.T, d *DB, b Batch) {
	t.Helper()
	require.NoError(t, d.Write(t.Context(), b))
}

// TestSockets checks that sockets, pins and counters are kept as they are, and
// go with their socket.
func TestSockets(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		requireSockets(t, d)

		id, other := testID(1), testID(2)
		full := Kept{Socket: fullSocket(id)}
		plain := Kept{Socket: plainSocket(other)}
		writeBatch(t, d, Batch{
			Sockets: []Socket{plain.Socket, full.Socket},
			Events:  [][]byte{[]byte("both")},
		})
		requireSockets(t, d, full, plain)

		full.Pins, full.Counters = testPins(id), testCounters(id)
		plain.Pins[1] = testPins(other)[1]
		writeBatch(t, d, Batch{
			Pins: []Pin{
				full.Pins[0], full.Pins[1], plain.Pins[1],
			},
			Counters: full.Counters[:],
			Events:   [][]byte{[]byte("pinned")},
		})
		requireSockets(t, d, full, plain)

		// All of it is there after a restart.
		require.NoError(t, d.Close())
		d = db.open()
		requireSockets(t, d, full, plain)
		require.Equal(t, []string{"both", "pinned"}, texts(t, d, 0))

		// A socket changes, and so do a pin and counters.
		full.State, full.Reason = SocketActive, ""
		full.Default, full.Account = false, ""
		full.Pins[0].Client = netip.MustParseAddrPort("192.0.2.1:1")
		full.Pins[0].Token = offer.Token{}
		full.Pins[1] = Pin{}
		full.Counters[0].BytesIn++
		full.Counters[0].Drops = nil
		writeBatch(t, d, Batch{
			Sockets: []Socket{full.Socket},
			Pins: []Pin{
				full.Pins[0], {SocketID: id, Leg: 2},
			},
			Counters: full.Counters[:1],
		})
		requireSockets(t, d, full, plain)

		// What comes too late for its socket is left out.
		writeBatch(t, d, Batch{
			Ended:    []offer.ID{id, testID(3)},
			Pins:     full.Pins[:1],
			Counters: full.Counters[:],
			Events:   [][]byte{[]byte("ended")},
		})
		requireSockets(t, d, plain)
		require.Equal(t, []string{"ended"}, texts(t, d, 2))

		// A new one of the same id would begin anew.
		writeBatch(t, d, Batch{Sockets: []Socket{full.Socket}})
		requireSockets(t, d, Kept{Socket: full.Socket}, plain)
	})
}

// TestInvalidSocket checks that what cannot be kept is refused, with all that
// was to be written with it.
func TestInvalidSocket(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		id := testID(1)
		good := plainSocket(id)
		bad := good
		bad.Limits.TotalBytes = math.MaxInt64 + 1

		for name, b := range map[string]Batch{
			"limit": {Sockets: []Socket{good, bad}},
			"pin": {
				Sockets: []Socket{good},
				Pins:    []Pin{{SocketID: id}},
			},
			"counters": {
				Sockets: []Socket{good},
				Counters: []Counters{
					{SocketID: id, Leg: 3},
				},
			},
			"count": {
				Sockets: []Socket{good},
				Counters: []Counters{{
					SocketID: id, Leg: 1,
					Resets: math.MaxUint64,
				}},
			},
		} {
			b.Events = [][]byte{{1}}
			err := d.Write(t.Context(), b)
			require.ErrorIs(t, err, ErrInvalid, name)
		}
		requireSockets(t, d)
		require.Empty(t, texts(t, d, 0))
	})
}

// TestDamagedSocket checks that a socket that nobody can have written is not
// taken for one.
func TestDamagedSocket(t *testing.T) {
	withDatabases(t, func(db *database) {
		t := db.t
		d := db.open()
		id := testID(1)
		for _, change := range []string{
			"sockets SET token1 = socket_id",
			"sockets SET allow2 = '192.0.2.1'",
			"pins SET leg = 3 WHERE leg = 1",
			"pins SET client_addr = 'x'",
			"pins SET local_addr = 'x'",
			"pins SET token = socket_id",
			"counters SET leg = 0 WHERE leg = 1",
			"counters SET drops = 'stranger'",
		} {
			pins, counters := testPins(id), testCounters(id)
			writeBatch(t, d, Batch{Ended: []offer.ID{id}})
			writeBatch(t, d, Batch{
				Sockets:  []Socket{fullSocket(id)},
				Pins:     pins[:],
				Counters: counters[:],
			})
			_, err := d.backend.base().ExecContext(
				t.Context(), "UPDATE "+change,
			)
			require.NoError(t, err)

			_, err = d.Sockets(t.Context())
			require.ErrorIs(t, err, ErrDamaged, change)
		}
	})
}

// TestSocketState checks the names of the states.
func TestSocketState(t *testing.T) {
	require.Equal(t, "ACTIVE", SocketActive.String())
	require.Equal(t, "FAILED", SocketFailed.String())
	require.Equal(t, "7", SocketState(7).String())
}
