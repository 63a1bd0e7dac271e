package sidecar

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version and commit are set by the Makefile's -ldflags.
var (
	version = "0.1.0-dev"
	commit  = ""
)

// Version returns the version of this build.
func Version() string {
	return version
}

// Commit returns the commit that this build was made from, as far as it is
// known.
func Commit() string {
	if commit != "" {
		return commit
	}

	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}

	return ""
}

// versionLine is what --version prints.
func versionLine() string {
	return fmt.Sprintf("socketd version %s commit=%s go=%s", Version(),
		Commit(), runtime.Version())
}
