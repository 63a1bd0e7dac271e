package compare

import (
	"context"
	"fmt"
)

// RunJob reads a Spec from one file, does what it says, and writes the Result
// to another one. It is what the generator's process does.
func RunJob(ctx context.Context, specFile, resultFile string) error {
	var spec Spec
	if err := readJSON(specFile, &spec); err != nil {
		return fmt.Errorf("job: %w", err)
	}

	result, err := generate(ctx, spec)
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Work, err)
	}

	return writeJSON(resultFile, result)
}
