package relay

import (
	"net"
	"net/netip"
	"strconv"
)

const (
	// maxPayload is more than a datagram can carry: 65,507 bytes over
	// IPv4, 65,527 over IPv6.
	maxPayload = 1 << 16

	// socketBuffer is the size in bytes of the receive queue and the send
	// queue that every port asks for. Clients send in bursts, and a queue
	// of the usual 208 KiB holds no more than some 90 packets of full size.
	// The system grants what its limits allow, and memory is used only
	// while packets wait.
	socketBuffer = 4 << 20

	// maxReadFailures is the number of reads that may fail one after the
	// other before a port counts as gone. What comes back by ICMP fails a
	// read, and must not end a leg; a port that never gives a packet in
	// between is dead, and must not be read for ever.
	maxReadFailures = 1000
)

// setBuffers asks for queues that hold a burst. What the system refuses is
// left as it is: the port works all the same.
func setBuffers(conn *net.UDPConn) {
	_ = conn.SetReadBuffer(socketBuffer)
	_ = conn.SetWriteBuffer(socketBuffer)
}

// listenAddr returns the address to open a port on, as package net wants it.
// The zero value becomes no address, for which the network says the families.
func listenAddr(addr netip.Addr, num uint16) string {
	if !addr.IsValid() {
		return ":" + strconv.Itoa(int(num))
	}

	return netip.AddrPortFrom(addr, num).String()
}
