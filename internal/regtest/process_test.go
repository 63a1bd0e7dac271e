package regtest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var readyLine = regexp.MustCompile(`^Ready$`)

// TestWaitLine waits for lines, on both streams, before and after they were
// printed.
func TestWaitLine(t *testing.T) {
	ctx := t.Context()
	proc := startChild(t, childConfig(t, "daemon"))

	// This one comes last, so that the next is one from before.
	match, err := proc.WaitLine(ctx, readyLine)
	require.NoError(t, err)
	require.Equal(t, []string{"Ready"}, match)

	match, err = proc.WaitLine(ctx, regexp.MustCompile(
		`listening on (\S+)$`,
	))
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1234", match[1])

	require.NoError(t, proc.Stop())

	// The file holds it all, and so does Output.
	out, err := proc.Output()
	require.NoError(t, err)
	require.Equal(t, "opening the database\n"+
		"listening on 127.0.0.1:1234\nReady\nbye\n", out)

	raw, err := os.ReadFile(proc.cfg.LogFile)
	require.NoError(t, err)
	require.Equal(t, out, string(raw))

	info, err := os.Stat(proc.cfg.LogFile)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(fileMode), info.Mode().Perm())
}

// TestFollow reads lines one after the other.
func TestFollow(t *testing.T) {
	ctx := t.Context()
	proc := startChild(t, childConfig(t, "fail"))
	lines := proc.Follow()

	match, err := lines.Next(ctx, regexp.MustCompile(`^line (\d)`))
	require.NoError(t, err)
	require.Equal(t, "0", match[1])

	match, err = lines.Next(ctx, regexp.MustCompile(`^line (\d)`))
	require.NoError(t, err)
	require.Equal(t, "1", match[1])

	match, err = lines.Next(ctx, regexp.MustCompile(`^line (2\d)`))
	require.NoError(t, err)
	require.Equal(t, "20", match[1])

	// What was passed over does not come again.
	_, err = lines.Next(ctx, regexp.MustCompile(`^line 5$`))
	var exit *ExitError
	require.ErrorAs(t, err, &exit)

	// For a new reader it does, and the unfinished last line counts.
	match, err = proc.Follow().Next(ctx, regexp.MustCompile(`^cannot`))
	require.NoError(t, err)
	require.Equal(t, []string{"cannot"}, match)
}

// TestExitBeforeLine checks the error of a process that ends before it has
// printed what is waited for.
func TestExitBeforeLine(t *testing.T) {
	proc := startChild(t, childConfig(t, "fail"))

	_, err := proc.WaitLine(t.Context(), readyLine)

	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, "fail", exit.Name)
	require.Len(t, exit.Tail, tailLines)
	require.Equal(t, "line 11", exit.Tail[0])
	require.Equal(t, "cannot go on", exit.Tail[tailLines-1])

	var status *exec.ExitError
	require.ErrorAs(t, err, &status)
	require.Equal(t, 3, status.ExitCode())
	require.ErrorContains(t, err, "fail ended (exit status 3); its last "+
		"output:\n\tline 11\n\tline 12\n")
	require.ErrorContains(t, err, "\n\tcannot go on")

	// Everybody else gets to know as well.
	require.ErrorAs(t, proc.WaitExit(t.Context()), &exit)
	require.ErrorAs(t, proc.Stop(), &exit)
	require.ErrorAs(t, proc.Stop(), &exit)
}

// TestDoneBeforeLine checks that the end of a process is an error for who
// waits for a line even if it went well.
func TestDoneBeforeLine(t *testing.T) {
	proc := startChild(t, childConfig(t, "done"))

	require.NoError(t, proc.WaitExit(t.Context()))

	_, err := proc.WaitLine(t.Context(), readyLine)
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.NoError(t, exit.Err)
	require.ErrorContains(t, err, "done ended (exit status 0)")

	require.NoError(t, proc.Stop())
}

// TestWaitEnds checks that the context ends every wait, with words.
func TestWaitEnds(t *testing.T) {
	proc := startChild(t, childConfig(t, "daemon"))
	_, err := proc.WaitLine(t.Context(), readyLine)
	require.NoError(t, err)

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)

	_, err = proc.WaitLine(ctx, regexp.MustCompile("never"))
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, `wait for a line like "never"`)
	require.ErrorContains(t, err, "\n\tReady")

	err = proc.WaitExit(ctx)
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "\n\tReady")
}

