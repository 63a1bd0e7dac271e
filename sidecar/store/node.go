package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store/sqlc"
)

// Node returns the node that the database belongs to, and false if it belongs
// to none yet.
func (d *DB) Node(ctx context.Context) (offer.PubKey, bool, error) {
	raw, err := d.queries.GetNode(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return offer.PubKey{}, false, nil

	case err != nil:
		return offer.PubKey{}, false, fmt.Errorf("read node: %w",
			mapError(err))
	}

	var node offer.PubKey
	if err := toArray(node[:], raw); err != nil {
		return offer.PubKey{}, false, fmt.Errorf("read node: %w", err)
	}

	return node, true, nil
}

// Claim makes the database that of a node, for good. The error wraps
// ErrOtherNode if it belongs to another one.
func (d *DB) Claim(ctx context.Context, node offer.PubKey) error {
	owner, ok, err := d.Node(ctx)
	switch {
	case err != nil:
		return err

	case ok && owner != node:
		return fmt.Errorf("%w: to %s, and lnd is %s; use another "+
			"directory for each node", ErrOtherNode, owner, node)

	case ok:
		return nil
	}

	err = d.write(ctx, nil, func(ctx context.Context,
		q *sqlc.Queries) error {

		return q.InsertNode(ctx, node[:])
	})
	if err != nil {
		return fmt.Errorf("write node: %w", err)
	}

	return nil
}
