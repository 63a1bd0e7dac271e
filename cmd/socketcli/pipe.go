package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/socketd/socketd/relay/bind"
	relay "github.com/socketd/socketd/relay/client"
	"github.com/urfave/cli/v3"
)

const (
	// listenFlag is the flag that says where programs reach a UDP leg.
	listenFlag = "listen"

	// allowPrivateFlag is the flag that allows an offer to name an address
	// that is not public.
	allowPrivateFlag = "allow_private"

	// defaultListen is the value of --listen: any port, for programs on
	// this machine.
	defaultListen = "127.0.0.1:0"
)

// The protocols and admissions of sockets, as socketd names them.
const (
	protocolUDP    = "udp"
	protocolTCP    = "tcp"
	admissionOpen  = "open"
	admissionToken = "token"
)

// pipeCommand returns the command that lets programs use a leg of a socket.
func pipeCommand() *cli.Command {
	return &cli.Command{
		Name:      "pipe",
		Category:  categorySockets,
		Usage:     "Use a socket by stdin and stdout, or by a port.",
		ArgsUsage: "<offer or socket id>",
		Description: strings.TrimSpace(`
Connect to a leg of a socket, and hold its token for programs that know nothing
of tokens. The argument is the id of an incoming offer, or of the socket that it
is of, or of a socket of this node; 8 or more of its first digits will do. An
offer is accepted by it.

Of a tcp socket, what comes in by stdin goes to the other side, and what comes
back goes to stdout. The end of stdin is the end of what the other side gets,
but stdout goes on until that side has ended too; the exit code is 0 then. A
connection that breaks is an error. A pipe whose stdin ends before it has sent
anything ends its side once the other one has begun.

Of a udp socket, a local port is opened, stderr says which, and every datagram
that a program on this machine sends to it goes to the other side. What comes
back goes to the program that sent last. The command runs until ^C, and then
exits with 0. It is an error when the leg no longer takes the token.

Examples:

    $ socketcli pipe 1c9be07d < file
    $ socketcli pipe 5f3a9c01 --listen 127.0.0.1:5000
    $ ssh -o ProxyCommand="socketcli pipe 1c9be07d" me@home
`),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name:        "leg",
				DefaultText: "the granted one",
				Usage: "the `leg` to use, 1 or 2; of a " +
					"socket of this node it is 1 unless " +
					"this says 2",
			},
			&cli.StringFlag{
				Name:        listenFlag,
				DefaultText: defaultListen,
				Usage: "the `address` for programs; one that " +
					"is not of loopback lets in whoever " +
					"reaches it; udp only",
			},
			&cli.BoolFlag{
				Name: allowPrivateFlag,
				Usage: "use an address of an offer also if " +
					"it is not a public one, is in a " +
					"network of this machine, or its " +
					"port is below 1024; always so with " +
					"regtest and simnet",
			},
		},
		Action: pipeLeg,
	}
}

// pipeOptions are what the command line says.
type pipeOptions struct {
	// prefix is the id of an offer or a socket, or its first digits.
	prefix string

	// leg is the leg to use, 0 if that was not said.
	leg uint32

	// listen is where programs reach a UDP leg, and isListenSet tells that
	// this was said.
	listen      netip.AddrPort
	isListenSet bool

	// allowPrivate lets an offer name any address.
	allowPrivate bool
}

// parsePipe reads the command line.
func parsePipe(cmd *cli.Command) (*pipeOptions, error) {
	const name = "id"

	args, err := arguments(cmd, 1, name)
	if err != nil {
		return nil, err
	}
	prefix, err := parseID(name, args[0])
	if err != nil {
		return nil, err
	}

	legText, err := option(cmd, "leg")
	if err != nil {
		return nil, err
	}
	leg, ok := sendLegs[legText]
	if !ok {
		return nil, usagef("--leg: %q is neither 1 nor 2", legText)
	}

	listenText, err := option(cmd, listenFlag)
	if err != nil {
		return nil, err
	}
	isListenSet := listenText != ""
	if !isListenSet {
		listenText = defaultListen
	}
	listen, err := netip.ParseAddrPort(listenText)
	if err != nil {
		return nil, usagef("--%s: %q is not an IP address and a port, "+
			"as in 127.0.0.1:5000", listenFlag, listenText)
	}

	network := cmd.String("network")

	return &pipeOptions{
		prefix:      prefix,
		leg:         leg,
		listen:      listen,
		isListenSet: isListenSet,
		allowPrivate: cmd.Bool(allowPrivateFlag) ||
			network == "regtest" || network == "simnet",
	}, nil
}

