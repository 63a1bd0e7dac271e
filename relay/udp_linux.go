package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// burst is the number of packets that are read before a port looks whether it
// was closed.
const burst = 64

// udpPort is one public port. One goroutine serves it, and one goroutine, that
// of the leg on the other side, sends from it. Any goroutine may close it.
type udpPort struct {
	// The following fields are set by openPort and never change.

	num  uint16
	conn *net.UDPConn
	raw  syscall.RawConn

	// inet6 tells that addresses are IPv6 on this port, also those of IPv4
	// clients, in mapped form.
	inet6 bool

	// sendNow is out.send, made once because making it allocates.
	sendNow func(fd uintptr)

	_ cpu.CacheLinePad

	// out belongs to the one goroutine that sends.
	out sender
}

// route is how to send to a client: what sendmsg wants, made once. It is
// immutable.
type route struct {
	// name is the client's address as a sockaddr.
	name []byte

	// control is the control message that names the local address. It is
	// empty if the kernel may choose.
	control []byte
}

// openPort opens a port on the address, or on all addresses of both families.
func openPort(addr netip.Addr, num uint16) (*udpPort, error) {
	inet6 := !addr.Is4()

	conn, err := listenUDP(inet6, addr, num)
	if !addr.IsValid() && errors.Is(err, unix.EAFNOSUPPORT) {
		// A kernel without IPv6.
		inet6 = false
		conn, err = listenUDP(inet6, netip.IPv4Unspecified(), num)
	}
	if err != nil {
		return nil, err
	}

	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}

	setBuffers(conn)

	p := &udpPort{num: num, conn: conn, raw: raw, inet6: inet6}
	p.sendNow = p.out.send

	return p, nil
}

// listenUDP binds a socket of one family, or of both if addr is the zero value.
func listenUDP(inet6 bool, addr netip.Addr, num uint16) (*net.UDPConn, error) {
	network, both := "udp4", false
	if inet6 {
		network, both = "udp6", !addr.IsValid()
	}

	config := net.ListenConfig{
		Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				failed = setOptions(int(fd), inet6, both)
			})

			return errors.Join(err, failed)
		},
	}

	conn, err := config.ListenPacket(
		context.Background(), network, listenAddr(addr, num),
	)
	if err != nil {
		return nil, err
	}

	return conn.(*net.UDPConn), nil
}

// setOptions sets what has to be set before the socket is bound. With both set
// an IPv6 socket serves IPv4 clients too.
func setOptions(fd int, inet6, both bool) error {
	level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
	if inet6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}

	err := unix.SetsockoptInt(fd, level, option, 1)
	if err != nil {
		return fmt.Errorf("ask for local addresses: %w", err)
	}

	// The standard library allows sending to broadcast addresses. No
	// client has one, but a forged source might.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 0)
	if err != nil {
		return fmt.Errorf("forbid broadcast: %w", err)
	}

	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	if err != nil {
		return fmt.Errorf("ask for dropped packets: %w", err)
	}

	if !both {
		return nil
	}

	err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	if err != nil {
		return fmt.Errorf("allow IPv4: %w", err)
	}

	return nil
}

// isAddrInUse tells whether somebody else has the port.
func isAddrInUse(err error) bool {
	return errors.Is(err, unix.EADDRINUSE)
}

// close closes the port. A serve that is under way returns.
func (p *udpPort) close() error {
	return p.conn.Close()
}

// serve calls handle with every datagram that arrives, until the port is
// closed or dead. It holds a buffer only while there is something to read.
func (p *udpPort) serve(handle func(*datagram)) error {
	var (
		failures int
		failed   error
	)

	drain := func(fd uintptr) bool {
		in := receivers.Get().(*receiver)
		defer receivers.Put(in)

		for range burst {
			err := in.receive(fd)
			switch {
			case err == nil:
				failures = 0
				handle(&in.datagram)

			case errors.Is(err, unix.EAGAIN):
				failures = 0

				return false

			default:
				failures++
				failed = err
			}
		}

		return true
	}

	for failures < maxReadFailures {
		if err := p.raw.Read(drain); err != nil {
			return err
		}
	}

	return fmt.Errorf("%d reads failed: %w", failures, failed)
}

// send sends one datagram to a client. It never waits: if the send queue is
// full the datagram is lost, as it would be on a full wire.
func (p *udpPort) send(payload []byte, to *route) error {
	p.out.payload, p.out.to = payload, to

	err := p.raw.Control(p.sendNow)

	// Do not keep the buffer from the garbage collector.
	p.out.payload, p.out.to = nil, nil

	if err != nil {
		return err
	}

	return p.out.err
}

