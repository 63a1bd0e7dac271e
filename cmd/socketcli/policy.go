package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
	"google.golang.org/protobuf/proto"
)

// The flags of the policy.
const (
	allowRequestsFlag  = "allow_requests"
	openForFlag        = "open_for"
	maxHostedFlag      = "max_hosted"
	maxPerNodeFlag     = "max_per_node"
	maxLifetimeFlag    = "max_lifetime"
	maxBandwidthFlag   = "max_bandwidth"
	nodeBandwidthFlag  = "node_bandwidth"
	totalBandwidthFlag = "total_bandwidth"
	resetFlag          = "reset"
)

// policyCommand returns the command that calls GetPolicy and UpdatePolicy.
func policyCommand() *cli.Command {
	return &cli.Command{
		Name:  "policy",
		Usage: "Show or change for whom this node hosts sockets.",
		Description: strings.TrimSpace(`
Without flags, print whose requests this node hosts sockets for, within which
bounds, how many it hosts, and how many requests it has refused and why.

With flags, change that, without a restart: a flag that is not given leaves its
value as it is. The change is for requests that come from now on, is there after
a restart as well, and takes the place of what the configuration says until
--reset goes back to that. The response is what holds then.

Nodes are named by their public keys, 66 hex digits each; several are separated
by commas, or each has a flag of its own. They take the place of those that were
there. An empty --open_for= means none.

Examples, PK being a public key:

    $ socketcli policy
    $ socketcli policy --allow_requests channel,PK --max_lifetime 6h
    $ socketcli policy --allow_requests none
    $ socketcli policy --max_bandwidth 25M --open_for=
    $ socketcli policy --reset
`),
		Flags: append(policyFlags(), &cli.BoolFlag{
			Name: resetFlag,
			Usage: "go back to what the configuration says; no " +
				"other flag goes with it",
		}),
		Action: showOrChangePolicy,
	}
}

// policyFlags returns the flags that change the policy.
func policyFlags() []cli.Flag {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{
			Name: name, DefaultText: "as it is", Usage: usage,
		}
	}
	words := func(name, usage string) cli.Flag {
		return &cli.StringSliceFlag{
			Name: name, DefaultText: "as it is", Usage: usage,
		}
	}

	return []cli.Flag{
		words(allowRequestsFlag, "`whose` requests are allowed: none, "+
			"any, or channel, for nodes that have an open "+
			"channel with this one, and public keys"),
		words(openForFlag, "the `nodes` that may ask for an open "+
			"socket; all others get sockets that need a token"),
		text(maxHostedFlag, "how `many` sockets are hosted on "+
			"requests at once"),
		text(maxPerNodeFlag, "how `many` sockets of this node another "+
			"one has at once, hosted for it or offered to it"),
		text(maxLifetimeFlag, "after how much `time` a hosted socket "+
			"stops at the latest, as in 24h, or in seconds"),
		text(maxBandwidthFlag, "how many `bytes` may pass a hosted "+
			"socket in a second, in each direction, as in "+
			"12500k; 0 for no limit"),
		text(nodeBandwidthFlag, "how many `bytes` may pass in a "+
			"second all sockets that are counted against one "+
			"node; 0 for no limit"),
		text(totalBandwidthFlag, "how many `bytes` may pass all "+
			"sockets of this node in a second; 0 for no limit"),
	}
}

// showOrChangePolicy shows the policy, or changes it if a flag says so.
func showOrChangePolicy(ctx context.Context, cmd *cli.Command) error {
	req, err := policyRequest(cmd)
	if err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	if req == nil {
		resp, err := client.GetPolicy(
			ctx, &socketrpc.GetPolicyRequest{},
		)
		if err != nil {
			return err
		}

		return printResponse(cmd, resp)
	}

	resp, err := client.UpdatePolicy(ctx, req)
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}

// policyRequest returns the change that the command line describes, nil if it
// describes none.
func policyRequest(cmd *cli.Command) (*socketrpc.UpdatePolicyRequest, error) {
	if _, err := arguments(cmd, 0); err != nil {
		return nil, err
	}

	// A --reset=false is no wish.
	given := givenFlags(cmd, policyFlags())
	switch {
	case cmd.Bool(resetFlag) && len(given) > 0:
		return nil, usagef("--%s and %s cannot both be given",
			resetFlag, given[0])

	case cmd.Bool(resetFlag):
		return &socketrpc.UpdatePolicyRequest{Reset_: true}, nil

	case len(given) == 0:
		return nil, nil
	}

	var req socketrpc.UpdatePolicyRequest
	if err := parsePolicyLists(cmd, &req); err != nil {
		return nil, err
	}
	if err := parsePolicyNumbers(cmd, &req); err != nil {
		return nil, err
	}

	return &req, nil
}

// parsePolicyLists writes the lists of the command line into a request.
func parsePolicyLists(cmd *cli.Command,
	req *socketrpc.UpdatePolicyRequest) error {

	if cmd.IsSet(allowRequestsFlag) {
		allow := cmd.StringSlice(allowRequestsFlag)
		if len(allow) == 0 || slices.Contains(allow, "") {
			return usagef("--%s: a value is empty; none is for "+
				"nobody", allowRequestsFlag)
		}
		req.AllowRequests = &socketrpc.Words{Words: allow}
	}

	if !cmd.IsSet(openForFlag) {
		return nil
	}

	openFor := cmd.StringSlice(openForFlag)
	switch {
	// One that is empty, and nothing else, is an empty list.
	case len(openFor) == 1 && openFor[0] == "":
		openFor = nil

	case slices.Contains(openFor, ""):
		return usagef("--%s: a value is empty", openForFlag)
	}
	req.OpenFor = &socketrpc.Words{Words: openFor}

	return nil
}

// parsePolicyNumbers writes the numbers of the command line into a request.
func parsePolicyNumbers(cmd *cli.Command,
	req *socketrpc.UpdatePolicyRequest) error {

	for _, number := range []struct {
		name  string
		field **uint32
	}{
		{maxHostedFlag, &req.MaxHosted},
		{maxPerNodeFlag, &req.MaxPerNode},
	} {
		text, err := option(cmd, number.name)
		if err != nil {
			return err
		}
		if text == "" {
			continue
		}

		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return usagef("--%s: %q is not a whole number of "+
				"sockets", number.name, text)
		}
		*number.field = proto.Uint32(uint32(n))
	}

	for _, number := range []struct {
		name  string
		field **uint64
		parse func(name, text string) (*uint64, error)
	}{
		{maxLifetimeFlag, &req.MaxLifetime, parseLifetime},
		{maxBandwidthFlag, &req.MaxBandwidth, parseQuantity},
		{nodeBandwidthFlag, &req.NodeBandwidth, parseQuantity},
		{totalBandwidthFlag, &req.TotalBandwidth, parseQuantity},
	} {
		text, err := option(cmd, number.name)
		if err != nil {
			return err
		}
		if text == "" {
			continue
		}

		*number.field, err = number.parse(number.name, text)
		if err != nil {
			return err
		}
	}

	return nil
}

// parseLifetime is parseSeconds, which takes the plain number as well that a
// policy is printed with.
func parseLifetime(name, text string) (*uint64, error) {
	seconds, err := strconv.ParseUint(text, 10, 64)
	if err == nil {
		return &seconds, nil
	}

	return parseSeconds(name, text)
}
