package relay

import (
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"
)

// pin is a leg's record of its client. It is immutable: a change is a new pin.
type pin struct {
	// src is the address of the client. A TCP leg takes every connection
	// from its network.
	src netip.AddrPort

	// local is the address of ours that a UDP client sends to. Answers
	// leave from it: the client, or a NAT before it, may listen to no
	// other.
	local netip.Addr

	// route is how to send to a UDP client, as the data path wants it.
	route route

	// key is what the client was bound by; nil if the leg is OPEN.
	key *legKey
}

// leg is one side of a socket: who its client is, and what it counted. How
// packets and connections come in and go out is the carrier's business.
type leg struct {
	// The following fields are set before the leg is used, and never
	// change.

	// relay and socket are what the leg belongs to.
	relay  *Relay
	socket *Socket

	// socketID names the socket.
	socketID ID

	// num tells which side of the socket it is.
	num Leg

	// port is the public port.
	port *port

	// peer is the leg on the other side.
	peer *leg

	// allow is where clients may come from.
	allow allowList

	// keys has the tokens that admit clients; nil if the leg is OPEN.
	keys *keyring

	// pin is the leg's client, nil if there is none. The carrier writes it,
	// one goroutine at a time, and everybody reads it. Whoever revokes a
	// token takes it away, so that it is compared before it is changed.
	pin atomic.Pointer[pin]

	// watched is set by Socket.Watch and cleared by the carrier.
	watched atomic.Bool

	// The carrier writes what is between the pads with every packet, while
	// others, and other legs' carriers, work on what lies around.
	_ cpu.CacheLinePad

	// meter bounds what the leg takes in, and traffic counts it.
	meter   meter
	traffic traffic

	_ cpu.CacheLinePad
}

// traffic counts what passed through a leg. The carrier is the only writer, one
// goroutine at a time; the atomics are for those who read.
type traffic struct {
	// packetsIn and bytesIn count what was admitted at this leg.
	packetsIn atomic.Uint64
	bytesIn   atomic.Uint64

	// packetsOut and bytesOut count what was then sent to the client of
	// the other leg.
	packetsOut atomic.Uint64
	bytesOut   atomic.Uint64

	// drops counts what arrived at this leg and was dropped.
	drops [numDropReasons]atomic.Uint64

	// lastSeen is when the last packet was admitted, or the client's last
	// connection did something, and lastSeenWall is what the wall clock
	// showed then, in Unix nanoseconds. They mean nothing while the leg has
	// no pin.
	lastSeen     atomicInstant
	lastSeenWall atomic.Int64

	// lastPassed is when the last packet was sent on, or the socket was
	// opened.
	lastPassed atomicInstant

	// accepted counts the connections that were admitted, open those of
	// them that are open, waiting those of the open ones that have no
	// partner, and resets those that ended otherwise than by a clean close.
	//
	// unbound counts the open connections that were not admitted yet: they
	// have to bind.
	accepted atomic.Uint64
	open     atomic.Int64
	waiting  atomic.Int64
	resets   atomic.Uint64
	unbound  atomic.Int64

	// lost is the kernel's count of packets that it dropped at the port, as
	// it was told last. Only the carrier touches it.
	lost uint32
}

// moment is one point in time on two clocks, read once for many packets.
type moment struct {
	// now is the time on the relay's clock.
	now instant

	// wall is the time on the wall clock, in Unix nanoseconds.
	wall int64
}

// moment returns the time.
func (r *Relay) moment() moment {
	wall := time.Now()

	return moment{now: r.instant(wall), wall: wall.UnixNano()}
}

// atomicInstant is an instant that may be read while it is written.
type atomicInstant struct {
	value atomic.Int64
}

// Load returns the instant.
func (a *atomicInstant) Load() instant {
	return instant(a.value.Load())
}

// Store sets the instant.
func (a *atomicInstant) Store(i instant) {
	a.value.Store(int64(i))
}

// source is where packets came from, and where to.
type source struct {
	// addr is the address that they came from, unmapped.
	addr netip.AddrPort

	// local is the address of ours that they were sent to, unmapped, with a
	// zone if it is link-local. It is the zero value where the system does
	// not tell, or where it is no address to send from.
	local netip.Addr
}