// sender sends datagrams from a port, one at a time.
type sender struct {
	// payload and to are what to send where.
	payload []byte
	to      *route

	// err is what came of it.
	err error
}

// send sends the datagram out of the file descriptor.
func (s *sender) send(fd uintptr) {
	var (
		msg unix.Msghdr
		iov unix.Iovec
	)

	if len(s.payload) > 0 {
		iov.Base = &s.payload[0]
		iov.SetLen(len(s.payload))
	}

	msg.Name = &s.to.name[0]
	msg.Namelen = uint32(len(s.to.name))
	msg.Iov = &iov
	msg.SetIovlen(1)

	if len(s.to.control) > 0 {
		msg.Control = &s.to.control[0]
		msg.SetControllen(len(s.to.control))
	}

	_, err := message(unix.SYS_SENDMSG, fd, &msg)
	s.err = err
}

// receivers lends receivers to ports that have something to read.
var receivers = sync.Pool{
	New: func() any {
		return newReceiver()
	},
}

// receiver reads one datagram at a time. It must not be copied: it points into
// itself.
type receiver struct {
	// datagram is what was read last.
	datagram datagram

	msg     unix.Msghdr
	iov     unix.Iovec
	name    [unix.SizeofSockaddrInet6]byte
	control [128]byte
	payload [maxPayload]byte
}

// newReceiver returns a receiver that is ready to read.
func newReceiver() *receiver {
	r := &receiver{}

	r.iov.Base = &r.payload[0]
	r.iov.SetLen(len(r.payload))

	r.msg.Iov = &r.iov
	r.msg.SetIovlen(1)
	r.msg.Name = &r.name[0]
	r.msg.Control = &r.control[0]

	return r
}

// receive reads a datagram from the file descriptor. It is EAGAIN if there is
// none.
func (r *receiver) receive(fd uintptr) error {
	r.msg.Namelen = uint32(len(r.name))
	r.msg.SetControllen(len(r.control))

	n, err := message(unix.SYS_RECVMSG, fd, &r.msg)
	if err != nil {
		return err
	}

	src, err := parseName(r.name[:r.msg.Namelen])
	if err != nil {
		return err
	}

	r.datagram.src = src
	r.datagram.payload = r.payload[:n]

	return r.readControl(r.control[:r.msg.Controllen])
}

// readControl reads what the kernel says beside the datagram.
func (r *receiver) readControl(control []byte) error {
	r.datagram.local = netip.Addr{}

	// The kernel says nothing of losses while there are none.
	r.datagram.lost = 0

	for len(control) > 0 {
		header, data, rest, err :=
			unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return fmt.Errorf("control message: %w", err)
		}

		kind := [2]int32{header.Level, header.Type}
		switch {
		case kind == pktInfo4 && len(data) >= unix.SizeofInet4Pktinfo:
			// The index of the interface, then the address.
			addr := netip.AddrFrom4([4]byte(data[4:8]))
			r.datagram.local = localAddr(addr, 0)

		case kind == pktInfo6 && len(data) >= unix.SizeofInet6Pktinfo:
			addr := netip.AddrFrom16([16]byte(data[:16]))
			index := binary.NativeEndian.Uint32(data[16:])
			r.datagram.local = localAddr(addr, index)

		case kind == rxqOvfl && len(data) >= 4:
			r.datagram.lost = binary.NativeEndian.Uint32(data)
		}

		control = rest
	}

	return nil
}

// The control messages that are read, by level and type.
var (
	pktInfo4 = [2]int32{unix.IPPROTO_IP, unix.IP_PKTINFO}
	pktInfo6 = [2]int32{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}
	rxqOvfl  = [2]int32{unix.SOL_SOCKET, unix.SO_RXQ_OVFL}
)

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

// parseName reads the address from a sockaddr.
func parseName(name []byte) (netip.AddrPort, error) {
	if len(name) < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}, io.ErrUnexpectedEOF
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

// route returns how to send from our address local, or any if that is the zero
// value, to a client.
func (p *udpPort) route(client netip.AddrPort, local netip.Addr) route {
	if !p.inet6 {
		return route{
			name:    name4(client),
			control: control4(local),
		}
	}

	return route{name: name6(client), control: control6(local)}
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

// message calls sendmsg or recvmsg, which must not wait.
func message(call, fd uintptr, msg *unix.Msghdr) (int, error) {
	n, _, errno := unix.Syscall(
		call, fd,
		uintptr(unsafe.Pointer(msg)), //nolint:gosec // a system call
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL,
	)
	if errno != 0 {
		return 0, errno
	}

	return int(n), nil
}
