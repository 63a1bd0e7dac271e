package sidecar

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorder returns a component that notes when it starts to wait and when it
// is stopped.
func recorder(name string, started chan<- string,
	log *[]string, result error) component {

	return component{name, func(ctx context.Context) error {
		started <- name
		<-ctx.Done()
		*log = append(*log, name)

		return result
	}}
}

// TestRunGroupOrder checks that components are stopped in reverse order, each
// waited for before the next, and that their errors are joined.
func TestRunGroupOrder(t *testing.T) {
	t.Parallel()

	var (
		errA    = errors.New("a failed")
		errC    = errors.New("c failed")
		stopped []string
		started = make(chan string, 3)
	)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for range 3 {
			<-started
		}
		cancel()
	}()

	err := runGroup(
		ctx, recorder("a", started, &stopped, errA),
		recorder("b", started, &stopped, nil),
		recorder("c", started, &stopped, errC),
	)
	require.ErrorIs(t, err, errA)
	require.ErrorIs(t, err, errC)
	require.Equal(t, []string{"c", "b", "a"}, stopped)
}

// TestRunGroupFailure checks that one component that fails, or ends without
// being asked to, ends all.
func TestRunGroupFailure(t *testing.T) {
	t.Parallel()

	errB := errors.New("b failed")
	for _, result := range []error{errB, nil} {
		var stopped []string
		started := make(chan string, 1)
		err := runGroup(
			t.Context(), recorder("a", started, &stopped, nil),
			component{"b", func(context.Context) error {
				return result
			}},
		)
		require.ErrorContains(t, err, "b: ")
		if result != nil {
			require.ErrorIs(t, err, result)
		} else {
			require.ErrorIs(t, err, errEnded)
		}
		require.Equal(t, []string{"a"}, stopped)
	}
}
