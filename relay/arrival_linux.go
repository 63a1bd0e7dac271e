//go:build !portable

package relay

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// arrival is what the kernel tells about a message beside its payload.
type arrival struct {
	// payload is valid until the next call of receive. It may be empty.
	payload []byte

	// segment is the size of all datagrams in the payload but the last,
	// which may be shorter.
	segment int

	// name is the sockaddr that the message came from, and info the control
	// message data that says where to; nil if the kernel did not say.
	name, info []byte

	// infoKind tells what info is.
	infoKind controlKind

	// lost is how many packets the kernel has dropped at the port since it
	// was opened; 0 if it did not say.
	lost uint32
}

// packets returns the number of datagrams in the message.
func (a *arrival) packets() int {
	return numSegments(len(a.payload), a.segment)
}

// numSegments returns how many datagrams so many bytes are. None at all is one
// empty datagram.
func numSegments(size, segment int) int {
	if size <= segment {
		return 1
	}

	return (size + segment - 1) / segment
}

// controlKind is the level and type of a control message.
type controlKind [2]int32

// The control messages that are read.
var (
	pktInfo4 = controlKind{unix.IPPROTO_IP, unix.IP_PKTINFO}
	pktInfo6 = controlKind{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}
	rxqOvfl  = controlKind{unix.SOL_SOCKET, unix.SO_RXQ_OVFL}
	udpGRO   = controlKind{unix.SOL_UDP, unix.UDP_GRO}
)

// arrival returns a message that was received last.
func (e *engine) arrival(i int) (arrival, error) {
	in := &e.in[i]
	slot := e.slots[i*slotSize : (i+1)*slotSize]

	a := arrival{
		payload: slot[:in.n],
		segment: int(in.n),
		name:    e.names[i][:in.hdr.Namelen],
	}

	err := a.readControl(e.controls[i][:in.hdr.Controllen])

	return a, err
}

// readControl reads the control messages.
func (a *arrival) readControl(control []byte) error {
	for len(control) > 0 {
		if len(control) < unix.SizeofCmsghdr {
			return fmt.Errorf("control message: %w", unix.EINVAL)
		}

		header, data, rest, err :=
			unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return fmt.Errorf("control message: %w", err)
		}

		kind := controlKind{header.Level, header.Type}
		switch {
		case kind == pktInfo4 && len(data) >= unix.SizeofInet4Pktinfo:
			a.info, a.infoKind = data, kind

		case kind == pktInfo6 && len(data) >= unix.SizeofInet6Pktinfo:
			a.info, a.infoKind = data, kind

		case kind == rxqOvfl && len(data) >= 4:
			a.lost = binary.NativeEndian.Uint32(data)

		case kind == udpGRO && len(data) >= 4:
			segment := int(binary.NativeEndian.Uint32(data))
			if segment > 0 && segment < a.segment {
				a.segment = segment
			}
		}

		control = rest
	}

	return nil
}

// source reads where the message came from and where to.
func (a *arrival) source() (source, error) {
	addr, err := parseName(a.name)
	if err != nil {
		return source{}, err
	}

	return source{addr: addr, local: a.local()}, nil
}

// local reads the address of ours that the message was sent to.
func (a *arrival) local() netip.Addr {
	switch a.infoKind {
	case pktInfo4:
		// The index of the interface, then the address.
		return localAddr(netip.AddrFrom4([4]byte(a.info[4:8])), 0)

	case pktInfo6:
		return localAddr(
			netip.AddrFrom16([16]byte(a.info[:16])),
			binary.NativeEndian.Uint32(a.info[16:]),
		)

	default:
		return netip.Addr{}
	}
}
