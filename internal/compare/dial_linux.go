package compare

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// latePort has the system choose the port of a connection when it knows where
// that goes, as it does if no address is given either. Else it would keep one
// from all others, and there are not enough for many short pairs.
func latePort(_, _ string, conn syscall.RawConn) error {
	var optErr error
	err := conn.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(
			int(fd), unix.IPPROTO_IP,
			unix.IP_BIND_ADDRESS_NO_PORT, 1,
		)
	})

	return errors.Join(err, optErr)
}
