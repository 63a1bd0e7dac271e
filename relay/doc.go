// Package relay joins two programs that cannot reach each other. It opens
// sockets: pairs of public ports, where what the client of one port sends comes
// out at the client of the other, payloads unchanged. It knows nothing of who
// is behind the ports.
//
// A socket has two legs, one per port. A leg learns who its client is from the
// first packet or connection that it admits: it pins the source address. From
// then on whatever comes from any other source is dropped and counted, until
// the client was silent for Config.PinTimeout; then the next source takes the
// leg. With UDP the client is an address and a port. With TCP it is an address
// or an IPv6 /64, because each of its connections has another port.
//
// A TCP socket joins connections in the order in which they arrive: the first
// at one leg with the first at the other. A connection waits, unread, until it
// has a partner.
//
// Who runs what, on Linux:
//   - the plane has one loop for each processor, and each socket belongs to one
//     of them. A loop is a goroutine with an epoll descriptor, which owns the
//     pins, the counters and the connections of its sockets. No packet passes
//     between goroutines, takes a lock or allocates; an idle leg or pair holds
//     neither goroutine nor buffer.
//   - Relay.Run ends sockets whose time is over and, in the end, all of them
//     and the loops.
//   - Socket.Close, or Run, stops the socket's carrier between two turns of its
//     loop, which closes the ports and the connections.
//
// The data path is behind the types plane, carrier, port and route. Everything
// above it, admission and counting, is the same on all systems; elsewhere than
// on Linux the plane is a few goroutines for each socket. The build tag
// portable selects that one on Linux too, for its tests.
package relay
