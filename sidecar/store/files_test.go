package store

import (
	"bytes"
	"database/sql"
	"embed"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lightningnetwork/lnd/sqldb/v2"
	"github.com/stretchr/testify/require"
)

// requireModes requires that the files in a directory have these names, and
// that all of it is the owner's alone.
func requireModes(t *testing.T, dir string, names ...string) {
	t.Helper()

	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(dirMode), info.Mode().Perm())

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
		info, err := entry.Info()
		require.NoError(t, err)
		require.Equal(
			t, os.FileMode(fileMode), info.Mode().Perm(),
			entry.Name(),
		)
	}
	require.ElementsMatch(t, names, got)
}

// TestFiles checks which files there are, and that nobody else may read them,
// also where they could before.
func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "socketd.db")
	d := openPath(t, path)
	writeBatch(t, d, Batch{Sockets: []Socket{fullSocket(testID(1))}})
	open := []string{
		"socketd.db", "socketd.db.lock", "socketd.db-wal",
		"socketd.db-shm",
	}
	requireModes(t, dir, open...)
	require.NoError(t, d.Close())
	requireModes(t, dir, open[:2]...)

	require.NoError(t, os.Chmod(path, 0o644))
	d = openPath(t, path)
	writeEvents(t, d, "a")
	requireModes(t, dir, open...)
}

// TestDurable checks that the database is used in the way that sqliteConfig
// promises, on every connection.
func TestDurable(t *testing.T) {
	d := openPath(t, filepath.Join(t.TempDir(), "socketd.db"))
	base := d.backend.base()
	for range sqldb.DefaultSqliteMaxConns {
		conn, err := base.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()

		for pragma, want := range map[string]string{
			"journal_mode":       "wal",
			"synchronous":        "2",
			"foreign_keys":       "1",
			"busy_timeout":       "2000",
			"auto_vacuum":        "2",
			"journal_size_limit": "8388608",
		} {
			var got string
			require.NoError(t, conn.QueryRowContext(
				t.Context(), "PRAGMA "+pragma,
			).Scan(&got))
			require.Equal(t, want, got, pragma)
		}
	}
}

// TestLocked checks that nobody else can open the database, and is told who has
// it, and that it can be opened again when it was closed.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socketd.db")
	d := openPath(t, path)
	_, err := Open(t.Context(), Config{Path: path}, quiet)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("(%d)", os.Getpid()))

	// The loser has changed nothing.
	_, err = Open(t.Context(), Config{Path: path}, quiet)
	require.ErrorContains(t, err, fmt.Sprintf("(%d)", os.Getpid()))
	writeEvents(t, d, "a")
	require.NoError(t, d.Close())
	d = openPath(t, path)
	require.Equal(t, []string{"a"}, texts(t, d, 0))

	// Whoever has it may not have said who it is.
	require.NoError(t, os.Truncate(path+".lock", 0))
	_, err = Open(t.Context(), Config{Path: path}, quiet)
	require.ErrorIs(t, err, ErrLocked)
}

// TestPath checks that a path that cannot be used is refused, and makes
// nothing.
func TestPath(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(t.Context(), Config{
		Path: filepath.Join(dir, "a?b", "socketd.db"),
	}, quiet)
	require.ErrorIs(t, err, ErrInvalid)

	blocked := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	_, err = Open(t.Context(), Config{
		Path: filepath.Join(blocked, "socketd.db"),
	}, quiet)
	require.ErrorContains(t, err, "not a directory")

	require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	_, err = Open(t.Context(), Config{
		Path: filepath.Join(dir, "d"),
	}, quiet)
	require.Error(t, err)
	entries, err := os.ReadDir(filepath.Join(dir, "d"))
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestShrink checks that a database that had much in it does not stay large.
func TestShrink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socketd.db")
	d := openPath(t, path)
	for range 20 {
		writeBatch(t, d, Batch{Events: someEvents()})
	}
	require.NoError(t, d.Close())
	info, err := os.Stat(path)
	require.NoError(t, err)
	full := info.Size()

	d = openPath(t, path)
	for more := true; more; {
		more, err = d.Prune(t.Context(), Keep{Events: 10})
		require.NoError(t, err)
	}
	for range full / (shrinkPages * 4096) {
		_, err = d.Prune(t.Context(), Keep{})
		require.NoError(t, err)
	}
	require.NoError(t, d.Close())
	info, err = os.Stat(path)
	require.NoError(t, err)
	require.Less(t, info.Size(), full/20)
}

// someEvents returns as many events as fill some pages.
func someEvents() [][]byte {
	events := make([][]byte, 200)
	for i := range events {
		events[i] = bytes.Repeat([]byte{byte(i)}, 1000)
	}

	return events
}

// TestDamaged checks that a file that is no database of ours is refused with
// clear words and left as it is.
func TestDamaged(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "socketd.db")
	d := openPath(t, whole)
	writeBatch(t, d, Batch{Events: someEvents()})
	require.NoError(t, d.Close())
	good, err := os.ReadFile(whole)
	require.NoError(t, err)

	foreign := filepath.Join(t.TempDir(), "foreign.db")
	execSQL(t, foreign, "CREATE TABLE x (y INTEGER)")
	other, err := os.ReadFile(foreign)
	require.NoError(t, err)

	broken := bytes.Clone(good)
	copy(broken[len(broken)/2:], bytes.Repeat([]byte{0xff}, 5000))

	for name, content := range map[string][]byte{
		"garbage":   bytes.Repeat([]byte("socketd "), 1000),
		"short":     good[:1000],
		"truncated": good[:len(good)/2],
		"broken":    broken,
		"foreign":   other,
		"empty":     {},
	} {
		path := filepath.Join(t.TempDir(), "socketd.db")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		for range 2 {
			_, err := Open(t.Context(), Config{Path: path}, quiet)
			require.ErrorIs(t, err, ErrDamaged, name)
			require.ErrorContains(t, err, path, name)
		}
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, left, name)
		requireNames(t, path, "socketd.db", "socketd.db.lock")
	}
}

