//go:build unix

package regtest

import (
	"os"
	"syscall"
)

// groupAttr puts a child at the head of a process group of its own.
func groupAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(attr)

	return attr
}

// interrupt asks a process to end.
func interrupt(p *os.Process) error {
	return p.Signal(os.Interrupt)
}

// killGroup kills all processes of a group. There is no error to act on: one
// means that nobody is left in the group.
func killGroup(id int) {
	_ = syscall.Kill(-id, syscall.SIGKILL)
}
