//go:build !unix

package sidecar

// raiseFileLimit returns that there is no limit of open files that is known.
func raiseFileLimit() int {
	return noFileLimit
}
