//go:build !portable

package relay

const (
	// goroutinesPerLeg is how many goroutines an idle leg holds.
	goroutinesPerLeg = 0

	// noticesResets tells that a connection which is not read for a while
	// is known to be reset at once.
	noticesResets = true

	// mostShort is how many bytes each of several connections that use up a
	// total may leave of it.
	mostShort = 0
)

// sharesLoop tells whether two sockets are served by one goroutine.
func sharesLoop(a, b *Socket) bool {
	return loopOf(a) == loopOf(b)
}

// loopOf returns what serves a socket.
func loopOf(s *Socket) *loop {
	if s.opts.Protocol == TCP {
		return s.carrier.(*tcpCarrier).loop
	}

	return s.carrier.(*udpCarrier).loop
}
