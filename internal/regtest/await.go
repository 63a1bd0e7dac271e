package regtest

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// relistInterval is when it is looked again for what is waited for although no
// event came. A subscription of lnd is live only some time after the call that
// made it has returned, so that an early event can be missed.
const relistInterval = 250 * time.Millisecond

// event waits for the next event of a stream.
type event func() error

// subscription makes a stream, which ends with the context.
type subscription func(ctx context.Context) (event, error)

// eventsOf returns what waits for the events of a stream that lnd has made.
func eventsOf[T any](stream interface{ Recv() (T, error) },
	err error) (event, error) {

	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}

	return func() error {
		_, err := stream.Recv()

		return err
	}, nil
}

// await returns when look says that what is waited for is there. It looks at
// every event of some streams, and every relistInterval besides. An error of
// look ends it.
func await(ctx context.Context, look func(context.Context) (bool, error),
	subscriptions ...subscription) error {

	ctx, cancel := context.WithCancel(ctx)

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	// One place is enough: an event only says that it is time to look.
	events := make(chan struct{}, 1)
	for _, subscribe := range subscriptions {
		next, err := subscribe(ctx)
		if err != nil {
			return err
		}

		// A stream that breaks ends the goroutine. The next look meets
		// the same trouble and reports it.
		wg.Go(func() {
			for next() == nil {
				select {
				case events <- struct{}{}:
				default:
				}
			}
		})
	}

	ticker := time.NewTicker(relistInterval)
	defer ticker.Stop()

	for {
		found, err := look(ctx)
		if err != nil {
			return withCause(ctx, err)
		}
		if found {
			return nil
		}

		select {
		case <-events:
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
