package compare

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// pingLimit is how long a datagram may take before it counts as lost.
const pingLimit = 100 * time.Millisecond

// runPing does a Ping.
func runPing(ctx context.Context, spec Spec) (Result, error) {
	pairs, closeAll, err := openPairs(ctx, spec, 1)
	if err != nil {
		return Result{}, err
	}
	defer closeAll()

	p := &pinger{
		pair:  pairs[0],
		there: pairs[0].a.frame(spec.Size),
		back:  pairs[0].b.frame(spec.Size),
		in:    newInbox(false),
	}

	before, err := readCPU(spec.PIDs)
	if err != nil {
		return Result{}, err
	}

	var (
		result Result
		begin  = time.Now()
		every  = time.Second / time.Duration(spec.Rate)
		trips  = make([]time.Duration, 0, int(spec.Duration/every)+1)
	)
	for next := begin; next.Sub(begin) < spec.Duration; {
		time.Sleep(time.Until(next))
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}

		sent := time.Now()
		ok, err := p.trip()
		if err != nil {
			return Result{}, err
		}

		result.Sent++
		if ok {
			result.Delivered++
			trips = append(trips, time.Since(sent))
		}
		next = next.Add(every)
	}

	result.Elapsed = time.Since(begin)
	after, err := readCPU(spec.PIDs)
	if err != nil {
		return Result{}, err
	}
	result.CPU = after - before
	result.Samples = len(trips)
	result.P50, result.P99 = percentile(trips, 50), percentile(trips, 99)

	return result, nil
}

// pinger sends single datagrams there and back.
type pinger struct {
	pair

	there, back []byte
	in          *inbox
}

// trip makes one round trip and says whether the datagram came back.
func (p *pinger) trip() (bool, error) {
	ok, err := p.pass(p.a, p.b, p.there)
	if err != nil || !ok {
		return false, err
	}

	return p.pass(p.b, p.a, p.back)
}

// pass sends a datagram from one client to the other, and says whether it
// arrived.
func (p *pinger) pass(from, to client, datagram []byte) (bool, error) {
	// One that was late, and counted as lost, is not this one.
	if _, _, err := p.in.receive(to.fd); err != nil {
		return false, fmt.Errorf("receive: %w", err)
	}
	if _, err := unix.Write(from.fd, datagram); err != nil {
		return false, fmt.Errorf("send: %w", err)
	}

	// Who sleeps would measure how long it takes to wake up.
	for begin := time.Now(); time.Since(begin) < pingLimit; {
		n, _, err := p.in.receive(to.fd)
		if err != nil {
			return false, fmt.Errorf("receive: %w", err)
		}
		if n > 0 {
			return true, nil
		}
	}

	return false, nil
}
