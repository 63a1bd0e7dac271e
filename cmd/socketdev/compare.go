package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/socketd/socketd/internal/compare"
	"github.com/urfave/cli/v3"
)

const (
	// compareRounds is how many rounds a comparison has. The first one does
	// not count.
	compareRounds = 4

	// compareBudget is how long it may take. It leaves some of ten minutes
	// for what is to be installed and built before.
	compareBudget = 8 * time.Minute

	// minCompareBudget is enough for the start and the end.
	minCompareBudget = 30 * time.Second
)

// compareCommand returns the command that compares sockets with other relays.
// Its hidden commands are the processes that it runs.
func (p *program) compareCommand() *cli.Command {
	cmd := &cli.Command{
		Name:  "compare",
		Usage: "Measure sockets side by side with other relays.",
		Description: strings.TrimSpace(`
Run a socketd beside coturn, haproxy, nginx, socat and pion/turn, each on one
core with the clients on another one, and print a report in Markdown. socketd
takes part twice: with OPEN sockets and no limits, and with TOKEN sockets and
every limit set, so high that none is reached. coturn and haproxy have to be
installed. It takes minutes; other work on this machine spoils it.

Rows: ` + strings.Join(compare.Keys(), ", ") + `.

Example:

    $ socketdev compare --only tcp --only udp-plain
`),
		Flags: append(placeFlags(),
			&cli.StringSliceFlag{
				Name:        "only",
				DefaultText: "all",
				Usage: "measure only this `row`, or all of " +
					"udp or tcp; may be given several " +
					"times",
			},
			&cli.IntFlag{
				Name:  "rounds",
				Value: compareRounds,
				Usage: "the `number` of rounds; the first " +
					"one does not count",
			},
			&cli.DurationFlag{
				Name:  "budget",
				Value: compareBudget,
				Usage: "the `time` that it may take in all",
			},
		),
		Action: p.compare,
		Commands: []*cli.Command{
			p.comparePinCommand(),
			p.compareGenerateCommand(),
			p.compareTURNCommand(),
		},
	}
	for _, sub := range cmd.Commands {
		sub.Hidden = true
		sub.HideHelpCommand = true
		sub.OnUsageError = onUsageError
	}

	return cmd
}

// compare compares.
func (p *program) compare(ctx context.Context, cmd *cli.Command) (err error) {
	cfg, err := compareConfig(cmd)
	if err != nil {
		return err
	}

	dir, remove, err := workDir(cmd.String("dir"))
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, remove())
	}()
	cfg.Dir = dir

	return compare.Run(ctx, cfg, p.stdout, p.stderr)
}

// compareConfig reads the flags, other than the one that needs a directory.
func compareConfig(cmd *cli.Command) (compare.Config, error) {
	programs, err := binDir(cmd)
	if err != nil {
		return compare.Config{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return compare.Config{}, fmt.Errorf("find myself: %w", err)
	}

	cfg := compare.Config{
		Self:   self,
		BinDir: programs,
		Only:   cmd.StringSlice("only"),
		Rounds: cmd.Int("rounds"),
		Budget: cmd.Duration("budget"),
	}

	if err := compare.CheckRows(cfg.Only); err != nil {
		return cfg, usagef("--only: %w", err)
	}
	if cfg.Rounds < compare.MinRounds {
		return cfg, usagef("--rounds: %d is less than %d", cfg.Rounds,
			compare.MinRounds)
	}
	if cfg.Budget < minCompareBudget {
		return cfg, usagef("--budget: %v is less than %v", cfg.Budget,
			minCompareBudget)
	}

	words := []string{
		"socketdev", "compare", fmt.Sprintf("--rounds=%d", cfg.Rounds),
		"--budget=" + cfg.Budget.String(),
	}
	for _, name := range cfg.Only {
		words = append(words, "--only="+name)
	}
	cfg.Command = shellJoin(words)

	return cfg, nil
}

// comparePinCommand returns the command that becomes a program on one core.
func (p *program) comparePinCommand() *cli.Command {
	return &cli.Command{
		Name:  "pin",
		Usage: "Run a program on one core: its path and arguments.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "core", Usage: "which core"},
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			argv := cmd.Args().Slice()
			if len(argv) == 0 {
				return usagef("there is no program to run")
			}

			return compare.Become(cmd.Int("core"), argv)
		},
	}
}

// compareGenerateCommand returns the command that is the clients.
func (p *program) compareGenerateCommand() *cli.Command {
	return &cli.Command{
		Name:  "generate",
		Usage: "Be the clients of a relay.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "job", Usage: "what to do"},
			&cli.StringFlag{Name: "result", Usage: "what came"},
		},
		Action: withoutArguments(func(ctx context.Context,
			cmd *cli.Command) error {

			return compare.RunJob(
				ctx, cmd.String("job"), cmd.String("result"),
			)
		}),
	}
}

// compareTURNCommand returns the command that is a TURN server.
func (p *program) compareTURNCommand() *cli.Command {
	return &cli.Command{
		Name:  "turn",
		Usage: "Be a server of pion/turn, until ^C.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "port", Usage: "the port to use"},
		},
		Action: withoutArguments(func(ctx context.Context,
			cmd *cli.Command) error {

			port := cmd.Int("port")
			if port < 1 || port > math.MaxUint16 {
				return usagef("--port: %d is not a port", port)
			}

			return compare.ServeTURN(ctx, uint16(port))
		}),
	}
}
