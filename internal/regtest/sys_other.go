//go:build !unix

package regtest

import (
	"os"
	"syscall"
)

// groupAttr returns nothing: there are no process groups here.
func groupAttr() *syscall.SysProcAttr {
	return nil
}

// interrupt ends a process. It cannot be asked to end itself here.
func interrupt(p *os.Process) error {
	return p.Kill()
}

// killGroup kills the one process that there is.
func killGroup(id int) {
	if p, err := os.FindProcess(id); err == nil {
		_ = p.Kill()
		_ = p.Release()
	}
}

// awaitExit returns false: a child cannot be waited for here without being
// collected.
func awaitExit(int) bool {
	return false
}
