package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// sendMode says how a client hands its datagrams to the system.
type sendMode int

const (
	// sendOne takes one call for each datagram.
	sendOne sendMode = iota

	// sendBatch takes one call for many datagrams.
	sendBatch

	// sendRuns takes one call for each run of datagrams, which the system
	// cuts apart, or for a datagram that is no part of a run.
	sendRuns

	// sendRunBatch takes one call for many runs.
	sendRunBatch

	// numSendModes is the number of modes.
	numSendModes
)

const (
	// maxIPv6 is the longest payload of a datagram over IPv6.
	maxIPv6 = 65527

	// maxMessages is how many messages the system takes in one call.
	maxMessages = 1024

	// mtuLoopback is the longest packet of the loopback device.
	mtuLoopback = 1 << 16

	// overhead4 and overhead6 are the bytes of a packet beside a payload.
	overhead4, overhead6 = 20 + 8, 40 + 8
)

// place is where a client lives, and what it knows of the relay.
type place struct {
	// space is the client's network namespace. Nil means the relay's.
	space *space

	// ip is the client's address, and relay is the relay's.
	ip, relay netip.Addr

	// mtu is the longest packet between the two, in bytes.
	mtu int
}

// atLoopback returns the place of a client on the relay's machine.
func atLoopback(ip netip.Addr) place {
	return place{ip: ip, relay: ip, mtu: mtuLoopback}
}

// overhead returns the bytes that a packet has beside the payload.
func (p place) overhead() int {
	if p.ip.Is4() {
		return overhead4
	}

	return overhead6
}

// longest returns the longest payload of a datagram.
func (p place) longest() int {
	if p.ip.Is4() {
		return maxIPv4
	}

	return maxIPv6
}

// tester is a test, or a check of one by package rapid.
type tester interface {
	rapid.TB
	Cleanup(f func())
}

// offloadClient is a client that sends and receives as its modes say. One
// goroutine may send while another one receives.
type offloadClient struct {
	place

	conn  *net.UDPConn
	batch *ipv4.PacketConn
	mode  sendMode

	// most is how many datagrams the client sends as one run.
	most int

	// leg is the port of the relay that the client talks to.
	leg netip.AddrPort

	// buffer holds what was received, and rest is what of it was not
	// returned yet: datagrams of size segment, but for the last.
	buffer  [1 << 16]byte
	control [128]byte
	rest    []byte
	segment int

	// joined counts what came as more than one datagram at once.
	joined int
}

// client returns a client of the leg with that port. With gro set it receives
// runs of datagrams as one.
func (p place) client(tb tester, port uint16, mode sendMode,
	gro bool) *offloadClient {

	tb.Helper()

	return p.clientAt(tb, 0, port, mode, gro)
}

// clientAt is client at a port of the client's own.
func (p place) clientAt(tb tester, own, port uint16, mode sendMode,
	gro bool) *offloadClient {

	tb.Helper()

	c := &offloadClient{
		place: p,
		mode:  mode,
		most:  longestRun(),
		leg:   netip.AddrPortFrom(p.relay, port),
	}

	require.NoError(tb, p.space.do(func() error {
		var err error
		c.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(
			netip.AddrPortFrom(p.ip, own),
		))

		return err
	}))
	tb.Cleanup(c.close)

	c.batch = ipv4.NewPacketConn(c.conn)
	require.NoError(tb, c.conn.SetReadBuffer(socketBuffer))
	if gro {
		require.NoError(tb, c.setOption(
			unix.IPPROTO_UDP, unix.UDP_GRO, 1,
		))
	}

	return c
}

// close ends the client. It may be called again.
func (c *offloadClient) close() {
	_ = c.conn.Close()
}

// addr returns the client's source address.
func (c *offloadClient) addr() netip.AddrPort {
	return c.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// withFile calls f with the client's file descriptor.
func (c *offloadClient) withFile(f func(fd int) error) error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}

	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = f(int(fd))
	})

	return errors.Join(err, failed)
}

// setOption sets a number.
func (c *offloadClient) setOption(level, option, value int) error {
	return c.withFile(func(fd int) error {
		return unix.SetsockoptInt(fd, level, option, value)
	})
}

// queue returns how much memory the system grants to what waits for the client.
// The relay asks for the same.
func (c *offloadClient) queue(tb tester) int {
	tb.Helper()

	var size int
	require.NoError(tb, c.withFile(func(fd int) error {
		var err error
		size, err = unix.GetsockoptInt(
			fd, unix.SOL_SOCKET, unix.SO_RCVBUF,
		)

		return err
	}))

	return size
}

// send sends datagrams to the leg, in order.
func (c *offloadClient) send(payloads ...[]byte) error {
	if c.mode == sendOne {
		for _, payload := range payloads {
			_, err := c.conn.WriteToUDPAddrPort(payload, c.leg)
			if err != nil {
				return err
			}
		}

		return nil
	}

	messages := c.messages(payloads)
	most := maxMessages
	if c.mode == sendRuns {
		most = 1
	}

	for len(messages) > 0 {
		n, err := c.batch.WriteBatch(
			messages[:min(most, len(messages))], 0,
		)
		if err != nil {
			return fmt.Errorf("send %d messages: %w",
				len(messages), err)
		}
		messages = messages[n:]
	}

	return nil
}

