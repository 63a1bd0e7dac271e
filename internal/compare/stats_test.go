package compare

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMedian checks the middle, and that the values stay as they are.
func TestMedian(t *testing.T) {
	t.Parallel()

	values := []float64{9, 1, 5}
	require.InDelta(t, 5, median(values), 0)
	require.Equal(t, []float64{9, 1, 5}, values)

	require.InDelta(t, 3, median([]float64{5, 1}), 0)
	require.InDelta(t, 2.5, median([]float64{1, 9, 2, 3}), 0)
	require.InDelta(t, 7, median([]float64{7}), 0)
	require.Zero(t, median(nil))

	require.InDelta(t, 5, mean(values), 0)
	require.InDelta(t, 2.5, mean([]float64{0, 5}), 0)
	require.Zero(t, mean(nil))
}

// TestPercentile checks ranks.
func TestPercentile(t *testing.T) {
	t.Parallel()

	var values []time.Duration
	for i := 200; i > 0; i-- {
		values = append(values, time.Duration(i))
	}
	require.Equal(t, time.Duration(100), percentile(values, 50))
	require.Equal(t, time.Duration(198), percentile(values, 99))
	require.Equal(t, time.Duration(200), percentile(values, 100))
	require.Equal(t, time.Duration(1), percentile(values, 0))

	require.Equal(t, time.Duration(2), percentile(
		[]time.Duration{3, 1, 2}, 50,
	))
	require.Zero(t, percentile(nil, 50))
}