// TestStartFails checks that a process that cannot be started leaves nothing
// behind, which TestMain sees.
func TestStartFails(t *testing.T) {
	cfg := childConfig(t, "daemon")
	cfg.Path = filepath.Join(t.TempDir(), "none")

	_, err := Start(t.Context(), cfg)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "start daemon")

	// A file where the directory of the log should be.
	cfg = childConfig(t, "daemon")
	cfg.LogFile = filepath.Join(os.Args[0], "output.log")

	_, err = Start(t.Context(), cfg)
	require.ErrorContains(t, err, "start daemon")
}

// TestStop stops processes that take it well, badly and not at all.
func TestStop(t *testing.T) {
	t.Run("in order", func(t *testing.T) {
		proc := startChild(t, childConfig(t, "daemon"))
		_, err := proc.WaitLine(t.Context(), readyLine)
		require.NoError(t, err)

		// From several goroutines at once: all wait for the end.
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() {
				errs[i] = proc.Stop()
			})
		}
		wg.Wait()

		require.NoError(t, errors.Join(errs...))
		require.True(t, proc.ended())
	})

	t.Run("exit status", func(t *testing.T) {
		proc := startChild(t, childConfig(t, "sulk"))
		_, err := proc.WaitLine(t.Context(), readyLine)
		require.NoError(t, err)

		var status *exec.ExitError
		require.ErrorAs(t, proc.Stop(), &status)
		require.Equal(t, 4, status.ExitCode())
	})

	t.Run("timeout", func(t *testing.T) {
		cfg := childConfig(t, "deaf")
		cfg.StopTimeout = 300 * time.Millisecond
		proc := startChild(t, cfg)
		_, err := proc.WaitLine(t.Context(), readyLine)
		require.NoError(t, err)

		err = proc.Stop()
		require.ErrorIs(t, err, ErrStopTimeout)
		require.ErrorContains(t, err, "\n\theard you")
		require.Equal(t, err, proc.Stop())
		require.True(t, proc.ended())
	})
}

// TestKill kills a process, also while it is being stopped.
func TestKill(t *testing.T) {
	proc := startChild(t, childConfig(t, "deaf"))
	_, err := proc.WaitLine(t.Context(), readyLine)
	require.NoError(t, err)

	stopped := make(chan error, 1)
	go func() {
		stopped <- proc.Stop()
	}()

	_, err = proc.WaitLine(t.Context(), regexp.MustCompile("heard you"))
	require.NoError(t, err)

	proc.Kill()
	proc.Kill()
	require.NoError(t, <-stopped)
	require.NoError(t, proc.Stop())

	// Whoever waits for it to end by itself is told.
	var exit *ExitError
	require.ErrorAs(t, proc.WaitExit(t.Context()), &exit)
}

// TestContextEndsProcess checks that a process ends with its context: in order
// if it can, killed if not.
func TestContextEndsProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	proc, err := Start(ctx, childConfig(t, "daemon"))
	require.NoError(t, err)

	cfg := childConfig(t, "deaf")
	cfg.StopTimeout = 300 * time.Millisecond
	deaf, err := Start(ctx, cfg)
	require.NoError(t, err)

	for _, p := range []*Process{proc, deaf} {
		_, err = p.WaitLine(t.Context(), readyLine)
		require.NoError(t, err)
	}

	cancel()
	require.NoError(t, proc.WaitExit(t.Context()))

	out, err := proc.Output()
	require.NoError(t, err)
	require.Contains(t, out, "bye")

	var exit *ExitError
	require.ErrorAs(t, deaf.WaitExit(t.Context()), &exit)

	// Nothing starts with a context that is done.
	_, err = Start(ctx, childConfig(t, "daemon"))
	require.ErrorIs(t, err, context.Canceled)
}

