package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc"
)

const (
	// ownLeg is the leg that this node keeps, and passedLeg the one that it
	// passes on.
	ownLeg    = 1
	passedLeg = 2

	// graceTime is how much longer a call may take after ^C, so that what
	// it made is known.
	graceTime = 3 * time.Second
)

// errMeetInterrupted is the error of a meeting that ^C ended.
var errMeetInterrupted = errors.New("interrupted before the other node " +
	"accepted")

// meeting is what it takes to meet a peer on a host. Only one goroutine uses
// it.
type meeting struct {
	// What follows is immutable.
	*client
	opts *meetOptions

	// tell writes a line for whoever watches.
	tell func(format string, args ...any)

	// expiry is when the request and the offer to the peer end if they are
	// not answered, in Unix seconds.
	expiry int64

	// events is the stream of events, and answered whether socketd itself
	// has ended it.
	events   grpc.ServerStreamingClient[socketrpc.Event]
	answered *atomic.Bool

	// The ids of what was made so far, empty for what was not: our request,
	// the host's offer and its socket, and our offer to the peer.
	requestID, offerID, socketID, passedOnID string

	// isOver tells that nothing is left of it: it was turned down, or has
	// ended otherwise, and socketd has ended all that belongs to it.
	isOver bool
}

// run does the whole of it, one step after the other. Its error is that of the
// step that failed.
func (m *meeting) run(ctx context.Context) (*meetResult, error) {
	if err := m.checkOwn(ctx); err != nil {
		return nil, err
	}

	// It ends with ctx at the latest.
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := m.subscribe(streamCtx); err != nil {
		return nil, err
	}

	if err := m.ask(ctx); err != nil {
		return nil, err
	}
	if err := m.awaitHost(ctx); err != nil {
		return nil, err
	}

	accepted, err := m.accept(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.passOn(ctx, accepted.GetOffer()); err != nil {
		return nil, err
	}

	if m.opts.noWait {
		m.tell("not waiting until %s accepts: `socketcli offers` "+
			"shows what becomes of offer %s", m.peerName(),
			cut(m.passedOnID))

		return m.result(accepted), nil
	}

	if err := m.awaitPeer(ctx); err != nil {
		return nil, err
	}
	m.tell("accepted: run `socketcli pipe %s` here, and the other node "+
		"`socketcli pipe %s`", cut(m.offerID), cut(m.socketID))

	return m.result(accepted), nil
}

// checkOwn returns an error if one of the nodes is this one. socketd would say
// so as well, of the peer only once the host has opened a socket.
func (m *meeting) checkOwn(ctx context.Context) error {
	info, err := m.GetInfo(ctx, &socketrpc.GetInfoRequest{})
	if err != nil {
		return m.stopped(ctx, err)
	}

	switch info.GetNodePubkey() {
	case m.opts.peer:
		return usagef("pubkey: it is that of this node itself")

	case m.opts.host:
		return usagef("--%s: it is this node itself; \"socketcli "+
			"start\" and \"socketcli send\" offer a socket of it",
			viaFlag)
	}

	return nil
}

// subscribe opens the stream of events and waits until it is live, so that
// nothing of what comes is missed.
func (m *meeting) subscribe(ctx context.Context) error {
	ctx, m.answered = watchAnswer(ctx)

	var err error
	m.events, err = m.SubscribeEvents(
		ctx, &socketrpc.SubscribeEventsRequest{},
	)
	if err != nil {
		return m.streamError(ctx, err)
	}

	header, err := m.events.Header()
	if err == nil && len(header.Get(socketrpc.StreamLiveHeader)) > 0 {
		return nil
	}

	// The first receipt tells what went wrong.
	_, err = m.recv(ctx)
	if err == nil {
		err = errNotLive
	}

	return err
}

// errNotLive is the error of a stream that does not say from when on nothing is
// missed.
var errNotLive = errors.New("socketd does not say from when on it tells events")

// ask sends the request to the host.
func (m *meeting) ask(ctx context.Context) error {
	protocol := m.opts.asked.GetProtocol()
	if protocol == "" {
		protocol = protocolUDP
	}
	m.tell("asking %s to host a %s socket", m.hostName(), protocol)

	m.opts.asked.Expiry = m.expiry
	callCtx, cancel := withGrace(ctx)
	defer cancel()

	resp, err := m.SendSocket(callCtx, m.opts.asked)
	if err != nil {
		return err
	}
	m.requestID = resp.GetId()

	return nil
}

// awaitHost waits for the host's offer.
func (m *meeting) awaitHost(ctx context.Context) error {
	for {
		event, err := m.recv(ctx)
		if err != nil {
			return err
		}
		if event.GetReplyToId() != m.requestID {
			continue
		}

		switch event.GetType() {
		case socketrpc.Event_OFFER_DELIVERED:
			m.tell("%s has the request", m.hostName())

		case socketrpc.Event_OFFER_RECEIVED:
			m.offerID = event.GetId()
			m.socketID = event.GetSocketId()

			return nil

		default:
			err := m.ended(event, "the request to "+m.hostName())
			if err != nil {
				return err
			}
		}
	}
}

// accept asks socketd for the host's offer, which it has accepted by itself,
// and for the tokens.
func (m *meeting) accept(ctx context.Context) (*socketrpc.AcceptOfferResponse,
	error) {

	callCtx, cancel := withGrace(ctx)
	defer cancel()

	resp, err := m.AcceptOffer(callCtx, &socketrpc.AcceptOfferRequest{
		Id: m.offerID,
	})
	if err != nil {
		return nil, err
	}

	offer := resp.GetOffer()
	m.socketID = offer.GetSocketId()
	m.tell("hosted: socket %s at %s, ports %s and %s", cut(m.socketID),
		offer.GetIp(), offer.GetPort1(), offer.GetPort2())

	return resp, nil
}

// passOn offers leg 2 to the peer.
func (m *meeting) passOn(ctx context.Context, offer *socketrpc.Offer) error {
	m.tell("passing leg %d on to %s", passedLeg, m.peerName())

	callCtx, cancel := withGrace(ctx)
	defer cancel()

	// What is passed on ends no later than what it was made from.
	resp, err := m.SendSocket(callCtx, &socketrpc.SendSocketRequest{
		Pubkey:   m.opts.peer,
		SocketId: m.socketID,
		Expiry:   min(m.expiry, offer.GetExpiresAt()),
		Leg:      passedLeg,
	})
	if err != nil {
		return err
	}
	m.passedOnID = resp.GetId()

	return nil
}

// awaitPeer waits until the peer has accepted.
func (m *meeting) awaitPeer(ctx context.Context) error {
	for {
		event, err := m.recv(ctx)
		if err != nil {
			return err
		}

		switch event.GetReplyToId() {
		// Those of the host's offer have the id of the request.
		case m.requestID:
			err := m.ended(event, "the socket at "+m.hostName())
			if err != nil {
				return err
			}

			continue

		case m.passedOnID:

		default:
			continue
		}

		switch event.GetType() {
		case socketrpc.Event_OFFER_DELIVERED:
			m.tell("%s has the offer, and decides", m.peerName())

		case socketrpc.Event_OFFER_ACCEPTED:
			return nil

		default:
			err := m.ended(event, "the offer to "+m.peerName())
			if err != nil {
				m.tell("the socket at %s ends", m.hostName())

				return err
			}
		}
	}
}

// ended returns an error if an event tells that it is over. The text says what
// the event is about.
func (m *meeting) ended(event *socketrpc.Event, what string) error {
	switch event.GetType() {
	case socketrpc.Event_REQUEST_REJECTED, socketrpc.Event_OFFER_REJECTED:
		what += " was turned down"

	case socketrpc.Event_OFFER_EXPIRED:
		what += " has expired"

	case socketrpc.Event_OFFER_CLOSED:
		what += " was closed"

	default:
		return nil
	}
	m.isOver = true

	if reason := event.GetReason(); reason != "" {
		what += ": " + reason
	}

	return errors.New(what)
}

// recv returns the next event.
func (m *meeting) recv(ctx context.Context) (*socketrpc.Event, error) {
	event, err := m.events.Recv()
	if err != nil {
		return nil, m.streamError(ctx, err)
	}

	return event, nil
}

// streamError says why the stream of events has ended.
func (m *meeting) streamError(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) {
		err = errStreamEnded
	} else {
		err = m.explain(ctx, err, m.answered.Load())
	}

	return m.stopped(ctx, err)
}

