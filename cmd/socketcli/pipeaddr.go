package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	relay "github.com/socketd/socketd/relay/client"
	"github.com/socketd/socketd/relay/globalip"
	"github.com/socketd/socketd/socketrpc"
)

const (
	// lowestPort is the lowest port that an offer may name: no offer is to
	// lead to what else runs on a machine.
	lowestPort = 1024

	// maxTries is how many addresses of an offer are tried: no offer is to
	// make this machine call on many others.
	maxTries = 3
)

// allIPs returns the addresses of a host: those of a list, or the only one that
// a socketd tells which has no lists.
func allIPs(list []string, only string) []string {
	if len(list) > 0 {
		return list
	}

	return []string{only}
}

// joinHostPort returns an address and a port in one.
func joinHostPort(ip, port string) string {
	if strings.Contains(ip, ":") {
		ip = "[" + ip + "]"
	}

	return ip + ":" + port
}

// offeredAddrs returns which of the addresses that an offer names are tried, in
// their order. Those that no other node may lead this machine to are left out,
// also those in networks of its own, unless the user allows them. It is an
// error if none is left.
func offeredAddrs(match *pipeMatch, named []netip.AddrPort,
	own []netip.Prefix, allowPrivate bool) ([]netip.AddrPort, error) {

	good := make([]netip.AddrPort, 0, len(named))
	for _, addr := range named {
		if allowPrivate || isPublic(addr, own) {
			good = addOnce(good, addr)
		}
	}
	if len(good) > 0 {
		return firstTries(good), nil
	}

	texts := make([]string, 0, len(named))
	for _, addr := range named {
		texts = append(texts, addr.String())
	}
	which := "which is no"
	if len(named) > 1 {
		which = "none of which is a"
	}

	return nil, fmt.Errorf("%v names %s, %s public address outside of "+
		"this machine's networks with a port of %d or more; --%s uses "+
		"it all the same", match, strings.Join(texts, ", "), which,
		lowestPort, allowPrivateFlag)
}

// addOnce adds an address that is not there yet.
func addOnce(addrs []netip.AddrPort, addr netip.AddrPort) []netip.AddrPort {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if slices.Contains(addrs, addr) {
		return addrs
	}

	return append(addrs, addr)
}

// firstTries returns the addresses that are tried, in their order.
func firstTries(addrs []netip.AddrPort) []netip.AddrPort {
	addrs = relay.Interleave(addrs)

	return addrs[:min(len(addrs), maxTries)]
}

// isPublic tells whether an address is one that another node may lead this
// machine to: a place in the internet, neither this machine itself nor another
// one in the networks that it is in.
func isPublic(addr netip.AddrPort, own []netip.Prefix) bool {
	ip := addr.Addr()

	return globalip.Is(ip) && addr.Port() >= lowestPort &&
		!slices.ContainsFunc(own, func(network netip.Prefix) bool {
			return network.Contains(ip)
		})
}

// ownNetworks returns the networks that are this machine's own: those that it
// is in, and the address at which others reach the node.
func (c *client) ownNetworks(ctx context.Context) ([]netip.Prefix, error) {
	own, err := attachedNetworks()
	if err != nil {
		return nil, err
	}
	info, err := c.GetInfo(ctx, &socketrpc.GetInfoRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask for this node's own address: %w",
			err)
	}

	addr, err := netip.ParseAddr(info.GetExternalIp())
	if err == nil {
		own = append(own, netip.PrefixFrom(addr, addr.BitLen()))
	}

	return own, nil
}

// attachedNetworks returns the networks that this machine's interfaces are in.
// Public addresses there may be those of other machines of its owner's, behind
// the same firewall.
func attachedNetworks() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read the addresses of this machine: %w",
			err)
	}

	var networks []netip.Prefix
	for _, addr := range addrs {
		network, err := netip.ParsePrefix(addr.String())
		if err == nil {
			networks = append(networks, network.Masked())
		}
	}

	return networks, nil
}
