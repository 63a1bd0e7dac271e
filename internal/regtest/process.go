// Package regtest starts btcd, lnd and socketd as processes on loopback, and
// waits for what they say and do, never for time to pass. It serves the
// developer's network of cmd/socketdev and the integration tests.
package regtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

// DefaultStopTimeout is how long a process may take to end after an interrupt
// before it is killed, where its config does not say.
const DefaultStopTimeout = 20 * time.Second

// ErrStopTimeout is returned by Stop for a process that did not end in time
// after the interrupt and was killed.
var ErrStopTimeout = errors.New("did not stop in time and was killed")

// ExitError says that a process ended, although it should not have or with a
// status other than zero.
type ExitError struct {
	// Name is the process's name from its config.
	Name string

	// Err is how it ended: an *exec.ExitError for a status other than zero
	// or a signal, nil for status zero.
	Err error

	// Tail is the end of its output.
	Tail []string
}

// Error says how the process ended, with the end of its output.
func (e *ExitError) Error() string {
	how := "exit status 0"
	if e.Err != nil {
		how = e.Err.Error()
	}

	return fmt.Sprintf("%s ended (%s); %s", e.Name, how, quote(e.Tail))
}

// Unwrap returns how the process ended.
func (e *ExitError) Unwrap() error {
	return e.Err
}

// ProcessConfig says what to run.
type ProcessConfig struct {
	// Name is what errors call the process.
	Name string

	// Path is the program, Args are its arguments without its name.
	Path string
	Args []string

	// Env is added to the environment of this program.
	Env []string

	// Stdin is what the process reads, nothing if it is nil. It is the
	// caller's to close, at once if the caller does not use it any more.
	Stdin *os.File

	// Stdout takes what the process prints on its standard output, which
	// nothing here looks at then; nil for LogFile. It is the caller's to
	// close, as Stdin is.
	Stdout *os.File

	// LogFile takes all that the process prints, appended to what it holds.
	LogFile string

	// StopTimeout is how long the process may take to end after an
	// interrupt; 0 for DefaultStopTimeout.
	StopTimeout time.Duration
}

// Process is a program that was started, at the head of a process group of its
// own. The group ends with it, and on Linux it dies with this program, however
// that ends.
type Process struct {
	// cfg, cmd and out are immutable, as is pid once Start has returned.
	cfg ProcessConfig
	cmd *exec.Cmd
	out *output
	pid int

	// done is closed when the process has ended, nothing of its group is
	// left and all of its output is in. err is set before that, nil for
	// exit status zero.
	done chan struct{}
	err  error

	// stopOnce guards stopErr.
	stopOnce sync.Once
	stopErr  error

	// mu guards everything below.
	mu sync.Mutex

	// gone says that the group's id is no longer ours to signal.
	gone bool

	// killed says that somebody asked for a kill, so that dying of it is no
	// error.
	killed bool
}

// Start starts a process. Once ctx is done the process is interrupted, and
// killed if it does not end in time; its end is to be waited for all the same.
// A process that is to outlive ctx gets context.WithoutCancel(ctx). The
// environment variables of socketd and socketcli are kept from it, so that the
// caller's own settings reach no test.
func Start(ctx context.Context, cfg ProcessConfig) (*Process, error) {
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = DefaultStopTimeout
	}

	out, err := openOutput(cfg.LogFile)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Name, err)
	}

	//nolint:gosec // Running programs is what this package is for.
	cmd := exec.CommandContext(ctx, cfg.Path, cfg.Args...)
	cmd.Env = append(environment(), cfg.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	if cfg.Stdin != nil {
		cmd.Stdin = cfg.Stdin
	}
	if cfg.Stdout != nil {
		cmd.Stdout = cfg.Stdout
	}
	cmd.SysProcAttr = groupAttr()
	cmd.Cancel = func() error {
		return interrupt(cmd.Process)
	}
	cmd.WaitDelay = cfg.StopTimeout

	p := &Process{
		cfg:  cfg,
		cmd:  cmd,
		out:  out,
		done: make(chan struct{}),
	}

	started := make(chan error)
	go p.run(ctx, started)

	if err := <-started; err != nil {
		return nil, errors.Join(
			fmt.Errorf("start %s: %w", cfg.Name, err), out.close(),
		)
	}

	return p, nil
}

