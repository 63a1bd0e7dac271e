package sidecar

import (
	"fmt"
	"strconv"
)

// Switch is an option that is on or off. It is on when it is named without a
// value, and takes true and false as one, as the environment and the file have
// it.
type Switch bool

// UnmarshalFlag reads a switch from the text of an option.
func (s *Switch) UnmarshalFlag(text string) error {
	on, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", text)
	}
	*s = Switch(on)

	return nil
}

// MarshalFlag writes the switch as UnmarshalFlag reads it.
func (s Switch) MarshalFlag() (string, error) {
	return strconv.FormatBool(bool(s)), nil
}
