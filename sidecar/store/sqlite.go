package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lightningnetwork/lnd/sqldb/v2"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// fileMode and dirMode are for the owner alone: there are tokens in the
	// files.
	fileMode = 0o600
	dirMode  = 0o700

	// busyTimeout is how long to wait for somebody who looks into the file
	// with another program.
	busyTimeout = 2 * time.Second

	// journalLimit is to what the journal is cut, in bytes, when what is in
	// it was written to the database.
	journalLimit = "journal_size_limit=8388608"

	// checkLimit is up to which length, in bytes, a database is checked
	// when it is opened. That takes some 40 ms, or a few times as much on a
	// slow disk, and sockets are to be back within a second.
	checkLimit = 32 << 20

	// shrinkPages is how many pages are given back at once, of 4 KiB each.
	shrinkPages = 256
)

// sqliteConfig is how SQLite is used. It writes ahead, and a commit returns
// when it is on the disk: that is how lnd's sqldb has it. Without the latter
// the end of the process would lose nothing either, but a power failure could
// take back what another node was told.
func sqliteConfig() *sqldb.SqliteConfig {
	return &sqldb.SqliteConfig{
		BusyTimeout:           busyTimeout,
		PragmaOptions:         []string{journalLimit},
		SkipMigrationDbBackup: true,
	}
}

// sqliteDB is an SQLite database. All fields are immutable.
type sqliteDB struct {
	store *sqldb.SqliteStore
	lock  *fileLock
}

// base returns the database itself.
func (s *sqliteDB) base() *sqldb.BaseDB {
	return s.store.BaseDB
}

// shrink gives a part of what is not used back to the system.
func (s *sqliteDB) shrink(ctx context.Context) error {
	// A page goes with every row that is asked for.
	rows, err := s.store.QueryContext(
		ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", shrinkPages),
	)
	if err != nil {
		return err
	}
	defer rows.Close()

	for rows.Next() {
		continue
	}

	return rows.Err()
}

// close closes the database, and lets others open it.
func (s *sqliteDB) close() error {
	return errors.Join(s.store.Close(), s.lock.release())
}

// openSQLite opens the database in a file, with the schema to which a set of
// migrations leads.
func openSQLite(ctx context.Context, path string, set sqldb.MigrationSet,
	log *slog.Logger) (*sqliteDB, error) {

	// What follows it would be taken for options.
	if strings.Contains(path, "?") {
		return nil, fmt.Errorf("%w: the path has a question mark",
			ErrInvalid)
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, err
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}

	f := &files{path: path, set: set, log: log}
	if err := f.prepare(ctx); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	store, err := sqldb.NewSqliteStore(sqliteConfig(), path)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}

	return &sqliteDB{store: store, lock: lock}, nil
}

// version returns the number of the last migration of the database in a file.
func version(ctx context.Context, path string) (int, error) {
	// See whole.
	ctx = context.WithoutCancel(ctx)

	db, err := sql.Open("sqlite", path)
	if err != nil {
		return 0, err
	}
	defer db.Close()

	var (
		number int
		dirty  bool
	)
	err = db.QueryRowContext(
		ctx, "SELECT version, dirty FROM "+versionTable,
	).Scan(&number, &dirty)
	switch {
	case isCode(err, sqlite3.SQLITE_ERROR), errors.Is(err, sql.ErrNoRows):
		return 0, fmt.Errorf("%w: there is a database in the file "+
			"that is not socketd's", ErrDamaged)

	case err != nil:
		return 0, err

	case dirty:
		return 0, fmt.Errorf("%w: migration %d was not finished",
			ErrDamaged, number)
	}

	return number, check(ctx, db, path)
}

// check looks for a page that is broken, so that it is found now and not when
// it is needed, unless the file is too long for that. What a start needs is
// read anyway.
func check(ctx context.Context, db *sql.DB, path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() > checkLimit {
		return err
	}

	var verdict string
	err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict)
	if err == nil && verdict != "ok" {
		err = fmt.Errorf("%w: %s", ErrDamaged, verdict)
	}

	return err
}

// isCode tells whether an error is SQLite's of a code.
func isCode(err error, codes ...int) bool {
	var sqliteErr *sqlite.Error
	if !errors.As(err, &sqliteErr) {
		return false
	}
	for _, code := range codes {
		// The lowest byte is the kind of error, the rest its detail.
		if sqliteErr.Code()&0xff == code {
			return true
		}
	}

	return false
}

// mapError returns an error of the database as those of this package, where
// there is one for it.
func mapError(err error) error {
	switch {
	case errors.Is(err, ErrDamaged):
		return err

	case isCode(err, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
		return fmt.Errorf("%w: %w; the file is left as it is: put it "+
			"aside, or a backup in its place", ErrDamaged, err)
	}

	return err
}

// exists tells whether there is a file.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}

	return err == nil, err
}
