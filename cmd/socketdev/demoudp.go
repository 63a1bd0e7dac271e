package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
	"golang.org/x/sync/errgroup"
)

const (
	// injectFirst is how many packets a stranger sends while A's client is
	// alone.
	injectFirst = 50

	// injectAhead is how many packets each stranger sends before the
	// exchange begins, so that it never runs without them.
	injectAhead = 10

	// injectInterval is the time between two of a stranger's packets while
	// the exchange runs. They share a buffer with the client's, which they
	// must not fill.
	injectInterval = time.Millisecond

	// settleTime is how long the counters may take to be right after the
	// last packet was sent, and settleInterval how often they are looked
	// at: what a client has received may not be counted yet, and what a
	// stranger has sent may not be received yet.
	settleTime     = 5 * time.Second
	settleInterval = 50 * time.Millisecond
)

// pinFirst lets A's client take port1, and then a stranger try it.
func (d *demo) pinFirst(ctx context.Context) error {
	cfg, err := d.clientConfig(1)
	if err != nil {
		return err
	}

	d.clientA, err = d.startClient(ctx, cfg, nil)
	if err != nil {
		return err
	}

	s, err := d.meetStranger(1)
	if err != nil {
		return err
	}

	return d.intrude(s, injectFirst)
}

// exchange lets B's client take port2, and both exchange datagrams while
// strangers send to both ports.
func (d *demo) exchange(ctx context.Context) error {
	cfg, err := d.clientConfig(2)
	if err != nil {
		return err
	}

	return d.exchangeAs(ctx, cfg)
}

// exchangeAs is exchange with a client of B's that does as it is told.
func (d *demo) exchangeAs(ctx context.Context, cfg clientConfig) (err error) {
	// B's client waits for the end of its input, until the strangers are
	// at it.
	stdin, input, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	begin := sync.OnceValue(input.Close)
	defer func() {
		err = errors.Join(err, begin())
	}()

	d.clientB, err = d.startClient(ctx, cfg, stdin)
	if err := errors.Join(err, stdin.Close()); err != nil {
		return err
	}

	for _, c := range []*udpClient{d.clientA, d.clientB} {
		match, err := c.proc.WaitLine(ctx, clientHeard)
		if err != nil {
			return err
		}

		if err := d.say("%s", match[0]); err != nil {
			return err
		}
	}

	strangers, err := d.meetStrangers()
	if err != nil {
		return err
	}

	err = injectDuring(ctx, strangers, func(ctx context.Context) error {
		if err := begin(); err != nil {
			return fmt.Errorf("begin the exchange: %w", err)
		}

		procs := []*regtest.Process{d.clientA.proc, d.clientB.proc}

		return whileNoneFails(ctx, procs, func(
			ctx context.Context) error {

			if cfg.moveAfter > 0 {
				err := d.awaitMove(ctx, d.clientB)
				if err != nil {
					return err
				}
			}

			return d.finishClients(ctx)
		})
	})
	if err != nil {
		return err
	}

	return d.sayIntrusions(strangers)
}

// sayIntrusions tells what strangers sent during an exchange.
func (d *demo) sayIntrusions(strangers []*stranger) error {
	var sent [2]intrusions
	for _, s := range strangers {
		s.note(&sent)
	}

	err := d.say("Meanwhile strangers sent %d packets to port1 and %d to "+
		"port2.", sent[0].packets, sent[1].packets)
	if err != nil || sent == [2]intrusions{
		{packets: sent[0].packets}, {packets: sent[1].packets},
	} {

		return err
	}

	return d.say("Others said hello with a wrong token, %d times to port1 "+
		"and %d times to port2.", sent[0].binds, sent[1].binds)
}

// finishClients waits until both clients have done their work, and shows and
// checks what they say.
func (d *demo) finishClients(ctx context.Context) error {
	for _, c := range []*udpClient{d.clientA, d.clientB} {
		line, err := c.finish(ctx)
		if err != nil {
			return err
		}

		if err := d.say("%s", line); err != nil {
			return err
		}
	}

	return checkExchange(
		&d.clientA.summary, &d.clientB.summary, demoCount,
	)
}

// meetStranger opens the port of a stranger at a leg who has no token. It stays
// open until the counters tell that all that was sent has come.
func (d *demo) meetStranger(leg int) (*stranger, error) {
	port, err := d.port(leg)
	if err != nil {
		return nil, err
	}

	s, err := newStranger(port, leg)
	if err != nil {
		return nil, err
	}
	d.strangers = append(d.strangers, s)

	return s, nil
}

