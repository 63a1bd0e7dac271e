package main

import (
	"context"
	"strings"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
)

// categorySockets is the heading of the commands about sockets.
const categorySockets = "Sockets"

// startCommand returns the command that calls StartSocket.
func startCommand() *cli.Command {
	return &cli.Command{
		Name:     "start",
		Category: categorySockets,
		Usage:    "Start a socket on this node.",
		Description: strings.TrimSpace(`
Without flags, start the default socket, or return it if it runs: the same
ports again. With any flag, open a further socket.

The response names the address and the two ports. One client sends to port1,
the other to port2, and each receives what the other sent. Each client sends
first, an empty packet is enough, so that its leg gets to know its address.

With --protocol tcp the clients connect instead: the first connection to port1
is joined with the first one to port2, the second with the second, and so on. A
connection waits until its partner is there, and nothing is read from it before.

This node must be able to host sockets; "socketcli getinfo" tells.

Examples:

    $ socketcli start
    $ socketcli start --label game
    $ socketcli start --protocol tcp
`),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name:        "protocol",
				DefaultText: "udp",
				Usage: "the `protocol` to relay, udp " +
					"or tcp",
			},
			&cli.StringFlag{
				Name: "label",
				Usage: "a `name` for the socket, at most 64 " +
					"characters; offers of it carry it",
			},
		},
		Action: startSocket,
	}
}

// startSocket starts a socket.
func startSocket(ctx context.Context, cmd *cli.Command) error {
	if _, err := arguments(cmd, 0); err != nil {
		return err
	}

	protocol, err := option(cmd, "protocol")
	if err != nil {
		return err
	}

	label, err := option(cmd, "label")
	if err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	resp, err := client.StartSocket(ctx, &socketrpc.StartSocketRequest{
		Protocol: protocol,
		Label:    label,
	})
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}

// stopCommand returns the command that calls StopSocket.
func stopCommand() *cli.Command {
	return &cli.Command{
		Name:      "stop",
		Category:  categorySockets,
		Usage:     "Stop a socket of this node.",
		ArgsUsage: "[socket_id]",
		Description: strings.TrimSpace(`
Without an argument, stop the default socket, and succeed if there is none.
With the id of a socket, or 8 or more of its first digits, stop that one.
Its two ports are closed at once.

Examples:

    $ socketcli stop
    $ socketcli stop 5f3a9c01
`),
		Action: stopSocket,
	}
}

// stopSocket stops a socket.
func stopSocket(ctx context.Context, cmd *cli.Command) error {
	const name = "socket_id"

	args, err := arguments(cmd, 0, name)
	if err != nil {
		return err
	}

	// An empty argument is a bad id, not a wish for the default socket.
	var prefix string
	if len(args) > 0 {
		prefix, err = parseID(name, args[0])
		if err != nil {
			return err
		}
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	id, err := client.resolveSocket(ctx, name, prefix)
	if err != nil {
		return err
	}

	resp, err := client.StopSocket(ctx, &socketrpc.StopSocketRequest{
		SocketId: id,
	})
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}

// listCommand returns the command that calls ListSockets.
func listCommand() *cli.Command {
	return &cli.Command{
		Name:     "list",
		Category: categorySockets,
		Usage:    "List the open sockets of this node.",
		Description: strings.TrimSpace(`
List every open socket, oldest first: its two legs, the client that each leg
is pinned to, what passed in both directions, and what was dropped and why; of
a TCP socket also how many connections there are and were.

Example:

    $ socketcli list
`),
		Action: listSockets,
	}
}

// listSockets lists the open sockets.
func listSockets(ctx context.Context, cmd *cli.Command) error {
	if _, err := arguments(cmd, 0); err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	resp, err := client.ListSockets(ctx, &socketrpc.ListSocketsRequest{})
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}
