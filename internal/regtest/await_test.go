package regtest

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stream is a stream of a test's own, whose events are those of a channel.
type stream <-chan struct{}

// Recv returns the next event.
func (s stream) Recv() (struct{}, error) {
	event, ok := <-s
	if !ok {
		return event, io.EOF
	}

	return event, nil
}

// subscribe subscribes to it.
func (s stream) subscribe(context.Context) (event, error) {
	return eventsOf(s, nil)
}

// TestAwait checks that it is looked at every event, from time to time without
// one, and not again after what was looked for is there.
func TestAwait(t *testing.T) {
	const count = 40
	var (
		events = make(chan struct{})
		begin  = time.Now()
		looks  int
	)
	err := await(t.Context(), func(context.Context) (bool, error) {
		looks++
		switch {
		case looks < count:
			events <- struct{}{}

		// It did not take the time for that many looks without events.
		case looks == count:
			require.Less(
				t, time.Since(begin), count/2*relistInterval,
			)
			close(events)
		}

		return looks == count+2, nil
	}, stream(events).subscribe)
	require.NoError(t, err)
	require.Equal(t, count+2, looks)
}

// TestAwaitFails checks that the errors of a look, of a subscription and of the
// context are told.
func TestAwaitFails(t *testing.T) {
	events := make(chan struct{})
	close(events)
	never := func(context.Context) (bool, error) {
		return false, nil
	}

	err := await(t.Context(), func(context.Context) (bool, error) {
		return false, io.ErrUnexpectedEOF
	}, stream(events).subscribe)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	err = await(t.Context(), never, stream(events).subscribe, func(
		context.Context) (event, error) {

		return eventsOf(stream(nil), io.ErrNoProgress)
	})
	require.ErrorIs(t, err, io.ErrNoProgress)

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	err = await(ctx, func(context.Context) (bool, error) {
		cancel(cause)

		return false, nil
	})
	require.ErrorIs(t, err, cause)
}
