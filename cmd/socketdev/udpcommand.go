package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/socketd/socketd/relay/bind"
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
			&cli.StringFlag{
				Name: "socketid",
				Usage: "the socket to bind to, with the " +
					"token in " + bindVar,
			},
			&cli.IntFlag{
				Name:  "leg",
				Usage: "the leg to bind to, 1 or 2",
			},
			&cli.IntFlag{
				Name: "moveafter",
				Usage: "how many datagrams are sent when it " +
					"takes another port",
			},
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

// bindVar is the environment variable that holds the token to bind with: what
// is on a command line, everybody on the machine can read.
const bindVar = "SOCKETDEV_TOKEN"

// clientArgs returns the arguments that run a client. If it binds, it needs
// clientEnv as well.
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
	if !cfg.token.IsZero() {
		args = append(
			args,
			"--socketid="+hex.EncodeToString(cfg.leg.SocketID[:]),
			"--leg="+strconv.Itoa(int(cfg.leg.Num)),
		)
	}
	if cfg.moveAfter > 0 {
		args = append(
			args, "--moveafter="+strconv.Itoa(cfg.moveAfter),
		)
	}
	if hold {
		args = append(args, "--hold")
	}

	return args
}

// clientEnv returns what a client needs in its environment.
func clientEnv(cfg clientConfig) []string {
	if cfg.token.IsZero() {
		return nil
	}

	return []string{bindVar + "=" + cfg.token.Hex()}
}

// leg reads what a client binds to and with from the command line and the
// environment: nothing if no socket is given.
func (p *program) leg(cmd *cli.Command) (bind.Leg, bind.Token, error) {
	var leg bind.Leg
	text := cmd.String("socketid")
	if text == "" {
		return leg, bind.Token{}, nil
	}

	id, err := parseSocketID(text)
	if err != nil {
		return leg, bind.Token{}, usagef("--socketid: %w", err)
	}

	num := cmd.Int("leg")
	if num != 1 && num != 2 {
		return leg, bind.Token{}, usagef("--leg: %d is not 1 or 2", num)
	}

	token, err := bind.ParseToken(p.getenv(bindVar))
	if err != nil {
		return leg, bind.Token{}, usagef("%s: %w", bindVar, err)
	}

	leg.SocketID, leg.Num = id, uint8(num)

	return leg, token, nil
}

// parseSocketID reads the id of a socket.
func parseSocketID(text string) ([32]byte, error) {
	var id [32]byte
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("%q is not %d hex digits", text,
			2*len(id))
	}
	copy(id[:], raw)

	return id, nil
}

// udpClient runs a client and prints its summary as one line of JSON.
func (p *program) udpClient(ctx context.Context, cmd *cli.Command) error {
	port := cmd.Int("port")
	if port < 1 || port > math.MaxUint16 {
		return usagef("--port: %d is not a port", port)
	}

	leg, token, err := p.leg(cmd)
	if err != nil {
		return err
	}

	cfg := clientConfig{
		name:      cmd.String("name"),
		port:      uint16(port),
		leg:       leg,
		token:     token,
		moveAfter: cmd.Int("moveafter"),
		count:     cmd.Int("count"),
		window:    cmd.Int("window"),
		seed:      cmd.Uint64("seed"),
		peerSeed:  cmd.Uint64("peerseed"),
		timeout:   cmd.Duration("timeout"),
	}

	switch {
	case cfg.count < 1:
		return usagef("--count: %d is less than 1", cfg.count)
	case cfg.window < 1:
		return usagef("--window: %d is less than 1", cfg.window)
	case cfg.timeout <= 0:
		return usagef("--timeout: %v is no time", cfg.timeout)
	case cfg.moveAfter < 0:
		return usagef("--moveafter: %d is negative", cfg.moveAfter)
	case cfg.moveAfter > max(0, cfg.count-cfg.window):
		return usagef("--moveafter: %d leaves no window after it",
			cfg.moveAfter)
	case cfg.moveAfter > 0 && token.IsZero():
		return usagef("--moveafter: a client that does not bind " +
			"cannot move")
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
