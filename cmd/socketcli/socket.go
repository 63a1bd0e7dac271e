package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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

The default socket is open: the first to come is the client. A further socket
takes only clients that prove that they hold the token of their leg; the
response has the tokens, and no list or event ever shows them. With --admission
open it is open, too. With --socket_id, show a running socket of this node
again, tokens included.

This node must be able to host sockets; "socketcli getinfo" tells.

Examples:

    $ socketcli start
    $ socketcli start --label game --admission open
    $ socketcli start --protocol tcp --allow1 192.0.2.0/24 --lifetime 2h
    $ socketcli start --socket_id 5f3a9c01
`),
		Flags: append([]cli.Flag{
			&cli.StringFlag{
				Name:        protocolFlag,
				DefaultText: protocolUDP,
				Usage: "the `protocol` to relay, udp " +
					"or tcp",
			},
			&cli.StringFlag{
				Name: labelFlag,
				Usage: "a `name` for the socket, at most 64 " +
					"characters; offers of it carry it",
			},
			&cli.StringFlag{
				Name:        admissionFlag,
				DefaultText: admissionToken,
				Usage: "`who` may be a client: token, who " +
					"proves to hold the leg's token, or " +
					"open, who comes first",
			},
			allowFlag(1), allowFlag(2),
			&cli.StringFlag{
				Name: socketIDFlag,
				Usage: "show the running socket with this " +
					"`id`, or 8 or more of its first " +
					"digits; no other flag goes with it",
			},
		}, limitFlags()...),
		Action: startSocket,
	}
}

// allowFlag returns the flag of the networks that a leg's clients may come
// from.
func allowFlag(leg int) cli.Flag {
	return &cli.StringSliceFlag{
		Name:        fmt.Sprintf("allow%d", leg),
		DefaultText: "everywhere",
		Usage: fmt.Sprintf("a `network`, such as 192.0.2.0/24, or an "+
			"address that clients of leg %d may come from; may "+
			"be given several times", leg),
	}
}

// startSocket starts a socket.
func startSocket(ctx context.Context, cmd *cli.Command) error {
	req, err := startRequest(cmd)
	if err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	req.SocketId, err = client.resolveSocket(
		ctx, "--"+socketIDFlag, req.GetSocketId(),
	)
	if err != nil {
		return err
	}

	resp, err := client.StartSocket(ctx, req)
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}

// startRequest returns the request that the command line describes. Its socket
// id may still be a prefix.
func startRequest(cmd *cli.Command) (*socketrpc.StartSocketRequest, error) {
	if _, err := arguments(cmd, 0); err != nil {
		return nil, err
	}

	var req socketrpc.StartSocketRequest
	for _, text := range []struct {
		name  string
		field *string
	}{
		{protocolFlag, &req.Protocol},
		{labelFlag, &req.Label},
		{admissionFlag, &req.Admission},
		{socketIDFlag, &req.SocketId},
	} {
		var err error
		if *text.field, err = option(cmd, text.name); err != nil {
			return nil, err
		}
	}

	req.Allow1, req.Allow2 = cmd.StringSlice("allow1"),
		cmd.StringSlice("allow2")
	if slices.Contains(slices.Concat(req.Allow1, req.Allow2), "") {
		return nil, usagef("--allow1, --allow2: a value is empty")
	}

	var err error
	if req.Limits, err = parseLimits(cmd); err != nil {
		return nil, err
	}
	if req.SocketId == "" {
		return &req, nil
	}

	req.SocketId, err = parseID("--"+socketIDFlag, req.SocketId)
	if err != nil {
		return nil, err
	}

	return &req, nil
}

// stopCommand returns the command that calls StopSocket.
func stopCommand() *cli.Command {
	return &cli.Command{
		Name:      "stop",
		Category:  categorySockets,
		Usage:     "Stop a socket.",
		ArgsUsage: "[socket_id]",
		Description: strings.TrimSpace(`
Without an argument, stop the default socket, and succeed if there is none.
With the id of a socket, or 8 or more of its first digits, stop that one.
Its two ports are closed at once.

The socket may also be one that another node hosts and whose offer this node has
accepted. Then the offer ends, and whatever this node passed on of it; and the
host stops the socket if it was this node that asked for it.

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

	id, err := client.resolveAnySocket(ctx, name, prefix)
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
		Usage:    "List the sockets of this node.",
		Description: strings.TrimSpace(`
List every socket that has not ended, oldest first. On a terminal it is a
table: the first digits of the id, which other commands take; protocol and
admission; the address and the port of each leg; which legs have a client;
how much passed, both directions together; how old it is, and when it ends; the
node that it is counted against, "hosted" before it if the socket was opened on
a request of that node; and its state. In a pipe or a file, and with --json, it
is JSON, which has more: the limits, the client that each leg is pinned to, what
passed in each direction, and what was dropped and why; of a TCP socket also how
many connections there are and were. Tokens are not shown: "socketcli start
--socket_id" does that.

Examples:

    $ socketcli list
    $ socketcli list --json
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

	return printList(cmd, resp, func(now time.Time) *table {
		return socketTable(resp.GetSockets(), now)
	})
}
