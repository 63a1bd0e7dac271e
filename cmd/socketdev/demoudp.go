package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"golang.org/x/sync/errgroup"
)

const (
	// injectFirst is how many packets a stranger sends while A's client is
	// alone.
	injectFirst = 50

	// injectAhead is how many packets strangers send to each port before
	// the exchange begins, so that it never runs without them.
	injectAhead = 10

	// injectInterval is the time between two of a stranger's packets while
	// the exchange runs. They share a buffer with the client's, which they
	// must not fill.
	injectInterval = time.Millisecond

	// clientTimeout is how long nothing may come at a client.
	clientTimeout = 30 * time.Second

	// settleTime is how long the counters may take to be right after the
	// last packet was sent, and settleInterval how often they are looked
	// at: what a client has received may not be counted yet, and what a
	// stranger has sent may not be received yet.
	settleTime     = 5 * time.Second
	settleInterval = 50 * time.Millisecond

	// The seeds of the two clients.
	seedA = 0xa11ce
	seedB = 0xb0b
)

// udpClient is a client that runs as a process.
type udpClient struct {
	proc *regtest.Process

	// addr is the client's address, which its leg is to be pinned to.
	addr string

	// summary is what it did, once it has ended.
	summary clientSummary
}

var (
	// clientHello is the line with a client's address.
	clientHello = regexp.MustCompile(`^.*` + helloLine + ` (\S+)$`)

	// clientHeard is the line of a client that has heard the other one.
	clientHeard = regexp.MustCompile(`^.*` + heardLine + `$`)

	// clientResult is the line with a client's summary.
	clientResult = regexp.MustCompile(`^\{.*\}$`)
)

// startClient starts a client and waits until its leg is pinned to it. The
// client sends the first window only when its standard input ends, if one is
// given.
func (d *demo) startClient(ctx context.Context, cfg clientConfig, leg uint32,
	stdin *os.File) (*udpClient, error) {

	args := clientArgs(cfg, stdin != nil)
	err := d.say("$ socketdev %s &", shellJoin(args))
	if err != nil {
		return nil, err
	}

	proc, err := d.start(ctx, regtest.ProcessConfig{
		Name:    cfg.name,
		Path:    d.self,
		Args:    args,
		Stdin:   stdin,
		LogFile: d.lab.file(d.a.node, cfg.name+".log"),
	})
	if err != nil {
		return nil, err
	}

	match, err := proc.WaitLine(ctx, clientHello)
	if err != nil {
		return nil, err
	}
	c := &udpClient{proc: proc, addr: match[1]}

	if err := d.say("%s", match[0]); err != nil {
		return nil, err
	}

	_, err = d.awaitEvent(
		ctx, d.a, socketrpc.Event_CLIENT_PINNED,
		func(event *socketrpc.Event) bool {
			return isPin(event, d.socket.SocketId, leg, c.addr)
		},
	)

	return c, err
}

// isPin says whether an event tells that a leg was pinned to a client.
func isPin(event *socketrpc.Event, socketID string, leg uint32,
	client string) bool {

	var pin struct {
		Leg        uint32 `json:"leg"`
		ClientAddr string `json:"client_addr"`
	}
	if err := json.Unmarshal(event.Data, &pin); err != nil {
		return false
	}

	return event.SocketId == socketID && pin.Leg == leg &&
		pin.ClientAddr == client
}

// finish waits until the client has done its work and reads its summary.
func (c *udpClient) finish(ctx context.Context) (string, error) {
	if err := c.proc.WaitExit(ctx); err != nil {
		return "", err
	}

	match, err := c.proc.WaitLine(ctx, clientResult)
	if err != nil {
		return "", err
	}

	if err := json.Unmarshal([]byte(match[0]), &c.summary); err != nil {
		return "", fmt.Errorf("summary of a client: %w", err)
	}

	return match[0], nil
}

// pinFirst lets A's client take port1, and then a stranger try it.
func (d *demo) pinFirst(ctx context.Context) error {
	port, err := d.port(1)
	if err != nil {
		return err
	}

	d.clientA, err = d.startClient(ctx, clientConfig{
		name:     "client-a",
		port:     port,
		count:    demoCount,
		window:   demoWindow,
		seed:     seedA,
		peerSeed: seedB,
		timeout:  clientTimeout,
	}, 1, nil)
	if err != nil {
		return err
	}

	s, err := newStranger(ctx, port)
	if err != nil {
		return err
	}

	for range injectFirst {
		if err := s.inject(); err != nil {
			return errors.Join(err, s.close())
		}
	}
	d.injected[0] += s.injected

	return errors.Join(
		d.say("A stranger at %v sends %d packets to port1.", s.addr(),
			s.injected),
		s.close(),
	)
}

// exchange lets B's client take port2, and both exchange datagrams while
// strangers send to both ports.
func (d *demo) exchange(ctx context.Context) (err error) {
	ports := make([]uint16, 2)
	for i := range ports {
		ports[i], err = d.port(i + 1)
		if err != nil {
			return err
		}
	}

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

	d.clientB, err = d.startClient(ctx, clientConfig{
		name:     "client-b",
		port:     ports[1],
		count:    demoCount,
		window:   demoWindow,
		seed:     seedB,
		peerSeed: seedA,
		timeout:  clientTimeout,
	}, 2, stdin)
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

	injected, err := injectDuring(ctx, ports, func(
		ctx context.Context) error {

		if err := begin(); err != nil {
			return fmt.Errorf("begin the exchange: %w", err)
		}

		return d.finishClients(ctx)
	})
	if err != nil {
		return err
	}

	for i, n := range injected {
		d.injected[i] += n
	}

	return d.say("Meanwhile strangers sent %d packets to port1 and %d to "+
		"port2.", injected[0], injected[1])
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

// injectDuring sends strangers' packets to the ports, and once it is at it
// calls run and goes on until that returns. It returns how many were sent to
// each port.
func injectDuring(ctx context.Context, ports []uint16,
	run func(context.Context) error) (injected []uint64, err error) {

	strangers := make([]*stranger, 0, len(ports))
	defer func() {
		for _, s := range strangers {
			injected = append(injected, s.injected)
			err = errors.Join(err, s.close())
		}
	}()

	for _, port := range ports {
		s, err := newStranger(ctx, port)
		if err != nil {
			return nil, err
		}
		strangers = append(strangers, s)
	}

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

	return nil, group.Wait()
}

// checkCounters compares what A's socketd counted with what was sent.
func (d *demo) checkCounters(ctx context.Context) error {
	want := wantLegs(
		&d.clientA.summary, &d.clientB.summary, d.injected,
	)
	if err := d.awaitCounters(ctx, want); err != nil {
		return err
	}

	return d.sayCounters(want)
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
		err := d.say("leg %d, by what was sent: %d packets in, %d "+
			"out; dropped: %d of strangers, %d that came before "+
			"the other leg had a client", i+1, leg.packetsIn,
			leg.packetsOut, leg.drops[dropStranger],
			leg.drops[dropNoClient])
		if err != nil {
			return err
		}
	}

	return nil
}
