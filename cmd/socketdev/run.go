package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/urfave/cli/v3"
)

const (
	// exitDone is the exit code of a command that did what it was told.
	exitDone = 0

	// exitFailed is the exit code of a command that failed.
	exitFailed = 1

	// exitUsage is the exit code for a wrong command line.
	exitUsage = 2
)

// errInterrupted is the cause with which a context ends at a signal.
var errInterrupted = errors.New("interrupted")

// usageError says what is wrong with the command line.
type usageError struct {
	err error
}

// Error returns the text of the error.
func (e *usageError) Error() string {
	return e.err.Error()
}

// Unwrap returns the error that the text is from.
func (e *usageError) Unwrap() error {
	return e.err
}

// usagef returns a usageError with a formatted text.
func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// program is one run of socketdev. All fields but the last are immutable.
type program struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	// getenv returns the value of an environment variable.
	getenv func(string) string

	// signals delivers the user's interrupts: the first one ends the
	// command in order, the second one at once.
	signals <-chan os.Signal

	// hurry is closed at the second interrupt. run sets it.
	hurry chan struct{}
}

// run executes the command line args, of which the first is the program's name,
// and returns the exit code.
func (p *program) run(args []string) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan struct{})
	p.hurry = make(chan struct{})

	var wg sync.WaitGroup
	wg.Go(func() {
		interrupts := []func(){
			func() { cancel(errInterrupted) },
			func() { close(p.hurry) },
		}
		for _, act := range interrupts {
			select {
			case <-p.signals:
				act()
			case <-done:
				return
			}
		}
	})

	err := p.app().Run(ctx, args)
	close(done)
	wg.Wait()
	cancel(nil)

	if err == nil {
		return exitDone
	}

	_, _ = fmt.Fprintf(p.stderr, "[socketdev] %v\n", err)

	if isUsage(err) {
		return exitUsage
	}

	return exitFailed
}

// isUsage says whether an error is about the command line.
func isUsage(err error) bool {
	// The cli package's own exit errors are about help topics that do not
	// exist. That of a process that has ended only looks like one of them.
	var (
		usage   *usageError
		topic   cli.ExitCoder
		process *exec.ExitError
	)

	return errors.As(err, &usage) ||
		errors.As(err, &topic) && !errors.As(err, &process)
}

// app returns socketdev's tree of commands. It holds the values of the flags
// once it has run, so it is made anew for each run.
func (p *program) app() *cli.Command {
	app := &cli.Command{
		Name:  "socketdev",
		Usage: "a private Lightning network with socketds",
		Description: strings.TrimSpace(`
socketdev runs lnd nodes on this machine, a socketd beside each, and connects
them. Nothing of it can be reached from other machines, and nothing of it is
left when it ends.

    $ socketdev demo    show a socket at work, from its start to its end
    $ socketdev up      run a network to play with, until ^C
`),
		Writer:       p.stdout,
		ErrWriter:    p.stderr,
		Action:       runRoot,
		OnUsageError: onUsageError,
		Commands: []*cli.Command{
			p.upCommand(),
			p.demoCommand(),
			p.compareCommand(),
			p.udpClientCommand(),
		},

		// Without a handler the package would end the process itself.
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
	}

	for _, cmd := range app.Commands {
		cmd.Action = withoutArguments(cmd.Action)
		cmd.OnUsageError = onUsageError
		cmd.HideHelpCommand = true
	}

	return app
}

// runRoot runs when no command was recognized.
func runRoot(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Present() {
		err := usagef("unknown command %q", cmd.Args().First())

		return onUsageError(ctx, cmd, err, false)
	}

	return cli.ShowRootCommandHelp(cmd)
}

// onUsageError turns what is wrong with the command line into a usageError that
// says where to look for help.
func onUsageError(_ context.Context, cmd *cli.Command, err error,
	_ bool) error {

	return usagef("%w (see %s --help)", err, cmd.FullName())
}

// withoutArguments wraps the action of a command that takes no arguments.
func withoutArguments(action cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		if cmd.Args().Present() {
			err := usagef("unexpected argument %q",
				cmd.Args().First())

			return onUsageError(ctx, cmd, err, true)
		}

		err := action(ctx, cmd)

		var usage *usageError
		if errors.As(err, &usage) {
			return onUsageError(ctx, cmd, err, true)
		}

		return err
	}
}

// placeFlags are the flags that say where the programs and the files are.
func placeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name:        "bindir",
			DefaultText: "the directory of socketdev",
			Usage: "the `directory` that holds lnd, lncli, " +
				"socketd and socketcli",
		},
		&cli.StringFlag{
			Name:        "dir",
			DefaultText: "a temporary one, removed at the end",
			Usage: "the `directory` that takes everything the " +
				"network writes; it is kept",
		},
	}
}

// binDir returns the directory that holds the programs, as an absolute path.
func binDir(cmd *cli.Command) (string, error) {
	if dir := cmd.String("bindir"); dir != "" {
		return filepath.Abs(dir)
	}

	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the programs: %w", err)
	}

	return filepath.Dir(self), nil
}
