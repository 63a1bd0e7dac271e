package compare

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc, which is the same on every machine.
const tick = 10 * time.Millisecond

// procDir is where the kernel tells of processes.
const procDir = "/proc"

// errFormat means that a file of /proc does not look as it should.
var errFormat = errors.New("unexpected format")

// stat is what /proc/PID/stat tells of a process.
type stat struct {
	pid    int
	parent int

	// cpu is the user and system time of all its threads, and of those of
	// its children that have ended and were waited for.
	cpu time.Duration
}

// parseStat reads /proc/PID/stat.
func parseStat(text string) (stat, error) {
	// The name of the program is in parentheses and may hold anything.
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(
		text, ')',
	)
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("stat: %w", errFormat)
	}

	pid, err := strconv.Atoi(strings.TrimSpace(text[:open]))
	if err != nil {
		return stat{}, fmt.Errorf("stat: %w", err)
	}

	// The fields from the third one on: the state is the first here.
	const parent, utime, cstime = 1, 11, 14
	fields := strings.Fields(text[end+1:])
	if len(fields) <= cstime {
		return stat{}, fmt.Errorf("stat: %w", errFormat)
	}

	s := stat{pid: pid}
	s.parent, err = strconv.Atoi(fields[parent])
	if err != nil {
		return stat{}, fmt.Errorf("stat: %w", err)
	}

	for _, field := range fields[utime : cstime+1] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("stat: %w", err)
		}
		s.cpu += time.Duration(ticks) * tick
	}

	return s, nil
}

// family returns those of the processes that descend from the roots, with the
// roots themselves.
func family(all []stat, roots []int) []stat {
	in := make(map[int]bool, len(roots))
	for _, root := range roots {
		in[root] = true
	}

	// A child may come before its parent.
	for grown := true; grown; {
		grown = false
		for _, s := range all {
			if !in[s.pid] && in[s.parent] {
				in[s.pid], grown = true, true
			}
		}
	}

	var members []stat
	for _, s := range all {
		if in[s.pid] {
			members = append(members, s)
		}
	}

	return members
}

// processes returns all processes that there are.
func processes() ([]stat, error) {
	entries, err := os.ReadDir(procDir)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}

	var all []stat
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}

		text, err := os.ReadFile(
			filepath.Join(procDir, entry.Name(), "stat"),
		)
		if err != nil {
			// It has ended meanwhile.
			continue
		}

		s, err := parseStat(string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}

	return all, nil
}

// members returns the processes of a relay: the roots and their descendants.
// All of the roots must be there.
func members(roots []int) ([]stat, error) {
	if len(roots) == 0 {
		return nil, nil
	}

	all, err := processes()
	if err != nil {
		return nil, err
	}

	found := family(all, roots)
	for _, root := range roots {
		gone := true
		for _, s := range found {
			gone = gone && s.pid != root
		}
		if gone {
			return nil, fmt.Errorf("process %d has ended", root)
		}
	}

	return found, nil
}

// readCPU returns the user and system time of the roots and their descendants.
// It grows in steps of 10 ms.
func readCPU(roots []int) (time.Duration, error) {
	found, err := members(roots)
	if err != nil {
		return 0, err
	}

	var sum time.Duration
	for _, s := range found {
		sum += s.cpu
	}

	return sum, nil
}

// readRSS returns the resident memory of the roots and their descendants in
// bytes.
func readRSS(roots []int) (uint64, error) {
	found, err := members(roots)
	if err != nil {
		return 0, err
	}

	var sum uint64
	for _, s := range found {
		text, err := os.ReadFile(
			filepath.Join(procDir, strconv.Itoa(s.pid), "status"),
		)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("resident memory: %w", err)
		}

		rss, err := parseKiB(text, "VmRSS:")
		if err != nil {
			return 0, err
		}
		sum += rss
	}

	return sum, nil
}

// readSlab returns the memory of the kernel's own objects in bytes.
func readSlab() (uint64, error) {
	text, err := os.ReadFile(filepath.Join(procDir, "meminfo"))
	if err != nil {
		return 0, fmt.Errorf("kernel memory: %w", err)
	}

	return parseKiB(text, "Slab:")
}

// parseKiB reads the line of a file that begins with the name and goes on with
// a number and kB. It returns bytes.
func parseKiB(text []byte, name string) (uint64, error) {
	for line := range bytes.Lines(text) {
		rest, ok := strings.CutPrefix(string(line), name)
		if !ok {
			continue
		}

		number := strings.TrimSuffix(strings.TrimSpace(rest), " kB")
		kib, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s %w", name, err)
		}

		return kib << 10, nil
	}

	return 0, fmt.Errorf("no line %s: %w", name, errFormat)
}
