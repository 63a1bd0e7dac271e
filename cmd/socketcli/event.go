package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

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
ended; a socket started, stopped or failed; a leg took a client; a limit bit.
The command runs until ^C, and then exits with 0. It says on stderr from when
on it listens.

Each event is one line. On a terminal that is its time, its cursor, its
type, and what is known of it, ids cut to their first digits. In a pipe or a
file, and with --json, it is JSON. There, an event's data is JSON in base64:
for an offer, the connection information.

Every event has a cursor. With --after, what happened after that cursor
comes first, and with --since what happened since that time; without them,
only new events do.

Examples:

    $ socketcli events
    $ socketcli events --after 41
    $ socketcli events --since 1h
    $ socketcli events --since 2026-01-31T08:00:00Z
    $ socketcli events | jq '.data |= @base64d'
`),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name:        "after",
				DefaultText: "only new events",
				Usage: "the `cursor` of the last event that " +
					"is known",
			},
			&cli.StringFlag{
				Name:        "since",
				DefaultText: "only new events",
				Usage: "the `time` from which on to print " +
					"what happened: how long ago, as in " +
					"90m, or in RFC 3339, as in " +
					"2026-01-31T08:00:00Z, or in Unix " +
					"seconds",
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

	req, err := eventsRequest(cmd)
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

	stream, err := client.SubscribeEvents(streamCtx, req)
	if err == nil {
		tellLive(cmd, stream)
	}
	for err == nil {
		var event *socketrpc.Event
		event, err = stream.Recv()
		if err != nil {
			break
		}

		if err := printEvent(cmd, event); err != nil {
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

// eventsRequest returns the request that the command line describes.
func eventsRequest(cmd *cli.Command) (*socketrpc.SubscribeEventsRequest,
	error) {
	// Either flag says where to begin.
	if cmd.IsSet("after") && cmd.IsSet("since") {
		return nil, usagef("--after and --since cannot both be given")
	}

	after, err := parseCursor(cmd)
	if err != nil {
		return nil, err
	}

	text, err := option(cmd, "since")
	if err != nil {
		return nil, err
	}
	since, err := parseSince(text, time.Now())
	if err != nil {
		return nil, err
	}

	return &socketrpc.SubscribeEventsRequest{
		After: after,
		Since: since,
	}, nil
}

// parseSince returns the time that text names, in Unix seconds: text is such a
// time, a time in RFC 3339, or how long before now it was. The empty text is 0,
// which is no time.
func parseSince(text string, now time.Time) (int64, error) {
	if text == "" {
		return 0, nil
	}

	seconds, err := strconv.ParseInt(text, 10, 64)
	if err == nil && seconds > 0 {
		return seconds, nil
	}

	when, err := time.Parse(time.RFC3339, text)
	if err == nil && when.Unix() > 0 {
		return when.Unix(), nil
	}

	ago, err := time.ParseDuration(text)
	if err != nil || ago <= 0 {
		return 0, usagef("--since: %q is neither a duration, as in "+
			"90m, nor a time in RFC 3339, as in "+
			"2026-01-31T08:00:00Z, nor one in Unix seconds", text)
	}

	// Nothing was before 1970.
	return max(now.Add(-ago).Unix(), 1), nil
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
