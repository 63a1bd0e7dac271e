package compare

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// none is what a cell holds that has no value.
const none = "–"

// table is a table in the making.
type table struct {
	head []string
	rows [][]string
}

// add adds a line.
func (t *table) add(cells ...string) {
	t.rows = append(t.rows, cells)
}

// markdown renders the table with its columns aligned, the first one to the
// left and the others to the right.
func (t *table) markdown() string {
	widths := make([]int, len(t.head))
	for _, cells := range append([][]string{t.head}, t.rows...) {
		for i, cell := range cells {
			widths[i] = max(widths[i], len([]rune(cell)), 3)
		}
	}

	var b strings.Builder
	line := func(cells []string) {
		for i, cell := range cells {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i == 0 {
				b.WriteString("| " + cell + pad)
			} else {
				b.WriteString(" | " + pad + cell)
			}
		}
		b.WriteString(" |\n")
	}

	line(t.head)
	rule := []string{strings.Repeat("-", widths[0])}
	for _, width := range widths[1:] {
		rule = append(rule, strings.Repeat("-", width-1)+":")
	}
	line(rule)
	for _, cells := range t.rows {
		line(cells)
	}

	return b.String()
}

// report renders everything.
func (r *runner) report(versions []string, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Sockets and other relays, %s\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 MST"))
	for _, line := range versions {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "- `%s`, %.0f s\n\n", r.cfg.Command, took.Seconds())
	b.WriteString("Medians of rounds in which the contestants take " +
		"turns; the first round does not count. Relay CPU is the " +
		"user and system time of all processes of the relay. " +
		"Ratios are socketd's figure divided by the other one's. " +
		"\"" + nameSocketd + "\" has OPEN sockets and no limits; \"" +
		nameGuarded + "\" is the same program with sockets whose " +
		"clients bind before they are measured, and with every " +
		"limit set, so high that none is reached.\n")

	for _, row := range r.rows {
		r.section(&b, row)
	}
	r.costSection(&b)
	r.targetSection(&b)

	return b.String()
}

// section renders one row.
func (r *runner) section(b *strings.Builder, row *row) {
	fmt.Fprintf(b, "\n## %s\n\n%s", row.title, row.about)
	if row.gauge != "" && row.spec.Rate > 0 {
		fmt.Fprintf(b, " That is %s datagrams per second in all.",
			thousands(row.spec.Rate))
	}
	fmt.Fprintf(b, " (`%s`)\n\n", row.key)

	t := table{head: []string{"relay"}}
	for _, f := range row.figures {
		t.head = append(t.head, f.head)
		if f.ratio != "" {
			t.head = append(t.head, f.ratio)
		}
	}
	t.head = append(t.head, "rounds")

	var notes []string
	for _, name := range row.contestants {
		cells, note := r.line(row, name)
		t.add(cells...)
		if note != "" {
			notes = append(notes, note)
		}
	}

	b.WriteString(t.markdown())
	for _, note := range notes {
		fmt.Fprintf(b, "\n%s\n", note)
	}
}

// line renders a contestant's line in a row, and says what is to be known of
// it.
func (r *runner) line(row *row, name string) ([]string, string) {
	cells := []string{name}
	for _, f := range row.figures {
		value, ok := r.figureOf(row, name, f)
		cells = append(cells, cell(value, ok, f.digits))
		if f.ratio == "" {
			continue
		}

		ratio, ok := r.ratio(row, name, f)
		cells = append(cells, cell(ratio, ok, 2))
	}

	const counted = 3
	j := r.jobs[jobKey{row: row.key, contestant: name}]
	rounds := 0
	if j != nil {
		rounds = len(j.samples)
	}
	cells = append(cells, strconv.Itoa(rounds))

	switch {
	case j != nil && j.failed != nil:
		return cells, name + ": " + oneLine(j.failed.Error())
	case rounds < min(counted, r.cfg.Rounds-1):
		return cells, fmt.Sprintf("%s: the time ended after %d "+
			"rounds that count.", name, rounds)
	default:
		return cells, ""
	}
}

// oneLine renders a text of several lines as one that is not too long.
func oneLine(text string) string {
	const most = 200
	short := []rune(strings.Join(strings.Fields(text), " "))
	if len(short) > most {
		short = append(short[:most], '…')
	}

	return string(short)
}

// ratio returns socketd's figure divided by another one's. It is false if there
// is none.
func (r *runner) ratio(row *row, name string, f figure) (float64, bool) {
	if name == nameSocketd {
		return 0, false
	}
	ours, ok := r.figureOf(row, nameSocketd, f)
	if !ok {
		return 0, false
	}
	theirs, ok := r.figureOf(row, name, f)

	return ours / theirs, ok && theirs > 0
}

// cell renders a number.
func cell(value float64, ok bool, digits int) string {
	if !ok || math.IsNaN(value) || math.IsInf(value, 0) {
		return none
	}

	text := strconv.FormatFloat(value, 'f', digits, 64)

	// Nothing at all is told from almost nothing.
	if value == 0 {
		return "0"
	}

	return text
}
