package sidecar

import (
	"context"
	"errors"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// SubscribeEvents streams what happens from now on, from after a cursor, or
// since a time.
func (r *rpcServer) SubscribeEvents(req *socketrpc.SubscribeEventsRequest,
	stream grpc.ServerStreamingServer[socketrpc.Event]) error {

	after := req.After
	switch {
	case req.Since < 0:
		return invalid("since", "%d is negative", req.Since)

	case req.Since > 0 && after > 0:
		return invalid("since", "must not be set beside after")

	case req.Since > 0:
		var err error
		after, err = r.hub.since(
			stream.Context(), time.Unix(req.Since, 0),
		)
		if err != nil {
			return eventsError(err, "")
		}

	case after == 0:
		after = r.hub.cursor()
	}

	return r.streamEvents(stream, after, stream.Send)
}

// Subscribe streams the events that carry connection information, as clients
// of the first published version know them.
func (r *rpcServer) Subscribe(_ *socketrpc.SubscribeRequest,
	stream grpc.ServerStreamingServer[socketrpc.SubscribeResponse]) error {

	send := func(event *socketrpc.Event) error {
		switch event.Type {
		case socketrpc.Event_OFFER_RECEIVED,
			socketrpc.Event_OFFER_ACCEPTED:

		default:
			// These clients cannot tell one event from another,
			// and use the data of each.
			return nil
		}

		return stream.Send(&socketrpc.SubscribeResponse{
			Id:          event.Id,
			ReplyToId:   event.ReplyToId,
			FromPubkey:  event.FromPubkey,
			Data:        event.Data,
			ServiceType: event.ServiceType,
			Amount:      event.Amount,
		})
	}

	return r.streamEvents(stream, r.hub.cursor(), send)
}

// streamEvents sends every event that follows a cursor until the client goes
// away or the daemon stops.
func (r *rpcServer) streamEvents(stream grpc.ServerStream, after uint64,
	send func(*socketrpc.Event) error) error {

	ctx := stream.Context()
	events, changed, err := r.hub.next(ctx, after)
	if err != nil {
		return eventsError(err, "")
	}

	// The header tells the client that from here on it misses nothing.
	err = stream.SendHeader(metadata.Pairs(
		socketrpc.StreamLiveHeader, "live",
	))
	if err != nil {
		return err
	}

	for {
		for _, event := range events {
			if err := send(event); err != nil {
				return err
			}
			after = event.Cursor
		}
		if len(events) == 0 {
			if err := r.waitForEvent(ctx, changed); err != nil {
				return err
			}
		}

		events, changed, err = r.hub.next(ctx, after)
		if err != nil {
			return eventsError(err, "this client reads too "+
				"slowly: ")
		}
	}
}

// eventsError returns the status for what went wrong with reading events. Why
// they may be gone is said before the error.
func eventsError(err error, why string) error {
	switch {
	case errors.Is(err, errCursor):
		return status.Error(codes.OutOfRange, why+err.Error())

	case errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded):

		return status.FromContextError(err).Err()
	}

	return status.Error(codes.Internal, err.Error())
}

// waitForEvent waits until there may be a further event.
func (r *rpcServer) waitForEvent(ctx context.Context,
	changed <-chan struct{}) error {

	select {
	case <-changed:
		return nil

	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()

	case <-r.stopping:
		return status.Error(codes.Unavailable, "socketd stops")
	}
}
