package main

import (
	"strings"
)

const (
	// columnGap is what is between two columns of a table.
	columnGap = "  "

	// noValue is what an empty cell shows.
	noValue = "-"
)

// column says how a column of a table is laid out. It is not changed.
type column struct {
	title string

	// most is the width, in columns of the terminal, at which a cell is
	// cut; 0 for never.
	most int

	// least is the width to which the column may shrink, so that the table
	// fits the terminal; 0 if it must not.
	least int

	// optional says that the column is left out if all its cells are empty.
	optional bool
}

// table is a list for a person to read.
type table struct {
	columns []column
	rows    [][]string

	// empty is what is printed if there are no rows.
	empty string
}

// add adds a row. It has a cell for each column.
func (t *table) add(cells ...string) {
	t.rows = append(t.rows, cells)
}

// render returns the lines of the table for a terminal of so many columns, 0
// if that is not known. Whatever the cells hold, a row is one line, and its
// columns are below their titles.
func (t *table) render(columns int) string {
	if len(t.rows) == 0 {
		return t.empty + "\n"
	}

	// The first line has the titles.
	var (
		shown  []column
		widths []int
		lines  = make([][]string, len(t.rows)+1)
	)
	for i, column := range t.columns {
		cells := t.cells(i)
		if cells == nil {
			continue
		}

		shown = append(shown, column)
		widest := 0
		for line, cell := range cells {
			lines[line] = append(lines[line], cell)
			widest = max(widest, textWidth(cell))
		}
		widths = append(widths, widest)
	}
	shrink(shown, widths, columns)

	var out strings.Builder
	for _, cells := range lines {
		out.WriteString(layLine(cells, widths))
		out.WriteByte('\n')
	}

	return out.String()
}

// cells returns the title and the cells of a column, made visible and cut; nil
// if the column is left out.
func (t *table) cells(i int) []string {
	var (
		column = t.columns[i]
		cells  = []string{column.title}
		filled bool
	)
	for _, row := range t.rows {
		// A row of spaces in a cell would look like the next column.
		cell := strings.Join(strings.Fields(visible(row[i])), " ")
		if cell == "" {
			cell = noValue
		} else {
			filled = true
		}
		if column.most > 0 {
			cell = clip(cell, column.most)
		}
		cells = append(cells, cell)
	}
	if column.optional && !filled {
		return nil
	}

	return cells
}

// shrink takes from the widths of the columns that may shrink, from the widest
// first, until a line fits the terminal or nothing is left to take. Then the
// terminal breaks the line: what is in it counts for more than its looks.
func shrink(columns []column, widths []int, terminal int) {
	if terminal <= 0 {
		return
	}

	total := len(columnGap) * (len(widths) - 1)
	for _, width := range widths {
		total += width
	}

	for ; total > terminal; total-- {
		widest := -1
		for i, column := range columns {
			if column.least == 0 || widths[i] <= column.least {
				continue
			}
			if widest < 0 || widths[i] > widths[widest] {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// layLine returns the line of these cells, each as wide as its column. No space
// is at the end of a line.
func layLine(cells []string, widths []int) string {
	var line strings.Builder
	for i, cell := range cells {
		if i > 0 {
			line.WriteString(columnGap)
		}
		cell = clip(cell, widths[i])
		line.WriteString(cell)
		line.WriteString(strings.Repeat(
			" ", widths[i]-textWidth(cell),
		))
	}

	return strings.TrimRight(line.String(), " ")
}