// TestEnvironment checks that the options of socketd and socketcli that the
// caller has in the environment do not reach a process, and that its own do.
func TestEnvironment(t *testing.T) {
	t.Setenv("SOCKETD_RPCLISTEN", "127.0.0.1:1")
	t.Setenv("SOCKETCLI_NETWORK", "mainnet")
	t.Setenv("SOCKETS_IN_GENERAL", "fine")

	cfg := childConfig(t, "env")
	cfg.Env = append(cfg.Env, "SOCKETD_NETWORK=regtest")
	proc := startChild(t, cfg)
	require.NoError(t, proc.WaitExit(t.Context()))

	out, err := proc.Output()
	require.NoError(t, err)
	require.Equal(t, "found SOCKETS_IN_GENERAL=fine\n"+
		"found SOCKETD_NETWORK=regtest\nall told\n", out)
}

// TestStdin checks that a process reads what it is given, and nothing else.
func TestStdin(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)

	cfg := childConfig(t, "echo")
	cfg.Stdin = r
	proc := startChild(t, cfg)
	require.NoError(t, r.Close())

	_, err = w.WriteString("hello\n")
	require.NoError(t, err)
	_, err = proc.WaitLine(t.Context(), regexp.MustCompile("^hello$"))
	require.NoError(t, err)

	require.NoError(t, w.Close())
	require.NoError(t, proc.WaitExit(t.Context()))

	proc = startChild(t, childConfig(t, "echo"))
	require.NoError(t, proc.WaitExit(t.Context()))
}

// TestStdout checks that what a process prints goes where it is told to, byte
// for byte, up to the end.
func TestStdout(t *testing.T) {
	stdin, w, err := os.Pipe()
	require.NoError(t, err)
	r, stdout, err := os.Pipe()
	require.NoError(t, err)

	cfg := childConfig(t, "echo")
	cfg.Stdin, cfg.Stdout = stdin, stdout
	proc := startChild(t, cfg)
	require.NoError(t, errors.Join(stdin.Close(), stdout.Close()))

	const text = "not a line\x00\r\n\n"
	_, err = w.WriteString(text)
	require.NoError(t, errors.Join(err, w.Close()))
	got, err := io.ReadAll(r)
	require.NoError(t, errors.Join(err, r.Close()))
	require.Equal(t, text, string(got))

	require.NoError(t, proc.WaitExit(t.Context()))
	out, err := proc.Output()
	require.NoError(t, err)
	require.Empty(t, out)
}

// TestRestartedDaemon checks that a daemon keeps the output of all its starts,
// and that a wait looks at the last one only.
func TestRestartedDaemon(t *testing.T) {
	t.Setenv(childEnv, "daemon")

	d := &daemon{name: "daemon", path: os.Args[0], dir: t.TempDir()}
	t.Cleanup(d.kill)

	// Nothing runs yet.
	require.NoError(t, d.stop())
	d.kill()

	_, err := d.start(t.Context(), nil)
	require.NoError(t, err)
	_, err = d.WaitLine(t.Context(), readyLine)
	require.NoError(t, err)

	_, err = d.start(t.Context(), nil)
	require.ErrorIs(t, err, ErrRunning)

	first := d.Pid()
	require.NoError(t, d.stop())
	<-d.Done()

	t.Setenv(childEnv, "done")
	proc, err := d.start(t.Context(), nil)
	require.NoError(t, err)
	require.NotEqual(t, first, d.Pid())

	_, err = d.WaitLine(t.Context(), readyLine)
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, []string{"all done"}, exit.Tail)

	out, err := d.Output()
	require.NoError(t, err)
	require.Regexp(t, `(?s)^opening.*Ready\nbye\nall done\n$`, out)

	out, err = proc.Output()
	require.NoError(t, err)
	require.Equal(t, "all done\n", out)
}

// TestWithProcess checks that the context ends with the process and says so.
func TestWithProcess(t *testing.T) {
	proc := startChild(t, childConfig(t, "fail"))

	ctx, release := withProcess(t.Context(), proc)
	<-ctx.Done()

	var exit *ExitError
	require.ErrorAs(t, context.Cause(ctx), &exit)
	require.ErrorAs(t, withCause(ctx, context.Canceled), &exit)
	release()

	// It is over with the release as well.
	proc = startChild(t, childConfig(t, "daemon"))
	ctx, release = withProcess(t.Context(), proc)
	require.NoError(t, ctx.Err())
	release()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.Equal(t, fs.ErrExist, withCause(t.Context(), fs.ErrExist))
}
