package relay

import "golang.org/x/sys/cpu"

// account is what the sockets of one user of the relay are counted against
// together. Who a user is, is its caller's business. The relay's lock guards
// it.
type account struct {
	// share bounds what passes through all of its sockets; nil if nothing
	// does.
	share *share

	// sockets is how many sockets are counted.
	sockets int
}

// Charge counts the socket against an account from now on, and against no other
// any more. All sockets of an account together may pass
// Config.AccountBandwidth. An empty name is no account.
func (s *Socket) Charge(name string) {
	r := s.relay

	r.mu.Lock()
	defer r.mu.Unlock()

	if s.account == name || r.sockets[s.id] != s {
		return
	}

	var in *share
	if name != "" {
		in = r.openAccount(name).share
	}

	r.closeAccount(s.account)
	s.account = name
	s.charged.Store(in.seat())
}

// openAccount returns an account, and counts one more socket there. The
// relay's lock is held.
func (r *Relay) openAccount(name string) *account {
	a := r.accounts[name]
	if a == nil {
		a = &account{share: newShare(r.accountBandwidth)}
		r.accounts[name] = a
	}
	a.sockets++

	return a
}

// closeAccount counts one socket less in an account. The relay's lock is held.
func (r *Relay) closeAccount(name string) {
	a := r.accounts[name]
	if a == nil {
		return
	}

	a.sockets--
	if a.sockets == 0 {
		delete(r.accounts, name)
	}
}

// SetBandwidth changes, in bytes of payload per second, how much all sockets
// together may pass, which is Config.Bandwidth, and how much the sockets of
// each account may, which is Config.AccountBandwidth. 0 means no limit. It
// holds from now on, for the sockets that are open too, and what is owed to a
// limit that changes is forgotten: whoever waited for it waits no longer. A
// limit that is set to what it was stays as it is.
func (r *Relay) SetBandwidth(total, account uint64) {
	r.mu.Lock()
	isNew := r.setTotal(total)
	isNew = r.setAccounts(account) || isNew
	r.mu.Unlock()

	if isNew {
		r.plane.hurry()
	}
}

// setTotal changes what all sockets may pass, and reports whether it was
// something else before. The relay's lock is held.
func (r *Relay) setTotal(bandwidth uint64) bool {
	if r.bandwidth == bandwidth {
		return false
	}

	r.bandwidth = bandwidth
	r.share = newShare(bandwidth)
	for _, s := range r.sockets {
		s.sit(r.share)
	}

	return true
}

// setAccounts changes what the sockets of each account may pass, and reports
// whether it was something else before. The relay's lock is held.
func (r *Relay) setAccounts(bandwidth uint64) bool {
	if r.accountBandwidth == bandwidth {
		return false
	}

	r.accountBandwidth = bandwidth
	for _, a := range r.accounts {
		a.share = newShare(bandwidth)
	}
	for _, s := range r.sockets {
		if a := r.accounts[s.account]; a != nil {
			s.charged.Store(a.share.seat())
		}
	}

	return true
}

// sit counts the socket in the share of all sockets, unless it is counted there
// already. The relay's lock is held.
func (s *Socket) sit(in *share) {
	if s.seated.Load().in() != in {
		s.seated.Store(in.seat())
	}
}

// seat is where the legs of a socket are counted in a share. When the share
// gets another rate there is another share, and every socket gets another seat:
// what is owed at one rate says nothing at another.
type seat struct {
	// members holds leg 1 and leg 2.
	members [2]member

	// Others are counted elsewhere at the same time.
	_ cpu.CacheLinePad
}

// seat returns a new seat in the share; nil for no share.
func (s *share) seat() *seat {
	if s == nil {
		return nil
	}

	to := &seat{}
	for i := range to.members {
		to.members[i].share = s
	}

	return to
}

// in returns the share that the seat is in; nil for no seat.
func (s *seat) in() *share {
	if s == nil {
		return nil
	}

	return s.members[0].share
}

// member returns where a leg is counted; nil for no seat.
func (s *seat) member(num Leg) *member {
	if s == nil {
		return nil
	}

	return &s.members[num-Leg1]
}
