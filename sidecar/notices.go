package sidecar

import (
	"slices"
	"sync"

	"github.com/btcsuite/btclog/v2"
)

// notices are what the operator should look at. They come while the daemon
// starts, which may take as long as lnd is away.
type notices struct {
	// log is immutable.
	log btclog.Logger

	// mu guards what follows.
	mu   sync.Mutex
	list []string
}

// add adds notices, and logs them.
func (n *notices) add(texts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()

	for _, text := range texts {
		n.log.Warn(text)
	}
	n.list = append(n.list, texts...)
}

// get returns all of them.
func (n *notices) get() []string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return slices.Clone(n.list)
}
