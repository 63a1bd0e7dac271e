package regtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

const (
	// tailLines is how many of the last lines of output an error carries.
	tailLines = 20

	// tailBytes is how much of the end of the output is looked at for them.
	tailBytes = 32 << 10

	// dirMode is the mode of the directories that this package makes.
	dirMode = 0o700

	// fileMode is the mode of the files that this package writes.
	fileMode = 0o600
)

// output is what one process printed. It goes to a file as it comes, and
// everybody who waits for a line reads the file, so nothing is held in memory
// and a line that was printed earlier is found as well.
type output struct {
	// path and start are immutable. start is where in the file, in bytes,
	// the output of this process begins: the file may hold that of earlier
	// ones.
	path  string
	start int64

	// mu guards everything below.
	mu   sync.Mutex
	file *os.File

	// changed is closed, and replaced, whenever something was written.
	changed chan struct{}
}

// openOutput opens the file at path for appending and makes its directory.
func openOutput(path string) (*output, error) {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, fmt.Errorf("make directory of output: %w", err)
	}

	file, err := os.OpenFile(
		path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, fileMode,
	)
	if err != nil {
		return nil, fmt.Errorf("open output file: %w", err)
	}

	start, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(
			fmt.Errorf("find end of output file: %w", err),
			file.Close(),
		)
	}

	return &output{
		path:    path,
		start:   start,
		file:    file,
		changed: make(chan struct{}),
	}, nil
}

// Write appends to the file and wakes everybody who waits.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()

	n, err := o.file.Write(b)
	close(o.changed)
	o.changed = make(chan struct{})

	return n, err
}

// close closes the file for writing.
func (o *output) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()

	return o.file.Close()
}

// wait returns a channel that is closed at the next write.
func (o *output) wait() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()

	return o.changed
}

// readFrom returns what was written from offset on.
func (o *output) readFrom(offset int64) ([]byte, error) {
	file, err := os.Open(o.path)
	if err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}

	rest := io.NewSectionReader(file, offset, 1<<62-offset)
	b, err := io.ReadAll(rest)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}

	return b, nil
}

// tail returns the last lines. It is for messages, so it has no error: what
// cannot be read is left out.
func (o *output) tail() []string {
	info, err := os.Stat(o.path)
	if err != nil {
		return nil
	}

	b, err := o.readFrom(max(o.start, info.Size()-tailBytes))
	if err != nil || len(b) == 0 {
		return nil
	}

	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")

	return lines[max(0, len(lines)-tailLines):]
}

// quote renders lines of output for the end of an error message.
func quote(lines []string) string {
	if len(lines) == 0 {
		return "it printed nothing"
	}

	return "its last output:\n\t" + strings.Join(lines, "\n\t")
}

// Follower reads the output of a process line by line, from the process's
// first line on. It is for use by one goroutine, and needs no closing.
type Follower struct {
	proc *Process

	// offset is the position in the file up to which lines were read.
	offset int64

	// lines are complete lines that were read and not looked at yet.
	lines []string
}

// Next returns the next line that matches, as regexp's FindStringSubmatch does:
// the whole match first, the groups after it. Lines before it are passed over,
// and the search goes on behind it at the next call. The line may have been
// printed before the call. The error is an *ExitError if the process ended
// without printing such a line, or wraps the context's.
func (f *Follower) Next(ctx context.Context,
	line *regexp.Regexp) ([]string, error) {

	for {
		// Both are taken before reading, so that nothing that comes
		// after the read is missed.
		changed, ended := f.proc.out.wait(), f.proc.ended()
		if err := f.fill(ended); err != nil {
			return nil, err
		}

		for len(f.lines) > 0 {
			match := line.FindStringSubmatch(f.lines[0])
			f.lines = f.lines[1:]

			if match != nil {
				return match, nil
			}
		}

		if ended {
			return nil, f.proc.exitError()
		}

		select {
		case <-changed:
		case <-f.proc.Done():
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: wait for a line like "+
				"%q: %w; %s", f.proc.cfg.Name, line,
				context.Cause(ctx), quote(f.proc.out.tail()))
		}
	}
}

// fill reads the lines that were added. An unfinished last line is left for
// later, unless the process has ended.
func (f *Follower) fill(ended bool) error {
	b, err := f.proc.out.readFrom(f.offset)
	if err != nil {
		return err
	}

	end := bytes.LastIndexByte(b, '\n') + 1
	if ended {
		end = len(b)
	}
	if end == 0 {
		return nil
	}

	f.offset += int64(end)
	text := strings.TrimSuffix(string(b[:end]), "\n")
	for line := range strings.SplitSeq(text, "\n") {
		f.lines = append(f.lines, strings.TrimSuffix(line, "\r"))
	}

	return nil
}
