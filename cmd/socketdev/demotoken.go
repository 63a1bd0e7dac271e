package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
)

// withToken is what socketcli calls the admission of a leg that wants a token,
// and withoutToken what it calls that of one which takes who comes first.
const (
	withToken    = "token"
	withoutToken = "open"
)

// newSocket starts a socket of A, as the flags say. Nothing is known of another
// one after that.
func (d *demo) newSocket(ctx context.Context, flags ...string) error {
	d.socket = &socketrpc.StartSocketResponse{}
	d.tokens = [2]bind.Token{}
	d.clientA, d.clientB = nil, nil
	d.dismissed = [2]intrusions{}

	err := d.cli(
		ctx, d.a, d.socket, append([]string{"start"}, flags...)...,
	)
	if err != nil {
		return err
	}

	if d.socket.Ip != loopback.String() {
		return fmt.Errorf("the socket is at %q, not at %v",
			d.socket.Ip, loopback)
	}

	for _, leg := range []int{1, 2} {
		if _, err := d.port(leg); err != nil {
			return err
		}
	}

	return nil
}

// startWithTokens starts a further socket of A, which wants tokens, and offers
// it to B.
func (d *demo) startWithTokens(ctx context.Context, flags ...string) error {
	if err := d.newSocket(ctx, flags...); err != nil {
		return err
	}

	tokens, err := startTokens(d.socket)
	if err != nil {
		return err
	}
	d.tokens = tokens

	err = d.sendOffer(ctx, "--socket_id="+d.socket.SocketId)
	if err != nil {
		return err
	}

	return d.receiveOffer(ctx)
}

// startGame is startWithTokens for a UDP socket.
func (d *demo) startGame(ctx context.Context) error {
	return d.startWithTokens(ctx, "--label=game")
}

// startTokens returns the tokens of both legs of a socket that was started.
func startTokens(socket *socketrpc.StartSocketResponse) ([2]bind.Token, error) {
	var tokens [2]bind.Token
	if socket.Admission != withToken {
		return tokens, fmt.Errorf("the admission of the socket is %q",
			socket.Admission)
	}

	for i, text := range []string{socket.Token1, socket.Token2} {
		var err error
		tokens[i], err = bind.ParseToken(text)
		if err != nil {
			return tokens, fmt.Errorf("token of leg %d: %w", i+1,
				err)
		}
	}

	if tokens[0] == tokens[1] {
		return tokens, errors.New("both legs have the same token")
	}

	return tokens, nil
}

// acceptWithToken has B accept the offer: the response has the token that B's
// client binds with.
func (d *demo) acceptWithToken(ctx context.Context) error {
	accepted, err := d.accept(ctx)
	if err != nil {
		return err
	}

	d.tokens[1], err = grantedToken(accepted, d.socket)

	return err
}

// grantedToken returns the token of leg 2, which an offer grants: another one
// than those that its socket was started with.
func grantedToken(accepted *socketrpc.AcceptOfferResponse,
	socket *socketrpc.StartSocketResponse) (bind.Token, error) {

	token, err := bind.ParseToken(accepted.Token2)
	switch {
	case err != nil:
		return bind.Token{}, fmt.Errorf("token of leg 2: %w", err)

	case accepted.Token2 == socket.Token1,
		accepted.Token2 == socket.Token2:

		return bind.Token{}, errors.New("the offer's token is one of " +
			"the socket's own")

	case accepted.Token1 != "":
		return bind.Token{}, errors.New("the offer grants leg 1 too")

	default:
		return token, nil
	}
}

// refuseStrangers has strangers send to both ports, before anybody has bound,
// without a token and with a wrong one. Nobody answers.
func (d *demo) refuseStrangers(ctx context.Context) error {
	for _, leg := range []int{1, 2} {
		s, err := d.meetStranger(leg)
		if err != nil {
			return err
		}

		if err := d.intrude(s, injectFirst); err != nil {
			return err
		}

		s, token, err := d.meetForger(leg)
		if err != nil {
			return err
		}

		if err := s.inject(); err != nil {
			return err
		}

		err = d.say("A stranger at %v says hello to port%d with the "+
			"token %s, a wrong one.", s.addr(), leg, token.Hex())
		if err != nil {
			return err
		}
	}

	// Nobody is there to be pinned.
	nobody := &clientSummary{}
	err := d.awaitCounters(ctx, wantLegs(nobody, nobody, d.injected()))
	if err != nil {
		return err
	}

	return d.dismissStrangers()
}

// exchangeBound has both clients bind and exchange datagrams, strangers all the
// while, and B's client move to another port in the middle of it.
func (d *demo) exchangeBound(ctx context.Context) error {
	cfg, err := d.clientConfig(1)
	if err != nil {
		return err
	}

	d.clientA, err = d.startClient(ctx, cfg, nil)
	if err != nil {
		return err
	}

	cfg, err = d.clientConfig(2)
	if err != nil {
		return err
	}
	cfg.moveAfter = demoMove

	if err := d.exchangeAs(ctx, cfg); err != nil {
		return err
	}

	return d.say("Not one datagram was lost, whether it was sent before, "+
		"during or after\nthe move: all %d of each side came to the "+
		"other one.", demoCount)
}

// finishGame compares the counters, and stops the socket.
func (d *demo) finishGame(ctx context.Context) error {
	if err := d.checkCounters(ctx); err != nil {
		return err
	}

	return d.stopSocket(ctx, d.socket.SocketId[:prefixDigits])
}
