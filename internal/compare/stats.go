package compare

import (
	"slices"
	"time"
)

// median returns the middle of the values, which it leaves as they are; the
// mean of the two in the middle if there is an even number, 0 if there are
// none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}

	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}

	return (sorted[half-1] + sorted[half]) / 2
}

// percentile returns the smallest of the durations that is not less than the
// given percentage of them. It sorts them.
func percentile(values []time.Duration, percent int) time.Duration {
	if len(values) == 0 {
		return 0
	}

	slices.Sort(values)
	rank := (len(values)*percent + 99) / 100

	return values[max(rank, 1)-1]
}

// mean returns the mean of the values, 0 if there are none.
func mean(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}

	var sum float64
	for _, value := range values {
		sum += value
	}

	return sum / float64(len(values))
}
