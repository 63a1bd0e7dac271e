//go:build unix && (!linux || portable)

package relay

import (
	"errors"
	"net"
	"syscall"
)

// isAlive tells whether a connection that nothing was read from is worth a
// partner: its client has not hung up, or has left bytes before it did.
func isAlive(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}

	alive := false
	err = raw.Control(func(fd uintptr) {
		var first [1]byte
		n, _, err := syscall.Recvfrom(
			int(fd), first[:], syscall.MSG_PEEK,
		)
		alive = n > 0 || errors.Is(err, syscall.EAGAIN)
	})

	return err == nil && alive
}
