package sidecar

import (
	"context"

	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// SubscribeEvents streams what happens from now on, or from after a cursor.
func (r *rpcServer) SubscribeEvents(req *socketrpc.SubscribeEventsRequest,
	stream grpc.ServerStreamingServer[socketrpc.Event]) error {

	after := req.After
	if after == 0 {
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

	event, changed, err := r.hub.next(after)
	if err != nil {
		return status.Error(codes.OutOfRange, err.Error())
	}

	// The header tells the client that from here on it misses nothing.
	err = stream.SendHeader(metadata.Pairs(
		socketrpc.StreamLiveHeader, "live",
	))
	if err != nil {
		return err
	}

	for {
		if event != nil {
			if err := send(event); err != nil {
				return err
			}
			after = event.Cursor
		} else if err := r.waitForEvent(
			stream.Context(), changed,
		); err != nil {
			return err
		}

		event, changed, err = r.hub.next(after)
		if err != nil {
			return status.Errorf(codes.OutOfRange, "this client "+
				"reads too slowly: %v", err)
		}
	}
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
