package main

import (
	"strconv"
	"time"
)

// spanUnits are the units of a span, largest first.
var spanUnits = []struct {
	of   time.Duration
	name string
}{
	{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"},
}

// span returns a duration as a person would say it, rounded down: 45s, 3m, 2h,
// 5d. The unit is the largest of which there are at least two. Less than
// nothing is nothing.
func span(d time.Duration) string {
	d = max(d, 0)
	for _, unit := range spanUnits {
		if d >= 2*unit.of {
			return strconv.FormatInt(int64(d/unit.of), 10) +
				unit.name
		}
	}

	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

// age returns how long ago a time in Unix seconds was, as a table has it;
// empty for 0.
func age(at int64, now time.Time) string {
	if at == 0 {
		return ""
	}

	return span(now.Sub(time.Unix(at, 0)))
}

// relative returns when a time in Unix seconds is or was, as a table has it;
// empty for 0. What is yet to come is rounded up, as socketd does it.
func relative(at int64, now time.Time) string {
	if at == 0 {
		return ""
	}

	left := time.Unix(at, 0).Sub(now)
	if left <= 0 {
		return span(-left) + " ago"
	}

	for _, unit := range spanUnits {
		if left >= 2*unit.of {
			return "in " + span(left+unit.of-1)
		}
	}

	return "in " + span(left+time.Second-1)
}
