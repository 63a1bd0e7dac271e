//go:build !portable

package relay

import (
	"encoding/binary"
	"errors"
	"sync"
	"unsafe"

	"github.com/socketd/socketd/relay/bind"
	"golang.org/x/sys/unix"
)

const (
	// batch is the number of messages that are received with one system
	// call.
	batch = 32

	// slotSize is the distance between the buffers of two messages. If all
	// began at the same offset within a page, the first lines of all would
	// compete for the same few places of the processor's cache.
	slotSize = maxPayload + 1536

	// maxSegments and maxRun are how many datagrams, and how many bytes of
	// payload, are sent as one message at most (udp(7), UDP_SEGMENT). Newer
	// kernels take 128 segments, and IPv6 takes 20 bytes more; every one
	// takes these.
	maxSegments = 64
	maxRun      = 65507
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr

	// n is the number of bytes that were received or sent.
	n uint32
}

// engine receives a batch of messages, joins what can be sent as one, and sends
// it. A message is one datagram, or several of one size that the kernel has
// joined (UDP_GRO); payloads are never copied.
//
// It is large, and borrowed by a loop only while there is something to read. It
// must not be copied: it points into itself.
type engine struct {
	// in is what recvmmsg fills, with a name, a control buffer and a slot
	// for each message.
	in       [batch]mmsghdr
	inIov    [batch]unix.Iovec
	names    [batch][unix.SizeofSockaddrInet6]byte
	controls [batch][128]byte
	slots    []byte

	// used is how many messages the last call of recvmmsg may have changed.
	used int

	// out holds the messages to send, with the run that each carries and
	// its control buffer. outIov points into the slots.
	out         [batch]mmsghdr
	outIov      [batch]unix.Iovec
	runs        [batch]run
	outControls [batch][64]byte

	// numRuns and numIov are how much of them is in use.
	numRuns, numIov int

	// plain and plainIov send the datagrams of a run one by one.
	plain    [maxSegments]mmsghdr
	plainIov [maxSegments]unix.Iovec

	// answer is where the answer to a message of the handshake is made.
	answer [bind.Size]byte
}

// engines lends engines to loops that have something to read.
var engines = sync.Pool{
	New: func() any {
		return newEngine()
	},
}

// newEngine returns an engine that is ready to receive.
func newEngine() *engine {
	e := &engine{slots: make([]byte, batch*slotSize), used: batch}

	for i := range e.in {
		iov := &e.inIov[i]
		iov.Base = &e.slots[i*slotSize]
		iov.SetLen(maxPayload)

		hdr := &e.in[i].hdr
		hdr.Iov = iov
		hdr.SetIovlen(1)
		hdr.Name = &e.names[i][0]
		hdr.Control = &e.controls[i][0]
	}

	return e
}

// receive receives what is there, up to a batch, and returns the number of
// messages. It is EAGAIN if there is none.
func (e *engine) receive(fd int) (int, error) {
	for i := range e.used {
		hdr := &e.in[i].hdr
		hdr.Namelen = unix.SizeofSockaddrInet6
		hdr.SetControllen(len(e.controls[i]))
	}

	n, err := mmsg(unix.SYS_RECVMMSG, fd, e.in[:])
	e.used = n
	if err != nil {
		// What a failed call has changed is not known.
		e.used = batch

		return 0, err
	}

	return n, nil
}

// run is one or more datagrams of one size, the last of which may be shorter,
// that are sent as one message.
type run struct {
	// segment is the size of all datagrams but the last.
	segment int

	// packets is the number of datagrams, and bytes that of their bytes.
	packets, bytes int

	// firstIov and numIov tell where the run is in the engine's outIov.
	firstIov, numIov int

	// open tells that more datagrams may follow: the last one is a full
	// segment.
	open bool

	// plain tells that the datagrams have to be sent one by one.
	plain bool
}

