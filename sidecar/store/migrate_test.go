package store

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// requireFixture requires that a database has what that of testdata has which a
// version wrote.
func requireFixture(t *testing.T, d *DB, version int) {
	t.Helper()

	node, ok, err := d.Node(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, testKey(3), node)

	first := Kept{
		Socket: Socket{
			ID:        testID(1),
			Protocol:  offer.TCP,
			Admission: offer.ByToken,
			Ports:     [2]uint16{21000, 21001},
			Label:     "label",
			Allow: [2][]netip.Prefix{{
				netip.MustParsePrefix("192.0.2.0/24"),
				netip.MustParsePrefix("2001:db8::/32"),
			}},
			Limits: Limits{
				Bandwidth: 1, Packets: 2, TotalBytes: 3,
				Pairs: 4,
			},
			IdleTimeout: 10 * time.Minute,
			CreatedAt:   testTime(0),
			ExpiresAt:   testTime(3600),
			Tokens:      offer.Tokens{testToken(11), testToken(12)},
			State:       SocketFailed,
			Reason:      "port 21000 is taken",
			Account:     "someone",
		},
		Pins: [2]Pin{{
			SocketID: testID(1),
			Leg:      1,
			Client:   netip.MustParseAddrPort("198.51.100.7:1234"),
			Local:    netip.MustParseAddr("203.0.113.7"),
			Token:    testToken(11),
			At:       testTime(2),
		}},
		Counters: [2]Counters{{
			SocketID: testID(1), Leg: 1, PacketsIn: 1, BytesIn: 2,
			PacketsOut: 3, BytesOut: 4, Accepted: 5, Resets: 6,
			Drops: map[string]uint64{
				"bad_bind": 1, "stranger": 7,
			},
			LastSeen: testTime(4),
		}},
	}
	second := Kept{
		Socket: Socket{
			ID:        testID(2),
			Protocol:  offer.UDP,
			Ports:     [2]uint16{21002, 21003},
			Default:   true,
			CreatedAt: testTime(1),
		},
		Pins: [2]Pin{{}, {
			SocketID: testID(2),
			Leg:      2,
			Client:   netip.MustParseAddrPort("[2001:db8::1]:1234"),
			At:       testTime(3),
		}},
	}
	requireSockets(t, d, first, second)

	s := d.Offers(encodeEvent)
	record := fullRecord()
	record.ID, record.ReplyTo = testID(4), testID(5)
	record.SocketID = testID(1)
	record.Port2, record.Label = 21001, "label"
	record.ExpiresAt = time.Unix(1_800_003_600, 0)
	record.EndedAt, record.Reason = time.Time{}, ""
	record.Tokens = offer.Tokens{testToken(13), testToken(14)}
	record.IsRequest, record.Parent = false, offer.ID{}
	record.Limits = offer.SocketLimits{}
	requireRecords(
		t, s, append(requestsOf(version), record)...,
	)
	msg := messageOf(record, record.ID, 50501)
	msg.Deadline = record.ExpiresAt
	requireMessages(t, s, msg)

	old := plainRecord(testID(7), testKey(2)).Offer
	old.State, old.Reason, old.SocketID = offer.StateRejected, "no",
		testID(8)
	old.ExpiresAt, old.EndedAt = record.ExpiresAt, testTime(5)
	forgotten, err := s.Forgotten(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, []offer.Offer{old}, forgotten)

	require.Equal(t, []string{"one", "two"}, texts(t, d, 40))
	_, err = d.Events(t.Context(), 39, 10)
	require.ErrorIs(t, err, ErrPruned)

	requirePolicyOf(t, d, version)
}

