//go:build !portable

package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// backlog is how many connections the kernel may hold before they are accepted.
// It grants what net.core.somaxconn allows.
const backlog = 4096

// port is one public port: a UDP socket, or a TCP socket that listens. It is
// immutable.
//
// The descriptor is not a file of the Go runtime's: a loop waits for it, and
// the runtime must not wait for it too.
type port struct {
	num uint16
	fd  int

	// inet6 tells that addresses are IPv6 on this port, also those of IPv4
	// clients, in mapped form.
	inet6 bool
}

// openUDP opens a UDP port on the address, or on all addresses of both families
// if that is the zero value.
func openUDP(addr netip.Addr, num uint16) (*port, error) {
	p, err := openSocket(addr, num, unix.SOCK_DGRAM, setUDP)
	if err != nil {
		return nil, err
	}

	// What the system refuses is left as it is: the port works all the
	// same.
	_ = unix.SetsockoptInt(
		p.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer,
	)
	_ = unix.SetsockoptInt(
		p.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer,
	)
	_ = unix.SetsockoptInt(p.fd, unix.SOL_UDP, unix.UDP_GRO, 1)

	return p, nil
}

// openTCP opens a TCP port that listens.
func openTCP(addr netip.Addr, num uint16, keepAlive time.Duration) (*port,
	error) {

	set := func(fd int, _ bool) error {
		return setTCP(fd, keepAlive)
	}

	p, err := openSocket(addr, num, unix.SOCK_STREAM, set)
	if err != nil {
		return nil, err
	}

	if err := unix.Listen(p.fd, backlog); err != nil {
		return nil, errors.Join(os.NewSyscallError("listen", err),
			p.close())
	}

	return p, nil
}

// openSocket opens a socket and binds it. set is called in between, and told
// whether the socket is one of IPv6.
func openSocket(addr netip.Addr, num uint16, kind int,
	set func(fd int, inet6 bool) error) (*port, error) {

	inet6 := !addr.Is4()

	fd, err := newSocket(inet6, kind)
	if !addr.IsValid() && errors.Is(err, unix.EAFNOSUPPORT) {
		// A kernel without IPv6.
		inet6 = false
		addr = netip.IPv4Unspecified()
		fd, err = newSocket(inet6, kind)
	}
	if err != nil {
		return nil, err
	}

	p := &port{num: num, fd: fd, inet6: inet6}

	err = set(fd, inet6)
	if err == nil && inet6 {
		err = setFamilies(fd, !addr.IsValid())
	}
	if err == nil {
		err = bindTo(fd, inet6, addr, num)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}

	return p, nil
}

// newSocket opens a socket of one family that never waits.
func newSocket(inet6 bool, kind int) (int, error) {
	family := unix.AF_INET
	if inet6 {
		family = unix.AF_INET6
	}

	fd, err := unix.Socket(
		family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0,
	)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}

	return fd, nil
}

// bindTo gives a socket its address.
func bindTo(fd int, inet6 bool, addr netip.Addr, num uint16) error {
	var sa unix.Sockaddr
	if inet6 {
		zone, err := zoneIndex(addr.Zone())
		if err != nil {
			return err
		}

		sa6 := &unix.SockaddrInet6{Port: int(num), ZoneId: zone}
		if addr.IsValid() {
			sa6.Addr = addr.As16()
		}
		sa = sa6
	} else {
		sa = &unix.SockaddrInet4{Port: int(num), Addr: addr.As4()}
	}

	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("%s: %w", listenAddr(addr, num),
			os.NewSyscallError("bind", err))
	}

	return nil
}

// zoneIndex returns the index of the interface that a zone names.
func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}

	if index, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(index), nil
	}

	iface, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("zone %q: %w", zone, err)
	}

	return uint32(iface.Index), nil
}

// setFamilies makes an IPv6 socket serve IPv4 clients too, or not.
func setFamilies(fd int, both bool) error {
	only := 1
	if both {
		only = 0
	}

	return setOption(
		fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only, "set families",
	)
}

// setUDP sets what a UDP port needs.
func setUDP(fd int, inet6 bool) error {
	level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
	if inet6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}

	err := setOption(fd, level, option, 1, "ask for local addresses")
	if err != nil {
		return err
	}

	return setOption(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1,
		"ask for dropped packets")
}

// setTCP sets what a TCP port needs. Connections inherit all of it from the
// port that they arrive at, so that none costs a system call more.
func setTCP(fd int, keepAlive time.Duration) error {
	// The kernel asks after the first time, and three times in the second.
	const probes = 3
	idle := int(keepAlive / time.Second)

	for _, opt := range []struct {
		level, name, value int
		what               string
	}{{
		// A restarted daemon takes its ports back although old
		// connections linger.
		unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "reuse the port",
	}, {
		unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "send at once",
	}, {
		unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "keep alive",
	}, {
		unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idle, "keep alive",
	}, {
		unix.IPPROTO_TCP, unix.TCP_KEEPINTVL,
		max(idle/probes, 1), "keep alive",
	}, {
		unix.IPPROTO_TCP, unix.TCP_KEEPCNT, probes, "keep alive",
	}} {
		err := setOption(fd, opt.level, opt.name, opt.value, opt.what)
		if err != nil {
			return err
		}
	}

	return nil
}

