package sidecar

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// component is a part of the daemon that runs until its context is done.
type component struct {
	name string
	run  func(ctx context.Context) error
}

// runGroup starts components in order and waits until ctx is done or one of
// them ends by itself. Then it stops them in reverse order, each waited for
// before the one that it was built on is stopped. It returns what they ended
// with, joined.
func runGroup(ctx context.Context, components ...component) error {
	type running struct {
		cancel context.CancelFunc
		done   chan error
	}
	var (
		started []running
		ended   = make(chan struct{}, len(components))
	)
	for _, c := range components {
		// A component must not see the end of ctx before its turn.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{cancel: cancel, done: make(chan error, 1)}
		started = append(started, r)

		go func() {
			err := c.run(own)
			if err != nil {
				err = fmt.Errorf("%s: %w", c.name, err)
			} else if own.Err() == nil {
				err = fmt.Errorf("%s: %w", c.name, errEnded)
			}
			r.done <- err
			ended <- struct{}{}
		}()
	}

	select {
	case <-ctx.Done():
	case <-ended:
	}

	var errs []error
	for _, r := range slices.Backward(started) {
		r.cancel()
		errs = append(errs, <-r.done)
	}

	return errors.Join(errs...)
}

// errEnded is what a component ended with that was not asked to.
var errEnded = errors.New("ended by itself")
