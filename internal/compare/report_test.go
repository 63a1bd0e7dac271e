package compare

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTable renders a table.
func TestTable(t *testing.T) {
	t.Parallel()

	table := table{head: []string{"relay", "added, µs"}}
	table.add("a", "1")
	table.add("longer", none)
	require.Equal(t, ""+
		"| relay  | added, µs |\n"+
		"| ------ | --------: |\n"+
		"| a      |         1 |\n"+
		"| longer |         – |\n", table.markdown())
}

// TestCell renders numbers.
func TestCell(t *testing.T) {
	t.Parallel()

	require.Equal(t, "12.35", cell(12.345678, true, 2))
	require.Equal(t, "12", cell(12.3, true, 0))
	require.Equal(t, "0", cell(0, true, 3))
	require.Equal(t, "0.000", cell(0.0001, true, 3))
	require.Equal(t, none, cell(1, false, 2))
	require.Equal(t, none, cell(1/zero(), true, 2))
}

// zero returns 0, which a compiler does not see.
func zero() float64 {
	return per(1, 0)
}

// bench returns a runner that has measured a row: CPU of the contestants in
// each round, for one datagram.
func bench(key string, cpu map[string][]time.Duration) *runner {
	chosen, err := choose([]string{key})
	if err != nil {
		panic(err)
	}

	r := &runner{
		cfg:  Config{Rounds: 4, Command: "the command"},
		rows: chosen,
		jobs: make(map[jobKey]*job),
	}
	for name, values := range cpu {
		j := &job{}
		for _, value := range values {
			j.samples = append(j.samples, sample{Result: Result{
				Sent:      1000,
				Delivered: 1000,
				Elapsed:   time.Second,
				CPU:       value * 1000,
				P50:       value,
			}})
		}
		r.jobs[jobKey{row: key, contestant: name}] = j
	}

	return r
}

// TestReport checks medians, ratios, notes and targets.
func TestReport(t *testing.T) {
	t.Parallel()

	r := bench("udp-plain", map[string][]time.Duration{
		nameNone:    {0, 0, 0},
		nameSocketd: {3000, 1000, 2000},
		nameCoturn:  {4000, 9000, 8000},
		nameNginx:   {5000},
	})
	r.jobs[jobKey{row: "udp-plain", contestant: nameSocat}] = &job{
		failed: errors.Join(
			errUnavailable, errors.New("second\tline"),
		),
		missing: true,
	}
	r.jobs[jobKey{row: "udp-plain", contestant: nameCoturn}].samples[1].
		Delivered = 990

	report := r.report([]string{"some version"}, 61*time.Second)
	require.Contains(t, report, "- some version\n- `the command`, 61 s\n")
	lines := make(map[string][]string)
	for line := range strings.Lines(report) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		lines[cells[1]] = cells[2 : len(cells)-1]
	}

	// The rate, its ratio, CPU, its ratio, loss, window, rounds.
	require.Equal(t, []string{
		"1", "–", "2000", "–", "0", "0", "3",
	}, lines[nameSocketd])
	require.Equal(t, []string{
		"1", "1.00", "8000", "0.25", "0.333", "0", "3",
	}, lines[nameCoturn])
	require.Equal(t, []string{
		"1", "1.00", "0", "–", "0", "0", "3",
	}, lines[nameNone])
	require.Equal(t, "1", lines[nameNginx][6])
	require.Equal(t, []string{"–", "–", "–", "–", "–", "–", "0"},
		lines[nameSocat])

	require.Contains(t, report, "\nsocat: not available second line\n")
	require.Contains(t, report, "nginx stream: the time ended after 1 "+
		"rounds that count.\n")
	require.Contains(t, report, "pion/turn: the time ended after 0 rounds")
	require.NotContains(t, report, "coturn: the time")

	require.Equal(t, []string{
		nameCoturn, "at most 0.55", "0.250", "yes",
	}, lines["CPU per UDP packet, no offload"])

	// What is missing without need is no failure.
	require.NoError(t, r.failures())
	broken := errors.New("broken")
	j := r.jobs[jobKey{row: "udp-plain", contestant: nameSocketd}]
	j.failed = broken
	require.NoError(t, r.failures())
	j.missing = true
	require.ErrorIs(t, r.failures(), broken)
}