// pipeLeg connects programs to a leg.
func pipeLeg(ctx context.Context, cmd *cli.Command) error {
	opts, err := parsePipe(cmd)
	if err != nil {
		return err
	}

	target, err := findTarget(ctx, cmd, opts)
	if err != nil {
		return err
	}

	if target.protocol == protocolUDP {
		return pipeUDP(ctx, cmd, target, opts.listen)
	}

	return pipeTCP(ctx, cmd, target)
}

// findTarget finds out from socketd what leg to use, and accepts the offer of
// it.
func findTarget(ctx context.Context, cmd *cli.Command,
	opts *pipeOptions) (*pipeTarget, error) {

	client, err := connect(cmd)
	if err != nil {
		return nil, err
	}
	defer client.close()

	found, err := client.resolvePipe(ctx, opts.prefix)
	if err != nil {
		return nil, err
	}

	return client.pipeTarget(ctx, found, opts)
}

// dialContext returns the context in which a leg is dialed.
func dialContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// dialTCP connects to the leg of a TCP socket, and binds if it takes tokens.
func (t *pipeTarget) dialTCP(ctx context.Context) (*net.TCPConn, error) {
	dialCtx, cancel := dialContext(ctx)
	defer cancel()

	var (
		conn *net.TCPConn
		err  error
	)
	if t.hasToken {
		conn, err = relay.DialTCP(dialCtx, t.config())
	} else {
		conn, err = relay.DialOpenTCP(dialCtx, t.addrs)
	}
	if err != nil {
		return nil, t.explain(ctx, err)
	}
	t.addrs = []netip.AddrPort{conn.RemoteAddr().(*net.TCPAddr).AddrPort()}

	return conn, nil
}

// dialUDP connects to the leg of a UDP socket, and makes it known there.
func (t *pipeTarget) dialUDP(ctx context.Context) (net.Conn, error) {
	dialCtx, cancel := dialContext(ctx)
	defer cancel()

	if t.hasToken {
		conn, err := relay.DialUDP(dialCtx, t.config())
		if err != nil {
			return nil, t.explain(ctx, err)
		}

		return conn, nil
	}

	conn, err := t.dialOpenUDP(dialCtx)
	if err != nil {
		return nil, t.explain(ctx, err)
	}

	// The leg pins whoever sends first. If this does not arrive, what a
	// program sends does it.
	_, _ = conn.Write(nil)

	return conn, nil
}

// dialOpenUDP connects to the first address of an OPEN leg that this machine
// has a way to. Nothing tells whether it works: such a leg answers nobody.
func (t *pipeTarget) dialOpenUDP(ctx context.Context) (*net.UDPConn, error) {
	var (
		dialer net.Dialer
		failed error
	)
	for _, addr := range t.addrs {
		conn, err := dialer.DialUDP(ctx, "udp", netip.AddrPort{}, addr)
		switch {
		case err == nil:
			t.addrs = []netip.AddrPort{addr}

			return conn, nil

		case failed == nil:
			failed = err

		default:
			failed = fmt.Errorf("%w; %w", failed, err)
		}
	}

	return nil, failed
}

// config returns how to bind to the leg.
func (t *pipeTarget) config() relay.Config {
	return relay.Config{
		Addrs:  t.addrs,
		Leg:    bind.Leg{SocketID: t.socketID, Num: uint8(t.leg)},
		Token:  t.token,
		Buffer: pipeBuffer,
	}
}

// explain says what an error of the leg is about.
func (t *pipeTarget) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil

	case ctx.Err() != nil:
		return errPipeInterrupted

	case errors.Is(err, relay.ErrUnbound):
		return fmt.Errorf("leg %d of %s does not take its token, has "+
			"ended, or cannot be reached: %w", t.leg, t.name, err)

	default:
		addrs := make([]string, 0, len(t.addrs))
		for _, addr := range t.addrs {
			addrs = append(addrs, addr.String())
		}

		return fmt.Errorf("leg %d of %s at %s: %w", t.leg, t.name,
			strings.Join(addrs, ", "), err)
	}
}