// stopped returns why ctx has ended, or err if it has not.
func (m *meeting) stopped(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err

	case errors.Is(context.Cause(ctx), errMeetTimeout):
		node := m.hostName()
		if m.passedOnID != "" {
			node = m.peerName()
		}

		return fmt.Errorf("%s did not answer within %v", node,
			m.opts.timeout)

	default:
		return errMeetInterrupted
	}
}

// result returns what the command prints.
func (m *meeting) result(accepted *socketrpc.AcceptOfferResponse) *meetResult {
	offer := accepted.GetOffer()

	return &meetResult{
		SocketID:   m.socketID,
		OfferID:    m.offerID,
		PassedOnID: m.passedOnID,
		HostPubkey: m.opts.host,
		PeerPubkey: m.opts.peer,
		Protocol:   offer.GetProtocol(),
		IP:         offer.GetIp(),

		// A list without values is a list.
		IPs:       append([]string{}, offer.GetIps()...),
		Port1:     offer.GetPort1(),
		Port2:     offer.GetPort2(),
		Admission: offer.GetAdmission(),
		Leg:       ownLeg,
		Token1:    accepted.GetToken1(),
	}
}

// hostName and peerName return the two nodes as a line names them.
func (m *meeting) hostName() string {
	return cut(m.opts.host) + ellipsis
}

func (m *meeting) peerName() string {
	return cut(m.opts.peer) + ellipsis
}

// cut returns the first digits of an id or a key, as many as an argument needs.
func cut(id string) string {
	return id[:min(minPrefixDigits, len(id))]
}

// withGrace returns a context for a call that makes something. When ctx ends
// the call has a moment left: what it made can be taken back only if its answer
// comes.
func withGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	callCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))

	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(graceTime):
			cancel()

		case <-callCtx.Done():
		}
	})

	return callCtx, func() {
		stop()
		cancel()
	}
}
