//go:build !portable

package relay

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the data path, without what package unix allocates for
// them. None of them waits, and none takes longer than a millisecond or so. So
// the runtime is not told of them: that costs as much as a small one does, and
// after a large one it would have given the processor to another thread, with
// two switches for nothing.

// epollWait returns what is ready now.
func epollWait(fd int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(
		unix.SYS_EPOLL_PWAIT, uintptr(fd),
		uintptr(unsafe.Pointer(&events[0])), //nolint:gosec // a call
		uintptr(len(events)), 0, 0, 0,
	)

	return result(n, errno)
}

// mmsg calls recvmmsg or sendmmsg, and returns the number of messages that were
// received or sent.
func mmsg(call uintptr, fd int, msgs []mmsghdr) (int, error) {
	n, _, errno := unix.RawSyscall6(
		call, uintptr(fd),
		uintptr(unsafe.Pointer(&msgs[0])), //nolint:gosec // a call
		uintptr(len(msgs)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0,
	)

	return result(n, errno)
}

// receive reads from a connection.
func receive(fd int, buffer []byte, flags uintptr) (int, error) {
	n, _, errno := unix.RawSyscall6(
		unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(&buffer[0])), //nolint:gosec // a call
		uintptr(len(buffer)), unix.MSG_DONTWAIT|flags, 0, 0,
	)

	return result(n, errno)
}

// isAlive tells whether a connection that nothing was read from is worth a
// partner: its client has not hung up, or has left bytes before it did.
func isAlive(fd int) bool {
	var first [1]byte
	n, err := receive(fd, first[:], unix.MSG_PEEK)

	return n > 0 || errors.Is(err, unix.EAGAIN)
}

// send writes to a connection.
func send(fd int, buffer []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(
		unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(&buffer[0])), //nolint:gosec // a call
		uintptr(len(buffer)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0,
	)

	return result(n, errno)
}

// splice moves bytes between a pipe and a connection without copying them.
func splice(from, to, size int) (int, error) {
	n, _, errno := unix.RawSyscall6(
		unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0,
		uintptr(size), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK,
	)

	return result(n, errno)
}

// accept takes a connection from a port, and writes its source to the name, of
// which it returns what is used.
func accept(fd int, name []byte) (int, []byte, error) {
	size := uint32(len(name))
	n, _, errno := unix.RawSyscall6(
		unix.SYS_ACCEPT4, uintptr(fd),
		uintptr(unsafe.Pointer(&name[0])), //nolint:gosec // a call
		uintptr(unsafe.Pointer(&size)),    //nolint:gosec // a call
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0,
	)

	conn, err := result(n, errno)

	return conn, name[:min(int(size), len(name))], err
}

// reset closes a connection so that its client is told of an error, not of an
// end.
func reset(fd int) {
	_ = unix.SetsockoptLinger(
		fd, unix.SOL_SOCKET, unix.SO_LINGER,
		&unix.Linger{Onoff: 1, Linger: 0},
	)
	_ = unix.Close(fd)
}

// result returns what a system call returned.
func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}

	return int(n), nil
}
