package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The relay's addresses in a network of the test's own.
var (
	relay4 = netip.MustParseAddr("10.77.0.1")
	relay6 = netip.MustParseAddr("fd77::1")
)

// inNetwork is inChild with a network of its own for the child process, in
// which it may do anything.
func inNetwork(t *testing.T) bool {
	t.Helper()

	if os.Getenv(childEnv) == t.Name() {
		return true
	}

	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	ctx, cancel := context.WithTimeout(context.Background(), 4*limit)
	defer cancel()

	// Anybody may make namespaces in a user namespace of his own, unless
	// the machine forbids that. The true root needs none. To map user ids
	// would make package syscall leave files open where it is forbidden.
	attrs := []*syscall.SysProcAttr{{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN},
	}, {
		Cloneflags: unix.CLONE_NEWNET,
	}}

	var refused error
	for _, attr := range attrs {
		var out strings.Builder
		child := exec.CommandContext(
			ctx, os.Args[0], "-test.run="+pattern, "-test.v",
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

// space is a network namespace beside the relay's.
type space struct {
	file *os.File
}

// newSpace makes a network namespace that ends with the test.
func newSpace(t *testing.T) *space {
	t.Helper()

	s := &space{}
	err := onThread(func() error {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}

		s.file, err = os.Open("/proc/thread-self/ns/net")

		return err
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.file.Close())
	})

	return s
}

// do calls f on a thread in the namespace. Sockets that f opens stay there. The
// nil space is the one of the process.
func (s *space) do(f func() error) error {
	if s == nil {
		return f()
	}

	return onThread(func() error {
		err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET)
		if err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}

		return f()
	})
}

// onThread calls f on a thread that nobody uses afterwards.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine that holds it.
		runtime.LockOSThread()
		done <- f()
	}()

	return <-done
}

// network is a relay's machine in the middle, and a machine for the client of
// each leg. The way to either is a pair of devices of its own.
type network struct {
	// spaces are where the clients are.
	spaces [2]*space

	// mtu is the longest packet on the way to either, in bytes.
	mtu [2]int
}

// newNetwork makes a network in this process's namespace, which is empty, and
// two more.
func newNetwork(t *testing.T, mtu1, mtu2 int) *network {
	t.Helper()

	n := &network{mtu: [2]int{mtu1, mtu2}}

	// Where the clients route to, as to a public address.
	require.NoError(t, setUp("lo", relay4, relay6))

	for i := range n.spaces {
		n.spaces[i] = newSpace(t)
		n.connect(t, i)
	}

	return n
}

// clientDevice is the name of a client's only device but for loopback.
const clientDevice = "veth0"

// device returns the name of the relay's device on the way to a client.
func device(client int) string {
	return fmt.Sprintf("veth%d", client+1)
}

// addrs returns the addresses at the relay's or the client's end of the way to
// a client, IPv4 and IPv6.
func addrs(client, end int) (netip.Addr, netip.Addr) {
	return netip.AddrFrom4([4]byte{10, 77, byte(client + 1), byte(end)}),
		netip.MustParseAddr(fmt.Sprintf("fd77:%d::%d", client+1, end))
}

// connect makes the way to a client.
func (n *network) connect(t *testing.T, client int) {
	t.Helper()

	const relayEnd, clientEnd = 1, 2

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = device(client), n.mtu[client]
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     attrs,
		PeerName:      clientDevice,
		PeerNamespace: netlink.NsFd(n.spaces[client].file.Fd()),
		PeerMTU:       uint32(n.mtu[client]),
	}))

	hop4, hop6 := addrs(client, relayEnd)
	require.NoError(t, setUp(device(client), hop4, hop6))

	own4, own6 := addrs(client, clientEnd)
	require.NoError(t, n.spaces[client].do(func() error {
		if err := setUp(clientDevice, own4, own6); err != nil {
			return err
		}

		return errors.Join(
			addRoute(relay4, hop4), addRoute(relay6, hop6),
		)
	}))

	// Packets are lost until both ends are seen to be up.
	require.Eventually(t, func() bool {
		return isUp(device(client)) && n.spaces[client].do(
			func() error {
				if !isUp(clientDevice) {
					return unix.ENETDOWN
				}

				return nil
			},
		) == nil
	}, limit, tick)
}

// setUp gives a device its addresses and lets it begin.
func setUp(name string, ips ...netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}

	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}

	for _, ip := range ips {
		bits := 24
		if ip.Is6() {
			bits = 64
		}

		addr := &netlink.Addr{IPNet: &net.IPNet{
			IP:   ip.AsSlice(),
			Mask: net.CIDRMask(bits, ip.BitLen()),
		}}
		if ip.Is6() {
			// Nobody else has it; do not ask.
			addr.Flags = unix.IFA_F_NODAD
		}

		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %v: %w", ip, err)
		}
	}

	return nil
}

// addRoute adds the route to one address.
func addRoute(ip, hop netip.Addr) error {
	err := netlink.RouteAdd(&netlink.Route{
		Dst: &net.IPNet{
			IP: ip.AsSlice(),
			Mask: net.CIDRMask(
				ip.BitLen(), ip.BitLen(),
			),
		},
		Gw: hop.AsSlice(),
	})
	if err != nil {
		return fmt.Errorf("route to %v: %w", ip, err)
	}

	return nil
}

// isUp tells whether a device can send.
func isUp(name string) bool {
	link, err := netlink.LinkByName(name)

	return err == nil && link.Attrs().OperState == netlink.OperUp
}

// place returns the place of a client, 0 or 1, that speaks IPv4 or IPv6.
func (n *network) place(client int, inet6 bool) place {
	own4, own6 := addrs(client, 2)
	p := place{
		space: n.spaces[client],
		ip:    own4,
		relay: relay4,
		mtu:   n.mtu[client],
	}
	if inet6 {
		p.ip, p.relay = own6, relay6
	}

	return p
}

// setFeature sets a feature of a device of the calling thread's namespace, such
// as unix.ETHTOOL_STXCSUM.
func setFeature(name string, command, value uint32) error {
	// How the system wants it.
	order := struct{ command, value uint32 }{command, value}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{
		data: unsafe.Pointer(&order),
	}
	copy(request.name[:], name)

	fd, err := unix.Socket(
		unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0,
	)
	if err != nil {
		return err
	}

	_, _, failed := unix.Syscall(
		unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL,
		uintptr(unsafe.Pointer(&request)),
	)
	if failed != 0 {
		err = fmt.Errorf("set feature %#x of %s: %w", command, name,
			failed)
	}

	return errors.Join(err, unix.Close(fd))
}
