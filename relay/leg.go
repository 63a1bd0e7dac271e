package relay

import (
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"
)

// datagram is a packet that arrived at a port. It is valid until the handler
// that it was given to returns.
type datagram struct {
	// src is the address that it came from, unmapped.
	src netip.AddrPort

	// local is the address of ours that it was sent to, unmapped, with a
	// zone if it is link-local. It is the zero value where the system does
	// not tell, or where it is no address to send from.
	local netip.Addr

	// payload is what it carries. It may be empty.
	payload []byte

	// lost is the number of packets that the system has dropped at the
	// port since it was opened. It wraps around.
	lost uint32
}

// pin is a leg's record of its client. It is immutable: a change is a new pin.
type pin struct {
	// src is the address of the client.
	src netip.AddrPort

	// local is the address of ours that the client sends to. Answers leave
	// from it: the client, or a NAT before it, may listen to no other.
	local netip.Addr

	// route is how to send to the client, as the data path wants it.
	route route
}

// leg is one side of a socket.
type leg struct {
	// The following fields are set before the leg's goroutine starts, and
	// never change.

	// relay is what the leg belongs to.
	relay *Relay

	// socketID names the socket.
	socketID ID

	// num tells which side of the socket it is.
	num Leg

	// port is the public port.
	port *udpPort

	// peer is the leg on the other side.
	peer *leg

	// pin is the leg's client, nil before the first. Only the leg's
	// goroutine writes it; everybody reads it.
	pin atomic.Pointer[pin]

	// watched is set by Socket.Watch and cleared by the leg's goroutine.
	watched atomic.Bool

	// The leg's goroutine writes what is between the pads with every
	// packet, while the other leg's goroutine reads what is before them.
	_ cpu.CacheLinePad

	traffic traffic

	_ cpu.CacheLinePad
}

// traffic counts what the leg's goroutine did. That goroutine is the only
// writer; the atomics are for those who read.
type traffic struct {
	// packetsIn and bytesIn count what was admitted at this leg.
	packetsIn atomic.Uint64
	bytesIn   atomic.Uint64

	// packetsOut and bytesOut count what was then sent to the client of
	// the other leg. They are here, not there, so that each leg's counters
	// have one writer.
	packetsOut atomic.Uint64
	bytesOut   atomic.Uint64

	// drops counts what arrived at this leg and was dropped.
	drops [numDropReasons]atomic.Uint64

	// lastSeen is when the last packet was admitted, and lastSeenWall is
	// what the wall clock showed then, in Unix nanoseconds. They mean
	// nothing while the leg has no pin.
	lastSeen     atomicInstant
	lastSeenWall atomic.Int64

	// lastPassed is when the last packet was sent on, or the socket was
	// opened.
	lastPassed atomicInstant

	// lost is datagram.lost of the last packet. Only the leg's goroutine
	// touches it.
	lost uint32
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

// handle relays one packet that arrived at the leg, or drops and counts it.
// Only the leg's goroutine calls it.
func (l *leg) handle(d *datagram) {
	wall := time.Now()
	now := l.relay.instant(wall)

	if lost := int32(d.lost - l.traffic.lost); lost > 0 {
		l.traffic.lost = d.lost
		l.traffic.drops[DropKernel].Add(uint64(lost))
	}

	old := l.pin.Load()
	if !l.admit(old, d, now) {
		l.drop(DropStranger)

		return
	}

	// Whoever sees the client, or hears of the packet, must find when it
	// came and that it was counted.
	l.traffic.lastSeen.Store(now)
	l.traffic.lastSeenWall.Store(wall.UnixNano())
	l.traffic.packetsIn.Add(1)
	l.traffic.bytesIn.Add(uint64(len(d.payload)))

	if old == nil || old.src != d.src || old.local != d.local {
		l.setPin(d)
	}

	if old == nil || old.src != d.src {
		l.tellPinned(old, d.src)
	}

	if l.watched.Load() && l.watched.CompareAndSwap(true, false) {
		l.relay.notify(EventUsed{SocketID: l.socketID, Leg: l.num})
	}

	to := l.peer.pin.Load()
	if to == nil {
		l.drop(DropNoClient)

		return
	}

	if err := l.peer.port.send(d.payload, &to.route); err != nil {
		l.drop(DropSendError)

		return
	}

	l.traffic.packetsOut.Add(1)
	l.traffic.bytesOut.Add(uint64(len(d.payload)))
	l.traffic.lastPassed.Store(now)
}

// admit tells whether the packet is from the leg's client, or from a source
// that may become it.
func (l *leg) admit(current *pin, d *datagram, now instant) bool {
	if current == nil {
		return l.relay.mayPin(d.src, d.local)
	}

	if current.src == d.src {
		return true
	}

	silence := now.sub(l.traffic.lastSeen.Load())

	return silence >= l.relay.cfg.PinTimeout &&
		l.relay.mayPin(d.src, d.local)
}

// setPin makes the source of the packet the leg's client, and the address of
// ours that it was sent to the one that answers leave from.
func (l *leg) setPin(d *datagram) {
	l.pin.Store(&pin{
		src:   d.src,
		local: d.local,
		route: l.port.route(d.src, d.local),
	})
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

// drop counts a packet that goes no further.
func (l *leg) drop(reason DropReason) {
	l.traffic.drops[reason].Add(1)
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

// mayPin tells whether a leg may have a client at this address, which sent to
// our address local.
//
// Sending to a multicast, broadcast or unspecified address, or to port 0, would
// make the relay an amplifier or reach nobody. Sending to a port of our own
// would let two legs feed each other for ever.
func (r *Relay) mayPin(src netip.AddrPort, local netip.Addr) bool {
	if src.Port() == 0 || !isUnicast(src.Addr()) {
		return false
	}

	if !r.ports.isTaken(src.Port()) {
		return true
	}

	return src.Addr() != local && !r.self.contains(src.Addr(), time.Now())
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
