package main

import (
	"context"
	"strings"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
)

// getInfoCommand returns the command that calls GetInfo.
func getInfoCommand() *cli.Command {
	return &cli.Command{
		Name:  "getinfo",
		Usage: "Describe this socketd and its lnd.",
		Description: strings.TrimSpace(`
Print socketd's version, its lnd, and whether this node can host sockets. If
it cannot, cannot_host_reason says what to set.

Example:

    $ socketcli --network=regtest getinfo
`),
		Action: getInfo,
	}
}

// getInfo describes socketd.
func getInfo(ctx context.Context, cmd *cli.Command) error {
	if _, err := arguments(cmd, 0); err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	resp, err := client.GetInfo(ctx, &socketrpc.GetInfoRequest{})
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}
