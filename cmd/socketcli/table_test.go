package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// testColumns are the columns of the tables of these tests.
var testColumns = []column{
	{title: "ID"},
	{title: "KIND", optional: true},
	{title: "NAME", most: 10, least: 4},
	{title: "NEXT", least: 6},
}

// TestTable checks the layout of a table.
func TestTable(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name  string
		width int
		rows  [][]string
		want  string
	}{{
		name: "no rows",
		want: "nothing\n",
	}, {
		name: "a column that is left out, and a cell that is empty",
		rows: [][]string{
			{"0a0b0c0d", "", "alice", "wait for the other"},
			{"01020304", "", "", "nothing"},
		},
		want: `
ID        NAME   NEXT
0a0b0c0d  alice  wait for the other
01020304  -      nothing
`,
	}, {
		name: "wide and long",
		rows: [][]string{
			{"1", "offer", "東京のノードです", "a"},
			{"2", "", "a name of many words", "b"},
			{"3", "", "e\u0301\u0301", "c"},
		},
		want: "\n" +
			"ID  KIND   NAME        NEXT\n" +
			"1   offer  東京のノ…   a\n" +
			"2   -      a name of…  b\n" +
			"3   -      e\u0301\u0301           c\n",
	}, {
		name: "what would break it",
		rows: [][]string{
			{"1", "", "a\nb", "\x1b[2Jx"},
			{"2", "", "a   b ", "c\r"},
			{"3", "", " \u202e ", "d"},
		},
		want: `
ID  NAME      NEXT
1   a\u000ab  \u001b[2Jx
2   a b       c\u000d
3   \u202e    d
`,
	}, {
		name:  "a terminal that is too narrow",
		width: 20,
		rows: [][]string{
			{"0a0b0c0d", "", "alice", "wait for the other"},
		},
		want: `
ID        NAME  NEXT
0a0b0c0d  ali…  wait…
`,
	}}

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()

			got := (&table{
				columns: testColumns,
				rows:    test.rows,
				empty:   "nothing",
			}).render(test.width)
			require.Equal(
				t, strings.TrimPrefix(test.want, "\n"), got,
			)
		})
	}
}

// TestTableAny checks for any cells that each row is one line, that the columns
// are below each other, and that the table fits its terminal.
func TestTableAny(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		const width = 40

		table := &table{columns: testColumns}
		for range rapid.IntRange(1, 5).Draw(t, "rows") {
			table.add(
				"12345678", "", rapid.String().Draw(t, "name"),
				"|"+rapid.String().Draw(t, "next"),
			)
		}

		lines := strings.Split(table.render(width), "\n")
		require.Len(t, lines, len(table.rows)+2)
		require.Empty(t, lines[len(lines)-1])

		title, _, ok := strings.Cut(lines[0], "NEXT")
		require.True(t, ok)
		for _, line := range lines[1 : len(lines)-1] {
			require.LessOrEqual(t, textWidth(line), width)
			require.Equal(t, line, visible(line))

			// The last column begins with the bar that is below
			// the title.
			columns := 0
			for at, r := range line {
				if columns == textWidth(title) {
					require.Equal(t, "|", line[at:at+1])

					break
				}
				columns += runeWidth(r)
			}
			require.Equal(t, textWidth(title), columns)
		}
	})
}

// TestSpan checks how durations are told.
func TestSpan(t *testing.T) {
	t.Parallel()

	for d, want := range map[time.Duration]string{
		-time.Hour:                     "0s",
		0:                              "0s",
		999 * time.Millisecond:         "0s",
		119 * time.Second:              "119s",
		2 * time.Minute:                "2m",
		2*time.Hour - time.Second:      "119m",
		2 * time.Hour:                  "2h",
		48*time.Hour - time.Nanosecond: "47h",
		48 * time.Hour:                 "2d",
		7*24*time.Hour - time.Second:   "6d",
		400 * 24 * time.Hour:           "400d",
	} {
		require.Equal(t, want, span(d), d)
	}

	now := time.Unix(1_700_000_000, 0)
	require.Empty(t, age(0, now))
	require.Equal(t, "5m", age(1_700_000_000-300, now))
	require.Equal(t, "0s", age(1_700_000_000+300, now))
	require.Empty(t, relative(0, now))
	require.Equal(t, "2h ago", relative(1_700_000_000-7200, now))
	require.Equal(t, "0s ago", relative(1_700_000_000, now))

	// Rounded up.
	for seconds, want := range map[int64]string{
		1:           "in 1s",
		119:         "in 119s",
		120:         "in 2m",
		121:         "in 3m",
		7200:        "in 2h",
		7201:        "in 3h",
		6*86400 + 1: "in 7d",
	} {
		require.Equal(t, want, relative(1_700_000_000+seconds, now))
	}
	require.Equal(t, "in 1s", relative(1_700_000_001, now.Add(1)))
}
