//go:build unix

package sidecar

import (
	"os"

	"golang.org/x/sys/unix"
)

// errWouldBlock is what flock returns if another process has the lock.
const errWouldBlock = unix.EWOULDBLOCK

// flock locks a file without waiting. The lock belongs to the open file, so
// that others of this process who read the file and close it take nothing away.
func flock(file *os.File) error {
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
