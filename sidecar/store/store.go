// Package store keeps what socketd must not forget, in an SQL database: its
// sockets with their clients and tokens, the offers with the messages that are
// still to be delivered, and the events.
//
// What belongs together is written in one transaction, and is on the disk when
// a call that writes returns: neither the end of the process nor that of the
// machine takes it back. The queries are written for what SQLite and PostgreSQL
// have in common; the package sqlc is generated from them.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lightningnetwork/lnd/sqldb/v2"
	"github.com/socketd/socketd/sidecar/store/sqlc"
)

var (
	// ErrLocked is returned if another process has the database open.
	ErrLocked = errors.New("database is in use by another process")

	// ErrNewer is returned for a database that a newer version has written.
	ErrNewer = errors.New("database is of a newer version")

	// ErrOtherNode is returned for a database that belongs to another node.
	ErrOtherNode = errors.New("database belongs to another node")

	// ErrDamaged is returned for a file that is no database of ours, or is
	// one no more.
	ErrDamaged = errors.New("database is damaged")

	// ErrPruned is returned for events that are no longer kept.
	ErrPruned = errors.New("events are no longer kept")

	// ErrInvalid is returned for a value that cannot be kept.
	ErrInvalid = errors.New("value cannot be kept")
)

// txRetries is how often a transaction is tried that another one is in the way
// of. In SQLite there is none unless somebody else looks into the file.
const txRetries = 5

// Config has the values that a DB works with.
type Config struct {
	// Path is the file of the SQLite database. Others lie beside it, whose
	// names begin with its own.
	Path string
}

// DB is an open database. Its methods are safe for concurrent use.
type DB struct {
	// What follows is immutable.

	queries *sqlc.Queries
	tx      *sqldb.TransactionExecutor[*sqlc.Queries]
	backend backend

	// writing is held while something is written: there is one writer at a
	// time, so that cursors are given in the order in which events are
	// committed, and none is left out.
	writing sync.Mutex

	// unsure tells that a write has failed, perhaps after it was done:
	// which cursor is the latest has to be read again. It is guarded by
	// writing.
	unsure bool

	// mu guards what follows.
	mu sync.Mutex

	// last is the cursor of the latest event, 0 before the first one.
	last uint64

	// changed is closed, and replaced, when an event was written.
	changed chan struct{}
}

// backend is what differs between the databases.
type backend interface {
	// base returns the database itself.
	base() *sqldb.BaseDB

	// shrink gives some of the room back to the system that is not used
	// any more. It takes a bounded time.
	shrink(ctx context.Context) error

	// close closes the database, and lets others open it.
	close() error
}

// Open opens the database, and makes it if it is not there. One that an older
// version has written is changed to the current schema, of which a copy is kept
// beside it. The errors are ErrLocked, ErrNewer, ErrDamaged, which say what to
// do, and those of the file system. Nothing is changed or removed then.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*DB, error) {
	return openWith(ctx, cfg, currentSchema(), log)
}

// openWith opens the database with a set of migrations.
func openWith(ctx context.Context, cfg Config, set sqldb.MigrationSet,
	log *slog.Logger) (*DB, error) {

	backend, err := openSQLite(ctx, cfg.Path, set, log)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", cfg.Path, mapError(err))
	}

	d, err := newDB(ctx, backend)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", cfg.Path, errors.Join(
			mapError(err), backend.close(),
		))
	}

	return d, nil
}

// newDB returns a DB over a database that has the current schema.
func newDB(ctx context.Context, backend backend) (*DB, error) {
	base := backend.base()
	queries := sqlc.New(whole{base})
	d := &DB{
		queries: queries,
		tx: sqldb.NewTransactionExecutor(
			base, func(tx *sql.Tx) *sqlc.Queries {
				return queries.WithTx(tx)
			}, sqldb.WithTxRetries(txRetries),
		),
		backend: backend,
		changed: make(chan struct{}),
	}

	last, err := queries.LastCursor(ctx)
	if err != nil {
		return nil, fmt.Errorf("read cursor: %w", err)
	}
	d.last = uint64(last)

	return d, nil
}

// whole does what it is asked for as a whole, or not at all: SQLite's driver
// loses a statement, and with it a connection, if a query is given up in the
// moment in which it has its first row. What is asked for takes no time.
type whole struct {
	sqlc.DBTX
}

// ExecContext executes a statement.
func (w whole) ExecContext(ctx context.Context, query string,
	args ...any) (sql.Result, error) {

	if err := ctx.Err(); err != nil {
		return nil, err
	}

	return w.DBTX.ExecContext(context.WithoutCancel(ctx), query, args...)
}

// QueryContext reads rows.
func (w whole) QueryContext(ctx context.Context, query string,
	args ...any) (*sql.Rows, error) {

	if err := ctx.Err(); err != nil {
		return nil, err
	}

	return w.DBTX.QueryContext(context.WithoutCancel(ctx), query, args...)
}

// QueryRowContext reads a row.
func (w whole) QueryRowContext(ctx context.Context, query string,
	args ...any) *sql.Row {

	return w.DBTX.QueryRowContext(
		context.WithoutCancel(ctx), query, args...,
	)
}

// Close closes the database. Nothing may be called any more.
func (d *DB) Close() error {
	d.writing.Lock()
	defer d.writing.Unlock()

	if err := d.backend.close(); err != nil {
		return fmt.Errorf("close database: %w", mapError(err))
	}

	return nil
}

// write does what body does and adds events, in one transaction, and shows the
// events to whoever waits for them. A write that has begun is not given up with
// ctx: it is short, and its caller is told for sure whether it was done.
func (d *DB) write(ctx context.Context, events [][]byte,
	body func(context.Context, *sqlc.Queries) error) error {

	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)

	d.writing.Lock()
	defer d.writing.Unlock()

	if err := d.resync(ctx); err != nil {
		return mapError(err)
	}

	// What was wrong inside the transaction says more than what it ends
	// with.
	var inside error

	last, _ := d.Cursor()
	steps := func(q *sqlc.Queries) error {
		inside = body(ctx, q)
		if inside == nil {
			inside = insertEvents(ctx, q, last, events)
		}

		return inside
	}
	err := d.tx.ExecTx(ctx, sqldb.WriteTxOpt(), steps, sqldb.NoOpReset)
	if err != nil {
		d.unsure = true
		if inside != nil {
			err = inside
		}

		return mapError(err)
	}
	if len(events) > 0 {
		d.advance(last + uint64(len(events)))
	}

	return nil
}

// insertEvents adds events that follow a cursor.
func insertEvents(ctx context.Context, q *sqlc.Queries, after uint64,
	events [][]byte) error {

	now := toMicros(time.Now())
	for i, data := range events {
		err := q.InsertEvent(ctx, sqlc.InsertEventParams{
			Cursor:     int64(after) + int64(i) + 1,
			HappenedAt: now,
			Data:       data,
		})
		if err != nil {
			return fmt.Errorf("insert event: %w", err)
		}
	}

	return nil
}

// resync reads the latest cursor again if a write has failed. The caller holds
// writing.
func (d *DB) resync(ctx context.Context) error {
	if !d.unsure {
		return nil
	}

	last, err := d.queries.LastCursor(ctx)
	if err != nil {
		return fmt.Errorf("read cursor: %w", err)
	}
	if known, _ := d.Cursor(); uint64(last) != known {
		d.advance(uint64(last))
	}
	d.unsure = false

	return nil
}

// advance sets the latest cursor and wakes whoever waits for it.
func (d *DB) advance(last uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.last = last
	close(d.changed)
	d.changed = make(chan struct{})
}
