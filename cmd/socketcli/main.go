// Package main is socketcli, the command line client of socketd.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

var (
	// version is what --version prints. The build sets it.
	version = "dev"

	// commit is the commit that was built; empty if the build does not
	// set it.
	commit string
)

func main() {
	ctx, stop := signal.NotifyContext(
		context.Background(), os.Interrupt, syscall.SIGTERM,
	)

	// The first signal cancels the call. A second one ends the process as
	// if nothing caught it.
	context.AfterFunc(ctx, stop)

	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}
