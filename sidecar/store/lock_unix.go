//go:build unix

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// errWouldBlock is what lock returns if another process has the lock.
const errWouldBlock = unix.EWOULDBLOCK

// lock locks a file without waiting.
func lock(file *os.File) error {
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// syncDir has the names in a directory written to the disk.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()

	return dir.Sync()
}
