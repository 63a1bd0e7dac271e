package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// anyEvent matches every event: one is a line of JSON.
var anyEvent = regexp.MustCompile(`^\{.*\}$`)

// listening matches what socketcli says when its stream of events is live.
var listening = regexp.MustCompile(`listening for events$`)

// alias is what the demo calls a node's socketcli.
func alias(node *regtest.Node) string {
	return "socketcli-" + suffix(node)
}

// showCommand prints a command of a node's socketcli.
func (d *demo) showCommand(who *actor, args ...string) error {
	return d.say("$ %s %s", alias(who.node), shellJoin(args))
}

// cli runs a node's socketcli, shows the command and what it printed, and
// decodes that into resp.
func (d *demo) cli(ctx context.Context, who *actor, resp proto.Message,
	args ...string) error {

	if err := d.showCommand(who, args...); err != nil {
		return err
	}

	out, err := d.call(ctx, who, resp, args...)
	if err != nil {
		return err
	}

	return d.say("%s", out)
}

// call runs a node's socketcli, decodes what it printed into resp, and returns
// it.
func (d *demo) call(ctx context.Context, who *actor, resp proto.Message,
	args ...string) (string, error) {

	command := append(d.lab.socketcli(who.node), args...)
	proc, err := regtest.Start(ctx, regtest.ProcessConfig{
		Name:    alias(who.node) + " " + args[0],
		Path:    command[0],
		Args:    command[1:],
		LogFile: d.lab.file(who.node, "socketcli.log"),
	})
	if err != nil {
		return "", err
	}
	defer proc.Kill()

	if err := proc.WaitExit(ctx); err != nil {
		return "", err
	}

	out, err := proc.Output()
	if err != nil {
		return "", err
	}
	out = strings.TrimSpace(out)

	if err := protojson.Unmarshal([]byte(out), resp); err != nil {
		return "", fmt.Errorf("%s %s printed something else than its "+
			"response: %w: %s", alias(who.node), args[0], err, out)
	}

	return out, nil
}

// subscribe starts a node's stream of events as a process that runs beside the
// steps, and waits until it is live.
func (d *demo) subscribe(ctx context.Context, who *actor) error {
	args := []string{"events"}
	err := d.say("$ %s %s &", alias(who.node), shellJoin(args))
	if err != nil {
		return err
	}

	command := append(d.lab.socketcli(who.node), args...)
	proc, err := d.start(ctx, regtest.ProcessConfig{
		Name:    alias(who.node) + " events",
		Path:    command[0],
		Args:    command[1:],
		LogFile: d.lab.file(who.node, "events.log"),
	})
	if err != nil {
		return err
	}
	who.events = proc.Follow()

	match, err := who.events.Next(ctx, listening)
	if err != nil {
		return fmt.Errorf("wait for the events of %s: %w",
			who.node.Name, err)
	}

	return d.say("%s", match[0])
}

// awaitEvent waits for the next event of a node that fits, shows its line, and
// returns it.
func (d *demo) awaitEvent(ctx context.Context, who *actor,
	kind socketrpc.Event_Type,
	fits func(*socketrpc.Event) bool) (*socketrpc.Event, error) {

	for {
		line, event, err := nextEvent(ctx, who)
		if err != nil {
			return nil, fmt.Errorf("wait for event %v at %s: %w",
				kind, who.node.Name, err)
		}

		if event.Type == kind && fits(event) {
			return event, d.sayEvent(who, line)
		}
	}
}

// nextEvent waits for the next event of a node, and returns its line and what
// it says.
func nextEvent(ctx context.Context, who *actor) (string, *socketrpc.Event,
	error) {

	match, err := who.events.Next(ctx, anyEvent)
	if err != nil {
		return "", nil, err
	}

	event := &socketrpc.Event{}
	if err := protojson.Unmarshal([]byte(match[0]), event); err != nil {
		return "", nil, fmt.Errorf("event %s: %w", match[0], err)
	}

	return match[0], event, nil
}

// whileNoneFails calls run with a context that ends when one of the processes
// fails, and returns that failure then, for it is why run did.
func whileNoneFails(ctx context.Context, procs []*regtest.Process,
	run func(context.Context) error) error {

	watch, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	for _, proc := range procs {
		wg.Go(func() {
			if err := proc.WaitExit(watch); err != nil {
				cancel(err)
			}
		})
	}

	err := run(watch)
	cause := context.Cause(watch)
	cancel(nil)
	wg.Wait()

	var exit *regtest.ExitError
	if err != nil && errors.As(cause, &exit) {
		return cause
	}

	return err
}

// sayEvent shows the line of an event of a node.
func (d *demo) sayEvent(who *actor, line string) error {
	return d.say("an event at %s: %s", who.node.Name, line)
}
