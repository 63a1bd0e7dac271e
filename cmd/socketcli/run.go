package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"
)

const (
	// exitDone is the exit code of a command that did what it was told.
	exitDone = 0

	// exitFailed is the exit code of a call that was refused or failed.
	exitFailed = 1

	// exitUsage is the exit code for a wrong command line.
	exitUsage = 2
)

// run executes the command line args, of which the first is the program's
// name, and returns the exit code. The end of ctx is what ^C is in a terminal.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := newApp(stdout, stderr).Run(ctx, args)
	if err == nil {
		return exitDone
	}

	// What socketd says may hold what a stranger said.
	_, _ = fmt.Fprintf(stderr, "[socketcli] %s\n", visible(err.Error()))

	// The cli package's own exit errors are about help topics that do not
	// exist.
	var (
		usage *usageError
		exit  cli.ExitCoder
	)
	if errors.As(err, &usage) || errors.As(err, &exit) {
		return exitUsage
	}

	return exitFailed
}

// newApp returns socketcli's tree of commands. It holds the values of the
// flags once it has run, so it is made anew for each run.
func newApp(stdout, stderr io.Writer) *cli.Command {
	app := &cli.Command{
		Name:  "socketcli",
		Usage: "control plane for your socketd",
		Description: strings.TrimSpace(`
socketcli talks to a running socketd: it starts sockets on this node, offers
them to other Lightning nodes or asks those to host, and shows what became of
it.

The response is printed as JSON on stdout, an error in words on stderr. The
exit code is 0 when the call was done, 1 when it was refused or failed, and
2 when the command line is wrong.

When stdout is a terminal, "list" and "offers" print a table, and "events"
lines to read, instead of JSON; with --json they print JSON there, too. What
a terminal would obey or hide, such as a control character in a label, is
printed as \uXXXX.

Wherever an id is expected, the first 8 or more of its 64 hex digits will do
if no other id begins with them.

Example: A starts a socket and sends it to B, B sees the offer and accepts:

    A$ socketcli start
    A$ socketcli send <pubkey of B>
    B$ socketcli offers --pending_only
    B$ socketcli accept <id>

A and B, which both cannot host, meet on R:

    A$ socketcli meet <pubkey of B> --via <pubkey of R>
    B$ socketcli accept <id>
`),
		Version:      versionText(),
		Writer:       stdout,
		ErrWriter:    stderr,
		Flags:        globalFlags(),
		Action:       runRoot,
		OnUsageError: onUsageError,
		Commands: []*cli.Command{
			startCommand(),
			stopCommand(),
			listCommand(),
			pipeCommand(),
			sendCommand(),
			offersCommand(),
			acceptCommand(),
			rejectCommand(),
			withdrawCommand(),
			meetCommand(),
			policyCommand(),
			eventsCommand(),
			getInfoCommand(),
		},

		// Without a handler the package would end the process itself.
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
	}

	for _, cmd := range app.Commands {
		cmd.Action = withHelpHint(cmd.Action)
		cmd.OnUsageError = onUsageError

		// A word that follows a command is its argument, never a
		// command "help" of its own.
		cmd.HideHelpCommand = true

		// The cli package takes the argument before a --help for a
		// help topic. The help that is wanted is the command's own.
		cmd.CommandNotFound = showOwnHelp
	}

	return app
}

// versionText returns what --version prints after the program's name.
func versionText() string {
	if commit == "" {
		return version
	}

	return version + " commit=" + commit
}

// runRoot runs when no command was recognized.
func runRoot(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Present() {
		err := usagef("unknown command %q", cmd.Args().First())

		return onUsageError(ctx, cmd, err, false)
	}

	return cli.ShowRootCommandHelp(cmd)
}

// showOwnHelp prints the help of cmd.
func showOwnHelp(ctx context.Context, cmd *cli.Command, _ string) {
	_ = cli.ShowCommandHelp(ctx, cmd.Root(), cmd.Name)
}