// requestsOf returns the records of the database in testdata that a version
// wrote which earlier ones could not: a request of ours that nobody has
// answered, and a leg that was passed on.
func requestsOf(version int) []offer.Record {
	if version < 2 {
		return nil
	}

	request := plainRecord(testID(0x10), testKey(2))
	request.IsRequest = true
	request.Direction, request.Addrs = offer.Outgoing, nil
	request.Port1, request.Port2 = 0, 0
	request.SocketID, request.Legs = offer.ID{}, offer.BothLegs
	request.Admission, request.Label = offer.ByToken, "asked"
	request.Limits = offer.SocketLimits{
		Bandwidth: math.MaxUint64, Packets: 2, TotalBytes: 3,
		IdleTimeout: 4, Lifetime: 5,
	}
	request.CreatedAt = testTime(7)
	request.ExpiresAt = time.Unix(1_800_003_600, 0)

	passed := plainRecord(testID(0x11), testKey(5))
	passed.Direction, passed.State = offer.Outgoing, offer.StateSent
	passed.Host, passed.Parent = testKey(2), testID(0x12)
	passed.SocketID, passed.CreatedAt = testID(8), testTime(8)
	passed.ExpiresAt = request.ExpiresAt

	return []offer.Record{request, passed}
}

// requirePolicyOf requires that a database has the policy that the one in
// testdata has which a version wrote.
func requirePolicyOf(t *testing.T, d *DB, version int) {
	t.Helper()

	p, ok, err := d.Policy(t.Context())
	require.NoError(t, err)
	require.Equal(t, version >= 2, ok)
	if version < 2 {
		return
	}
	require.Equal(t, Policy{
		RequestPolicy: offer.RequestPolicy{
			Channel:      true,
			Nodes:        []offer.PubKey{testKey(2), testKey(3)},
			OpenFor:      []offer.PubKey{testKey(2)},
			MaxHosted:    1,
			MaxPerNode:   2,
			MaxLifetime:  time.Hour,
			MaxBandwidth: 3,
		},
		NodeBandwidth: 4, TotalBandwidth: 5,
	}, p)
}

// TestMigrations checks that the database of every earlier version becomes one
// of this version, with the same schema as a new one and all that was in it,
// and that there is a backup of it as it was.
func TestMigrations(t *testing.T) {
	fresh := filepath.Join(t.TempDir(), "socketd.db")
	require.NoError(t, openPath(t, fresh).Close())
	want := schemaOf(t, fresh)

	for v := 1; v <= latestSchema; v++ {
		t.Run(strconv.Itoa(v), func(t *testing.T) {
			path := oldDatabase(t, v)
			old := schemaOf(t, path)

			d := openPath(t, path)
			requireFixture(t, d, v)
			require.NoError(t, d.Close())
			require.Equal(t, want, schemaOf(t, path))

			names := []string{"socketd.db", "socketd.db.lock"}
			if v < latestSchema {
				backup := fmt.Sprintf("%s.v%d.backup", path, v)
				require.Equal(t, old, schemaOf(t, backup))
				names = append(names, filepath.Base(backup))
			}
			requireModes(t, filepath.Dir(path), names...)
		})
	}
}

// TestDown checks that the way down of every migration undoes the way up.
func TestDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	schemas := [][]string{schemaOf(t, path)}
	run := func(version int, way string) {
		statements, err := migrationFiles.ReadFile(
			"migrations/" + migrationFile(
				t, migrationFiles, "migrations", version, way,
			),
		)
		require.NoError(t, err)
		execSQL(t, path, string(statements))
	}
	for v := 1; v <= latestSchema; v++ {
		run(v, "up")
		schemas = append(schemas, schemaOf(t, path))
	}
	for v := latestSchema; v > 0; v-- {
		require.Equal(t, schemas[v], schemaOf(t, path))
		run(v, "down")
		require.Equal(t, schemas[v-1], schemaOf(t, path))
	}
}

