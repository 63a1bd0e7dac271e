package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errInterrupted is the error of a call that ^C ended.
var errInterrupted = errors.New("interrupted: socketd may still carry it out")

// rpcError is the status of a failed call in words.
type rpcError struct {
	status *status.Status
}

// Error returns the status's message and code in words.
func (e *rpcError) Error() string {
	return fmt.Sprintf("%s (%s)", e.status.Message(),
		codeWords(e.status.Code()))
}

// explain returns the error of a call in words, or nil if err is nil. The mark
// answered says whether err is what socketd said.
func (c *client) explain(ctx context.Context, err error, answered bool) error {
	if err == nil {
		return nil
	}

	rpcErr := &rpcError{status: status.Convert(err)}
	code := rpcErr.status.Code()

	switch {
	case answered:
		return rpcErr

	case errors.Is(ctx.Err(), context.Canceled):
		return errInterrupted

	case code == codes.DeadlineExceeded:
		return fmt.Errorf("socketd at %s did not answer in time: %w; "+
			"--rpcserver sets its address", c.addr, rpcErr)

	case code == codes.Unavailable:
		return fmt.Errorf("cannot reach socketd at %s: %w; is it "+
			"running? --rpcserver sets its address, --tlscertpath "+
			"its certificate", c.addr, rpcErr)

	default:
		return rpcErr
	}
}

// codeWords returns the name of a code as words: "not found" for NotFound.
func codeWords(code codes.Code) string {
	var words strings.Builder

	for i, r := range code.String() {
		if unicode.IsUpper(r) && i > 0 {
			words.WriteByte(' ')
		}
		words.WriteRune(unicode.ToLower(r))
	}

	return words.String()
}
