package relay

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/socketd/socketd/relay/bind"
)

// ErrAdmission means that there is no such admission.
var ErrAdmission = errors.New("unknown admission")

// maxAllow is how many networks a leg may allow.
const maxAllow = 64

// Admission is how the legs of a socket decide whom they take as their clients.
type Admission uint8

const (
	// Open takes the first source that sends or connects.
	Open Admission = 0

	// ByToken takes whoever proves by the handshake of package bind that it
	// holds a token of the leg, and nobody else.
	ByToken Admission = 1
)

// ParseAdmission reads an admission from its name, as Admission.String writes
// it. Any other name is an ErrAdmission.
func ParseAdmission(s string) (Admission, error) {
	switch s {
	case Open.String():
		return Open, nil

	case ByToken.String():
		return ByToken, nil

	default:
		return 0, fmt.Errorf("%w %q: there are %v and %v",
			ErrAdmission, s, Open, ByToken)
	}
}

// String returns the admission's name: "open" or "token".
func (a Admission) String() string {
	switch a {
	case Open:
		return "open"

	case ByToken:
		return "token"

	default:
		return "admission " + strconv.Itoa(int(a))
	}
}

// Token is what a client of a leg has to hold.
type Token = bind.Token

// NewToken draws a token from the system's random source.
func NewToken() Token {
	var token Token

	// It never fails: the runtime ends the process instead.
	_, _ = rand.Read(token[:])

	return token
}

// allowList holds the networks that a leg's clients may come from. An empty one
// allows all. It is immutable.
type allowList []netip.Prefix

// validate tells what is wrong with the list.
func (l allowList) validate() error {
	if len(l) > maxAllow {
		return fmt.Errorf("%d networks, at most %d can be allowed",
			len(l), maxAllow)
	}

	for _, prefix := range l {
		if !prefix.IsValid() || prefix.Addr().Is4In6() {
			return fmt.Errorf("%v is no network", prefix)
		}
		if prefix != prefix.Masked() {
			return fmt.Errorf("%v has bits behind its length, "+
				"the network is %v", prefix, prefix.Masked())
		}
	}

	return nil
}

// allows tells whether a client may come from the address, which is unmapped.
func (l allowList) allows(addr netip.Addr) bool {
	// A network has no zone, and would contain no address that has one.
	addr = addr.WithZone("")

	return len(l) == 0 ||
		slices.ContainsFunc(l, func(prefix netip.Prefix) bool {
			return prefix.Contains(addr)
		})
}
