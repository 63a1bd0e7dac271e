package offer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/socketd/socketd/sidecar/wire"
)

// The reasons with which the other half of a deal between three ends.
const (
	reasonHost     = "the host ended it"
	reasonPassedOn = "the node that it was passed on to ended it"
)

// follow has done what follows from the end of an offer or request: a socket
// that was opened on a request ends with its offer, an offer that was passed on
// with the host's, and the host's with the one that passed it on, as nobody
// else can take the leg from whoever has its token. What fails is done again
// later. The caller holds mu.
func (m *Manager) follow(ctx context.Context, o Offer) {
	switch {
	case o.isHosted(), o.isAsked() && o.State != StateAccepted:
		m.endSocket(o)

	case o.IsRequest:

	case o.Direction == Incoming:
		m.followed(o, m.endChildren(ctx, o))

	case !o.Parent.IsZero():
		m.followed(o, m.endParent(ctx, o))
	}
}

// followed has it done again what failed. The caller holds mu.
func (m *Manager) followed(o Offer, err error) {
	if err == nil {
		return
	}
	m.storeFailed(err)
	m.setTimer(o.key(), time.Now().Add(storeRetry))
}

// endChildren ends the offers that pass on a leg of one that has ended. The
// caller holds mu.
func (m *Manager) endChildren(ctx context.Context, o Offer) error {
	reason := reasonHost
	if o.Reason != "" {
		reason = wire.CleanText(reason + ": " + o.Reason)
	}

	var errs []error
	for key := range m.tally.children[o.key()] {
		child, err := m.deps.Store.Get(ctx, key.peer, key.id)
		if err == nil {
			_, _, err = m.apply(ctx, child, change{
				trigger: triggerStop,
				reason:  reason,
			})
		}
		errs = append(errs, err)
	}

	return errors.Join(errs...)
}

// endParent ends the host's offer of which one that has ended passed on a leg.
// The caller holds mu.
func (m *Manager) endParent(ctx context.Context, o Offer) error {
	parent, ok, err := m.get(ctx, o.parentKey(), Incoming)
	if err != nil {
		return fmt.Errorf("get the host's offer: %w", err)
	}
	if !ok || parent.State != StateAccepted {
		return nil
	}
	_, _, err = m.apply(ctx, parent, change{
		trigger: triggerWithdraw,
		reason:  reasonPassedOn,
	})

	return err
}
