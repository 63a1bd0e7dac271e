//go:build !linux

package compare

import (
	"context"
	"syscall"
)

// Cores returns ErrSystem.
func Cores() (int, error) {
	return 0, ErrSystem
}

// Become returns ErrSystem.
func Become(int, []string) error {
	return ErrSystem
}

// latePort returns ErrSystem.
func latePort(string, string, syscall.RawConn) error {
	return ErrSystem
}

// generate returns ErrSystem.
func generate(context.Context, Spec) (Result, error) {
	return Result{}, ErrSystem
}