// admit decides on packets that may be from a new source, and counts them. If
// they are from the leg's client, or the leg takes their source as such, it
// returns the leg's pin, else nil.
func (l *leg) admit(src source, packets, bytes uint64, at moment) *pin {
	old := l.pin.Load()
	if why, ok := l.mayAdmit(old, src, at.now); !ok {
		l.drop(why, packets)

		return nil
	}

	current := old
	if old == nil || old.src != src.addr || old.local != src.local {
		current = &pin{
			src:   src.addr,
			local: src.local,
			route: l.port.route(src),
		}
		if old != nil {
			current.key = old.key
		}
	}

	// Whoever sees the client, or hears of the packets, must find when they
	// came and that they were counted.
	l.countIn(packets, bytes, at)

	if current != old && !l.pin.CompareAndSwap(old, current) {
		// Its token was revoked this very moment.
		return nil
	}

	if old == nil || old.src != src.addr {
		l.tellPinned(old, src.addr)
	}

	if l.keys == nil {
		l.tellUsed(Token{})
	}

	return current
}

// mayAdmit tells whether packets are from the leg's client, or from a source
// that may become it, and if not why.
func (l *leg) mayAdmit(current *pin, src source,
	now instant) (DropReason, bool) {

	switch {
	case current != nil && current.src == src.addr:
		return 0, true

	case !l.allow.allows(src.addr.Addr()):
		return DropNotAllowed, false

	// Who holds a token binds before it sends anything else.
	case l.keys != nil:
		return DropStranger, false

	case current != nil && !l.isSilent(now):
		return DropStranger, false

	default:
		return DropStranger, l.relay.mayPin(src)
	}
}

// mayBind tells whether a source may bind at all, and if not why.
func (l *leg) mayBind(src source) (DropReason, bool) {
	if !l.allow.allows(src.addr.Addr()) {
		return DropNotAllowed, false
	}

	return DropStranger, l.relay.mayPin(src)
}

// mayCome tells whether a connection from an address may be taken at all, and
// if not why.
func (l *leg) mayCome(src netip.AddrPort) (DropReason, bool) {
	switch {
	case src.Port() == 0 || !isUnicast(src.Addr()):
		return DropStranger, false

	case !l.allow.allows(src.Addr()):
		return DropNotAllowed, false

	default:
		return 0, true
	}
}

// mayJoin tells whether a connection to an OPEN leg is from the leg's client,
// or from one that the leg may take as such, and if not why.
func (l *leg) mayJoin(src netip.AddrPort, now instant) (DropReason, bool) {
	if why, ok := l.mayCome(src); !ok {
		return why, false
	}

	current := l.pin.Load()
	if current == nil || clientNet(current.src) == clientNet(src) {
		return 0, true
	}

	// A client that has a connection open is there, however silent.
	isFree := l.traffic.open.Load() == 0 && l.isSilent(now)

	return DropStranger, isFree
}

// admitConn counts a connection that may join, and takes its client if it is a
// new one. The key is what it was bound by; nil if the leg is OPEN.
func (l *leg) admitConn(src netip.AddrPort, key *legKey, at moment) {
	l.seen(at)
	l.traffic.accepted.Add(1)
	l.traffic.open.Add(1)

	old := l.pin.Load()
	isNew := old == nil || clientNet(old.src) != clientNet(src)
	if isNew || old.key != key {
		l.pin.Store(&pin{src: src, key: key})
	}
	if isNew {
		l.tellPinned(old, src)
	}

	switch {
	case key == nil:
		l.tellUsed(Token{})

	case key.granted:
		l.tellUsed(key.token)
	}
}

// connClosed counts the end of a connection that was admitted.
func (l *leg) connClosed(at moment) {
	l.seen(at)
	l.traffic.open.Add(-1)
}

// clientNet returns the network that counts as one TCP client: the address for
// IPv4, the /64 for IPv6, within which a machine changes its address at will.
func clientNet(client netip.AddrPort) netip.Prefix {
	bits := 32
	if client.Addr().Is6() {
		bits = 64
	}

	// It cannot fail: the bits fit the family.
	prefix, _ := client.Addr().Prefix(bits)

	return prefix
}

