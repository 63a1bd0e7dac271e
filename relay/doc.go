// Package relay joins two programs that cannot reach each other. It opens
// sockets: pairs of public UDP ports, where what the client of one port sends
// comes out at the client of the other, payloads unchanged. It knows nothing
// of who is behind the ports.
//
// A socket has two legs, one per port. A leg learns who its client is from the
// first packet that it admits: it pins the packet's source address. From then
// on packets from any other source are dropped and counted, until the client
// was silent for Config.PinTimeout; then the next source takes the leg.
//
// Who runs what:
//   - each leg has one goroutine, which owns the leg's pin and counters. It
//     reads the leg's port and sends out of the other leg's port. There is no
//     queue, no lock and no allocation on a packet's way.
//   - Relay.Run ends sockets whose time is over and, in the end, all of them.
//   - Socket.Close, or Run, closes the ports and waits for both goroutines.
//
// The data path is behind the type udpPort (udp_linux.go, udp_other.go):
// open a port, serve its datagrams to a handler, send one datagram along a
// prepared route, close. Everything above it, admission and counting, is the
// same on all systems.
package relay
