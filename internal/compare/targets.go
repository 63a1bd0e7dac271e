package compare

import (
	"fmt"
	"strings"
)

// target is a ratio that is aimed for.
type target struct {
	what string

	// row, head and other name the figure, and whom socketd's is divided
	// by.
	row, head, other string

	// limit bounds the ratio: from above, or from below if atLeast is set.
	limit   float64
	atLeast bool
}

// targets are those ratios.
var targets = []target{
	{
		what: "CPU per UDP packet, offload at the clients",
		row:  "udp-offload", head: "relay CPU, ns/packet",
		other: nameCoturn, limit: 0.07,
	},
	{
		what: "CPU per UDP packet, no offload",
		row:  "udp-plain", head: "relay CPU, ns/packet",
		other: nameCoturn, limit: 0.55,
	},
	{
		what: "delivered UDP rate, offload at the clients",
		row:  "udp-offload", head: "delivered, kpps",
		other: nameNone, limit: 0.6, atLeast: true,
	},
	{
		what: "CPU per UDP packet, 1,000 sessions",
		row:  "udp-sessions", head: "relay CPU, ns/packet",
		other: nameCoturn, limit: 0.65,
	},
	{
		what: "memory of 1,000 UDP sessions",
		row:  "udp-sessions", head: "memory, KiB/session",
		other: nameCoturn, limit: 0.5,
	},
	{
		what: "added p50 latency",
		row:  "udp-latency", head: "added p50, µs",
		other: nameCoturn, limit: 1,
	},
	{
		what: "CPU per GiB, one pair",
		row:  "tcp-bulk", head: "relay CPU, s/GiB",
		other: nameSplice, limit: 1.1,
	},
	{
		what: "CPU per GiB, one pair",
		row:  "tcp-bulk", head: "relay CPU, s/GiB",
		other: nameHaproxy, limit: 0.5,
	},
	{
		what: "CPU per GiB, 8 pairs",
		row:  "tcp-bulk8", head: "relay CPU, s/GiB",
		other: nameSplice, limit: 1.1,
	},
	{
		what: "CPU per GiB, 8 pairs",
		row:  "tcp-bulk8", head: "relay CPU, s/GiB",
		other: nameHaproxy, limit: 0.5,
	},
	{
		what: "CPU per short pair",
		row:  "tcp-short", head: "relay CPU, µs/pair",
		other: nameHaproxy, limit: 1.4,
	},
	{
		what: "memory of an idle pair",
		row:  "tcp-idle", head: "memory, KiB/pair",
		other: nameHaproxy, limit: 1.5,
	},
	{
		what: "memory of an idle pair, with the kernel's",
		row:  "tcp-idle", head: "both, KiB/pair",
		other: nameHaproxy, limit: 1.5,
	},
}

// Where losses are aimed for: none of ours where coturn loses so much.
const (
	lossRow    = "udp-sessions"
	coturnLoss = 30
)

// met says whether a ratio is what is aimed for.
func (t target) met(ratio float64) bool {
	if t.atLeast {
		return ratio >= t.limit
	}

	return ratio <= t.limit
}

// targetSection renders what is aimed for, of the rows that were measured.
func (r *runner) targetSection(b *strings.Builder) {
	t := table{head: []string{
		"socketd's", "divided by", "aimed for", "reached", "met",
	}}

	for _, row := range r.rows {
		for _, goal := range targets {
			if goal.row != row.key {
				continue
			}
			t.add(r.targetLine(row, goal)...)
		}
		if row.key == lossRow {
			t.add(r.lossLine(row)...)
		}
	}
	if len(t.rows) == 0 {
		return
	}

	b.WriteString("\n## What is aimed for\n\n" + t.markdown())
}

// targetLine renders one target.
func (r *runner) targetLine(row *row, goal target) []string {
	var (
		ratio float64
		ok    bool
	)
	for _, f := range row.figures {
		if f.head == goal.head {
			ratio, ok = r.ratio(row, goal.other, f)
		}
	}

	sign := "at most"
	if goal.atLeast {
		sign = "at least"
	}
	met := none
	if ok {
		met = yesNo(goal.met(ratio))
	}

	return []string{
		goal.what, goal.other, fmt.Sprintf("%s %.2f", sign, goal.limit),
		cell(ratio, ok, 3), met,
	}
}

// lossLine renders the target about losses.
func (r *runner) lossLine(row *row) []string {
	ours, ok1 := r.figureOf(row, nameSocketd, lossFigure)
	theirs, ok2 := r.figureOf(row, nameCoturn, lossFigure)

	met := none
	if ok1 && ok2 {
		met = yesNo(ours == 0 && theirs >= coturnLoss)
	}

	return []string{
		"loss, 1,000 UDP sessions", nameCoturn,
		"0 where it loses a third",
		fmt.Sprintf("%s %% and %s %%", cell(ours, ok1, 3),
			cell(theirs, ok2, 3)), met,
	}
}

// yesNo renders a truth.
func yesNo(yes bool) string {
	if yes {
		return "yes"
	}

	return "no"
}
