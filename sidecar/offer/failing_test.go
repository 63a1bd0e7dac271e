package offer

import (
	"context"
	"errors"
	"sync"
)

// errStore is what a store fails with.
var errStore = errors.New("disk is full")

// failingStore is a store whose methods can be made to fail.
type failingStore struct {
	Store

	mu sync.Mutex

	// fail has the methods that fail, with how often they succeed before.
	fail map[string]int
}

// newFailingStore returns a store that does not fail yet.
func newFailingStore() *failingStore {
	return &failingStore{Store: NewMemStore(), fail: make(map[string]int)}
}

// set sets which methods fail.
func (s *failingStore) set(methods ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	clear(s.fail)
	for _, method := range methods {
		s.fail[method] = 0
	}
}

// setAfter has a method fail after it has succeeded some times.
func (s *failingStore) setAfter(method string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.fail[method] = times
}

// err returns what a method fails with, or nil. Like a database it does not
// work for who has given up.
func (s *failingStore) err(ctx context.Context, method string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	left, ok := s.fail[method]
	if ok && left == 0 {
		return errStore
	}
	if ok {
		s.fail[method]--
	}

	return nil
}

// Write implements Store. It counts as Put if it puts a record, as Delete if it
// takes one away, and as Remove if it only ends messages.
func (s *failingStore) Write(ctx context.Context, b Batch) error {
	method := "Put"
	switch {
	case len(b.Put) > 0:

	case len(b.Forget) > 0, len(b.Drop) > 0:
		method = "Delete"

	case len(b.Add) == 0:
		method = "Remove"
	}
	if err := s.err(ctx, method); err != nil {
		return err
	}

	return s.Store.Write(ctx, b)
}

// Get implements Store.
func (s *failingStore) Get(ctx context.Context, peer PubKey,
	id ID) (Record, error) {

	if err := s.err(ctx, "Get"); err != nil {
		return Record{}, err
	}

	return s.Store.Get(ctx, peer, id)
}

// Find implements Store.
func (s *failingStore) Find(ctx context.Context, id ID) ([]Record, error) {
	if err := s.err(ctx, "Find"); err != nil {
		return nil, err
	}

	return s.Store.Find(ctx, id)
}

// List implements Store.
func (s *failingStore) List(ctx context.Context) ([]Record, error) {
	if err := s.err(ctx, "List"); err != nil {
		return nil, err
	}

	return s.Store.List(ctx)
}

// Messages implements Store.
func (s *failingStore) Messages(ctx context.Context) ([]Message, error) {
	if err := s.err(ctx, "Messages"); err != nil {
		return nil, err
	}

	return s.Store.Messages(ctx)
}
