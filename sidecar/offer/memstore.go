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

	// records are by id, and then by peer.
	records map[ID]map[PubKey]Record
}

// A compile-time check that MemStore is a Store.
var _ Store = (*MemStore)(nil)

// NewMemStore returns an empty store.
func NewMemStore() *MemStore {
	return &MemStore{
		records: make(map[ID]map[PubKey]Record),
	}
}

// Put adds a record, or replaces the one of the same peer and id.
func (s *MemStore) Put(_ context.Context, r Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.records[r.ID] == nil {
		s.records[r.ID] = make(map[PubKey]Record)
	}
	s.records[r.ID][r.Peer] = r

	return nil
}

// Delete removes a record. It is no error if there is none.
func (s *MemStore) Delete(_ context.Context, peer PubKey, id ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	delete(s.records[id], peer)
	if len(s.records[id]) == 0 {
		delete(s.records, id)
	}

	return nil
}

// Get returns the record of a peer and id, or ErrNotFound.
func (s *MemStore) Get(_ context.Context, peer PubKey, id ID) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	r, ok := s.records[id][peer]
	if !ok {
		return Record{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}

	return r, nil
}

// Find returns the records of an id, whoever the peer is.
func (s *MemStore) Find(_ context.Context, id ID) ([]Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.Collect(maps.Values(s.records[id])), nil
}

// List returns all records, in no order.
func (s *MemStore) List(_ context.Context) ([]Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	var records []Record
	for _, byPeer := range s.records {
		records = slices.AppendSeq(records, maps.Values(byPeer))
	}

	return records, nil
}
