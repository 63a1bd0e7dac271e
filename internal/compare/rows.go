package compare

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is one measurement of one contestant.
type sample struct {
	Result

	// base is the relay's resident memory before, in bytes.
	base uint64
}

// growth returns by how many KiB the relay's resident memory grew.
func (s sample) growth() float64 {
	if s.RSS < s.base {
		return 0
	}

	return float64(s.RSS-s.base) / 1024
}

// figure is a column: what is made of a contestant's samples.
type figure struct {
	// head is the head of the column.
	head string

	// ratio is the head of a further column, socketd's figure divided by
	// this contestant's; empty for none.
	ratio string

	// digits is how many digits follow the point.
	digits int

	// mean takes the mean over the rounds, so that no round is left out:
	// for losses. Otherwise it is the median.
	mean bool

	// over subtracts the figure of no relay at all.
	over bool

	// cost says that it tells what TOKEN and limits cost.
	cost bool

	// of returns the figure of one sample.
	of func(sample) float64
}

// row is a table: one thing that every contestant does.
type row struct {
	// key is the name of the row on the command line.
	key string

	// title and about stand above the table.
	title string
	about string

	// spec is the job, without what belongs to a contestant.
	spec Spec

	// sockets is how many sockets a relay that has sockets opens.
	sockets int

	// gauge is the contestant whose limit sets the rate of a Load, one of
	// spec.Rates; empty if the rate is given.
	gauge string

	// fresh starts every contestant anew for each measurement, because its
	// memory counts.
	fresh bool

	contestants []string
	figures     []figure
}

// tcp says whether the row is about TCP.
func (r *row) tcp() bool {
	return slices.Contains([]Work{Bulk, Short, Idle}, r.spec.Work)
}

const (
	// flowTime is how long a flow is measured, in the rounds that count.
	flowTime = 1500 * time.Millisecond

	// loadTime is how long many sessions are, pingTime how long round
	// trips are, and bulkTime how long bulk data is.
	loadTime = 2 * time.Second
	bulkTime = 2 * time.Second
	pingTime = 2 * time.Second

	// loadBurst is how many datagrams follow each other in a session when
	// there are many.
	loadBurst = 1

	// pingRate is how many round trips there are per second.
	pingRate = 1000

	// manySessions is how many sessions are many, and idlePairs how many
	// idle pairs there are, in so many sockets.
	manySessions = 1000
	idlePairs    = 1000
	idleSockets  = 10

	// bulkPairs is how many pairs are several.
	bulkPairs = 8

	// largeSize and smallSize are the sizes of datagrams.
	largeSize = 1200
	smallSize = 64
)

// The depths that are tried. A window has to fit the receive queues of a relay,
// and a deep one lets a relay work in large batches: which is the best one
// differs.
var (
	offloadDepths = []Depth{
		{Window: 32, Batch: 16}, {Window: 100, Batch: 50},
		{Window: 200, Batch: 50}, {Window: 400, Batch: 50},
		{Window: 800, Batch: 50}, {Window: 1600, Batch: 50},
		{Window: 3200, Batch: 50},
	}
	plainDepths = []Depth{
		{Window: 32, Batch: 8}, {Window: 64, Batch: 16},
		{Window: 128, Batch: 32}, {Window: 256, Batch: 64},
		{Window: 512, Batch: 64},
	}
)

// loadRates are how many datagrams per second may be offered in all when there
// are many sessions.
var loadRates = []int{
	80_000, 90_000, 100_000, 110_000, 120_000, 130_000, 140_000, 150_000,
	160_000, 180_000, 200_000,
}

// everybody speaks UDP, or TCP.
var (
	everybodyUDP = []string{
		nameNone, nameSocketd, nameGuarded, nameCoturn, namePion,
		nameNginx, nameSocat,
	}
	everybodyTCP = []string{
		nameNone, nameSocketd, nameGuarded, nameHaproxy, nameSplice,
		nameNginx, nameSocat,
	}
)

// The figures of a flow.
var flowFigures = []figure{
	{
		head: "delivered, kpps", ratio: "rate: socketd / it",
		digits: 0, cost: true, of: func(s sample) float64 {
			return perSecond(float64(s.Delivered)/1e3, s.Elapsed)
		},
	},
	{
		head: "relay CPU, ns/packet", ratio: "CPU: socketd / it",
		digits: 0, cost: true, of: cpuPerPacket,
	},
	lossFigure,
	{
		head: "datagrams under way", of: func(s sample) float64 {
			return float64(s.Depth.Window)
		},
	},
}

// lossFigure is what did not arrive.
var lossFigure = figure{
	head: "lost, %", digits: 3, mean: true,
	of: func(s sample) float64 {
		return s.Loss() * 100
	},
}

// cpuPerPacket returns nanoseconds per delivered datagram.
func cpuPerPacket(s sample) float64 {
	return per(float64(s.CPU.Nanoseconds()), float64(s.Delivered))
}

// perSecond returns a number of things per second.
func perSecond(n float64, elapsed time.Duration) float64 {
	return per(n, elapsed.Seconds())
}

// per divides. Nothing per nothing is nothing.
func per(a, b float64) float64 {
	if b == 0 {
		return 0
	}

	return a / b
}

// rows returns all rows.
func rows() []*row {
	return append(
		append(flowRows(), sessionsRow(), latencyRow()), tcpRows()...,
	)
}

// without returns the names but one.
func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return n == name
	})
}

// Keys returns the names of the rows, in their order.
func Keys() []string {
	var keys []string
	for _, r := range rows() {
		keys = append(keys, r.key)
	}

	return keys
}

// CheckRows returns an error if the names do not choose rows.
func CheckRows(only []string) error {
	_, err := choose(only)

	return err
}

// choose returns the rows with the names, or with names that begin with one of
// them and a hyphen; all of them if there are no names.
func choose(only []string) ([]*row, error) {
	all := rows()
	if len(only) == 0 {
		return all, nil
	}

	wanted := make(map[*row]bool)
	for _, name := range only {
		found := false
		for _, r := range all {
			if r.key == name || strings.HasPrefix(r.key, name+"-") {
				wanted[r], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("%q is none of %s, udp and tcp",
				name, strings.Join(Keys(), ", "))
		}
	}

	return slices.DeleteFunc(all, func(r *row) bool {
		return !wanted[r]
	}), nil
}

// thousands renders a number with commas.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}

	return text
}
