//go:build !unix

package sidecar

import (
	"errors"
	"os"
)

// errWouldBlock is what flock never returns here.
var errWouldBlock = errors.New("locked by another process")

// flock returns that the system has no lock that leaves others able to read.
func flock(*os.File) error {
	return errors.ErrUnsupported
}
