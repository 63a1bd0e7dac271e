//go:build !linux || portable

package relay

import "net/netip"

const (
	// goroutinesPerLeg is how many goroutines an idle leg holds.
	goroutinesPerLeg = 1

	// noticesResets tells that a connection which is not read for a while
	// is known to be reset at once.
	noticesResets = false

	// mostShort is how many bytes each of several connections that use up a
	// total may leave of it. They do not know of each other.
	mostShort = copySize
)

// sharesLoop tells whether two sockets could wait for each other. Each has
// goroutines of its own, which is as good as it gets.
func sharesLoop(*Socket, *Socket) bool {
	return true
}

// benchEnv stands for what only Linux's data path has: a process of its own to
// be measured.
const benchEnv = "RELAY_BENCH_PROCESS"

// runBenchProcess is never called for anything.
func runBenchProcess(string) int {
	return 1
}

// sendTo sends a packet from a port.
func sendTo(p *port, to netip.AddrPort) error {
	_, err := p.udp.WriteToUDPAddrPort([]byte("hello"), to)

	return err
}
