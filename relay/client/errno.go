package client

import (
	"errors"
	"slices"
	"syscall"
)

// goneErrors are what the system says when the way that a UDP socket was
// connected by is gone: the address of this machine, its device or its route.
var goneErrors = []error{
	syscall.EADDRNOTAVAIL, syscall.ECONNABORTED, syscall.EDESTADDRREQ,
	syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.EINVAL,
	syscall.ENETDOWN, syscall.ENETUNREACH, syscall.ENOTCONN,
}

// brokenErrors are what reading from a UDP socket gives again and again.
var brokenErrors = []error{
	syscall.EBADF, syscall.EFAULT, syscall.EINVAL, syscall.ENOBUFS,
	syscall.ENOMEM, syscall.ENOTCONN, syscall.ENOTSOCK,
}

// isRefused tells whether the system reports that an earlier datagram found
// nobody at the relay's port. Whoever can forge an ICMP message can make it say
// so: it proves nothing.
func isRefused(err error) bool {
	return isOneOf(err, []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET,
	})
}

// isGone tells whether the system has no way to the relay from the local port
// any more, so that another port may find one.
func isGone(err error) bool {
	return isOneOf(err, goneErrors)
}

// isBroken tells whether nothing can be read from a socket any more. All other
// errors of the system come once for an ICMP message, which may be forged.
func isBroken(err error) bool {
	var errno syscall.Errno

	return !errors.As(err, &errno) || isOneOf(err, brokenErrors)
}

// isOneOf tells whether the error is one of some.
func isOneOf(err error, some []error) bool {
	return slices.ContainsFunc(some, func(one error) bool {
		return errors.Is(err, one)
	})
}
