package compare

import (
	"encoding/binary"
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// inboxMessages is how many messages are received at once.
	inboxMessages = 64

	// superSize is the size of a buffer for a message that may hold
	// several datagrams, plainSize of one that holds one.
	superSize = 1 << 16
	plainSize = 2048
)

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr

	// n is how many bytes were sent or received.
	n uint32
}

// cmsghdr returns the head of the first control message in a buffer.
func cmsghdr(control []byte) *unix.Cmsghdr {
	//nolint:gosec // The kernel's layout, and the buffer is large enough.
	return (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
}

// outbox sends copies of one datagram. It allocates nothing once it is made,
// and must not be copied: it points into itself.
type outbox struct {
	msgs []mmsghdr
	iov  unix.Iovec

	// segments is how many datagrams a message holds.
	segments int

	payload []byte
	control []byte
}

// newOutbox returns an outbox for batches of the datagram: as the segments of
// one message if offload is set, as a message each if not.
func newOutbox(datagram []byte, batch int, offload bool) *outbox {
	o := &outbox{segments: 1, payload: datagram}

	messages := batch
	if offload {
		o.segments, messages = batch, 1
		o.payload = nil
		for range batch {
			o.payload = append(o.payload, datagram...)
		}

		o.control = make([]byte, unix.CmsgSpace(2))
		header := cmsghdr(o.control)
		header.Level, header.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		header.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(
			o.control[unix.CmsgLen(0):], uint16(len(datagram)),
		)
	}

	if len(o.payload) > 0 {
		o.iov.Base = &o.payload[0]
		o.iov.SetLen(len(o.payload))
	}

	o.msgs = make([]mmsghdr, messages)
	for i := range o.msgs {
		hdr := &o.msgs[i].hdr
		hdr.Iov = &o.iov
		hdr.SetIovlen(1)
		if len(o.control) > 0 {
			hdr.Control = &o.control[0]
			hdr.SetControllen(len(o.control))
		}
	}

	return o
}

// send sends a batch from a connected socket and returns how many datagrams
// were taken: fewer than all if the send queue is full.
func (o *outbox) send(fd int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(
			unix.SYS_SENDMMSG, uintptr(fd),
			//nolint:gosec // a system call
			uintptr(unsafe.Pointer(&o.msgs[0])),
			uintptr(len(o.msgs)), unix.MSG_DONTWAIT, 0, 0,
		)

		switch errno {
		case 0:
			return int(n) * o.segments, nil

		case unix.EAGAIN, unix.ENOBUFS:
			return 0, nil

		// What came back for an earlier datagram, and is told once.
		case unix.ECONNREFUSED, unix.EINTR:

		default:
			return 0, errno
		}
	}
}

// inbox receives datagrams and counts them. It allocates nothing once it is
// made, and must not be copied: it points into itself.
type inbox struct {
	msgs     []mmsghdr
	iovs     []unix.Iovec
	buffer   []byte
	controls []byte
}

// controlSize is the room for the control messages of one message.
const controlSize = 64

// newInbox returns an inbox. With offload its messages may hold several
// datagrams each.
func newInbox(offload bool) *inbox {
	size := plainSize
	if offload {
		size = superSize
	}

	in := &inbox{
		msgs:     make([]mmsghdr, inboxMessages),
		iovs:     make([]unix.Iovec, inboxMessages),
		buffer:   make([]byte, inboxMessages*size),
		controls: make([]byte, inboxMessages*controlSize),
	}
	for i := range in.msgs {
		in.iovs[i].Base = &in.buffer[i*size]
		in.iovs[i].SetLen(size)

		hdr := &in.msgs[i].hdr
		hdr.Iov = &in.iovs[i]
		hdr.SetIovlen(1)
		hdr.Control = &in.controls[i*controlSize]
	}

	return in
}

// receive receives what there is, and returns how many datagrams and bytes that
// was: none if there is nothing.
func (in *inbox) receive(fd int) (datagrams, bytes int, err error) {
	for i := range in.msgs {
		in.msgs[i].hdr.SetControllen(controlSize)
	}

	n, _, errno := unix.RawSyscall6(
		unix.SYS_RECVMMSG, uintptr(fd),
		//nolint:gosec // a system call
		uintptr(unsafe.Pointer(&in.msgs[0])),
		uintptr(len(in.msgs)), unix.MSG_DONTWAIT, 0, 0,
	)

	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED:
		return 0, 0, nil
	default:
		return 0, 0, errno
	}

	for i := range in.msgs[:n] {
		size := int(in.msgs[i].n)
		bytes += size
		datagrams += in.count(i, size)
	}

	return datagrams, bytes, nil
}

// count returns how many datagrams a message holds.
func (in *inbox) count(i, size int) int {
	length := int(in.msgs[i].hdr.Controllen)
	if length < unix.CmsgLen(2) {
		return 1
	}

	control := in.controls[i*controlSize:][:length]
	header := cmsghdr(control)
	if header.Level != unix.SOL_UDP || header.Type != unix.UDP_GRO {
		return 1
	}

	segment := int(binary.NativeEndian.Uint16(control[unix.CmsgLen(0):]))
	if segment == 0 {
		return 1
	}

	return (size + segment - 1) / segment
}

// await waits until there is something to read, and says whether there is.
func await(fd int, limit time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(limit/time.Millisecond))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}

	return n > 0, err
}