// add appends a message to what is to be sent: to the last run if its datagrams
// fit, else as a run of its own. Messages are added as often as they were
// received at most. From the segment size plainFrom on datagrams are not
// joined, and sent one by one.
func (e *engine) add(payload []byte, segment, plainFrom int) {
	packets := numSegments(len(payload), segment)

	iov := &e.outIov[e.numIov]
	iov.Base = nil
	if len(payload) > 0 {
		iov.Base = &payload[0]
	}
	iov.SetLen(len(payload))
	e.numIov++

	if e.numRuns > 0 {
		last := &e.runs[e.numRuns-1]
		if last.join(len(payload), segment, packets) {
			return
		}
	}

	plain := segment >= plainFrom
	e.runs[e.numRuns] = run{
		segment:  segment,
		packets:  packets,
		bytes:    len(payload),
		firstIov: e.numIov - 1,
		numIov:   1,
		open:     segment > 0 && len(payload)%segment == 0 && !plain,
		plain:    plain && packets > 1,
	}
	e.numRuns++
}

// join adds a message to the run if it fits, and reports whether it did.
func (r *run) join(size, segment, packets int) bool {
	fits := r.open && size > 0 && r.packets+packets <= maxSegments &&
		r.bytes+size <= maxRun

	// A single datagram that is shorter can be the run's last.
	tail := packets == 1 && size < r.segment
	if !fits || segment != r.segment && !tail {
		return false
	}

	r.packets += packets
	r.bytes += size
	r.numIov++
	r.open = size%r.segment == 0

	return true
}

// reset forgets what was to be sent.
func (e *engine) reset() {
	e.numRuns, e.numIov = 0, 0
}

// prepare writes the message of a run.
func (e *engine) prepare(i int, to *route) {
	r := &e.runs[i]
	e.out[i].hdr = to.header(e.outIov[r.firstIov:][:r.numIov])

	if r.packets == 1 || r.plain {
		return
	}

	n := copy(e.outControls[i][:], to.control)
	n += putSegment(e.outControls[i][n:], r.segment)

	hdr := &e.out[i].hdr
	hdr.Control = &e.outControls[i][0]
	hdr.SetControllen(n)
}

// header returns a message to the client.
func (r *route) header(iov []unix.Iovec) unix.Msghdr {
	hdr := unix.Msghdr{
		Name:    &r.name[0],
		Namelen: uint32(len(r.name)),
		Iov:     &iov[0],
	}
	hdr.SetIovlen(len(iov))

	if len(r.control) > 0 {
		hdr.Control = &r.control[0]
		hdr.SetControllen(len(r.control))
	}

	return hdr
}

// putSegment writes the control message that makes the kernel cut a message
// into datagrams, and returns its length.
func putSegment(control []byte, segment int) int {
	hdr := unix.Cmsghdr{Level: unix.SOL_UDP, Type: unix.UDP_SEGMENT}
	hdr.SetLen(unix.CmsgLen(2))

	n := copy(control, (*[unix.SizeofCmsghdr]byte)(
		unsafe.Pointer(&hdr), //nolint:gosec // a kernel structure
	)[:])
	binary.NativeEndian.PutUint16(control[n:], uint16(segment))

	return unix.CmsgSpace(2)
}

// sent is what became of the runs of an engine.
type sent struct {
	// packets and bytes were sent.
	packets, bytes uint64

	// dropped packets were not.
	dropped uint64

	// plainFrom is the smallest segment size that the system did not cut
	// into datagrams; 0 if it did all.
	plainFrom int
}

