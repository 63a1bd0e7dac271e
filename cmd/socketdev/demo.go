package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
)

// demoTimeout bounds the steps of the demo. What remains of two minutes is for
// taking the network down.
const demoTimeout = 75 * time.Second

// errTooSlow is the cause with which the demo ends when its time is up.
var errTooSlow = fmt.Errorf("the demo takes more than %v", demoTimeout)

// demoCommand returns the command that shows a socket from its start to its
// end.
func (p *program) demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "Show a socket between two nodes at work.",
		Description: strings.TrimSpace(`
Start a private network of two nodes, A and B, and do on it what socketd is
for: A starts a socket and offers it to B, B accepts, and two programs exchange
datagrams through it while strangers try to get in. Then the same with a socket
that wants tokens, while one of the programs moves to another port, and with a
TCP socket. Every command is shown with its real output, and everything is
checked. The last line is "demo: ok"; if anything is not as it should be, the
exit code is 1.
`),
		Flags:  placeFlags(),
		Action: p.demo,
	}
}

// demo runs the steps on a network of two nodes.
func (p *program) demo(ctx context.Context, cmd *cli.Command) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program itself: %w", err)
	}

	ctx, cancel := context.WithTimeoutCause(ctx, demoTimeout, errTooSlow)
	defer cancel()

	cfg := labConfig{nodes: minNodes}
	err = p.withLab(ctx, cmd, cfg, func(ctx context.Context,
		l *lab) error {

		d := newDemo(p.stdout, l, self)
		defer d.killChildren()

		return errors.Join(
			runSteps(ctx, p.stdout, d.steps()),
			d.closeStrangers(),
		)
	})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}

	_, err = fmt.Fprintln(p.stdout, "\ndemo: ok")

	return err
}

// step is a part of the demo.
type step struct {
	title string
	run   func(ctx context.Context) error
}

// runSteps runs steps one after the other until one fails, and says which.
func runSteps(ctx context.Context, out io.Writer, steps []step) error {
	for i, s := range steps {
		_, err := fmt.Fprintf(out, "\n== %d/%d %s\n", i+1, len(steps),
			s.title)
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}

		if err := s.run(ctx); err != nil {
			// The context's own words are less than why it ended.
			cause := context.Cause(ctx)
			if cause != nil && !errors.Is(err, cause) {
				err = fmt.Errorf("%w: %w", cause, err)
			}

			return fmt.Errorf("step %d (%s) failed: %w", i+1,
				s.title, err)
		}
	}

	return nil
}

// actor is a node of the demo and the stream of its events.
type actor struct {
	node   *regtest.Node
	events *regtest.Follower
}

// demo is one run of the demo. One goroutine uses it.
type demo struct {
	// out, lab and self, which is the path of this program, are immutable.
	out  io.Writer
	lab  *lab
	self string

	// a hosts the socket, b is the far end.
	a, b *actor

	// children are the processes that run beside the steps.
	children []*regtest.Process

	// What the steps found out, and later ones use: the socket, the id of
	// its offer, the tokens that its clients bind with, if any, and the two
	// clients.
	socket  *socketrpc.StartSocketResponse
	offerID string
	tokens  [2]bind.Token
	clientA *udpClient
	clientB *udpClient

	// strangers are those whose ports are open, and dismissed is what
	// others have sent to the socket.
	strangers []*stranger
	dismissed [2]intrusions
}

// newDemo returns a demo on a network of two nodes.
func newDemo(out io.Writer, l *lab, self string) *demo {
	return &demo{
		out:  out,
		lab:  l,
		self: self,
		a:    &actor{node: l.Nodes[0]},
		b:    &actor{node: l.Nodes[1]},
	}
}

// steps returns the steps in their order.
func (d *demo) steps() []step {
	return []step{
		{"A private network: two lnds, a socketd beside each",
			d.showNetwork},
		{"A starts a socket", d.startSocket},
		{"Both listen for events", d.listen},
		{"A sends the socket to B", d.sendDefault},
		{"B's event stream shows the offer", d.receiveOffer},
		{"B accepts, and A hears of it", d.acceptOffer},
		{"A's program comes to port1, then a stranger", d.pinFirst},
		{"B's program comes to port2: " +
			"both exchange datagrams, strangers all the while",
			d.exchange},
		{"The counters tell it all", d.checkCounters},
		{"A stops the socket, and the ports are closed", d.stopDefault},
		{"A starts a socket that wants tokens and sends it to B",
			d.startGame},
		{"B accepts, and gets a token of its own", d.acceptWithToken},
		{"Strangers come without a token, and with a wrong one",
			d.refuseStrangers},
		{"Both programs bind and exchange datagrams, " +
			"and B's moves to another port meanwhile",
			d.exchangeBound},
		{"The counters tell it all, and A stops the socket",
			d.finishGame},
		{"A starts a TCP socket that wants tokens and sends it to B",
			d.startStream},
		{"A stranger connects with a wrong token", d.refuseConnection},
		{"Two programs that know of no tokens exchange bytes",
			d.exchangeStreams},
	}
}

// say prints a line.
func (d *demo) say(format string, args ...any) error {
	_, err := fmt.Fprintf(d.out, format+"\n", args...)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}

	return nil
}

// start starts a process that runs beside the steps. It is killed at the end
// if it still runs then.
func (d *demo) start(ctx context.Context,
	cfg regtest.ProcessConfig) (*regtest.Process, error) {

	proc, err := regtest.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	d.children = append(d.children, proc)

	return proc, nil
}

// killChildren ends the processes that still run.
func (d *demo) killChildren() {
	for _, proc := range d.children {
		proc.Kill()
	}
}

// closeStrangers closes the ports of strangers that are still open, after a
// step that failed.
func (d *demo) closeStrangers() error {
	var errs []error
	for _, s := range d.strangers {
		errs = append(errs, s.close())
	}
	d.strangers = nil

	return errors.Join(errs...)
}
