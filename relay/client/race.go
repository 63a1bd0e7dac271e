package client

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// stagger is how long an address is waited for before the next one is tried as
// well: RFC 8305, section 5, recommends it.
const stagger = 250 * time.Millisecond

// attempt is what became of one address.
type attempt[T io.Closer] struct {
	value T
	err   error
}

// race tries the addresses in their order, the next one when one was silent for
// some time or has failed, and returns what the first success gives. It returns
// when every try has ended; what others gave is closed.
func race[T io.Closer](ctx context.Context, addrs []netip.AddrPort,
	try func(context.Context, netip.AddrPort) (T, error)) (T, error) {

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	attempts := make(chan attempt[T], len(addrs))
	started := 0
	start := func() {
		addr := addrs[started]
		started++
		go func() {
			value, err := try(ctx, addr)
			if err != nil {
				err = fmt.Errorf("%v: %w", addr, err)
			}
			attempts <- attempt[T]{value, err}
		}()
	}

	var (
		won    *attempt[T]
		failed error
	)
	timer := time.NewTimer(stagger)
	defer timer.Stop()

	start()
	for done := 0; done < started; {
		select {
		case a := <-attempts:
			done++
			switch {
			case a.err != nil:
				failed = join(failed, a.err)

			case won == nil:
				won = &a
				cancel()

			default:
				_ = a.value.Close()
			}

		case <-timer.C:
		}

		// The next one is due: nothing has won yet.
		if started < len(addrs) && ctx.Err() == nil {
			start()
			timer.Reset(stagger)
		}
	}

	if won == nil {
		var none T

		return none, failed
	}

	return won.value, nil
}

// join returns both errors in one line.
func join(err, next error) error {
	if err == nil {
		return next
	}

	return fmt.Errorf("%w; %w", err, next)
}
