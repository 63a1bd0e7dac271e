package sidecar

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/socketd/socketd/relay/globalip"
)

// errNoExternalIP is returned where the local addresses would be the only ones.
var errNoExternalIP = errors.New("relay.offerlocal: the local addresses are " +
	"offered behind those of relay.externalip, which is not set")

// virtualNames are how the names of interfaces begin that lead to containers
// and virtual machines on this machine, and nowhere else.
var virtualNames = []string{
	"br-", "cali", "cni", "docker", "flannel", "incusbr", "lxcbr", "lxdbr",
	"podman", "vboxnet", "veth", "virbr", "vmnet",
}

// netInterface is one of the machine's interfaces.
type netInterface struct {
	name  string
	flags net.Flags

	// addrs are its addresses, without zones.
	addrs []netip.Addr
}

// readInterfaces reads the machine's interfaces.
func readInterfaces() ([]netInterface, error) {
	found, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("read the interfaces of this "+
			"machine: %w", err)
	}

	interfaces := make([]netInterface, 0, len(found))
	for i := range found {
		addrs, err := found[i].Addrs()
		if err != nil {
			// It went away a moment ago.
			continue
		}

		one := netInterface{name: found[i].Name, flags: found[i].Flags}
		for _, addr := range addrs {
			prefix, err := netip.ParsePrefix(addr.String())
			if err == nil {
				one.addrs = append(
					one.addrs, prefix.Addr().Unmap(),
				)
			}
		}
		interfaces = append(interfaces, one)
	}

	return interfaces, nil
}

// isLAN tells whether other machines may be behind an interface: it is up, and
// neither a tunnel nor one that leads to containers.
func (i *netInterface) isLAN() bool {
	return i.flags&net.FlagUp != 0 &&
		i.flags&(net.FlagLoopback|net.FlagPointToPoint) == 0 &&
		!slices.ContainsFunc(virtualNames, func(name string) bool {
			return strings.HasPrefix(i.name, name)
		})
}

// lanAddrs returns the addresses, without those of a link, at which other
// machines that are near may reach this one, each once.
func lanAddrs(interfaces []netInterface) []netip.Addr {
	var addrs []netip.Addr
	for i := range interfaces {
		if !interfaces[i].isLAN() {
			continue
		}
		for _, addr := range interfaces[i].addrs {
			if addr.IsGlobalUnicast() &&
				!slices.Contains(addrs, addr) {

				addrs = append(addrs, addr)
			}
		}
	}

	return addrs
}

// isOwn tells whether one of the interfaces has an address.
func isOwn(interfaces []netInterface, addr netip.Addr) bool {
	return slices.ContainsFunc(interfaces, func(i netInterface) bool {
		return slices.Contains(i.addrs, addr)
	})
}

// readLocal fills in the private addresses of this machine's interfaces, if
// they are to be offered.
func (r *RelayConfig) readLocal() error {
	if !r.OfferLocal {
		return nil
	}

	interfaces, err := readInterfaces()
	if err != nil {
		return fmt.Errorf("relay.offerlocal: %w", err)
	}
	r.setLocal(interfaces)

	return nil
}

// setLocal is readLocal for the interfaces that there are.
func (r *RelayConfig) setLocal(interfaces []netInterface) {
	r.localAddrs = slices.DeleteFunc(
		lanAddrs(interfaces), func(addr netip.Addr) bool {
			return !addr.IsPrivate()
		},
	)
}

// offeredAddrs returns the addresses that clients and far ends are told: the
// external ones, and behind them the local ones, as many as an offer carries.
func (r *RelayConfig) offeredAddrs() ([]netip.Addr, error) {
	addrs, err := r.externalAddrs()
	if err != nil {
		return nil, err
	}

	for _, addr := range r.localAddrs {
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}

	return addrs[:min(len(addrs), maxExternalAddrs)], nil
}

// reach knows how it looks whether somebody from outside reaches this machine
// at its external addresses.
type reach struct {
	// What follows is immutable.
	network  string
	external []netip.Addr
	ports    string

	// seen4 and seen6 tell whether a client from outside has come since the
	// daemon started, by IPv4 and by IPv6.
	seen4, seen6 atomic.Bool
}

// addresses returns the addresses that are offered, and what is known at the
// start of whether they are reached.
func (c *Config) addresses() ([]netip.Addr, *reach, error) {
	external, err := c.Relay.externalAddrs()
	if err != nil {
		return nil, nil, err
	}
	offered, err := c.Relay.offeredAddrs()
	if err != nil {
		return nil, nil, err
	}

	return offered, &reach{
		network:  c.Network,
		external: external,
		ports:    c.Relay.Ports,
	}, nil
}

// seen returns what tells of clients that come by the protocol of an address.
func (r *reach) seen(addr netip.Addr) *atomic.Bool {
	if addr.Is4() {
		return &r.seen4
	}

	return &r.seen6
}

// pinned is told the address of every client that a leg takes.
func (r *reach) pinned(client netip.AddrPort) {
	addr := client.Addr().Unmap()
	if !globalip.Is(addr) || r.seen(addr).Load() {
		return
	}

	// As long as it is not known whose it is it proves nothing.
	interfaces, err := readInterfaces()
	if err == nil {
		r.pinnedBeside(interfaces, addr)
	}
}

// pinnedBeside is pinned for the interfaces that there are. A client from the
// internet that is not this machine itself, of which a router may say that it
// came from outside, proves that the way is open.
func (r *reach) pinnedBeside(interfaces []netInterface, addr netip.Addr) {
	if globalip.Is(addr) && !slices.Contains(r.external, addr) &&
		!isOwn(interfaces, addr) {

		r.seen(addr).Store(true)
	}
}

// warnings returns what the operator should look at now.
func (r *reach) warnings() []string {
	interfaces, err := readInterfaces()
	if err != nil {
		return []string{err.Error()}
	}

	return r.judge(interfaces)
}

// judge is warnings for the interfaces that there are.
func (r *reach) judge(interfaces []netInterface) []string {
	var warnings []string
	for _, addr := range r.external {
		switch {
		case !globalip.Is(addr) && !isPrivateNetwork(r.network):
			warnings = append(warnings, fmt.Sprintf("relay."+
				"externalip=%v is not a public address: "+
				"nobody outside of its own network can "+
				"reach this host's sockets there", addr))

		case isOwn(interfaces, addr) || r.seen(addr).Load():

		default:
			warnings = append(warnings, fmt.Sprintf("relay."+
				"externalip=%v is no address of this "+
				"machine, so that a router has to forward "+
				"UDP and TCP %s to %s; no client from outside "+
				"has come yet to show that it does", addr,
				r.ports, nearAddrs(interfaces, addr)))
		}
	}

	return warnings
}

// nearAddrs names the addresses of this machine, of the family of another one,
// that a router nearby can forward to.
func nearAddrs(interfaces []netInterface, family netip.Addr) string {
	var names []string
	for _, addr := range lanAddrs(interfaces) {
		if addr.Is4() == family.Is4() {
			names = append(names, addr.String())
		}
	}
	if len(names) == 0 {
		return "this machine"
	}

	return strings.Join(names, " or ")
}

// isPrivateNetwork tells whether all nodes of a network are on this machine, or
// near it.
func isPrivateNetwork(network string) bool {
	return network == "regtest" || network == "simnet"
}
