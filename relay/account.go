package relay

import (
	"errors"
	"fmt"

	"golang.org/x/sys/cpu"
)

// ErrAccount means that an account has as many sockets as it may have.
var ErrAccount = errors.New("too many sockets of one account")

// account is what the sockets of one user of the relay are counted against
// together. Who a user is, is its caller's business.
type account struct {
	// share bounds what passes through all of its sockets. It is
	// immutable.
	share *share

	// sockets is how many sockets are counted. The relay's lock guards it.
	sockets int
}

// Charge counts the socket against an account from now on, and against no other
// any more. All sockets of an account together may be Config.AccountSockets,
// and pass Config.AccountBandwidth. An empty name is no account. The error is
// ErrAccount, and then the socket is counted as before.
func (s *Socket) Charge(name string) error {
	r := s.relay

	r.mu.Lock()
	defer r.mu.Unlock()

	if s.account == name || r.sockets[s.id] != s {
		return nil
	}

	var to *account
	if name != "" {
		var err error
		if to, err = r.openAccount(name); err != nil {
			return err
		}
	}

	r.closeAccount(s.account)
	s.account = name
	s.charged.Store(to.seat())

	return nil
}

// openAccount returns an account, and counts one more socket there. The
// relay's lock is held.
func (r *Relay) openAccount(name string) (*account, error) {
	a := r.accounts[name]
	if a == nil {
		a = &account{share: newShare(r.cfg.AccountBandwidth)}
	}

	if limit := r.cfg.AccountSockets; limit > 0 && a.sockets >= limit {
		return nil, fmt.Errorf("%w: it has %d", ErrAccount, limit)
	}

	a.sockets++
	r.accounts[name] = a

	return a, nil
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

// seat is where the legs of a socket are counted in the share of an account.
type seat struct {
	// members holds leg 1 and leg 2.
	members [2]member

	// Others are counted elsewhere at the same time.
	_ cpu.CacheLinePad
}

// seat returns a new seat in the account; nil for no account or one whose
// bandwidth has no limit.
func (a *account) seat() *seat {
	if a == nil || a.share == nil {
		return nil
	}

	to := &seat{}
	for i := range to.members {
		to.members[i].share = a.share
	}

	return to
}

// member returns where a leg is counted; nil for no seat.
func (s *seat) member(num Leg) *member {
	if s == nil {
		return nil
	}

	return &s.members[num-Leg1]
}
