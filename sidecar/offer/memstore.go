package offer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// MemStore is a Store in memory. It is safe for concurrent use, has no bound of
// its own, and keeps nothing to look back on.
type MemStore struct {
	mu sync.Mutex

	// records are by id, and then by peer.
	records map[ID]map[PubKey]Record

	// messages are by their own id.
	messages map[ID]Message
}

// A compile-time check that MemStore is a Store.
var _ Store = (*MemStore)(nil)

// NewMemStore returns an empty store.
func NewMemStore() *MemStore {
	return &MemStore{
		records:  make(map[ID]map[PubKey]Record),
		messages: make(map[ID]Message),
	}
}

// Write writes a batch. It never fails.
func (s *MemStore) Write(_ context.Context, b Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, r := range b.Put {
		if s.records[r.ID] == nil {
			s.records[r.ID] = make(map[PubKey]Record)
		}
		s.records[r.ID][r.Peer] = r
	}
	for _, o := range slices.Concat(b.Forget, b.Drop) {
		delete(s.records[o.ID], o.Peer)
		if len(s.records[o.ID]) == 0 {
			delete(s.records, o.ID)
		}
	}
	for _, o := range slices.Concat(b.Forget, b.Drop, b.Silence) {
		maps.DeleteFunc(s.messages, func(_ ID, msg Message) bool {
			return msg.key() == o.key()
		})
	}
	for _, msg := range b.Remove {
		delete(s.messages, msg.ID)
	}
	for _, msg := range b.Add {
		s.messages[msg.ID] = msg
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

// Messages returns all messages that are to be delivered, in no order.
func (s *MemStore) Messages(_ context.Context) ([]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.Collect(maps.Values(s.messages)), nil
}
