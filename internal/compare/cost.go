package compare

import (
	"fmt"
	"strings"
)

// costSection renders what TOKEN and limits cost, of the rows that were
// measured.
func (r *runner) costSection(b *strings.Builder) {
	t := table{head: []string{
		"figure", nameSocketd, "TOKEN and limits", "divided",
	}}
	for _, row := range r.rows {
		for _, f := range row.figures {
			if f.cost {
				t.add(r.costLine(row, f)...)
			}
		}
	}

	fmt.Fprintf(b, "\n## What TOKEN and limits cost\n\nThe figures of "+
		"%q divided by those of %q.\n\n%s", nameGuarded, nameSocketd,
		t.markdown())
}

// costLine renders one figure.
func (r *runner) costLine(row *row, f figure) []string {
	without, ok1 := r.figureOf(row, nameSocketd, f)
	with, ok2 := r.figureOf(row, nameGuarded, f)

	return []string{
		fmt.Sprintf("`%s`: %s", row.key, f.head),
		cell(without, ok1, f.digits), cell(with, ok2, f.digits),
		cell(with/without, ok1 && ok2 && without > 0, 2),
	}
}
