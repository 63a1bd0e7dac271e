package offer

import (
	"context"
	"fmt"
	"slices"
)

// Live returns the offers of a socket of ours that have not ended, oldest
// first. Unlike OfSocket it ends none whose time has just come: nothing
// changes, and no event is passed on, so that Notify may wait for who calls it.
func (m *Manager) Live(ctx context.Context, socketID ID) ([]Offer, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	records, err := m.liveRecords(ctx, socketID)
	if err != nil {
		return nil, err
	}

	offers := make([]Offer, 0, len(records))
	for _, r := range records {
		offers = append(offers, r.Offer)
	}

	return offers, nil
}

// liveRecords returns the records of the offers of a socket of ours that have
// not ended, oldest first. The caller holds mu.
func (m *Manager) liveRecords(ctx context.Context,
	socketID ID) ([]Record, error) {

	live := make([]Record, 0, len(m.tally.live[socketID]))
	for key := range m.tally.live[socketID] {
		r, err := m.deps.Store.Get(ctx, key.peer, key.id)
		if err != nil {
			return nil, fmt.Errorf("get offer: %w", err)
		}
		live = append(live, r)
	}
	slices.SortFunc(live, func(a, b Record) int {
		return compareOffers(a.Offer, b.Offer)
	})

	return live, nil
}
