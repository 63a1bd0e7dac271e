package client_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// childEnv names the test that a child process runs.
const childEnv = "CLIENT_TEST_CHILD"

// inNetwork tells whether this is the child process of the test, which has a
// network of its own. If not it runs one.
func inNetwork(t *testing.T) bool {
	t.Helper()

	if os.Getenv(childEnv) == t.Name() {
		return true
	}

	ctx, cancel := context.WithTimeout(context.Background(), 4*limit)
	defer cancel()

	// Anybody may make namespaces in a user namespace of his own, unless
	// the machine forbids that. The true root needs none.
	attrs := []*syscall.SysProcAttr{{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
	}, {
		Cloneflags: unix.CLONE_NEWNET,
	}}

	var refused error
	for _, attr := range attrs {
		var out strings.Builder
		child := exec.CommandContext(
			ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v",
		)
		child.Env = append(os.Environ(), childEnv+"="+t.Name())
		child.SysProcAttr = attr
		child.Stdout, child.Stderr = &out, &out

		if err := child.Start(); err != nil {
			refused = errors.Join(refused, err)

			continue
		}

		require.NoError(t, child.Wait(), out.String())
		require.Contains(t, out.String(), "--- PASS: "+t.Name())

		return false
	}

	require.NoError(t, refused, "this test needs a network namespace: "+
		"allow user namespaces, or run it as root")

	return false
}

// machine is the network of the child process: a machine that has the leg's
// address, and one address that it sends to it from, which changes.
type machine struct {
	t    *testing.T
	link netlink.Link
	leg  *netlink.Addr
	own  *netlink.Addr
}

// newMachine returns the machine without an address that it sends from.
func newMachine(t *testing.T, leg netip.Addr) *machine {
	t.Helper()

	link, err := netlink.LinkByName("lo")
	require.NoError(t, err)
	require.NoError(t, netlink.LinkSetUp(link))

	m := &machine{t: t, link: link, leg: hostAddr(leg)}
	require.NoError(t, netlink.AddrAdd(link, m.leg))

	return m
}

// hostAddr returns an address that is a network of its own.
func hostAddr(ip netip.Addr) *netlink.Addr {
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen()),
	}}
	if ip.Is6() {
		// Nobody else has it; do not ask.
		addr.Flags = unix.IFA_F_NODAD
	}

	return addr
}

// leave takes the address away that the machine sends from, and the way to the
// leg.
func (m *machine) leave() {
	m.t.Helper()

	nowhere := m.route(unix.RTN_UNREACHABLE)
	require.NoError(m.t, netlink.RouteReplace(nowhere))
	require.NoError(m.t, netlink.AddrDel(m.link, m.own))
}

// arrive gives the machine an address to send from.
func (m *machine) arrive(ip netip.Addr) {
	m.t.Helper()

	m.own = hostAddr(ip)
	require.NoError(m.t, netlink.AddrAdd(m.link, m.own))

	route := m.route(unix.RTN_LOCAL)
	route.LinkIndex = m.link.Attrs().Index
	route.Src = ip.AsSlice()
	require.NoError(m.t, netlink.RouteReplace(route))
}

// route returns a route to the leg.
func (m *machine) route(kind int) *netlink.Route {
	return &netlink.Route{
		Table: unix.RT_TABLE_LOCAL, Type: kind, Dst: m.leg.IPNet,
		Scope: unix.RT_SCOPE_HOST,
	}
}

// TestAddressChange takes the address of the machine away, and with it the way
// to the leg. The program notices nothing but that datagrams are lost; once
// there is another address the client goes on from that, long before its
// keep-alive.
func TestAddressChange(t *testing.T) {
	t.Parallel()

	if !inNetwork(t) {
		return
	}

	ips := []netip.Addr{
		netip.MustParseAddr("10.78.0.2"),
		netip.MustParseAddr("10.78.0.3"),
		netip.MustParseAddr("10.78.0.4"),
	}

	leg := netip.MustParseAddr("10.78.0.1")
	m := newMachine(t, leg)
	m.arrive(ips[0])

	l := newLeg(t, leg)
	conn := dial(t, l.config())
	require.Equal(t, ips[0], conn.Observed().Addr())
	exchange(t, l, conn)

	for _, ip := range ips[1:] {
		m.leave()

		// It tries, and does not find a way.
		for range 100 {
			write(t, conn, []byte("lost"))
		}
		m.arrive(ip)

		l.awaitClient(conn, ip)
		require.Equal(t, ip, conn.Observed().Addr())
		require.Equal(t, ip, localAddr(conn).Addr())
		exchange(t, l, conn)
	}
}
