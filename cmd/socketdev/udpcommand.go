package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/urfave/cli/v3"
)

// loopback is the address of everything here.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// udpClientCommand returns the command that is a client of a leg: the demo runs
// it as a process of its own.
func (p *program) udpClientCommand() *cli.Command {
	return &cli.Command{
		Name:   "udp-client",
		Usage:  "Exchange datagrams with another one of its kind.",
		Hidden: true,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name:  "name",
				Usage: "what its lines begin with",
				Value: "client",
			},
			&cli.IntFlag{Name: "port", Usage: "the port to use"},
			&cli.IntFlag{Name: "count", Usage: "datagrams in all"},
			&cli.IntFlag{Name: "window", Usage: "datagrams a turn"},
			&cli.Uint64Flag{Name: "seed", Usage: "what is sent"},
			&cli.Uint64Flag{Name: "peerseed", Usage: "what comes"},
			&cli.DurationFlag{
				Name:  "timeout",
				Usage: "how long nothing may come",
				Value: 30 * time.Second,
			},
			&cli.BoolFlag{
				Name: "hold",
				Usage: "send the first window only when " +
					"standard input ends",
			},
		},
		Action: p.udpClient,
	}
}

// clientArgs returns the arguments that run a client.
func clientArgs(cfg clientConfig, hold bool) []string {
	args := []string{
		"udp-client",
		"--name=" + cfg.name,
		"--port=" + strconv.Itoa(int(cfg.port)),
		"--count=" + strconv.Itoa(cfg.count),
		"--window=" + strconv.Itoa(cfg.window),
		"--seed=" + strconv.FormatUint(cfg.seed, 10),
		"--peerseed=" + strconv.FormatUint(cfg.peerSeed, 10),
		"--timeout=" + cfg.timeout.String(),
	}
	if hold {
		args = append(args, "--hold")
	}

	return args
}

// udpClient runs a client and prints its summary as one line of JSON.
func (p *program) udpClient(ctx context.Context, cmd *cli.Command) error {
	port := cmd.Int("port")
	if port < 1 || port > math.MaxUint16 {
		return usagef("--port: %d is not a port", port)
	}

	cfg := clientConfig{
		name:     cmd.String("name"),
		port:     uint16(port),
		count:    cmd.Int("count"),
		window:   cmd.Int("window"),
		seed:     cmd.Uint64("seed"),
		peerSeed: cmd.Uint64("peerseed"),
		timeout:  cmd.Duration("timeout"),
	}

	switch {
	case cfg.count < 1:
		return usagef("--count: %d is less than 1", cfg.count)
	case cfg.window < 1:
		return usagef("--window: %d is less than 1", cfg.window)
	case cfg.timeout <= 0:
		return usagef("--timeout: %v is no time", cfg.timeout)
	}

	hold := func() error { return nil }
	if cmd.Bool("hold") {
		hold = func() error {
			_, err := io.Copy(io.Discard, p.stdin)

			return err
		}
	}

	summary, err := runClient(ctx, cfg, p.stdout, hold)
	if err != nil {
		return fmt.Errorf("%s: %w", cfg.name, err)
	}

	line, err := json.Marshal(summary)
	if err != nil {
		return fmt.Errorf("encode the summary: %w", err)
	}
	_, err = fmt.Fprintf(p.stdout, "%s\n", line)

	return err
}