// run starts the process, reports on started whether that worked, and stays
// until the process has ended.
func (p *Process) run(ctx context.Context, started chan<- error) {
	// Linux ends the child when the thread ends that started it, not the
	// process. So this thread has to stay as long as the child does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}

	p.pid = p.cmd.Process.Pid
	started <- nil

	// While the dead leader is not collected nobody else can get its id, so
	// this is the moment to end what is left of its group. Where that
	// cannot be had, the group ends right after.
	if awaitExit(p.pid) {
		p.endGroup()
	}

	err := p.cmd.Wait()
	p.endGroup()

	if ctx.Err() != nil && p.cmd.ProcessState.Success() {
		err = nil
	}

	p.err = errors.Join(err, p.out.close())
	close(p.done)
}

// endGroup kills what is left of the group after its leader has ended.
func (p *Process) endGroup() {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.gone {
		return
	}

	killGroup(p.pid)
	p.gone = true
}

// environment returns this program's environment without the variables from
// which socketd and socketcli take options.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "SOCKETD_") ||
			strings.HasPrefix(v, "SOCKETCLI_") {

			continue
		}

		env = append(env, v)
	}

	return env
}

// Pid returns the id of the process and of its group.
func (p *Process) Pid() int {
	return p.pid
}

// Done is closed when the process has ended and all of its output is in.
func (p *Process) Done() <-chan struct{} {
	return p.done
}

// ended says whether Done is closed.
func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// exitError describes how the process ended. It is for after Done.
func (p *Process) exitError() error {
	return &ExitError{
		Name: p.cfg.Name,
		Err:  p.err,
		Tail: p.out.tail(),
	}
}

// Output returns everything that the process printed so far.
func (p *Process) Output() (string, error) {
	b, err := p.out.readFrom(p.out.start)

	return string(b), err
}

// Follow returns a reader of the process's lines, from its first line on.
func (p *Process) Follow() *Follower {
	return &Follower{proc: p, offset: p.out.start}
}

// WaitLine waits for the first line that matches, or for the end of the
// process, whichever comes first. Result and error are those of
// Follower.Next.
func (p *Process) WaitLine(ctx context.Context,
	line *regexp.Regexp) ([]string, error) {

	return p.Follow().Next(ctx, line)
}

// WaitExit waits for the process to end by itself. It returns nil for exit
// status zero and an *ExitError otherwise.
func (p *Process) WaitExit(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("%s: wait for its end: %w; %s", p.cfg.Name,
			context.Cause(ctx), quote(p.out.tail()))
	}

	if p.err != nil {
		return p.exitError()
	}

	return nil
}

// Stop interrupts the process and waits for its end; after StopTimeout it
// kills the whole group. It returns ErrStopTimeout in that case, and an
// *ExitError if the process ended, before or now, with a status other than
// zero and not by Kill. Further calls return the same.
func (p *Process) Stop() error {
	p.stopOnce.Do(func() {
		p.stopErr = p.stop()
	})

	return p.stopErr
}

func (p *Process) stop() error {
	// An error here means that it has ended already.
	_ = interrupt(p.cmd.Process)

	timer := time.NewTimer(p.cfg.StopTimeout)
	defer timer.Stop()

	select {
	case <-p.done:
	case <-timer.C:
		tail := p.out.tail()
		p.Kill()

		return fmt.Errorf("%s %w; %s", p.cfg.Name, ErrStopTimeout,
			quote(tail))
	}

	p.mu.Lock()
	killed := p.killed
	p.mu.Unlock()

	if p.err == nil || killed {
		return nil
	}

	return p.exitError()
}

// Kill ends the whole group at once, without giving it a chance to tidy up, and
// waits for the end.
func (p *Process) Kill() {
	p.mu.Lock()
	if !p.gone {
		p.killed = true
		killGroup(p.pid)
	}
	p.mu.Unlock()

	<-p.done
}
