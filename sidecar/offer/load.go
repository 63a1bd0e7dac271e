package offer

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// reasonNoSocket is why the offers of a socket end that is not there any more
// when we start.
const reasonNoSocket = "the socket is gone"

// load takes up what is in the store: what is remembered is counted again, what
// is due has its timer, what was to be delivered is sent again, and who was let
// into a leg is let in again. What happened while we did not run is due at
// once. Closes that came before their offers are not kept.
func (m *Manager) load(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	records, err := m.deps.Store.List(ctx)
	if err != nil {
		return fmt.Errorf("list offers: %w", err)
	}
	msgs, err := m.deps.Store.Messages(ctx)
	if err != nil {
		return fmt.Errorf("list messages: %w", err)
	}
	slices.SortFunc(records, func(a, b Record) int {
		return compareOffers(a.Offer, b.Offer)
	})

	for _, r := range records {
		m.tally.add(r.Offer)
		if r.Ended() {
			m.setTimer(r.key(), r.forgetAt())
		} else {
			m.setTimer(r.key(), r.ExpiresAt)
		}
	}

	now := time.Now()
	for _, msg := range msgs {
		m.outbox.restore(&delivery{Message: msg}, now)
	}

	for _, r := range records {
		if err := m.resume(ctx, r); err != nil {
			return err
		}
	}
	close(m.loaded)

	return nil
}

// resume goes on with what was begun about an offer when we were stopped. The
// caller holds mu.
func (m *Manager) resume(ctx context.Context, r Record) error {
	switch {
	// It was its end that something was to follow from.
	case r.Ended():
		m.follow(ctx, r.Offer)

	case r.isAsked():
		m.hosting.add(hostJob{key: r.key()})

	case r.IsOwn():
		return m.regrant(ctx, r)
	}

	return nil
}

// regrant opens the legs of an offer of ours again that has not ended. If that
// fails the offer ends: its socket did not survive. The caller holds mu.
func (m *Manager) regrant(ctx context.Context, r Record) error {
	err := m.openLegs(r)
	if err == nil {
		return nil
	}
	m.deps.Logger.Info("Offer ends with its socket", "id", r.ID, "peer",
		r.Peer, "err", err)

	_, _, err = m.apply(ctx, r, change{
		trigger: triggerStop,
		reason:  reasonNoSocket,
	})

	return err
}

// ready waits until the store was read.
func (m *Manager) ready(ctx context.Context) error {
	if isClosed(m.loaded) {
		return nil
	}

	select {
	case <-m.loaded:
		return nil

	case <-m.stopped:
		return ErrStopped

	case <-ctx.Done():
		return ctx.Err()
	}
}

// isClosed tells whether a channel that nothing is sent on is closed.
func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true

	default:
		return false
	}
}
