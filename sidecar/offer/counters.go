package offer

import "sync/atomic"

// refusal is why a message of another node was not acted on.
type refusal uint8

const (
	// refusedMalformed is a message that breaks the rules of its version.
	refusedMalformed refusal = iota

	// refusedOversized is a message longer than any may be.
	refusedOversized

	// refusedVersion is a message of another version.
	refusedVersion

	// refusedUnsolicited is an answer to something that the peer was not
	// asked, or that is over.
	refusedUnsolicited

	// refusedDuplicate is a message that changes nothing any more.
	refusedDuplicate

	// refusedRate is a message of a peer that sends too many.
	refusedRate

	// refusedLimit is a message that there is no room for.
	refusedLimit

	// refusedPolicy is a request that the policy does not allow, or an
	// offer that is refused for what it is.
	refusedPolicy

	// refusedUnsupported is a message that asks for something that we do
	// not know.
	refusedUnsupported
)

// refusalNames has the API's names of the refusals, by number.
var refusalNames = [...]string{
	refusedMalformed:   "malformed",
	refusedOversized:   "oversized",
	refusedVersion:     "version",
	refusedUnsolicited: "unsolicited",
	refusedDuplicate:   "duplicate",
	refusedRate:        "rate",
	refusedLimit:       "limit",
	refusedUnsupported: "unsupported",
	refusedPolicy:      "policy",
}

// String returns the refusal's name as the API has it.
func (r refusal) String() string {
	return refusalNames[r]
}

// counters counts refusals. The zero value is ready to use.
type counters [len(refusalNames)]atomic.Uint64

// add counts a refusal.
func (c *counters) add(r refusal) {
	c[r].Add(1)
}

// snapshot returns all counts by name.
func (c *counters) snapshot() map[string]uint64 {
	counts := make(map[string]uint64, len(c))
	for i := range c {
		counts[refusalNames[i]] = c[i].Load()
	}

	return counts
}
