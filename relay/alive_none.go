//go:build !unix

package relay

import "net"

// isAlive tells that every connection that nothing was read from is worth a
// partner: the system cannot be asked whether its client has hung up.
func isAlive(*net.TCPConn) bool {
	return true
}
