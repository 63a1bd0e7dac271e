package relay

import (
	"net/netip"
	"strconv"
)

const (
	// maxPayload is more than a datagram can carry: 65,507 bytes over
	// IPv4, 65,527 over IPv6.
	maxPayload = 1 << 16

	// socketBuffer is the size in bytes of the receive queue and the send
	// queue that every UDP port asks for. Clients send in bursts, and a
	// queue of the usual 208 KiB holds no more than some 90 packets of full
	// size. The system grants what its limits allow, and memory is used
	// only while packets wait.
	socketBuffer = 4 << 20

	// maxReadFailures is the number of reads that may fail one after the
	// other before a port counts as gone. What comes back by ICMP fails a
	// read, and must not end a leg; a port that never gives a packet in
	// between is dead, and must not be read for ever.
	maxReadFailures = 1000
)

// listenAddr returns an address to listen on, as package net writes it. The
// zero value is that of all addresses.
func listenAddr(addr netip.Addr, num uint16) string {
	if !addr.IsValid() {
		return ":" + strconv.Itoa(int(num))
	}

	return netip.AddrPortFrom(addr, num).String()
}