// send sends the runs, in order, and forgets them. It never waits: if the send
// queue is full datagrams are lost, as they would be on a full wire.
func (e *engine) send(fd int, to *route) sent {
	var s sent

	for i := range e.numRuns {
		e.prepare(i, to)
	}

	for next := 0; next < e.numRuns; {
		if e.runs[next].plain {
			e.sendPlain(fd, to, &e.runs[next], &s)
			next++

			continue
		}

		n, err := mmsg(
			unix.SYS_SENDMMSG, fd, e.out[next:e.plainRun(next)],
		)
		switch {
		case err == nil:
			for _, r := range e.runs[next:][:n] {
				s.packets += uint64(r.packets)
				s.bytes += uint64(r.bytes)
			}
			next += n

		case errors.Is(err, unix.EAGAIN):
			// Nothing that follows fits either.
			for _, r := range e.runs[next:e.numRuns] {
				s.dropped += uint64(r.packets)
			}
			next = e.numRuns

		default:
			e.failed(fd, to, &e.runs[next], err, &s)
			next++
		}
	}

	e.reset()

	return s
}

// plainRun returns the index of the first run at or after i that has to be sent
// one by one, or the number of runs if there is none.
func (e *engine) plainRun(i int) int {
	for i < e.numRuns && !e.runs[i].plain {
		i++
	}

	return i
}

// failed handles a run that the system refused: it is sent one by one if the
// system may take it so, and else lost.
func (e *engine) failed(fd int, to *route, r *run, err error, s *sent) {
	if r.packets == 1 || !isSegmentError(err) {
		s.dropped += uint64(r.packets)

		return
	}

	// EIO is about the device, which cannot add the checksums of segments,
	// the others are about the size, unless the whole is too large for any
	// path.
	switch {
	case errors.Is(err, unix.EIO):
		s.plainFrom = 1

	case r.packets <= maxSegments && r.bytes <= maxRun &&
		(s.plainFrom == 0 || r.segment < s.plainFrom):

		s.plainFrom = r.segment
	}

	e.sendPlain(fd, to, r, s)
}

// isSegmentError tells whether a message of several datagrams may have failed
// because it is one: EIO where the device adds no checksums, EMSGSIZE or EINVAL
// where a segment is longer than the path allows, or there are too many.
func isSegmentError(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EMSGSIZE) ||
		errors.Is(err, unix.EINVAL)
}

// sendPlain sends the datagrams of a run one by one. The kernel fragments those
// that are longer than the path allows.
func (e *engine) sendPlain(fd int, to *route, r *run, s *sent) {
	count := 0
	for _, iov := range e.outIov[r.firstIov:][:r.numIov] {
		payload := unsafe.Slice( //nolint:gosec // as add wrote it
			iov.Base, iov.Len,
		)
		for len(payload) > 0 {
			size := min(r.segment, len(payload))

			part := &e.plainIov[count]
			part.Base = &payload[0]
			part.SetLen(size)
			e.plain[count].hdr = to.header(e.plainIov[count:][:1])

			payload = payload[size:]
			count++

			if count == len(e.plain) {
				e.flushPlain(fd, count, s)
				count = 0
			}
		}
	}

	e.flushPlain(fd, count, s)
}

// reply sends one datagram that does not belong to the runs. That it may be
// lost is for its receiver to see to.
func (e *engine) reply(fd int, to route, payload []byte) {
	part := &e.plainIov[0]
	part.Base = &payload[0]
	part.SetLen(len(payload))
	e.plain[0].hdr = to.header(e.plainIov[:1])

	_, _ = mmsg(unix.SYS_SENDMMSG, fd, e.plain[:1])
	part.Base = nil
}

// flushPlain sends datagrams that sendPlain has prepared.
func (e *engine) flushPlain(fd, count int, s *sent) {
	for next := 0; next < count; {
		n, err := mmsg(unix.SYS_SENDMMSG, fd, e.plain[next:count])
		switch {
		case err == nil:
			for _, msg := range e.plain[next:][:n] {
				s.packets++
				s.bytes += uint64(msg.n)
			}
			next += n

		case errors.Is(err, unix.EAGAIN):
			s.dropped += uint64(count - next)
			next = count

		default:
			s.dropped++
			next++
		}
	}
}
