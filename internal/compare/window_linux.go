package compare

import (
	"context"
	"fmt"
	"time"
)

const (
	// stallLimit is how long nothing arrives before what is under way
	// counts as lost.
	stallLimit = 200 * time.Millisecond

	// tryTime is how long each depth is tried before the measurement, and
	// warmTime how long the chosen one runs before it counts.
	tryTime  = 150 * time.Millisecond
	warmTime = 150 * time.Millisecond
)

// flow is one flow of datagrams from the first client to the second.
type flow struct {
	from, to client
	size     int
	offload  bool
	in       *inbox
}

// tally is what came of a flow for a while.
type tally struct {
	sent, delivered uint64

	// elapsed is the time to the last arrival.
	elapsed time.Duration
}

// rate returns how many datagrams arrived per second, 0 if any was lost.
func (t tally) rate() float64 {
	if t.delivered < t.sent || t.elapsed <= 0 {
		return 0
	}

	return float64(t.delivered) / t.elapsed.Seconds()
}

// runWindow does a Window.
func runWindow(ctx context.Context, spec Spec) (Result, error) {
	pairs, closeAll, err := openPairs(ctx, spec, 1)
	if err != nil {
		return Result{}, err
	}
	defer closeAll()

	f := &flow{
		from:    pairs[0].a,
		to:      pairs[0].b,
		size:    spec.Size,
		offload: spec.Offload,
		in:      newInbox(spec.Offload),
	}

	depth, err := f.best(ctx, spec.Depths)
	if err != nil {
		return Result{}, err
	}
	if _, err := f.run(ctx, depth, warmTime); err != nil {
		return Result{}, err
	}

	before, err := readCPU(spec.PIDs)
	if err != nil {
		return Result{}, err
	}
	t, err := f.run(ctx, depth, spec.Duration)
	if err != nil {
		return Result{}, err
	}
	after, err := readCPU(spec.PIDs)
	if err != nil {
		return Result{}, err
	}

	return Result{
		Sent:      t.sent,
		Delivered: t.delivered,
		Elapsed:   t.elapsed,
		CPU:       after - before,
		Depth:     depth,
	}, nil
}

// best returns the depth with which most datagrams arrive and none is lost: the
// first one if there is no such.
func (f *flow) best(ctx context.Context, depths []Depth) (Depth, error) {
	if len(depths) == 0 {
		return Depth{}, fmt.Errorf("no depth given: %w", errFormat)
	}

	best, most := depths[0], 0.0
	for _, depth := range depths {
		if len(depths) == 1 {
			break
		}

		t, err := f.run(ctx, depth, tryTime)
		if err != nil {
			return Depth{}, err
		}
		if rate := t.rate(); rate > most {
			best, most = depth, rate
		}
	}

	return best, nil
}

// run sends for a while, whatever the window leaves room for, until all has
// arrived or is lost.
func (f *flow) run(ctx context.Context, depth Depth,
	duration time.Duration) (tally, error) {

	out := newOutbox(f.from.frame(f.size), depth.Batch, f.offload)

	var (
		t       tally
		pending int
		begin   = time.Now()
		last    = begin
	)
	for {
		now := time.Now()
		over := now.Sub(begin) >= duration || ctx.Err() != nil
		if over && pending == 0 {
			break
		}

		for !over && depth.Window-pending >= depth.Batch {
			n, err := out.send(f.from.fd)
			if err != nil {
				return t, fmt.Errorf("send: %w", err)
			}
			if n == 0 {
				break
			}
			t.sent += uint64(n)
			pending += n
		}

		n, bytes, err := f.in.receive(f.to.fd)
		if err != nil {
			return t, fmt.Errorf("receive: %w", err)
		}
		if n > 0 {
			if bytes != n*(len(f.to.head)+f.size) {
				return t, fmt.Errorf("%d datagrams have %d "+
					"bytes", n, bytes)
			}
			last = now
			t.delivered += uint64(n)
			pending = max(pending-n, 0)

			continue
		}

		if now.Sub(last) >= stallLimit {
			pending, last = 0, now

			continue
		}
		if _, err := await(f.to.fd, stallLimit); err != nil {
			return t, fmt.Errorf("wait: %w", err)
		}
	}
	t.elapsed = last.Sub(begin)

	return t, ctx.Err()
}
