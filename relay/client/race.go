package client

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"
)

// stagger is how long an address is waited for before the next one is tried as
// well. RFC 8305, section 5, recommends it, and 100 ms as the least that it may
// be.
const stagger = 250 * time.Millisecond

// Interleave returns addresses in the order in which they are tried: the first
// one first, and then, as long as there are both, one of the other family by
// turns, so that a machine on which one family does not work gets on with the
// second address already. Within a family the order stays. RFC 8305, section 4,
// has it so, with a first address family count of one. The sorting that comes
// before is the host's, who says which of its addresses it prefers; which ones
// this machine has no way to shows at once when they are tried.
func Interleave(addrs []netip.AddrPort) []netip.AddrPort {
	if len(addrs) == 0 {
		return nil
	}

	isFirst := func(addr netip.AddrPort) bool {
		return addr.Addr().Unmap().Is4() ==
			addrs[0].Addr().Unmap().Is4()
	}

	var first, other []netip.AddrPort
	for _, addr := range addrs {
		if isFirst(addr) {
			first = append(first, addr)
		} else {
			other = append(other, addr)
		}
	}

	order := make([]netip.AddrPort, 0, len(addrs))
	for len(first) > 0 && len(other) > 0 {
		order = append(order, first[0], other[0])
		first, other = first[1:], other[1:]
	}

	return slices.Concat(order, first, other)
}

// attempt is what became of one address.
type attempt[T io.Closer] struct {
	value T
	err   error
}

// race tries the addresses as RFC 8305, section 5, has it: the families by
// turns, the next one when one was silent for some time, and at once when one
// has failed. It returns what the first success gives, which ends all other
// tries. It returns when every try has ended; what others gave is closed.
func race[T io.Closer](ctx context.Context, addrs []netip.AddrPort,
	try func(context.Context, netip.AddrPort) (T, error)) (T, error) {

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	addrs = Interleave(addrs)
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
