package regtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
)

const (
	// loopback is the address that every daemon listens on first: the
	// system picks a free port, and the daemon says which.
	loopback = "127.0.0.1:0"

	// outputFilename is the file in a daemon's directory that takes what it
	// prints.
	outputFilename = "output.log"
)

// ErrRunning is returned for the start of a daemon that runs already.
var ErrRunning = errors.New("runs already")

// daemon is a program that can be started several times, one process after the
// other. Its methods may be called from any goroutine.
type daemon struct {
	// name, path and dir are immutable: what errors call it, the program,
	// and the directory that holds all that it writes.
	name string
	path string
	dir  string

	// mu guards proc, the last process that was started; nil for none.
	mu   sync.Mutex
	proc *Process
}

// outputFile is the file that takes what the daemon prints.
func (d *daemon) outputFile() string {
	return filepath.Join(d.dir, outputFilename)
}

// start starts a process that outlives ctx.
func (d *daemon) start(ctx context.Context, args []string) (*Process, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.proc != nil && !d.proc.ended() {
		return nil, fmt.Errorf("start %s: %w", d.name, ErrRunning)
	}

	proc, err := Start(context.WithoutCancel(ctx), ProcessConfig{
		Name:    d.name,
		Path:    d.path,
		Args:    args,
		LogFile: d.outputFile(),
	})
	if err != nil {
		return nil, err
	}

	d.proc = proc

	return proc, nil
}

// current returns the last process that was started, nil for none.
func (d *daemon) current() *Process {
	d.mu.Lock()
	defer d.mu.Unlock()

	return d.proc
}

// Pid returns the id of the process that was started last.
func (d *daemon) Pid() int {
	return d.current().Pid()
}

// Done is closed when the process that was started last has ended.
func (d *daemon) Done() <-chan struct{} {
	return d.current().Done()
}

// WaitLine waits for a line of the process that was started last, or for its
// end, whichever comes first, as Process.WaitLine does.
func (d *daemon) WaitLine(ctx context.Context,
	line *regexp.Regexp) ([]string, error) {

	return d.current().WaitLine(ctx, line)
}

// Output returns everything that the daemon printed, over all of its starts.
func (d *daemon) Output() (string, error) {
	b, err := (&output{path: d.outputFile()}).readFrom(0)

	return string(b), err
}

// stop ends the process in order. It succeeds if none was started.
func (d *daemon) stop() error {
	if proc := d.current(); proc != nil {
		return proc.Stop()
	}

	return nil
}

// kill ends the process at once.
func (d *daemon) kill() {
	if proc := d.current(); proc != nil {
		proc.Kill()
	}
}

// withProcess returns a context that also ends when the process does, with the
// process's *ExitError as its cause. The caller calls the returned function
// when done; it waits for the goroutine behind it.
func withProcess(ctx context.Context,
	proc *Process) (context.Context, func()) {

	ctx, cancel := context.WithCancelCause(ctx)

	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-proc.Done():
			cancel(proc.exitError())
		case <-ctx.Done():
		}
	})

	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}
