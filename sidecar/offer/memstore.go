package offer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// MemStore is a Store in memory. It is safe for concurrent use, and has no
// bound of its own.
type MemStore struct {
	mu sync.Mutex

	// offers are the records by id, and then by peer.
	offers map[ID]map[PubKey]Offer
}

// A compile-time check that MemStore is a Store.
var _ Store = (*MemStore)(nil)

// NewMemStore returns an empty store.
func NewMemStore() *MemStore {
	return &MemStore{
		offers: make(map[ID]map[PubKey]Offer),
	}
}

// Put adds a record, or replaces the one of the same peer and id.
func (s *MemStore) Put(_ context.Context, o Offer) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.offers[o.ID] == nil {
		s.offers[o.ID] = make(map[PubKey]Offer)
	}
	s.offers[o.ID][o.Peer] = o

	return nil
}

// Delete removes a record. It is no error if there is none.
func (s *MemStore) Delete(_ context.Context, peer PubKey, id ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	delete(s.offers[id], peer)
	if len(s.offers[id]) == 0 {
		delete(s.offers, id)
	}

	return nil
}

// Get returns the record of a peer and id, or ErrNotFound.
func (s *MemStore) Get(_ context.Context, peer PubKey, id ID) (Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	o, ok := s.offers[id][peer]
	if !ok {
		return Offer{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}

	return o, nil
}

// Find returns the records of an id, whoever the peer is.
func (s *MemStore) Find(_ context.Context, id ID) ([]Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.Collect(maps.Values(s.offers[id])), nil
}

// List returns all records, in no order.
func (s *MemStore) List(_ context.Context) ([]Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	var offers []Offer
	for _, byPeer := range s.offers {
		offers = slices.AppendSeq(offers, maps.Values(byPeer))
	}

	return offers, nil
}
