package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
)

// socketIDFlag is the flag that says which socket is sent.
const socketIDFlag = "socket_id"

// bothLegsFlag is the flag that grants both legs.
const bothLegsFlag = "both_legs"

// sendModes are the values of --mode.
var sendModes = map[string]socketrpc.SendSocketRequest_Mode{
	"":        socketrpc.SendSocketRequest_AUTO,
	"auto":    socketrpc.SendSocketRequest_AUTO,
	"offer":   socketrpc.SendSocketRequest_OFFER,
	"request": socketrpc.SendSocketRequest_REQUEST,
}

// sendLegs are the values of --leg.
var sendLegs = map[string]uint32{"": 0, "1": 1, "2": 2}

// sendCommand returns the command that calls SendSocket.
func sendCommand() *cli.Command {
	return &cli.Command{
		Name:      "send",
		Category:  categoryOffers,
		Usage:     "Establish a socket with another node.",
		ArgsUsage: "<pubkey>",
		Description: strings.TrimSpace(`
Offer a socket to the node with this public key, 66 hex digits. Without
flags it is the default socket, which is started if it does not run. A node
that cannot host sockets, or any with --mode request, sends a request instead:
it asks the other node to host one, as --protocol, --label, --admission and the
limits say. If the other node's policy allows that, it answers with an offer,
which is accepted at once, "socketcli pipe" uses it, and "socketcli accept"
tells the tokens. A request grants this node leg 2, or with --both_legs both;
with both, one of them can be passed on.

With the --socket_id of a socket that another node hosts, a leg that this node
was granted there is passed on: the other node gets its token, and connects to
the host. "socketcli meet" does all of that in one.

If the node is not a peer of this node's lnd the message waits: lnd connects
to it at the addresses that it announces, or it comes by itself. The response
holds the id of the message, and comes once the message is recorded. What
becomes of it shows in "socketcli events", as events whose reply_to_id is
that id, and in "socketcli offers".

A leg that needs a token is granted to one node at a time: until its offer
ends, it is refused to others, and the same node gets the same id again.

Examples, PK being a public key:

    $ socketcli send PK
    $ socketcli send PK --socket_id 5f3a9c01 --expiry 24h
    $ socketcli send PK --mode request
    $ socketcli send PK --mode request --both_legs --protocol tcp
`),
		Flags: append([]cli.Flag{
			&cli.StringFlag{
				Name:        socketIDFlag,
				DefaultText: "the default socket",
				Usage: "the `id` of the socket to offer, or " +
					"of one hosted elsewhere of which " +
					"to pass a leg on, or 8 or more of " +
					"its first digits",
			},
			&cli.StringFlag{
				Name:        "mode",
				DefaultText: "auto",
				Usage: "`how` to establish the socket: offer " +
					"one, request one, or auto, which " +
					"offers if this node can host",
			},
			&cli.StringFlag{
				Name:        "expiry",
				DefaultText: "1h",
				Usage: "`when` the offer ends if it is not " +
					"used, or the request if it is not " +
					"answered, at most 7 days ahead: " +
					"from now, as in 90m, or in Unix " +
					"seconds",
			},
			&cli.StringFlag{
				Name:        "leg",
				DefaultText: "2",
				Usage: "the `leg`, 1 or 2, that is granted: " +
					"by an offer to the other node, by a " +
					"request to this one",
			},
			&cli.BoolFlag{
				Name:  bothLegsFlag,
				Usage: "grant both legs instead of one",
			},
		}, askedFlags()...),
		Action: sendSocket,
	}
}

// sendSocket offers or requests a socket.
func sendSocket(ctx context.Context, cmd *cli.Command) error {
	req, err := sendRequest(cmd)
	if err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	req.SocketId, err = client.resolveAnySocket(
		ctx, "--"+socketIDFlag, req.GetSocketId(),
	)
	if err != nil {
		return err
	}

	resp, err := client.SendSocket(ctx, req)
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}

// sendRequest returns the request that the command line describes. Its socket
// id may still be a prefix.
func sendRequest(cmd *cli.Command) (*socketrpc.SendSocketRequest, error) {
	args, err := arguments(cmd, 1, "pubkey")
	if err != nil {
		return nil, err
	}

	socketID, err := option(cmd, socketIDFlag)
	if err != nil {
		return nil, err
	}
	if socketID != "" {
		socketID, err = parseID("--"+socketIDFlag, socketID)
		if err != nil {
			return nil, err
		}
	}

	modeText, err := option(cmd, "mode")
	if err != nil {
		return nil, err
	}
	mode, ok := sendModes[modeText]
	if !ok {
		return nil, usagef("--mode: %q is not one of auto, offer, "+
			"request", modeText)
	}

	expiryText, err := option(cmd, "expiry")
	if err != nil {
		return nil, err
	}
	expiry, err := parseExpiry(expiryText, time.Now())
	if err != nil {
		return nil, err
	}

	leg, err := parseLegs(cmd)
	if err != nil {
		return nil, err
	}

	req := &socketrpc.SendSocketRequest{
		Pubkey:   args[0],
		SocketId: socketID,
		Mode:     mode,
		Expiry:   expiry,
		Leg:      leg,
		BothLegs: cmd.Bool(bothLegsFlag),
	}
	if err := parseAsked(cmd, req); err != nil {
		return nil, err
	}

	return req, checkMode(cmd, req)
}

// parseLegs returns the value of --leg, 0 if it is not given.
func parseLegs(cmd *cli.Command) (uint32, error) {
	text, err := option(cmd, "leg")
	if err != nil {
		return 0, err
	}
	leg, ok := sendLegs[text]
	if !ok {
		return 0, usagef("--leg: %q is neither 1 nor 2", text)
	}
	if leg != 0 && cmd.Bool(bothLegsFlag) {
		return 0, usagef("--leg and --%s cannot both be given",
			bothLegsFlag)
	}

	return leg, nil
}

// checkMode returns an error if the command line describes a socket to ask for,
// and names one that there is as well, or wants no request. With auto it is for
// socketd to say what this node does.
func checkMode(cmd *cli.Command, req *socketrpc.SendSocketRequest) error {
	const (
		isRequest = socketrpc.SendSocketRequest_REQUEST
		isOffer   = socketrpc.SendSocketRequest_OFFER
	)

	switch {
	case req.GetMode() == isRequest && req.GetSocketId() != "":
		return usagef("--%s: a request asks for a socket that is not "+
			"there yet", socketIDFlag)

	case req.GetMode() == isOffer:
		return noneGiven(cmd, askedFlags(), "only for a request, and "+
			"--mode says offer")

	case req.GetSocketId() != "":
		return noneGiven(cmd, askedFlags(), "only for a request, and "+
			"--"+socketIDFlag+" names a socket that is there")
	}

	return nil
}

// parseExpiry returns the time that text names, in Unix seconds: text is such
// a time, or a duration from now. The empty text is 0, which leaves the choice
// to socketd. Whether the time is too early or too late is for socketd to say.
func parseExpiry(text string, now time.Time) (int64, error) {
	if text == "" {
		return 0, nil
	}

	seconds, err := strconv.ParseInt(text, 10, 64)
	if err == nil && seconds > 0 {
		return seconds, nil
	}

	duration, err := time.ParseDuration(text)
	if err != nil || duration < time.Second {
		return 0, usagef("--expiry: %q is neither a duration of a "+
			"second or more, as in 90m, nor a time in Unix "+
			"seconds", text)
	}

	return now.Add(duration).Unix(), nil
}