// TestUpgrade checks what an upgrade does, with a migration that only the test
// has.
func TestUpgrade(t *testing.T) {
	next := testSchema(t, "next")
	path := oldDatabase(t, latestSchema)
	old := schemaOf(t, path)

	// What is left of other upgrades and of attempts that were cut off does
	// not matter.
	backups := []string{path + ".v0.backup", path + ".v1.backup"}
	for _, name := range append(
		backups, path+".next", path+".next-wal", path+".next-journal",
	) {
		require.NoError(t, os.WriteFile(name, []byte("x"), 0o600))
	}

	log, text := logOf()
	d, err := openWith(t.Context(), Config{Path: path}, next, log)
	require.NoError(t, err)
	closeLater(t, d)
	require.Contains(t, text.String(), "Database is upgraded")
	requireFixture(t, d, latestSchema)
	writeEvents(t, d, "new")
	require.NoError(t, d.Close())

	backup := fmt.Sprintf("%s.v%d.backup", path, latestSchema)
	requireModes(
		t, filepath.Dir(path), "socketd.db", "socketd.db.lock",
		filepath.Base(backup),
	)
	require.Equal(
		t, []string{"", "label"},
		querySQL(t, path, "SELECT note FROM notes ORDER BY note"),
	)
	require.Equal(t, old, schemaOf(t, backup))

	// An older program says what to do, and touches nothing.
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = Open(t.Context(), Config{Path: path}, quiet)
	require.ErrorIs(t, err, ErrNewer)
	require.ErrorContains(t, err, fmt.Sprintf("it has version %d and "+
		"this program knows %d", latestSchema+1, latestSchema))
	require.ErrorContains(t, err, backup)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)

	// What it says works.
	require.NoError(t, os.Rename(backup, path))
	d = openPath(t, path)
	requireFixture(t, d, latestSchema)
	require.NoError(t, d.Close())

	execSQL(t, path, "UPDATE schema_migrations SET version = 70")
	_, err = Open(t.Context(), Config{Path: path}, quiet)
	require.ErrorIs(t, err, ErrNewer)
	require.NotContains(t, err.Error(), "backup")

	execSQL(t, path, fmt.Sprintf("UPDATE schema_migrations SET "+
		"version = %d, dirty = 1", latestSchema))
	_, err = Open(t.Context(), Config{Path: path}, quiet)
	require.ErrorIs(t, err, ErrDamaged)
}

// TestUpgradeFails checks that a migration that fails leaves the database as it
// was.
func TestUpgradeFails(t *testing.T) {
	broken := testSchema(t, "broken")
	path := oldDatabase(t, latestSchema)
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	for range 2 {
		_, err = openWith(
			t.Context(), Config{Path: path}, broken, quiet,
		)
		require.ErrorContains(t, err, "migrate")
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, before, after)
		requireModes(
			t, filepath.Dir(path), "socketd.db", "socketd.db.lock",
			fmt.Sprintf("socketd.db.v%d.backup", latestSchema),
		)
	}
	requireFixture(t, openPath(t, path), latestSchema)
}

// TestUpgradeInUse checks that the database is not replaced while another
// program has it open, whose work would be lost.
func TestUpgradeInUse(t *testing.T) {
	next := testSchema(t, "next")
	path := oldDatabase(t, latestSchema)
	d := openPath(t, path)
	require.NoError(t, d.backend.(*sqliteDB).lock.release())
	writeEvents(t, d, "three")

	_, err := openWith(t.Context(), Config{Path: path}, next, quiet)
	require.ErrorContains(t, err, "another program uses the database")
	writeEvents(t, d, "four")
	require.Error(t, d.Close(), "its lock is gone")

	d, err = openWith(t.Context(), Config{Path: path}, next, quiet)
	require.NoError(t, err)
	closeLater(t, d)
	require.Equal(
		t, []string{"one", "two", "three", "four"}, texts(t, d, 40),
	)
}

// TestSchemaComplete checks that every migration is listed, both ways.
func TestSchemaComplete(t *testing.T) {
	entries, err := migrationFiles.ReadDir("migrations")
	require.NoError(t, err)
	var want, got []string
	for _, d := range currentSchema().Descriptors {
		for _, way := range []string{"down", "up"} {
			want = append(want, fmt.Sprintf("%06d_%s.%s.sql",
				d.SchemaVersion, d.Name, way))
		}
	}
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	slices.Sort(want)
	require.Equal(t, want, got)
	require.Len(t, currentSchema().Descriptors, latestSchema)
}
