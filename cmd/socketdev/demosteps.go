package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/socketd/socketd/socketrpc"
)

// prefixDigits is how many digits of an id socketcli asks for.
const prefixDigits = 8

// connection is what an offer's event says of its socket.
type connection struct {
	Protocol  string `json:"protocol"`
	IP        string `json:"ip"`
	Port1     string `json:"port1"`
	Port2     string `json:"port2"`
	SocketID  string `json:"socket_id"`
	Admission string `json:"admission"`
	Leg       uint32 `json:"leg"`
}

// showNetwork tells what runs.
func (d *demo) showNetwork(context.Context) error {
	err := d.say("Up and peers of each other after %s.",
		seconds(d.lab.took))
	if err != nil {
		return err
	}

	for _, node := range d.lab.Nodes {
		err := d.say("%s is %s\n%s is %s", node.Name,
			node.Lnd.PubKey(), alias(node),
			shellJoin(d.lab.socketcli(node)))
		if err != nil {
			return err
		}
	}

	return nil
}

// startSocket starts the default socket of A.
func (d *demo) startSocket(ctx context.Context) error {
	if err := d.newSocket(ctx); err != nil {
		return err
	}

	if d.socket.Admission != withoutToken {
		return fmt.Errorf("the admission of the socket is %q",
			d.socket.Admission)
	}

	return nil
}

// port returns the port of a leg of the socket.
func (d *demo) port(leg int) (uint16, error) {
	text := d.socket.Port1
	if leg == 2 {
		text = d.socket.Port2
	}

	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port%d of the socket: %w", leg, err)
	}

	return uint16(port), nil
}

// listen starts the streams of events.
func (d *demo) listen(ctx context.Context) error {
	for _, who := range []*actor{d.a, d.b} {
		if err := d.subscribe(ctx, who); err != nil {
			return err
		}
	}

	return nil
}

// sendDefault offers A's default socket to B.
func (d *demo) sendDefault(ctx context.Context) error {
	return d.sendOffer(ctx)
}

// sendOffer offers a socket of A to B, as the flags say.
func (d *demo) sendOffer(ctx context.Context, flags ...string) error {
	args := append([]string{"send"}, flags...)
	args = append(args, d.b.node.Lnd.PubKey())

	var resp socketrpc.SendSocketResponse
	if err := d.cli(ctx, d.a, &resp, args...); err != nil {
		return err
	}

	if len(resp.Id) < prefixDigits {
		return fmt.Errorf("the offer has the id %q", resp.Id)
	}
	d.offerID = resp.Id

	return nil
}

// receiveOffer waits for the offer at B and compares what it says with what A
// started.
func (d *demo) receiveOffer(ctx context.Context) error {
	event, err := d.awaitEvent(
		ctx, d.b, socketrpc.Event_OFFER_RECEIVED,
		func(event *socketrpc.Event) bool {
			return event.Id == d.offerID
		},
	)
	if err != nil {
		return err
	}

	if err := d.say("its data: %s", event.Data); err != nil {
		return err
	}

	return checkOffer(event, d.a.node.Lnd.PubKey(), d.socket)
}

// checkOffer compares the event of an offer with the socket that was offered.
func checkOffer(event *socketrpc.Event, from string,
	socket *socketrpc.StartSocketResponse) error {

	if event.FromPubkey != from {
		return fmt.Errorf("the offer is from %q, not from %q",
			event.FromPubkey, from)
	}

	var got connection
	if err := json.Unmarshal(event.Data, &got); err != nil {
		return fmt.Errorf("data of the event: %w", err)
	}

	want := connection{
		Protocol:  socket.Protocol,
		IP:        socket.Ip,
		Port1:     socket.Port1,
		Port2:     socket.Port2,
		SocketID:  socket.SocketId,
		Admission: socket.Admission,
		Leg:       2,
	}
	if got != want {
		return fmt.Errorf("the offer says %+v, the socket is %+v", got,
			want)
	}

	return nil
}

// acceptOffer has B accept the offer by the beginning of its id, and waits
// until A hears of it.
func (d *demo) acceptOffer(ctx context.Context) error {
	var offers socketrpc.ListOffersResponse
	if err := d.cli(ctx, d.b, &offers, "offers"); err != nil {
		return err
	}

	if err := checkPending(&offers, d.offerID); err != nil {
		return err
	}

	_, err := d.accept(ctx)

	return err
}

// accept is acceptOffer without a look at the offers. It returns what B was
// answered.
func (d *demo) accept(ctx context.Context) (*socketrpc.AcceptOfferResponse,
	error) {

	accepted := &socketrpc.AcceptOfferResponse{}
	err := d.cli(ctx, d.b, accepted, "accept", d.offerID[:prefixDigits])
	if err != nil {
		return nil, err
	}

	if state := accepted.Offer.GetState(); state !=
		socketrpc.Offer_ACCEPTED {

		return nil, fmt.Errorf("the offer is %v after B accepted it",
			state)
	}

	event, err := d.awaitEvent(
		ctx, d.a, socketrpc.Event_OFFER_ACCEPTED,
		func(event *socketrpc.Event) bool {
			return event.ReplyToId == d.offerID
		},
	)
	if err != nil {
		return nil, err
	}

	if event.Id != accepted.Id {
		return nil, fmt.Errorf("message %q came to A, B sent %q",
			event.Id, accepted.Id)
	}

	return accepted, nil
}

// checkPending checks that an offer is listed and waits for a decision.
func checkPending(offers *socketrpc.ListOffersResponse, id string) error {
	for _, offer := range offers.Offers {
		if offer.Id != id {
			continue
		}

		if offer.State != socketrpc.Offer_PENDING {
			return fmt.Errorf("the offer is %v", offer.State)
		}

		return nil
	}

	return fmt.Errorf("the offer %s is not listed", id)
}

// stopDefault stops A's default socket.
func (d *demo) stopDefault(ctx context.Context) error {
	return d.stopSocket(ctx)
}

// stopSocket stops the socket, which is named if it is not the default one, and
// checks that nobody is at its ports.
func (d *demo) stopSocket(ctx context.Context, id ...string) error {
	err := d.cli(
		ctx, d.a, &socketrpc.StopSocketResponse{},
		append([]string{"stop"}, id...)...,
	)
	if err != nil {
		return err
	}

	_, err = d.awaitEvent(
		ctx, d.a, socketrpc.Event_SOCKET_STOPPED,
		func(event *socketrpc.Event) bool {
			return event.SocketId == d.socket.SocketId
		},
	)
	if err != nil {
		return err
	}

	for _, leg := range []int{1, 2} {
		port, err := d.port(leg)
		if err != nil {
			return err
		}

		check, what := checkClosed, "datagram"
		if d.socket.Protocol == "tcp" {
			check, what = checkPortFree, "connection"
		}

		if err := check(ctx, port); err != nil {
			return fmt.Errorf("port%d: %w", leg, err)
		}

		err = d.say("port %d is free again, and a %s to it is refused",
			port, what)
		if err != nil {
			return err
		}
	}

	return nil
}
