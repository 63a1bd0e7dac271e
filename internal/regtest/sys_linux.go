package regtest

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent has the kernel kill a child when the thread that started it
// ends.
func dieWithParent(attr *syscall.SysProcAttr) {
	attr.Pdeathsig = syscall.SIGKILL
}

// awaitExit waits until a child has ended and leaves it to be collected. It
// returns true.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(
			unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil,
		)
		if !errors.Is(err, unix.EINTR) {
			return true
		}
	}
}
