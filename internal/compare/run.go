package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

const (
	// MinRounds is the smallest number of rounds: the first one does not
	// count.
	MinRounds = 2

	// firstCost is how long a measurement is taken to last before one was
	// made, reserve what is kept of the budget for the end.
	firstCost = 6 * time.Second
	reserve   = 10 * time.Second

	// maxFailures is how many measurements of a contestant in a row may
	// fail before no more are made.
	maxFailures = 2

	// firstShare is the part of a measurement's time that the first round
	// gets.
	firstShare = 3
)

// Config says what to compare. It holds values only.
type Config struct {
	// Self is this program, which can do what the hidden commands of
	// "socketdev compare" do.
	Self string

	// BinDir holds lnd and socketd, Dir takes everything that is written.
	BinDir string
	Dir    string

	// Only are the rows, all of them if there are none. A row is also
	// chosen by what stands in front of a hyphen in its name.
	Only []string

	// Rounds is how often every measurement is made, including the first
	// time, which does not count. At least MinRounds.
	Rounds int

	// Budget is how long all of it may take. When it ends, what was
	// measured by then is reported.
	Budget time.Duration

	// Command is the command line, for the report.
	Command string
}

// runner compares. It is for one goroutine.
type runner struct {
	cfg      Config
	rows     []*row
	stage    *stage
	progress io.Writer
	deadline time.Time

	// running are the contestants that live from row to row.
	running map[string]relay

	// jobs are the measurements by what they are of.
	jobs map[jobKey]*job
}

// jobKey names the measurements of a contestant in a row.
type jobKey struct {
	row, contestant string
}

// job is the measurements of a contestant in a row.
type job struct {
	// samples are those of the rounds that count.
	samples []sample

	// depth is the one that the first round found to be the best.
	depth []Depth

	// cost is how long the last measurement took.
	cost time.Duration

	// failures counts the measurements that failed, and failed is what the
	// last of them said.
	failures int
	failed   error

	// missing says that there are no more measurements.
	missing bool
}

// Run compares and writes the report in Markdown to out as soon as it is
// complete. What it does meanwhile goes to progress. The error joins what went
// wrong with single measurements, after the report; a contestant that has to be
// there and is not makes it fail at once, as does the end of ctx.
func Run(ctx context.Context, cfg Config, out, progress io.Writer) (err error) {
	begin := time.Now()
	chosen, err := choose(cfg.Only)
	if err != nil {
		return err
	}
	if err := checkMachine(); err != nil {
		return err
	}
	versions, err := readVersions(ctx, cfg.BinDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}

	r := &runner{
		cfg:  cfg,
		rows: chosen,
		stage: &stage{
			self:   cfg.Self,
			binDir: cfg.BinDir,
			dir:    cfg.Dir,

			// Not the same ones as those of a comparison at the
			// same time.
			//nolint:gosec // no secret
			portsTaken: rand.IntN((portMax - portMin) / 2),
		},
		progress: progress,
		deadline: begin.Add(cfg.Budget - reserve),
		running:  make(map[string]relay),
		jobs:     make(map[jobKey]*job),
	}

	limited, cancel := context.WithDeadline(ctx, begin.Add(cfg.Budget))
	defer cancel()
	r.rounds(limited)
	stopErr := r.stop()

	if err := context.Cause(ctx); err != nil {
		return errors.Join(err, stopErr)
	}

	report := r.report(versions, time.Since(begin))
	_, err = io.WriteString(out, report)

	return errors.Join(err, stopErr, r.failures())
}

// checkMachine fails where nothing can be measured.
func checkMachine() error {
	cores, err := Cores()
	if err != nil {
		return err
	}
	if cores < 2 {
		return fmt.Errorf("there is %d core: the relay needs one and "+
			"the clients need another one", cores)
	}

	return nil
}

// rounds measures round by round, each of them row by row, until the rounds or
// the budget end.
func (r *runner) rounds(ctx context.Context) {
	for round := range r.cfg.Rounds {
		for _, row := range r.rows {
			for _, name := range row.contestants {
				if ctx.Err() != nil {
					return
				}
				r.step(ctx, round, row, name)
			}
		}
	}
}

// step makes one measurement, if there is time for it.
func (r *runner) step(ctx context.Context, round int, row *row, name string) {
	key := jobKey{row: row.key, contestant: name}
	j := r.jobs[key]
	if j == nil {
		j = &job{cost: firstCost, depth: row.spec.Depths}
		r.jobs[key] = j
	}
	if j.missing || time.Now().Add(j.cost).After(r.deadline) {
		return
	}

	if row.gauge != "" && row.spec.Rate == 0 {
		r.findRate(ctx, row)
	}

	begin := time.Now()
	s, err := r.measure(ctx, round, row, name, j.depth)
	took := time.Since(begin)

	note := fmt.Sprintf("%.1f s", took.Seconds())
	switch {
	case err != nil && ctx.Err() != nil:
		return

	case err != nil:
		j.failures++
		j.failed = err
		j.missing = j.failures >= maxFailures ||
			errors.Is(err, errUnavailable)
		note = err.Error()

	case round == 0:
		// The next ones measure for longer, but need not look for the
		// depth.
		j.cost = took + row.spec.Duration
		j.chosen(s)

	default:
		j.cost = took
		j.chosen(s)
		j.samples = append(j.samples, s)
	}

	_, _ = fmt.Fprintf(r.progress, "round %d of %d, %s, %s: %s\n", round+1,
		r.cfg.Rounds, row.key, name, note)
}

