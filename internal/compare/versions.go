package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// versionLimit is how long a program may take to tell its version.
const versionLimit = 10 * time.Second

// version is a version number in what a program prints.
var version = regexp.MustCompile(`\d+\.\d+(?:\.\d+)*[-+~.\w]*`)

// teller is a program that tells its version.
type teller struct {
	// name is what the report calls the program, path the program.
	name string
	path string

	// option makes it tell.
	option string

	// mandatory says that nothing is compared without it.
	mandatory bool
}

// tellers are those programs.
var tellers = []teller{
	{name: nameCoturn, path: "turnserver", option: "--version",
		mandatory: true},
	{name: nameHaproxy, path: "haproxy", option: "-v", mandatory: true},
	{name: "nginx", path: "nginx", option: "-v"},
	{name: nameSocat, path: "socat", option: "-V"},
}

// readVersions returns what is compared and where, a line each. It fails if a
// contestant is missing that has to be there.
func readVersions(ctx context.Context, binDir string) ([]string, error) {
	daemon, err := tellVersion(
		ctx, filepath.Join(binDir, "socketd"), "--version",
	)
	if err != nil {
		return nil, fmt.Errorf("socketd: %w", err)
	}

	// The whole line has the commit too.
	lines := []string{strings.TrimSpace(daemon)}
	for _, t := range tellers {
		path, err := find(t.path)
		if err != nil && t.mandatory {
			return nil, fmt.Errorf("there is nothing to compare "+
				"with: %w; scripts/compare-packages.sh "+
				"installs it", err)
		}
		if err != nil {
			lines = append(lines, t.name+": "+
				errUnavailable.Error())

			continue
		}

		text, err := tellVersion(ctx, path, t.option)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		lines = append(lines, t.name+" "+parseVersion(text))
	}

	return append(lines, "pion/turn "+pionVersion(), machine()), nil
}

// tellVersion runs a program that prints its version and returns what it
// prints.
func tellVersion(ctx context.Context, path, option string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()

	//nolint:gosec // Which programs these are stands above.
	out, err := exec.CommandContext(ctx, path, option).CombinedOutput()

	// Some say with their exit status that they did nothing.
	var exit *exec.ExitError
	if errors.As(err, &exit) && version.Match(out) {
		err = nil
	}

	return string(out), err
}

// parseVersion finds the version in what a program printed.
func parseVersion(text string) string {
	// The program's own line comes before those about its libraries and
	// its system.
	for line := range strings.Lines(text) {
		if strings.Contains(line, "www.") {
			continue
		}
		if found := version.FindString(line); found != "" {
			return found
		}
	}

	return "of unknown version"
}

// pionVersion returns the version of pion/turn that this program is built with.
func pionVersion() string {
	const module = "github.com/pion/turn/"
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, dep := range info.Deps {
			if strings.HasPrefix(dep.Path, module) {
				return dep.Version
			}
		}
	}

	return "of unknown version"
}

// machine describes the machine.
func machine() string {
	kernel := "unknown kernel"
	text, err := os.ReadFile(
		filepath.Join(procDir, "sys", "kernel", "osrelease"),
	)
	if err == nil {
		kernel = "Linux " + strings.TrimSpace(string(text))
	}

	// Other work spoils the figures, so the report shows it.
	load := "unknown"
	text, err = os.ReadFile(filepath.Join(procDir, "loadavg"))
	if err == nil {
		load, _, _ = strings.Cut(string(text), " ")
	}

	return fmt.Sprintf("%s, %s, %d cores: the relay on one, the clients "+
		"on another; load average before: %s", kernel,
		runtime.Version(), runtime.NumCPU(), load)
}
