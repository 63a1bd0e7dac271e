package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/lightningnetwork/lnd/sqldb/v2"
)

// journals are what SQLite adds to the name of a database for the files that go
// with it.
var journals = []string{"-wal", "-shm", "-journal"}

// files are the files of an SQLite database, which nobody has open. All fields
// are immutable.
//
// No migration is applied to the file itself: that is done to a copy, which
// takes its place when it is complete. So the end of the process at any moment
// leaves either the one or the other.
type files struct {
	path string
	set  sqldb.MigrationSet
	log  *slog.Logger
}

// next is where the database is made that is to take the place of the present
// one.
func (f *files) next() string {
	return f.path + ".next"
}

// backup is where the database is kept as it was with a version.
func (f *files) backup(version int) string {
	return fmt.Sprintf("%s.v%d.backup", f.path, version)
}

// prepare makes the file one with the current schema, and nobody else's to
// read.
func (f *files) prepare(ctx context.Context) error {
	// An attempt that was not completed is worth nothing.
	if err := f.removeNext(); err != nil {
		return err
	}
	if err := f.update(ctx); err != nil {
		return errors.Join(err, f.removeNext())
	}

	return nil
}

// update makes the database, or brings it to the current schema, if it has to.
func (f *files) update(ctx context.Context) error {
	found, err := exists(f.path)
	if err != nil {
		return err
	}
	if !found {
		return f.create()
	}
	if err := f.protect(); err != nil {
		return err
	}

	present, err := version(ctx, f.path)
	if err != nil {
		return err
	}
	latest := int(f.set.LatestMigrationVersion)
	switch {
	case present > latest:
		return f.newer(present)

	case present < latest:
		return f.upgrade(ctx, present)

	default:
		return nil
	}
}

// protect makes the files those of their owner alone.
func (f *files) protect() error {
	for _, suffix := range append([]string{""}, journals...) {
		err := os.Chmod(f.path+suffix, fileMode)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}

	return nil
}

// newer returns the error for a version that is not known.
func (f *files) newer(present int) error {
	err := fmt.Errorf("%w: it has version %d and this program knows %d; "+
		"run the newer program", ErrNewer, present,
		f.set.LatestMigrationVersion)

	backup := f.backup(int(f.set.LatestMigrationVersion))
	if found, _ := exists(backup); found {
		err = fmt.Errorf("%w, or put %s in the place of the database, "+
			"which lacks what happened since", err, backup)
	}

	return err
}

// create makes the database.
func (f *files) create() error {
	// It would be taken for the new one's.
	for _, suffix := range journals {
		found, err := exists(f.path + suffix)
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("%w: the file is missing but %s is "+
				"there: put both aside or both back",
				ErrDamaged, f.path+suffix)
		}
	}

	if err := touch(f.next()); err != nil {
		return err
	}
	if err := f.migrateNext(); err != nil {
		return err
	}
	f.log.Info("Database created", "path", f.path, "version",
		f.set.LatestMigrationVersion)

	return nil
}

// upgrade keeps a backup of the database, and brings it to the current schema.
func (f *files) upgrade(ctx context.Context, present int) error {
	backup := f.backup(present)
	f.log.Info("Database is upgraded", "path", f.path, "version", present,
		"to", f.set.LatestMigrationVersion, "backup", backup)

	err := f.copyTo(ctx, f.next())
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := f.moveNext(backup); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := f.removeBackups(backup); err != nil {
		return err
	}

	if err := f.copyTo(ctx, f.next()); err != nil {
		return fmt.Errorf("copy: %w", err)
	}

	return f.migrateNext()
}

// copyTo writes the database to another file. When it returns all of it is in
// the file itself, and no journal is left.
func (f *files) copyTo(ctx context.Context, to string) error {
	if err := touch(to); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", f.path)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", to)

	return errors.Join(err, db.Close())
}

// migrateNext brings the next database to the current schema, and puts it in
// the place of the present one.
func (f *files) migrateNext() error {
	store, err := sqldb.NewSqliteStore(sqliteConfig(), f.next())
	if err != nil {
		return err
	}
	err = sqldb.ApplyAllMigrations(store, []sqldb.MigrationSet{f.set})
	if err := errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}

	return f.moveNext(f.path)
}

// moveNext gives the next database its name, once all of it is on the disk.
func (f *files) moveNext(to string) error {
	for _, path := range []string{f.next(), to} {
		for _, suffix := range journals {
			found, err := exists(path + suffix)
			if err != nil {
				return err
			}
			if found {
				return fmt.Errorf("%s is still there: "+
					"another program uses the "+
					"database", path+suffix)
			}
		}
	}

	if err := syncFile(f.next()); err != nil {
		return err
	}
	if err := os.Rename(f.next(), to); err != nil {
		return err
	}

	return syncDir(filepath.Dir(to))
}

// removeNext removes what is left of an attempt to make a database.
func (f *files) removeNext() error {
	for _, suffix := range append([]string{""}, journals...) {
		err := os.Remove(f.next() + suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}

	return nil
}

// removeBackups removes all backups but one.
func (f *files) removeBackups(keep string) error {
	for v := range int(f.set.LatestMigrationVersion) {
		backup := f.backup(v)
		if backup == keep {
			continue
		}
		err := os.Remove(backup)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}

	return nil
}

// touch makes an empty file that nobody else may read.
func touch(path string) error {
	file, err := os.OpenFile(
		path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode,
	)
	if err != nil {
		return err
	}

	return file.Close()
}

// syncFile has a file written to the disk.
func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}

	return errors.Join(file.Sync(), file.Close())
}
