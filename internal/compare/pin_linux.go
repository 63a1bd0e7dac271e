package compare

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Cores returns how many cores this process may use.
func Cores() (int, error) {
	cores, err := allowed()

	return len(cores), err
}

// allowed returns the numbers of the cores that this process may use.
func allowed() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("find the cores: %w", err)
	}

	var cores []int
	for core := range len(set) * 64 {
		if set.IsSet(core) {
			cores = append(cores, core)
		}
	}

	return cores, nil
}

// Become replaces this process by a program that has only the core, counted
// among those that this process may use. It returns only if that fails.
func Become(core int, argv []string) error {
	cores, err := allowed()
	if err != nil {
		return err
	}
	if core < 0 || core >= len(cores) {
		return fmt.Errorf("there is no core %d among %d", core,
			len(cores))
	}

	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}

	// The thread that calls exec is the one that lives on.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var set unix.CPUSet
	set.Set(cores[core])
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("take core %d: %w", cores[core], err)
	}

	if err := unix.Exec(path, argv, os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}

	return nil
}
