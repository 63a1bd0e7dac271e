package compare

import "fmt"

// tcpRows returns the rows about TCP.
func tcpRows() []*row {
	gib := func(s sample) float64 {
		return float64(s.Bytes) / (1 << 30)
	}
	bulkFigures := []figure{
		{
			head: "GiB/s", ratio: "rate: socketd / it", digits: 2,
			cost: true, of: func(s sample) float64 {
				return perSecond(gib(s), s.Elapsed)
			},
		},
		{
			head:  "relay CPU, s/GiB",
			ratio: "CPU: socketd / it", digits: 3,
			cost: true, of: func(s sample) float64 {
				return per(s.CPU.Seconds(), gib(s))
			},
		},
	}

	return []*row{
		{
			key:   "tcp-bulk",
			title: "TCP, bulk, one pair",
			about: "One way, as fast as it goes.",
			spec: Spec{
				Work: Bulk, Duration: bulkTime, Sessions: 1,
			},
			sockets:     1,
			contestants: everybodyTCP,
			figures:     bulkFigures,
		},
		{
			key:   "tcp-bulk8",
			title: fmt.Sprintf("TCP, bulk, %d pairs", bulkPairs),
			about: "One way each, as fast as it goes.",
			spec: Spec{
				Work: Bulk, Duration: bulkTime,
				Sessions: bulkPairs,
			},
			sockets:     1,
			contestants: without(everybodyTCP, nameSocat),
			figures:     bulkFigures,
		},
		shortRow(),
		idleRow(),
	}
}

// shortRow returns the row about pairs that come and go.
func shortRow() *row {
	return &row{
		key:   "tcp-short",
		title: "TCP, short pairs",
		about: fmt.Sprintf("Connect both sides, one byte each way, "+
			"close; %d at a time. Connections to a TOKEN socket "+
			"bind, which is two more round trips for each and "+
			"counts.", shortWorkers),
		spec:        Spec{Work: Short, Duration: flowTime},
		sockets:     1,
		contestants: everybodyTCP,
		figures: []figure{
			{
				head: "pairs/s", cost: true,
				of: func(s sample) float64 {
					return perSecond(
						float64(s.Pairs), s.Elapsed,
					)
				},
			},
			{
				head:  "relay CPU, µs/pair",
				ratio: "CPU: socketd / it", digits: 1,
				cost: true, of: func(s sample) float64 {
					return per(
						s.CPU.Seconds()*1e6,
						float64(s.Pairs),
					)
				},
			},
		},
	}
}

// idleRow returns the row about pairs that stay.
func idleRow() *row {
	process := func(s sample) float64 { return s.growth() / idlePairs }
	kernel := func(s sample) float64 {
		return float64(s.Slab) / 1024 / idlePairs
	}

	return &row{
		key:   "tcp-idle",
		title: fmt.Sprintf("TCP, %s idle pairs", thousands(idlePairs)),
		about: "What the relay's processes grew by, and what the " +
			"kernel's own objects did on top of what the " +
			"clients' connections take without a relay (noisy). " +
			"What fits into memory that a process had already " +
			"does not show.",
		spec:    Spec{Work: Idle, Sessions: idlePairs},
		sockets: idleSockets,
		fresh:   true,
		contestants: without(
			everybodyTCP, nameSocat,
		),
		figures: []figure{
			{
				head:  "memory, KiB/pair",
				ratio: "memory: socketd / it", digits: 1,
				cost: true, of: process,
			},
			{
				head: "kernel, KiB/pair", digits: 1, over: true,
				of: kernel,
			},
			{
				head:  "both, KiB/pair",
				ratio: "both: socketd / it", digits: 1,
				over: true, cost: true,
				of: func(s sample) float64 {
					return process(s) + kernel(s)
				},
			},
		},
	}
}