// messages makes the messages that carry the datagrams.
func (c *offloadClient) messages(payloads [][]byte) []ipv4.Message {
	var messages []ipv4.Message

	for len(payloads) > 0 {
		count := 1
		if c.mode != sendBatch {
			count = c.run(payloads)
		}

		message := ipv4.Message{
			Buffers: payloads[:count],
			Addr:    net.UDPAddrFromAddrPort(c.leg),
		}
		if count > 1 {
			message.OOB = segmentControl(len(payloads[0]))
		}

		messages = append(messages, message)
		payloads = payloads[count:]
	}

	return messages
}

// longestRun returns how many datagrams the system takes as one run. Newer
// kernels take more.
var longestRun = sync.OnceValue(func() int {
	const always, newer = 64, 128

	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(
		netip.AddrPortFrom(loopback4, 0),
	))
	if err != nil {
		return always
	}
	defer func() {
		_ = conn.Close()
	}()

	_, _, err = conn.WriteMsgUDP(
		make([]byte, newer), segmentControl(1),
		conn.LocalAddr().(*net.UDPAddr),
	)
	if err != nil {
		return always
	}

	return newer
})

// run returns how many of the datagrams can be sent as one run: they are of
// one size, but the last may be shorter. It is at least 1.
func (c *offloadClient) run(payloads [][]byte) int {
	size := len(payloads[0])
	if size == 0 || size+c.overhead() > c.mtu {
		return 1
	}

	count, total := 1, size
	for _, next := range payloads[1:] {
		total += len(next)
		if len(next) == 0 || len(next) > size ||
			count >= c.most || total > c.longest() {

			break
		}

		count++
		if len(next) < size {
			break
		}
	}

	return count
}

// segmentControl returns the control message that makes the system cut a
// payload into datagrams of the size.
func segmentControl(size int) []byte {
	control := make([]byte, unix.CmsgSpace(2))

	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	header.Level, header.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], uint16(size))

	return control
}

// patience is how long a datagram may take that must come.
const patience = 10 * time.Second

// wait gives what is to be received the time that it may take.
func (c *offloadClient) wait() error {
	return c.conn.SetReadDeadline(time.Now().Add(patience))
}

// receive waits for a datagram and returns its payload, which is valid until
// the next call. It must come from the leg.
func (c *offloadClient) receive() ([]byte, error) {
	if len(c.rest) == 0 {
		empty, err := c.fill()
		if err != nil || empty {
			return nil, err
		}
	}

	size := min(c.segment, len(c.rest))
	payload := c.rest[:size]
	c.rest = c.rest[size:]

	return payload, nil
}

// fill receives one datagram, or several as one. It reports true for one
// without a payload.
func (c *offloadClient) fill() (bool, error) {
	n, oob, flags, from, err := c.conn.ReadMsgUDPAddrPort(
		c.buffer[:], c.control[:],
	)
	switch {
	case err != nil:
		return false, err

	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return false, fmt.Errorf("%d bytes with flags %#x", n, flags)

	case from != c.leg:
		return false, fmt.Errorf("%d bytes from %v, not from %v", n,
			from, c.leg)
	}

	c.segment, err = segmentSize(c.control[:oob])
	if err != nil {
		return false, err
	}
	if c.segment == 0 {
		c.segment = n
	}

	c.rest = c.buffer[:n]
	if n > c.segment {
		c.joined++
	}

	return n == 0, nil
}

// segmentSize returns the size of the datagrams that the system joined, or 0 if
// it did not.
func segmentSize(control []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, err
	}

	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_UDP &&
			m.Header.Type == unix.UDP_GRO && len(m.Data) >= 4 {

			return int(binary.NativeEndian.Uint32(m.Data)), nil
		}
	}

	return 0, nil
}

// isQuiet tells whether nothing waits to be received.
func (c *offloadClient) isQuiet() bool {
	err := c.withFile(func(fd int) error {
		_, _, err := unix.Recvfrom(
			fd, nil, unix.MSG_PEEK|unix.MSG_DONTWAIT,
		)

		return err
	})

	return len(c.rest) == 0 && errors.Is(err, unix.EAGAIN)
}

// TestOffloadClient checks the client of these tests without a relay: what it
// sends and receives as runs is what was meant.
func TestOffloadClient(t *testing.T) {
	t.Parallel()

	for _, ip := range []netip.Addr{loopback4, loopback6} {
		for mode := range numSendModes {
			offloadPair(t, atLoopback(ip), mode)
		}
	}
}

// offloadPair lets one client send to another.
func offloadPair(t *testing.T, p place, mode sendMode) {
	t.Helper()

	// 2 runs with a tail, an empty datagram, 2 runs of the longest kind.
	sizes := []int{1200, 1200, 700, 1300, 20, 0}
	for range 2 * longestRun() {
		sizes = append(sizes, 400)
	}

	for _, gro := range []bool{false, true} {
		to := p.client(t, 0, mode, gro)
		from := p.client(t, to.addr().Port(), mode, gro)
		to.leg = from.addr()

		payloads := make([][]byte, 0, len(sizes))
		for i, size := range sizes {
			payloads = append(payloads, newPayload(7, uint32(i),
				size))
		}

		require.NoError(t, pass(from, to, payloads))
		require.True(t, to.isQuiet())

		want := 0
		if gro && (mode == sendRuns || mode == sendRunBatch) {
			want = 4
		}
		require.Equal(t, want, to.joined)
	}
}
