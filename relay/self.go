package relay

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// selfMaxAge is how old the list of the machine's addresses may be. Reading it
// costs several system calls, and a flood of forged packets must not buy one
// each.
const selfMaxAge = 5 * time.Second

// selfAddrs knows the addresses that lead to the relay's own ports.
type selfAddrs struct {
	// fixed holds the addresses from the configuration. It is immutable.
	fixed map[netip.Addr]struct{}

	// mu guards the following fields.
	mu sync.Mutex

	// machine holds the addresses of the machine's interfaces.
	machine map[netip.Addr]struct{}

	// readAt is when machine was read; zero if it never was.
	readAt time.Time
}

// newSelfAddrs returns the set for these configured addresses.
func newSelfAddrs(addrs ...netip.Addr) *selfAddrs {
	fixed := make(map[netip.Addr]struct{}, len(addrs))
	for _, addr := range addrs {
		fixed[plainAddr(addr)] = struct{}{}
	}

	return &selfAddrs{fixed: fixed}
}

// contains tells whether the address leads to this machine. Where that cannot
// be found out it says yes: the caller refuses such an address.
func (s *selfAddrs) contains(addr netip.Addr, now time.Time) bool {
	addr = plainAddr(addr)

	if addr.IsLoopback() {
		return true
	}

	if _, ok := s.fixed[addr]; ok {
		return true
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.readAt.IsZero() || now.Sub(s.readAt) >= selfMaxAge {
		machine, err := interfaceAddrs()
		if err != nil {
			return true
		}

		s.machine, s.readAt = machine, now
	}

	_, ok := s.machine[addr]

	return ok
}

// interfaceAddrs reads the addresses of the machine's interfaces.
func interfaceAddrs() (map[netip.Addr]struct{}, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}

	set := make(map[netip.Addr]struct{}, len(addrs))
	for _, addr := range addrs {
		prefix, ok := addr.(*net.IPNet)
		if !ok {
			continue
		}

		if ip, ok := netip.AddrFromSlice(prefix.IP); ok {
			set[plainAddr(ip)] = struct{}{}
		}
	}

	return set, nil
}

// plainAddr returns the address as it is compared here: unmapped, and without
// a zone, because the machine's own list has none.
func plainAddr(addr netip.Addr) netip.Addr {
	return addr.Unmap().WithZone("")
}
