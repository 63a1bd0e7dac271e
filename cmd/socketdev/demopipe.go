package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
)

// pipe is a socketcli that runs as a process and passes on what a program
// writes to it and reads from it. The program is the demo.
type pipe struct {
	proc *regtest.Process

	// stdin is where the program writes, and stdout where it reads.
	stdin  *os.File
	stdout *os.File
}

// startPipe starts a node's socketcli for a socket of its own or an offer.
func (d *demo) startPipe(ctx context.Context, who *actor, id string) (*pipe,
	error) {

	args := []string{"pipe", id[:prefixDigits]}
	err := d.say("$ %s %s &", alias(who.node), shellJoin(args))
	if err != nil {
		return nil, err
	}

	p, stdin, stdout, err := openPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}

	command := append(d.lab.socketcli(who.node), args...)
	p.proc, err = d.start(ctx, regtest.ProcessConfig{
		Name:    alias(who.node) + " pipe",
		Path:    command[0],
		Args:    command[1:],
		Stdin:   stdin,
		Stdout:  stdout,
		LogFile: d.lab.file(who.node, "pipe.log"),
	})

	// The process has its own.
	err = errors.Join(err, stdin.Close(), stdout.Close())
	if err != nil {
		return nil, errors.Join(err, p.close())
	}

	return p, nil
}

// openPipe returns the program's side of a pipe, and the two files of the other
// side. Nothing may take longer than clientTimeout.
func openPipe() (p *pipe, stdin, stdout *os.File, err error) {
	stdin, write, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}

	read, stdout, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, errors.Join(
			err, stdin.Close(), write.Close(),
		)
	}

	p = &pipe{stdin: write, stdout: read}
	deadline := time.Now().Add(clientTimeout)
	err = errors.Join(
		write.SetDeadline(deadline), read.SetDeadline(deadline),
	)
	if err != nil {
		return nil, nil, nil, errors.Join(
			err, p.close(), stdin.Close(), stdout.Close(),
		)
	}

	return p, stdin, stdout, nil
}

// close closes what is still open of the program's side.
func (p *pipe) close() error {
	var errs []error
	for _, file := range []*os.File{p.stdin, p.stdout} {
		err := file.Close()
		if !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}

	return errors.Join(errs...)
}

// firstPin reads an event that a leg has taken its first client.
func firstPin(event *socketrpc.Event) (pinChange, error) {
	var pin pinChange
	if err := json.Unmarshal(event.Data, &pin); err != nil {
		return pin, fmt.Errorf("data of the event: %w", err)
	}

	if pin.Leg != 1 && pin.Leg != 2 || pin.ClientAddr == "" ||
		pin.OldClientAddr != "" {

		return pin, fmt.Errorf("no first client of a leg: %+v", pin)
	}

	return pin, nil
}