// requireNames requires that these files are beside a database, and no others.
func requireNames(t *testing.T, path string, names ...string) {
	t.Helper()

	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	require.ElementsMatch(t, names, got)
}

// TestJournalAlone checks that a journal without its database is not taken for
// that of a new one, and not removed.
func TestJournalAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socketd.db")
	require.NoError(t, os.WriteFile(path+"-wal", []byte("x"), 0o600))
	_, err := Open(t.Context(), Config{Path: path}, quiet)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, path+"-wal is there")
	requireNames(t, path, "socketd.db-wal", "socketd.db.lock")
}

// TestDamagedLater checks that damage is recognised that comes while the
// database is open.
func TestDamagedLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socketd.db")
	d := openPath(t, path)
	writeBatch(t, d, Batch{Events: someEvents()})
	require.NoError(t, d.Close())
	d = openPath(t, path)

	info, err := os.Stat(path)
	require.NoError(t, err)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = file.WriteAt(
		bytes.Repeat([]byte{0xff}, int(info.Size())-4096), 4096,
	)
	require.NoError(t, err)
	require.NoError(t, file.Close())

	_, err = d.Events(t.Context(), 0, 1000)
	require.ErrorIs(t, err, ErrDamaged)
}

//go:embed testdata/next/*.sql testdata/broken/*.sql
var testMigrations embed.FS

// testSchema returns the current migrations with a further one behind them,
// from a directory in testdata.
func testSchema(t *testing.T, dir string) sqldb.MigrationSet {
	t.Helper()

	for v := range latestSchema {
		for _, way := range []string{"up", "down"} {
			name := migrationFile(t, migrationFiles, "migrations",
				v+1, way)
			want, err := migrationFiles.ReadFile(
				"migrations/" + name,
			)
			require.NoError(t, err)
			got, err := testMigrations.ReadFile(
				"testdata/" + dir + "/" + name,
			)
			require.NoError(t, err)
			require.Equal(
				t, string(want), string(got), "copy it",
			)
		}
	}

	return withTest(dir)
}

// withTest returns the current migrations with a further one behind them.
func withTest(dir string) sqldb.MigrationSet {
	set := currentSchema()
	set.SQLFiles = testMigrations
	set.SQLFileDirectory = "testdata/" + dir
	set.LatestMigrationVersion++
	set.Descriptors = append(
		set.Descriptors, sqldb.MigrationDescriptor{
			Name: "test", Version: latestSchema + 1,
			SchemaVersion: latestSchema + 1,
		},
	)

	return set
}

// migrationFile returns the name of the file of a migration, one way.
func migrationFile(t *testing.T, files embed.FS, dir string, version int,
	way string) string {

	t.Helper()

	entries, err := files.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		if strings.HasPrefix(
			entry.Name(), fmt.Sprintf("%06d_", version),
		) && strings.HasSuffix(entry.Name(), "."+way+".sql") {

			return entry.Name()
		}
	}
	require.Fail(t, "no such migration")

	return ""
}

// execSQL has statements executed on the database in a file that nobody has
// open.
func execSQL(t *testing.T, path, statements string) {
	t.Helper()

	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), statements)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// querySQL returns the first column of what a query finds in the database in a
// file that nobody has open.
func querySQL(t *testing.T, path, query string) []string {
	t.Helper()

	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()

	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()

	var found []string
	for rows.Next() {
		var value string
		require.NoError(t, rows.Scan(&value))
		found = append(found, value)
	}
	require.NoError(t, rows.Err())

	return found
}

// schemaOf returns the schema of the database in a file.
func schemaOf(t *testing.T, path string) []string {
	t.Helper()

	return querySQL(t, path, "SELECT type || ' ' || name || ' ' || "+
		"coalesce(sql, '') FROM sqlite_schema ORDER BY 1")
}

// oldDatabase makes a database as an earlier version has left it, in use, and
// returns where it is.
func oldDatabase(t *testing.T, version int) string {
	t.Helper()

	dir := filepath.Join(t.TempDir(), "dir")
	require.NoError(t, os.Mkdir(dir, dirMode))
	path := filepath.Join(dir, "socketd.db")
	db, err := sqldb.NewSqliteStore(sqliteConfig(), path)
	require.NoError(t, err)
	for v := range version {
		up, err := migrationFiles.ReadFile(
			"migrations/" + migrationFile(
				t, migrationFiles, "migrations", v+1, "up",
			),
		)
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), string(up))
		require.NoError(t, err)
	}
	require.NoError(t, db.SetSchemaVersion(version, false))

	fixture, err := os.ReadFile(fmt.Sprintf("testdata/v%d.sql", version))
	require.NoError(t, err, "a version needs a database to test with")
	_, err = db.ExecContext(t.Context(), string(fixture))
	require.NoError(t, err)
	require.NoError(t, db.Close())

	return path
}

// logOf returns a logger, and what it has logged.
func logOf() (*slog.Logger, *bytes.Buffer) {
	var log bytes.Buffer

	return slog.New(slog.NewTextHandler(&log, nil)), &log
}
