package sidecar

import (
	"context"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/sidecar/store"
)

const (
	// pruneInterval is how often what is over for long is removed.
	pruneInterval = time.Minute

	// maxEvents and maxHistory are how many events, and how many offers
	// that were forgotten, are kept at most, however young they are: other
	// nodes cause them. They make some 200 MB.
	maxEvents  = 250_000
	maxHistory = 50_000
)

// pruner removes from the database what is over for long.
type pruner struct {
	db       *store.DB
	history  time.Duration
	interval time.Duration
	log      btclog.Logger
}

// Run removes again and again until ctx is done.
func (p *pruner) Run(ctx context.Context) error {
	for sleep(ctx, p.interval) {
		if err := p.prune(ctx); err != nil && ctx.Err() == nil {
			p.log.Errorf("Database failed: %v", err)
		}
	}

	return nil
}

// prune removes all that is not to be kept, a little at a time.
func (p *pruner) prune(ctx context.Context) error {
	keep := store.Keep{
		Since:  time.Now().Add(-p.history),
		Events: maxEvents,
		Offers: maxHistory,
	}
	for {
		more, err := p.db.Prune(ctx, keep)
		if err != nil || !more {
			return err
		}
	}
}
