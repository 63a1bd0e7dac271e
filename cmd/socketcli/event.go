package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
	"google.golang.org/grpc"
)

// errStreamEnded is the error of a stream of events that socketd ended without
// a reason.
var errStreamEnded = errors.New("socketd ended the stream of events")

// eventsCommand returns the command that calls SubscribeEvents.
func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:  "events",
		Usage: "Print what happens to sockets and offers, until ^C.",
		Description: strings.TrimSpace(`
Print an event as it happens: an offer arrived, was accepted, rejected,
ended; a socket started or stopped; a leg took a client; a limit bit. Each
event is one line of JSON. The command runs until ^C, and then exits with 0. It
says on stderr from when on it listens.

Every event has a cursor. With --after, what happened after that cursor
comes first; without it, only new events do. An event's data is JSON in
base64: for an offer, the connection information.

Examples:

    $ socketcli events
    $ socketcli events --after 41
    $ socketcli events | jq '.data |= @base64d'
`),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name:        "after",
				DefaultText: "only new events",
				Usage: "the `cursor` of the last event that " +
					"is known",
			},
		},
		Action: subscribeEvents,
	}
}

// subscribeEvents prints events until ctx ends.
func subscribeEvents(ctx context.Context, cmd *cli.Command) error {
	if _, err := arguments(cmd, 0); err != nil {
		return err
	}

	after, err := parseCursor(cmd)
	if err != nil {
		return err
	}

	client, err := connect(cmd)
	if err != nil {
		return err
	}
	defer client.close()

	// A line that cannot be printed ends the stream as well.
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()

	streamCtx, answered := watchAnswer(streamCtx)

	stream, err := client.SubscribeEvents(
		streamCtx, &socketrpc.SubscribeEventsRequest{After: after},
	)
	if err == nil {
		tellLive(cmd, stream)
	}
	for err == nil {
		var event *socketrpc.Event
		event, err = stream.Recv()
		if err != nil {
			break
		}

		if err := printLine(cmd, event); err != nil {
			return err
		}
	}

	switch {
	// ^C is how this command ends.
	case ctx.Err() != nil:
		return nil

	case errors.Is(err, io.EOF):
		return errStreamEnded

	default:
		return client.explain(ctx, err, answered.Load())
	}
}

// tellLive waits until the stream is live and says so on stderr, so that a
// person or a script knows from when on nothing is missed. What goes wrong is
// left to the first receipt, which tells why.
func tellLive(cmd *cli.Command, stream grpc.ClientStream) {
	header, err := stream.Header()
	if err != nil || len(header.Get(socketrpc.StreamLiveHeader)) == 0 {
		return
	}

	_, _ = fmt.Fprintln(
		cmd.Root().ErrWriter, "[socketcli] listening for events",
	)
}

// parseCursor returns the value of --after, 0 if it is not given.
func parseCursor(cmd *cli.Command) (uint64, error) {
	text, err := option(cmd, "after")
	if err != nil || text == "" {
		return 0, err
	}

	cursor, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, usagef("--after: %q is not a cursor, a whole number",
			text)
	}

	return cursor, nil
}
