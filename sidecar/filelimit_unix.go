//go:build unix

package sidecar

import "syscall"

// raiseFileLimit raises the limit of open files as far as it may be raised, and
// returns it. The runtime has raised it too, but only close to that, and would
// lower it again for programs that are started from here.
func raiseFileLimit() int {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err != nil {
		return noFileLimit
	}

	// Some systems grant less than the hard limit says. Then it stays where
	// the runtime has put it.
	raised := syscall.Rlimit{Cur: limit.Max, Max: limit.Max}
	err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised)
	if err == nil {
		limit = raised
	}

	return int(min(limit.Cur, noFileLimit))
}