// chosen keeps the depth that was found to be the best.
func (j *job) chosen(s sample) {
	if len(j.depth) > 0 {
		j.depth = []Depth{s.Depth}
	}
}

// findRate sets the rate of a row to what is too much for its gauge.
func (r *runner) findRate(ctx context.Context, row *row) {
	s, err := r.measure(ctx, 0, row, row.gauge, nil)
	rates := row.spec.Rates
	row.spec.Rate, row.spec.Rates = s.Rate, nil
	if err != nil {
		// The gauge's own measurement is going to say so.
		row.spec.Rate = rates[len(rates)/2]
	}

	_, _ = fmt.Fprintf(r.progress, "%s: %s datagrams per second\n",
		row.key, thousands(row.spec.Rate))
}

// measure makes one measurement.
func (r *runner) measure(ctx context.Context, round int, row *row, name string,
	depths []Depth) (s sample, err error) {

	contestant, done, err := r.contestant(ctx, row, name)
	if err != nil {
		return sample{}, err
	}
	defer func() {
		err = errors.Join(err, done())
	}()

	base, err := readRSS(contestant.pids())
	if err != nil {
		return sample{}, err
	}

	ends, release, err := contestant.open(ctx, row.tcp(), row.sockets)
	if err != nil {
		return sample{}, err
	}
	if !row.fresh {
		defer func() {
			err = errors.Join(err, release())
		}()
	}

	spec := row.spec
	spec.Ends, spec.PIDs, spec.Depths = ends, contestant.pids(), depths
	if round == 0 {
		spec.Duration /= firstShare
	}
	result, err := r.generate(ctx, spec)

	return sample{Result: result, base: base}, err
}

// contestant returns a contestant that runs. The function is to be called when
// the measurement is over.
func (r *runner) contestant(ctx context.Context, row *row,
	name string) (relay, func() error, error) {

	keep := func() error { return nil }
	if c, ok := r.running[name]; ok && !row.fresh {
		return c, keep, nil
	}

	c, err := starters[name](ctx, r.stage)
	if err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", name, err)
	}
	if row.fresh {
		return c, c.stop, nil
	}
	r.running[name] = c

	return c, keep, nil
}

// generate has the generator do a job in a process of its own.
func (r *runner) generate(ctx context.Context, spec Spec) (Result, error) {
	specFile, resultFile := r.stage.file("job"), r.stage.file("result")
	if err := writeJSON(specFile, spec); err != nil {
		return Result{}, err
	}

	proc, err := r.stage.run(
		ctx, generatorCore, "generator", r.cfg.Self, "compare",
		"generate", "--job="+specFile, "--result="+resultFile,
	)
	if err != nil {
		return Result{}, err
	}
	err = proc.WaitExit(ctx)
	proc.Kill()
	if err != nil {
		return Result{}, err
	}

	var result Result
	err = readJSON(resultFile, &result)

	return result, err
}

// stop ends all contestants.
func (r *runner) stop() error {
	var errs []error
	for _, c := range r.running {
		errs = append(errs, c.stop())
	}

	return errors.Join(append(errs, r.stage.stop())...)
}

// failures returns what went wrong, other than that a contestant that need not
// be there is missing.
func (r *runner) failures() error {
	var errs []error
	for _, row := range r.rows {
		for _, name := range row.contestants {
			j := r.jobs[jobKey{row: row.key, contestant: name}]
			if j == nil || !j.missing ||
				errors.Is(j.failed, errUnavailable) {

				continue
			}
			errs = append(errs, fmt.Errorf("%s, %s: %w", row.key,
				name, j.failed))
		}
	}

	return errors.Join(errs...)
}

// figureOf returns a contestant's figure over the rounds. It is false if there
// is none.
func (r *runner) figureOf(row *row, name string, f figure) (float64, bool) {
	j := r.jobs[jobKey{row: row.key, contestant: name}]
	if j == nil || len(j.samples) == 0 {
		return 0, false
	}

	var values []float64
	for _, s := range j.samples {
		values = append(values, f.of(s))
	}
	value := median(values)
	if f.mean {
		value = mean(values)
	}

	if !f.over {
		return value, true
	}
	if !slices.Contains(row.contestants, nameNone) || name == nameNone {
		return 0, false
	}
	f.over = false
	base, ok := r.figureOf(row, nameNone, f)

	return value - base, ok
}
