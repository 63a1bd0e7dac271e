package relay

import "time"

const (
	// pacePause is how long a connection waits at least when it may not be
	// read: so it is read in pieces that are worth a system call, and many
	// that wait are looked at together.
	pacePause = 5 * time.Millisecond

	// limitInterval is how often a limit that bites is told of.
	limitInterval = 10 * time.Second

	// minRead is how many bytes a connection may have read at once if
	// anything may be.
	minRead = 4 << 10
)

// meter bounds what passes in one direction of a socket: what its leg takes in.
// It is the leg's carrier that uses it.
type meter struct {
	// limits are the socket's. They are immutable.
	limits Limits

	// bandwidth and packets are the socket's own buckets.
	bandwidth bucket
	packets   bucket

	// told is when a limit that bit was told of, by reason.
	told [numDropReasons]atomicInstant
}

// budget is what may pass in one batch.
type budget struct {
	// isFree tells that nothing bounds it.
	isFree bool

	// shares are what it is counted in.
	shares shares

	// bandwidth, packets and bytes are how much may pass yet, by limit.
	bandwidth, packets, bytes int64

	// used is what was taken.
	used tally

	// over counts the packets that were not, by limit.
	over [3]uint64
}

// shares are the members that a leg is of what it has in common with others. A
// change of bandwidth makes others of them.
type shares struct {
	// relay is that of the share of all sockets, and account that of the
	// account that the socket is charged to.
	relay, account *member
}

// shares returns what the leg is counted in now.
func (l *leg) shares() shares {
	return shares{
		relay:   l.socket.seated.Load().member(l.num),
		account: l.socket.charged.Load().member(l.num),
	}
}

// available returns how many bytes may pass.
func (s shares) available(now instant) int64 {
	return min(s.relay.available(now), s.account.available(now))
}

// take takes bytes that passed.
func (s shares) take(now instant, bytes int64) {
	s.relay.take(now, bytes)
	s.account.take(now, bytes)
}

// wait returns how long nothing may pass; 0 if something may.
func (s shares) wait(now instant) time.Duration {
	return max(s.relay.wait(now), s.account.wait(now))
}

// overReasons tells what the places of budget.over are for.
var overReasons = [3]DropReason{DropBandwidth, DropPackets, DropBytes}

// tally adds up packets.
type tally struct {
	packets, bytes uint64
}

// add adds packets.
func (t *tally) add(packets uint64, bytes int) {
	t.packets += packets
	t.bytes += uint64(bytes)
}

// isFree tells whether nothing bounds what passes the leg.
func (l *leg) isFree() bool {
	m := &l.meter

	return m.limits.Bandwidth == 0 && m.limits.Packets == 0 &&
		m.limits.TotalBytes == 0 && l.socket.seated.Load() == nil &&
		l.socket.charged.Load() == nil
}

// budget returns what may pass now.
func (l *leg) budget(now instant) budget {
	b := budget{
		isFree:    l.isFree(),
		bandwidth: noLimit,
		packets:   noLimit,
		bytes:     noLimit,
	}
	if b.isFree {
		return b
	}

	m := &l.meter
	b.shares = l.shares()

	if rate := m.limits.Bandwidth; rate > 0 {
		b.bandwidth = m.bandwidth.available(now, float64(rate))
	}
	b.bandwidth = min(b.bandwidth, b.shares.available(now))

	if rate := m.limits.Packets; rate > 0 {
		b.packets = m.packets.available(now, float64(rate))
	}

	if m.limits.TotalBytes > 0 {
		b.bytes = l.bytesLeft()
	}

	return b
}

// bytesLeft returns how many bytes the socket may pass until its end.
func (l *leg) bytesLeft() int64 {
	passed, limit := l.socket.passed(), l.meter.limits.TotalBytes
	if passed >= limit {
		return 0
	}

	return int64(min(limit-passed, noLimit))
}

// take takes packets if they may pass, and counts them as too many if not.
func (b *budget) take(packets uint64, size int) bool {
	switch {
	case b.bandwidth <= 0:
		b.over[0] += packets

	case b.packets <= 0:
		b.over[1] += packets

	case b.bytes < int64(size) || b.bytes == 0:
		b.over[2] += packets

		// What is too much for what is left ends the socket.
		b.bytes = 0

	default:
		b.bandwidth -= int64(size)
		b.packets -= int64(packets)
		b.bytes -= int64(size)
		b.used.add(packets, size)

		return true
	}

	return false
}

// spend takes what has passed out of the buckets, and counts what has not.
func (l *leg) spend(b *budget, now instant) {
	if b.isFree {
		return
	}

	m := &l.meter
	if b.used.packets > 0 {
		l.charge(b.shares, b.used.bytes, now)
		if rate := m.limits.Packets; rate > 0 {
			m.packets.take(now, int64(b.used.packets),
				float64(rate), maxWait)
		}
	}

	for i, count := range b.over {
		if count > 0 {
			l.drop(overReasons[i], count)
			l.tellLimit(overReasons[i], now)
		}
	}

	if b.bytes == 0 {
		l.socket.exhausted()
	}
}

// charge takes bytes out of the buckets that count bytes.
func (l *leg) charge(in shares, bytes uint64, now instant) {
	m := &l.meter
	if rate := m.limits.Bandwidth; rate > 0 {
		m.bandwidth.take(now, int64(bytes), float64(rate), maxWait)
	}

	in.take(now, int64(bytes))
}

// allowance returns how many bytes of a connection may be read now, and if
// none may, how long it has to wait. What was read has to be told to consumed.
func (l *leg) allowance(now instant) (int64, time.Duration) {
	b := l.budget(now)
	if b.bandwidth > 0 {
		// A byte too many ends the socket, but the end of what a
		// client sends is none.
		return min(max(b.bandwidth, minRead), max(b.bytes, 1)), 0
	}

	l.drop(DropBandwidth, 1)
	l.tellLimit(DropBandwidth, now)

	return 0, max(l.noneFor(now), pacePause)
}

// noneFor returns how long nothing may pass for want of bandwidth; 0 if
// something may.
func (l *leg) noneFor(now instant) time.Duration {
	return max(l.meter.bandwidth.wait(now), l.shares().wait(now))
}

// consumed takes bytes that were read from a connection out of the buckets. It
// reports false if they are too many for the socket, which ends: they must not
// be passed on.
func (l *leg) consumed(bytes int, now instant) bool {
	if l.isFree() {
		return true
	}

	limit := l.meter.limits.TotalBytes
	passed := l.socket.passedBefore + l.socket.read.Add(uint64(bytes))
	if limit > 0 && passed > limit {
		l.drop(DropBytes, 1)
		l.tellLimit(DropBytes, now)
		l.socket.exhausted()

		return false
	}

	l.charge(l.shares(), uint64(bytes), now)

	return true
}

// tellLimit tells that a limit bit, unless it was told of a short while ago.
func (l *leg) tellLimit(reason DropReason, now instant) {
	told := &l.meter.told[reason]

	// 0 is never: the relay's clock begins later than that.
	last := told.Load()
	if last != 0 && now.sub(last) < limitInterval {
		return
	}
	if !told.value.CompareAndSwap(int64(last), int64(max(now, 1))) {
		return
	}

	l.relay.log.Debug("A limit bit", "socket", l.socketID.String(), "leg",
		l.num, "limit", reason)

	l.relay.notify(EventLimit{
		SocketID: l.socketID, Leg: l.num, Reason: reason,
	})
}
