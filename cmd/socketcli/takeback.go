package main

import (
	"context"
	"errors"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc/codes"
)

// takeBackTime is how long it may take to take back what was made.
const takeBackTime = 10 * time.Second

// takeBack ends what was made so far, as well as that can be done, and tells
// so.
func (m *meeting) takeBack(ctx context.Context) {
	if m.isOver || m.requestID == "" {
		return
	}

	ctx, cancel := context.WithTimeout(
		context.WithoutCancel(ctx), takeBackTime,
	)
	defer cancel()

	var err error
	if m.socketID == "" {
		err = m.withdrawRequest(ctx)
	} else {
		err = m.endSocket(ctx, m.socketID)
	}

	// What has ended by itself need not be taken back.
	switch {
	case err == nil || isCode(err, codes.NotFound):

	case m.socketID == "":
		m.tell("cannot take the request back: %v; `socketcli withdraw "+
			"%s` does it", err, cut(m.requestID))

	default:
		m.tell("cannot end the socket: %v; `socketcli stop %s` does it",
			err, cut(m.socketID))
	}
}

// withdrawRequest takes the request back. If the host has answered meanwhile,
// what it has opened is ended.
func (m *meeting) withdrawRequest(ctx context.Context) error {
	resp, err := m.WithdrawOffer(ctx, &socketrpc.WithdrawOfferRequest{
		Id: m.requestID,
	})
	isAnswered := isCode(err, codes.FailedPrecondition) ||
		resp.GetOffer().GetState() == socketrpc.Offer_ACCEPTED

	switch {
	case err != nil && !isAnswered:
		return err

	case !isAnswered:
		m.tell("taken back: the request to %s", m.hostName())

		return nil
	}

	offers, err := m.ListOffers(ctx, &socketrpc.ListOffersRequest{})
	if err != nil {
		return err
	}
	for _, offer := range offers.GetOffers() {
		if offer.GetDirection() == socketrpc.Offer_INCOMING &&
			offer.GetReplyToId() == m.requestID &&
			offer.GetState() == socketrpc.Offer_ACCEPTED {

			return m.endSocket(ctx, offer.GetSocketId())
		}
	}

	return nil
}

// endSocket ends the host's socket, and with it what was passed on of it.
func (m *meeting) endSocket(ctx context.Context, id string) error {
	_, err := m.StopSocket(ctx, &socketrpc.StopSocketRequest{SocketId: id})
	if err != nil {
		return err
	}
	m.tell("taken back: socket %s at %s", cut(id), m.hostName())

	return nil
}

// isCode returns whether socketd has answered with a code.
func isCode(err error, code codes.Code) bool {
	var rpcErr *rpcError

	return errors.As(err, &rpcErr) && rpcErr.status.Code() == code
}