// TestCost checks what TOKEN and limits are said to cost.
func TestCost(t *testing.T) {
	t.Parallel()

	r := bench("udp-latency", map[string][]time.Duration{
		nameNone:    {10000},
		nameSocketd: {60000, 70000, 50000},
		nameGuarded: {90000, 60000, 70000},
	})
	report := r.report(nil, 0)
	const head = "## What TOKEN and limits cost\n"
	_, section, found := strings.Cut(report, head)
	require.True(t, found)
	section, _, _ = strings.Cut(section, "## ")
	require.Equal(t, 5, strings.Count(section, "\n| "))
	for _, cells := range []string{
		"p50, µs       |    60.0 |             70.0 |    1.17 |\n",
		"p99, µs       |       0 |                0 |       – |\n",
		"added p50, µs |    50.0 |             60.0 |    1.20 |\n",
	} {
		require.Contains(t, section, "| `udp-latency`: "+cells)
	}

	// In the table of the row socketd's figure is the one that is divided.
	require.Contains(t, report, "| "+nameGuarded+" |    70.0 |       0 |"+
		"          60.0 |                0.83 |       0 |      3 |\n")

	// What was not measured costs nothing that is known.
	delete(r.jobs, jobKey{row: "udp-latency", contestant: nameGuarded})
	require.Contains(t, r.report(nil, 0), "| `udp-latency`: p50, µs    "+
		"   |    60.0 |                – |       – |\n")
}

// TestOneLine shortens texts.
func TestOneLine(t *testing.T) {
	t.Parallel()

	require.Equal(t, "a b c", oneLine(" a\n\tb  c\n"))
	require.Equal(t, strings.Repeat("ä", 200)+"…",
		oneLine(strings.Repeat("ä", 300)))
}

// TestAdded checks figures that are more than without a relay.
func TestAdded(t *testing.T) {
	t.Parallel()

	r := bench("udp-latency", map[string][]time.Duration{
		nameNone:    {20000, 10000, 30000},
		nameSocketd: {70000, 70000, 60000},
		nameCoturn:  {120000, 100000, 120000},
	})
	row := r.rows[0]
	f := row.figures[2]
	require.True(t, f.over)

	added, ok := r.figureOf(row, nameSocketd, f)
	require.True(t, ok)
	require.InDelta(t, 50, added, 0.001)
	ratio, ok := r.ratio(row, nameCoturn, f)
	require.True(t, ok)
	require.InDelta(t, 0.5, ratio, 0.001)

	_, ok = r.figureOf(row, nameNone, f)
	require.False(t, ok)
	_, ok = r.figureOf(row, namePion, f)
	require.False(t, ok)

	// Without the one to compare with there is none.
	delete(r.jobs, jobKey{row: row.key, contestant: nameNone})
	_, ok = r.figureOf(row, nameSocketd, f)
	require.False(t, ok)
}

// TestTargets checks both directions of what is aimed for, and losses.
func TestTargets(t *testing.T) {
	t.Parallel()

	require.True(t, target{limit: 0.5}.met(0.5))
	require.False(t, target{limit: 0.5}.met(0.51))
	require.True(t, target{limit: 0.5, atLeast: true}.met(0.5))
	require.False(t, target{limit: 0.5, atLeast: true}.met(0.49))

	for _, test := range []struct {
		ours, theirs uint64
		met          string
	}{
		{1000, 660, "yes"}, {999, 660, "no"}, {1000, 900, "no"},
	} {
		r := bench(lossRow, map[string][]time.Duration{
			nameSocketd: {1}, nameCoturn: {1},
		})
		for name, delivered := range map[string]uint64{
			nameSocketd: test.ours, nameCoturn: test.theirs,
		} {
			key := jobKey{row: lossRow, contestant: name}
			r.jobs[key].samples[0].Delivered = delivered
		}
		line := r.lossLine(r.rows[0])
		require.Equal(t, test.met, line[len(line)-1])
	}

	r := bench(lossRow, nil)
	require.Equal(t, none, r.lossLine(r.rows[0])[4])
	require.Equal(t, none, r.targetLine(r.rows[0], targets[3])[4])
}