// isSilent tells whether the leg's client was silent for so long that the leg
// takes the next.
func (l *leg) isSilent(now instant) bool {
	silence := now.sub(l.traffic.lastSeen.Load())

	return silence >= l.relay.cfg.PinTimeout
}

// seen records that the leg's client is there.
func (l *leg) seen(at moment) {
	l.traffic.lastSeen.Store(at.now)
	l.traffic.lastSeenWall.Store(at.wall)
}

// countIn counts what the leg's client sent and the leg admitted.
func (l *leg) countIn(packets, bytes uint64, at moment) {
	l.seen(at)
	l.traffic.packetsIn.Add(packets)
	l.traffic.bytesIn.Add(bytes)
}

// countOut counts what of it was sent to the client of the other leg.
func (l *leg) countOut(packets, bytes uint64, at moment) {
	l.traffic.packetsOut.Add(packets)
	l.traffic.bytesOut.Add(bytes)
	l.traffic.lastPassed.Store(at.now)
}

// drop counts packets or connections that go no further.
func (l *leg) drop(reason DropReason, count uint64) {
	l.traffic.drops[reason].Add(count)

	// The other limits are told of where they are reckoned.
	if reason == DropLimit {
		l.tellLimit(reason, l.relay.moment().now)
	}
}

// lose counts what the kernel dropped, of which it tells the number since the
// port was opened. It wraps around.
func (l *leg) lose(total uint32) {
	if lost := int32(total - l.traffic.lost); lost > 0 {
		l.traffic.lost = total
		l.drop(DropKernel, uint64(lost))
	}
}

// tellPinned tells that the leg took a client.
func (l *leg) tellPinned(old *pin, client netip.AddrPort) {
	event := EventPinned{SocketID: l.socketID, Leg: l.num, New: client}
	if old != nil {
		event.Old = old.src
	}

	l.relay.log.Debug("Leg took a client", "socket", l.socketID.String(),
		"leg", l.num, "old", event.Old, "new", event.New)

	l.relay.notify(event)
}

// tellUsed tells whoever watches the leg that it admitted something, by the
// granted token or because it is OPEN.
func (l *leg) tellUsed(token Token) {
	if l.watched.Load() && l.watched.CompareAndSwap(true, false) {
		l.relay.notify(EventUsed{
			SocketID: l.socketID, Leg: l.num, Token: token,
		})
	}
}

// stats returns the leg's counters as they are now.
func (l *leg) stats() LegStats {
	stats := LegStats{
		Port:       l.port.num,
		PacketsIn:  l.traffic.packetsIn.Load(),
		BytesIn:    l.traffic.bytesIn.Load(),
		PacketsOut: l.peer.traffic.packetsOut.Load(),
		BytesOut:   l.peer.traffic.bytesOut.Load(),
		Drops:      make(map[DropReason]uint64, numDropReasons),
		Accepted:   l.traffic.accepted.Load(),
		Open:       int(l.traffic.open.Load()),
		Waiting:    int(l.traffic.waiting.Load()),
		Resets:     l.traffic.resets.Load(),
		Unbound:    int(l.traffic.unbound.Load()),
	}

	for reason := range numDropReasons {
		stats.Drops[reason] = l.traffic.drops[reason].Load()
	}

	if client := l.pin.Load(); client != nil {
		stats.Client = client.src
		stats.LastSeen = time.Unix(0, l.traffic.lastSeenWall.Load())
	}

	return stats
}

// mayPin tells whether a UDP leg may have its client at this source.
//
// Sending to a multicast, broadcast or unspecified address, or to port 0, would
// make the relay an amplifier or reach nobody. Sending to a port of our own
// would let two legs feed each other for ever.
func (r *Relay) mayPin(src source) bool {
	addr := src.addr.Addr()
	if src.addr.Port() == 0 || !isUnicast(addr) {
		return false
	}

	if !r.ports.isTaken(src.addr.Port()) {
		return true
	}

	return addr != src.local && !r.self.contains(addr, time.Now())
}

// broadcast is the address of every machine on the wire. The broadcast
// addresses of networks look like any other; the kernel takes no packet from
// them, and on Linux the ports are not allowed to send to them.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// isUnicast tells whether the address can be one machine's.
func isUnicast(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsUnspecified() &&
		!addr.IsMulticast() && addr != broadcast
}
