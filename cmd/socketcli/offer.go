package main

import (
	"context"
	"strings"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
)

// categoryOffers is the heading of the commands about offers.
const categoryOffers = "Offers"

// offersCommand returns the command that calls ListOffers.
func offersCommand() *cli.Command {
	return &cli.Command{
		Name:     "offers",
		Category: categoryOffers,
		Usage:    "List the offers and requests of this node.",
		Description: strings.TrimSpace(`
List the offers and requests that this node sent or received, oldest first,
each with its state. On a terminal it is a table: the first digits of the
id, which "socketcli accept" and the others take; the direction; whether it is
an offer or a request, if there is a request; the other node, the first digits
of its public key and the alias that it gave itself; the state; how old the
offer is; when it ends if it is not used; and what happens next. Of an offer
that passes a leg on there is the host as well, a third node: for an incoming
one as the peer says, which this node cannot check. In a pipe or a file, and
with --json, it is JSON, which has more: an incoming offer names the address
and the ports at which clients reach the socket.

Examples:

    $ socketcli offers --pending_only
    $ socketcli offers --json
`),
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name:  "pending_only",
				Usage: "leave out what is decided or ended",
			},
		},
		Action: listOffers,
	}
}

// listOffers lists the offers and requests.
func listOffers(ctx context.Context, cmd *cli.Command) error {
	if _, err := arguments(cmd, 0); err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	resp, err := client.ListOffers(ctx, &socketrpc.ListOffersRequest{
		PendingOnly: cmd.Bool("pending_only"),
	})
	if err != nil {
		return err
	}

	return printList(cmd, resp, func(now time.Time) *table {
		return offerTable(resp.GetOffers(), now)
	})
}

// acceptCommand returns the command that calls AcceptOffer.
func acceptCommand() *cli.Command {
	return &cli.Command{
		Name:      "accept",
		Category:  categoryOffers,
		Usage:     "Accept an offer that another node sent.",
		ArgsUsage: "<id>",
		Description: strings.TrimSpace(`
Accept an incoming offer, named by its id or by 8 or more of its first
digits. The host is told, and the response holds the offer with the address
and the ports, and the tokens of the legs that it grants, if they need one.
Accepting twice returns the same answer.

Example:

    $ socketcli accept 1c9be07d
`),
		Action: acceptOffer,
	}
}

// acceptOffer accepts an offer.
func acceptOffer(ctx context.Context, cmd *cli.Command) error {
	prefix, err := offerArgument(cmd)
	if err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	id, err := client.resolveOffer(
		ctx, offerArg, prefix, socketrpc.Offer_INCOMING,
	)
	if err != nil {
		return err
	}

	resp, err := client.AcceptOffer(ctx, &socketrpc.AcceptOfferRequest{
		Id: id,
	})
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}

// rejectCommand returns the command that calls RejectOffer.
func rejectCommand() *cli.Command {
	return &cli.Command{
		Name:      "reject",
		Category:  categoryOffers,
		Usage:     "Turn down an offer that another node sent.",
		ArgsUsage: "<id>",
		Description: strings.TrimSpace(`
Turn down an incoming offer, named by its id or by 8 or more of its first
digits. Its sender is told, with the reason if one is given.

Example:

    $ socketcli reject 1c9be07d --reason "not today"
`),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "reason",
				Usage: "the `text` that the sender is told, " +
					"at most 64 characters",
			},
		},
		Action: rejectOffer,
	}
}

// rejectOffer turns an offer down.
func rejectOffer(ctx context.Context, cmd *cli.Command) error {
	prefix, err := offerArgument(cmd)
	if err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	id, err := client.resolveOffer(
		ctx, offerArg, prefix, socketrpc.Offer_INCOMING,
	)
	if err != nil {
		return err
	}

	resp, err := client.RejectOffer(ctx, &socketrpc.RejectOfferRequest{
		Id:     id,
		Reason: cmd.String("reason"),
	})
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}

// withdrawCommand returns the command that calls WithdrawOffer.
func withdrawCommand() *cli.Command {
	return &cli.Command{
		Name:      "withdraw",
		Category:  categoryOffers,
		Usage:     "Take an offer back, or end an accepted one.",
		ArgsUsage: "<id>",
		Description: strings.TrimSpace(`
Take back an offer or a request that this node sent, or end an accepted offer,
whichever side sent it. It is named by its id or by 8 or more of its first
digits. The other node is told, with the reason if one is given; if it is not
connected, once it is. The token that the offer granted is over at once; the
socket itself goes on, "socketcli stop" ends that. But a socket that was hosted
on a request ends with its offer.

An offer that another node sent and that is not accepted is turned down with
"socketcli reject".

Examples:

    $ socketcli withdraw 1c9be07d
    $ socketcli withdraw 1c9be07d --reason "the game is over"
`),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "reason",
				Usage: "the `text` that the other node is " +
					"told, at most 64 characters",
			},
		},
		Action: withdrawOffer,
	}
}

// withdrawOffer takes an offer back, or ends an accepted one.
func withdrawOffer(ctx context.Context, cmd *cli.Command) error {
	prefix, err := offerArgument(cmd)
	if err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	id, err := client.resolveOffer(
		ctx, offerArg, prefix, socketrpc.Offer_OUTGOING,
		socketrpc.Offer_INCOMING,
	)
	if err != nil {
		return err
	}

	resp, err := client.WithdrawOffer(ctx, &socketrpc.WithdrawOfferRequest{
		Id:     id,
		Reason: cmd.String("reason"),
	})
	if err != nil {
		return err
	}

	return printResponse(cmd, resp)
}

// offerArg is the name of the argument that says which offer is meant.
const offerArg = "id"

// offerArgument returns the offer's id, or the prefix of it, that is the one
// argument of cmd.
func offerArgument(cmd *cli.Command) (string, error) {
	args, err := arguments(cmd, 1, offerArg)
	if err != nil {
		return "", err
	}

	return parseID(offerArg, args[0])
}
