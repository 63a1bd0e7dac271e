//go:build unix && !linux

package regtest

import "syscall"

// dieWithParent does nothing: only Linux ends a child with its parent. A parent
// that is killed leaves its children behind here.
func dieWithParent(*syscall.SysProcAttr) {}

// awaitExit returns false: a child cannot be waited for here without being
// collected.
func awaitExit(int) bool {
	return false
}