// meetForger is meetStranger for one who has a wrong token, which is returned.
func (d *demo) meetForger(leg int) (*stranger, bind.Token, error) {
	port, err := d.port(leg)
	if err != nil {
		return nil, bind.Token{}, err
	}

	name, err := d.bindLeg(leg)
	if err != nil {
		return nil, bind.Token{}, err
	}

	s, token, err := newForger(port, name)
	if err != nil {
		return nil, bind.Token{}, err
	}
	d.strangers = append(d.strangers, s)

	return s, token, nil
}

// meetStrangers opens the ports of strangers at both legs: one each without a
// token, and one each with a wrong one if the legs have tokens.
func (d *demo) meetStrangers() ([]*stranger, error) {
	var strangers []*stranger
	for i, token := range d.tokens {
		s, err := d.meetStranger(i + 1)
		if err != nil {
			return nil, err
		}
		strangers = append(strangers, s)

		if token.IsZero() {
			continue
		}

		s, _, err = d.meetForger(i + 1)
		if err != nil {
			return nil, err
		}
		strangers = append(strangers, s)
	}

	return strangers, nil
}

// intrude has a stranger send so many packets.
func (d *demo) intrude(s *stranger, count int) error {
	for range count {
		if err := s.inject(); err != nil {
			return err
		}
	}

	return d.say("A stranger at %v sends %d packets to port%d.", s.addr(),
		s.injected, s.leg)
}

// injected returns how much strangers have sent to the ports of the socket.
func (d *demo) injected() [2]intrusions {
	sent := d.dismissed
	for _, s := range d.strangers {
		s.note(&sent)
	}

	return sent
}

// dismissStrangers closes the strangers' ports. It is for when the relay has
// counted all that they have sent.
func (d *demo) dismissStrangers() error {
	d.dismissed = d.injected()
	strangers := d.strangers
	d.strangers = nil

	if err := dismiss(strangers); err != nil {
		return err
	}

	return d.say("Nobody has answered the strangers.")
}

// injectDuring sends strangers' packets, and once it is at it calls run and
// goes on until that returns.
func injectDuring(ctx context.Context, strangers []*stranger,
	run func(context.Context) error) error {

	done, ahead := make(chan struct{}), make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		ticker := time.NewTicker(injectInterval)
		defer ticker.Stop()

		for round := 1; ; round++ {
			for _, s := range strangers {
				if err := s.inject(); err != nil {
					return err
				}
			}
			if round == injectAhead {
				close(ahead)
			}

			select {
			case <-ticker.C:
			case <-done:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	group.Go(func() error {
		defer close(done)

		select {
		case <-ahead:
			return run(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	})

	return group.Wait()
}

// checkCounters compares what A's socketd counted with what was sent.
func (d *demo) checkCounters(ctx context.Context) error {
	want := wantLegs(
		&d.clientA.summary, &d.clientB.summary, d.injected(),
	)
	if err := d.awaitCounters(ctx, want); err != nil {
		return err
	}

	if err := d.sayCounters(want); err != nil {
		return err
	}

	return d.dismissStrangers()
}

// awaitCounters waits until A's socketd has counted what it should, and shows
// it.
func (d *demo) awaitCounters(ctx context.Context, want [2]legCounts) error {
	settled, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	ticker := time.NewTicker(settleInterval)
	defer ticker.Stop()

	for {
		var list socketrpc.ListSocketsResponse
		out, err := d.call(ctx, d.a, &list, "list")
		if err != nil {
			return err
		}

		wrong := checkSockets(&list, d.socket.SocketId, want)
		if wrong == nil || settled.Err() != nil {
			return errors.Join(
				d.showCommand(d.a, "list"), d.say("%s", out),
				wrong,
			)
		}

		select {
		case <-ticker.C:
		case <-settled.Done():
		}
	}
}

// sayCounters puts into words what the socket has to count.
func (d *demo) sayCounters(want [2]legCounts) error {
	for i, leg := range want {
		wrong := ""
		if n := leg.drops[dropBadBind]; n > 0 {
			wrong = fmt.Sprintf(" and %d with a wrong token", n)
		}

		err := d.say("leg %d, by what was sent: %d packets in, %d "+
			"out; dropped: %d of strangers%s, %d that came before "+
			"the other leg had a client", i+1, leg.packetsIn,
			leg.packetsOut, leg.drops[dropStranger], wrong,
			leg.drops[dropNoClient])
		if err != nil {
			return err
		}
	}

	return nil
}