// setOption sets an option of a socket that it cannot work without.
func setOption(fd, level, name, value int, what string) error {
	err := unix.SetsockoptInt(fd, level, name, value)
	if err != nil {
		return fmt.Errorf("%s: %w", what,
			os.NewSyscallError("setsockopt", err))
	}

	return nil
}

// isAddrInUse tells whether somebody else has the port.
func isAddrInUse(err error) bool {
	return errors.Is(err, unix.EADDRINUSE)
}

// close closes the port.
func (p *port) close() error {
	return os.NewSyscallError("close", unix.Close(p.fd))
}

// route is how to send to a client: what sendmsg wants, made once. It is
// immutable.
type route struct {
	// name is the client's address as a sockaddr. It is also what the
	// kernel writes for a packet from the client.
	name []byte

	// control is the control message that names the local address. It is
	// empty if the kernel may choose.
	control []byte
}

// route returns how to answer what came from a source.
func (p *port) route(src source) route {
	if !p.inet6 {
		return route{
			name:    name4(src.addr),
			control: control4(src.local),
		}
	}

	return route{name: name6(src.addr), control: control6(src.local)}
}

// name4 returns the sockaddr of an IPv4 address.
func name4(addr netip.AddrPort) []byte {
	name := make([]byte, unix.SizeofSockaddrInet4)
	ip := addr.Addr().As4()

	binary.NativeEndian.PutUint16(name, unix.AF_INET)
	binary.BigEndian.PutUint16(name[2:], addr.Port())
	copy(name[4:], ip[:])

	return name
}

// name6 returns the sockaddr of an address, with IPv4 in mapped form.
func name6(addr netip.AddrPort) []byte {
	name := make([]byte, unix.SizeofSockaddrInet6)
	ip := addr.Addr().As16()

	binary.NativeEndian.PutUint16(name, unix.AF_INET6)
	binary.BigEndian.PutUint16(name[2:], addr.Port())
	copy(name[8:], ip[:])
	binary.NativeEndian.PutUint32(name[24:], indexOf(addr.Addr()))

	return name
}

// control4 returns the control message to send from an IPv4 address.
func control4(local netip.Addr) []byte {
	if !local.IsValid() {
		return nil
	}

	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
}

// control6 returns the control message to send from an address on an IPv6
// socket. The kernel takes it with an IPv4 address in mapped form too.
func control6(local netip.Addr) []byte {
	if !local.IsValid() {
		return nil
	}

	return unix.PktInfo6(&unix.Inet6Pktinfo{
		Addr:    local.As16(),
		Ifindex: indexOf(local),
	})
}

// parseName reads the address from a sockaddr, unmapped.
func parseName(name []byte) (netip.AddrPort, error) {
	if len(name) < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}, unix.EINVAL
	}

	family := binary.NativeEndian.Uint16(name)
	port := binary.BigEndian.Uint16(name[2:])

	switch {
	case family == unix.AF_INET:
		addr := netip.AddrFrom4([4]byte(name[4:8]))

		return netip.AddrPortFrom(addr, port), nil

	case family == unix.AF_INET6 && len(name) >= unix.SizeofSockaddrInet6:
		addr := netip.AddrFrom16([16]byte(name[8:24])).Unmap()
		index := binary.NativeEndian.Uint32(name[24:])

		return netip.AddrPortFrom(withIndex(addr, index), port), nil

	default:
		return netip.AddrPort{}, unix.EAFNOSUPPORT
	}
}

// localAddr returns an address of ours as it is kept in a pin: the zero value
// if nothing can be sent from it.
func localAddr(addr netip.Addr, index uint32) netip.Addr {
	addr = addr.Unmap()
	if !isUnicast(addr) {
		return netip.Addr{}
	}

	return withIndex(addr, index)
}

// withIndex adds the index of the interface to an address that is only unique
// on its link. Others are the same whichever way they came in.
func withIndex(addr netip.Addr, index uint32) netip.Addr {
	if index == 0 || !addr.Is6() || !addr.IsLinkLocalUnicast() {
		return addr
	}

	return addr.WithZone(strconv.FormatUint(uint64(index), 10))
}

// indexOf returns the index that withIndex added; 0 if none.
func indexOf(addr netip.Addr) uint32 {
	// No zone, which is not a number, means no index.
	index, _ := strconv.ParseUint(addr.Zone(), 10, 32)

	return uint32(index)
}
