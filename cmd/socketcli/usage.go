package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"
)

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

// onUsageError turns what the cli package finds wrong with the flags of cmd
// into a usageError that says where to look for help.
func onUsageError(_ context.Context, cmd *cli.Command, err error,
	_ bool) error {
	// The text goes to stderr without the help itself: it stays in sight.
	return usagef("%w (see %s --help)", err, cmd.FullName())
}

// withHelpHint wraps an action so that its usage errors say where to look for
// help.
func withHelpHint(action cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		err := action(ctx, cmd)

		var usage *usageError
		if errors.As(err, &usage) {
			return onUsageError(ctx, cmd, err, true)
		}

		return err
	}
}

// arguments returns the positional arguments of cmd. There must be at least
// need and at most len(names) of them, and names says what they are.
func arguments(cmd *cli.Command, need int, names ...string) ([]string, error) {
	args := cmd.Args().Slice()

	switch {
	case len(args) < need:
		return nil, usagef("missing argument <%s>", names[len(args)])

	case len(args) > len(names):
		return nil, usagef("unexpected argument %q", args[len(names)])
	}

	return args, nil
}

// option returns the value of a text flag, or "" if it was not given. A flag
// that was given an empty value is an error: it is more likely a variable that
// was not set than a wish for the default.
func option(cmd *cli.Command, name string) (string, error) {
	value := cmd.String(name)
	if value == "" && cmd.IsSet(name) {
		return "", usagef("--%s: the value is empty", name)
	}

	return value, nil
}
