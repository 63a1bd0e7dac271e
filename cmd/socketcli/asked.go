package main

import (
	"strings"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
)

// The flags that describe a socket, of this node or one to ask for.
const (
	protocolFlag  = "protocol"
	labelFlag     = "label"
	admissionFlag = "admission"
)

// askedFlags returns the flags that describe the socket that another node is
// asked to host.
func askedFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{
			Name:        protocolFlag,
			DefaultText: protocolUDP,
			Usage: "the `protocol` that the host is asked to " +
				"relay, udp or tcp",
		},
		&cli.StringFlag{
			Name: labelFlag,
			Usage: "a `name` for the socket that is asked for, " +
				"at most 64 characters",
		},
		&cli.StringFlag{
			Name:        admissionFlag,
			DefaultText: admissionToken,
			Usage: "`who` may be a client of the socket that is " +
				"asked for: token, who proves to hold the " +
				"leg's token, or open, who comes first, " +
				"which few hosts allow",
		},
	}, askedLimitFlags()...)
}

// parseAsked writes what the command line says of the socket that is asked for
// into a request.
func parseAsked(cmd *cli.Command, req *socketrpc.SendSocketRequest) error {
	for _, text := range []struct {
		name  string
		field *string
	}{
		{protocolFlag, &req.Protocol},
		{labelFlag, &req.Label},
		{admissionFlag, &req.Admission},
	} {
		var err error
		if *text.field, err = option(cmd, text.name); err != nil {
			return err
		}
	}

	var err error
	req.Limits, err = parseLimits(cmd)

	return err
}

// givenFlags returns those of the flags that the command line sets, with the
// dashes before them.
func givenFlags(cmd *cli.Command, flags []cli.Flag) []string {
	var given []string
	for _, flag := range flags {
		if name := flag.Names()[0]; cmd.IsSet(name) {
			given = append(given, "--"+name)
		}
	}

	return given
}

// noneGiven returns an error that says why if one of the flags is given.
func noneGiven(cmd *cli.Command, flags []cli.Flag, why string) error {
	given := givenFlags(cmd, flags)
	if len(given) == 0 {
		return nil
	}

	return usagef("%s: %s", strings.Join(given, ", "), why)
}
