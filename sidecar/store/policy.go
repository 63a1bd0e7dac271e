package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store/sqlc"
)

// Policy is whose requests are met, and how much may pass through the sockets.
type Policy struct {
	offer.RequestPolicy

	// NodeBandwidth is how many bytes all sockets that are counted against
	// one node may pass in a second, both directions; 0 for no limit.
	NodeBandwidth uint64

	// TotalBandwidth is how many bytes all sockets may pass in a second,
	// both directions; 0 for no limit.
	TotalBandwidth uint64
}

// Policy returns the policy that is kept, and false if there is none. The error
// wraps ErrDamaged if it cannot be read.
func (d *DB) Policy(ctx context.Context) (Policy, bool, error) {
	row, err := d.queries.GetPolicy(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Policy{}, false, nil

	case err != nil:
		return Policy{}, false, fmt.Errorf("read policy: %w",
			mapError(err))
	}

	p := Policy{
		RequestPolicy: offer.RequestPolicy{
			Any:          row.AllowAny,
			Channel:      row.AllowChannel,
			MaxHosted:    int(row.MaxHosted),
			MaxPerNode:   int(row.MaxPerNode),
			MaxLifetime:  time.Duration(row.MaxLifetime),
			MaxBandwidth: uint64(row.MaxBandwidth),
		},
		NodeBandwidth:  uint64(row.NodeBandwidth),
		TotalBandwidth: uint64(row.TotalBandwidth),
	}
	if p.Nodes, err = split(row.Nodes, parseKey); err != nil {
		return Policy{}, false, fmt.Errorf("read policy: %w", err)
	}
	if p.OpenFor, err = split(row.OpenFor, parseKey); err != nil {
		return Policy{}, false, fmt.Errorf("read policy: %w", err)
	}

	return p, true, nil
}

// SetPolicy keeps a policy in the place of any other. The error wraps
// ErrInvalid if a number of it is too large.
func (d *DB) SetPolicy(ctx context.Context, p Policy) error {
	row, err := policyRow(&p)
	if err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	err = d.write(ctx, nil, func(ctx context.Context,
		q *sqlc.Queries) error {

		return q.PutPolicy(ctx, row)
	})
	if err != nil {
		return fmt.Errorf("write policy: %w", err)
	}

	return nil
}

// ClearPolicy removes the policy, if there is one.
func (d *DB) ClearPolicy(ctx context.Context) error {
	err := d.write(ctx, nil, func(ctx context.Context,
		q *sqlc.Queries) error {

		return q.DeletePolicy(ctx)
	})
	if err != nil {
		return fmt.Errorf("remove policy: %w", err)
	}

	return nil
}

// policyRow returns a policy as it is kept.
func policyRow(p *Policy) (sqlc.PutPolicyParams, error) {
	row := sqlc.PutPolicyParams{
		AllowAny:     p.Any,
		AllowChannel: p.Channel,
		Nodes:        join(p.Nodes),
		OpenFor:      join(p.OpenFor),
		MaxHosted:    int64(p.MaxHosted),
		MaxPerNode:   int64(p.MaxPerNode),
		MaxLifetime:  int64(p.MaxLifetime),
	}

	return row, toCounts(
		count{p.MaxBandwidth, &row.MaxBandwidth, "max bandwidth"},
		count{p.NodeBandwidth, &row.NodeBandwidth, "node bandwidth"},
		count{p.TotalBandwidth, &row.TotalBandwidth, "total bandwidth"},
	)
}
