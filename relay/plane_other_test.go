//go:build !linux || portable

package relay

import "net/netip"

// goroutinesPerLeg is how many goroutines an idle leg holds.
const goroutinesPerLeg = 1

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
