//go:build !portable

package relay

import (
	"math"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestEngineRuns joins messages of all sizes. The datagrams are the same ones,
// in order; no run breaks a limit, and none that could be longer is cut.
func TestEngineRuns(t *testing.T) {
	t.Parallel()

	data := make([]byte, maxPayload)
	e := newEngine()

	rapid.Check(t, func(t *rapid.T) {
		e.reset()
		plainFrom := rapid.SampledFrom([]int{
			1, 500, 1200, math.MaxInt,
		}).Draw(t, "plainFrom")

		var want []int
		for range rapid.IntRange(1, batch).Draw(t, "messages") {
			size, segment := drawMessage(t)
			e.add(data[:size], segment, plainFrom)
			want = append(want, cut(size, segment)...)
		}

		var got []int
		for i, r := range e.runs[:e.numRuns] {
			sizes := datagrams(e, r)
			require.Len(t, sizes, r.packets)
			got = append(got, sizes...)

			checkRun(t, e, i, plainFrom)
		}
		require.Equal(t, want, got)
	})
}

// drawMessage draws the size of a message and of its segments.
func drawMessage(t *rapid.T) (int, int) {
	segment := rapid.OneOf(
		rapid.SampledFrom([]int{0, 1, 64, 1200, 1200, 1200, 1472}),
		rapid.IntRange(0, maxRun),
	).Draw(t, "segment")
	if segment == 0 || rapid.Bool().Draw(t, "single") {
		return segment, segment
	}

	most := min(maxRun, segment*2*maxSegments)
	size := rapid.IntRange(segment, most).Draw(t, "size")

	return size, segment
}

// cut returns the sizes of the datagrams in a message.
func cut(size, segment int) []int {
	if size == 0 {
		return []int{0}
	}

	var sizes []int
	for size > 0 {
		part := min(size, segment)
		sizes = append(sizes, part)
		size -= part
	}

	return sizes
}

// datagrams returns the sizes of the datagrams in a run, as the kernel cuts it.
func datagrams(e *engine, r run) []int {
	size := 0
	for _, iov := range e.outIov[r.firstIov:][:r.numIov] {
		size += int(iov.Len)
	}

	return cut(size, r.segment)
}

// checkRun checks the limits of a run, and that the next one did not fit.
func checkRun(t *rapid.T, e *engine, i, plainFrom int) {
	r := e.runs[i]

	if r.numIov > 1 {
		require.LessOrEqual(t, r.packets, maxSegments)
		require.LessOrEqual(t, r.bytes, maxRun)
		require.Less(t, r.segment, plainFrom)
		require.False(t, r.plain)
	}
	require.Equal(t, r.packets > 1 && r.segment >= plainFrom, r.plain)

	if i+1 == e.numRuns || r.segment == 0 || r.segment >= plainFrom {
		return
	}

	next := cut(int(e.outIov[e.runs[i+1].firstIov].Len),
		e.runs[i+1].segment)
	full := r.bytes%r.segment == 0
	same := next[0] == r.segment ||
		len(next) == 1 && next[0] < r.segment && next[0] > 0
	fits := r.packets+len(next) <= maxSegments &&
		r.bytes+sum(next) <= maxRun

	require.False(t, full && same && fits, "%+v could take %v", r, next)
}

// sum adds up numbers.
func sum(numbers []int) int {
	total := 0
	for _, number := range numbers {
		total += number
	}

	return total
}

// TestEngineSlots checks that the buffers of messages neither overlap nor begin
// at the same offset within a page, and that mmsghdr is what the kernel takes
// for one: the next message begins where it looks for it.
func TestEngineSlots(t *testing.T) {
	t.Parallel()

	e := newEngine()
	page := uintptr(unix.Getpagesize())

	for i := range batch - 1 {
		here := uintptr(unsafe.Pointer(e.inIov[i].Base))
		next := uintptr(unsafe.Pointer(e.inIov[i+1].Base))

		require.GreaterOrEqual(t, next-here, uintptr(maxPayload))
		require.NotEqual(t, here%page, next%page)
	}

	require.Zero(t, unsafe.Sizeof(mmsghdr{})%unsafe.Alignof(mmsghdr{}))
	require.Less(t, unsafe.Sizeof(mmsghdr{}),
		unsafe.Sizeof(unix.Msghdr{})+2*unsafe.Sizeof(uintptr(0)))
}

// TestEngineRefused sends runs that the system does not take as one message.
func TestEngineRefused(t *testing.T) {
	t.Parallel()

	p, to := loopPort(t)
	e := newEngine()

	// More segments than any kernel takes in one message go one by one, and
	// say nothing about their size.
	const many = 1000
	e.add(make([]byte, many), 1, math.MaxInt)
	s := e.send(p.fd, &to)
	require.Equal(t, sent{packets: many, bytes: many}, s)
	require.Zero(t, e.numRuns)

	// A destination that is never reached is not tried one by one.
	nowhere := p.route(source{
		addr: netip.MustParseAddrPort("127.255.255.255:9"),
	})
	e.add(make([]byte, 100), 10, math.MaxInt)
	e.add(make([]byte, 30), 30, math.MaxInt)
	require.Equal(t, sent{dropped: 11}, e.send(p.fd, &nowhere))

	// What has to be sent one by one is, among what has not.
	e.add(make([]byte, 100), 50, 50)
	e.add(make([]byte, 30), 15, 50)
	e.add(make([]byte, 100), 50, 50)
	require.Equal(t, sent{packets: 6, bytes: 230}, e.send(p.fd, &to))
}

// TestEngineFallback lets the system refuse to cut messages into datagrams, for
// reasons that do not come up on every machine.
func TestEngineFallback(t *testing.T) {
	t.Parallel()

	p, to := loopPort(t)

	tests := map[unix.Errno]sent{
		// The device adds no checksums.
		unix.EIO: {packets: 3, bytes: 250, plainFrom: 1},

		// The datagrams are longer than the path allows.
		unix.EINVAL:   {packets: 3, bytes: 250, plainFrom: 100},
		unix.EMSGSIZE: {packets: 3, bytes: 250, plainFrom: 100},

		// Nobody takes them.
		unix.ENETUNREACH: {dropped: 3},
	}
	for errno, want := range tests {
		e := newEngine()
		e.add(make([]byte, 250), 100, math.MaxInt)

		var got sent
		e.failed(p.fd, &to, &e.runs[0], errno, &got)
		require.Equal(t, want, got, errno)
	}
}

// TestPlainTime checks for how long datagrams are sent one by one.
func TestPlainTime(t *testing.T) {
	t.Parallel()

	const start = instant(time.Hour)

	var u udpLeg
	require.Equal(t, math.MaxInt, u.plain(moment{now: start}))

	u.plainFrom, u.plainUntil = 1200, start.add(plainTime)
	require.Equal(t, 1200, u.plain(moment{now: start}))
	require.Equal(t, 1200, u.plain(moment{now: u.plainUntil - 1}))
	require.Equal(t, math.MaxInt, u.plain(moment{now: u.plainUntil}))
}

// loopPort opens a port and returns the way from it to itself.
func loopPort(t *testing.T) (*port, route) {
	t.Helper()

	p, err := openUDP(loopback4, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.close())
	})

	name, err := unix.Getsockname(p.fd)
	require.NoError(t, err)
	num := uint16(name.(*unix.SockaddrInet4).Port)

	return p, p.route(source{addr: netip.AddrPortFrom(loopback4, num)})
}
