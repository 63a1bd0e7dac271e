package offer

// SetRequestPolicy tells whose requests are met from now on, and how many
// sockets of ours a node may have.
func (m *Manager) SetRequestPolicy(p RequestPolicy) {
	p = p.Clone()

	m.mu.Lock()
	defer m.mu.Unlock()

	m.requests = p
}

// RequestPolicy returns whose requests are met now.
func (m *Manager) RequestPolicy() RequestPolicy {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.requests.Clone()
}

// RequestsRefused returns how many requests were refused, by reason: none,
// channel, list, open, node, hosted, lifetime, bandwidth and limit.
func (m *Manager) RequestsRefused() map[string]uint64 {
	return m.requestsRefused.snapshot()
}

// NumHosted returns how many sockets are hosted on requests, those that are
// about to be opened included. Before the store was read that is none.
func (m *Manager) NumHosted() int {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.tally.hosted
}
