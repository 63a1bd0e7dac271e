//go:build !portable

package relay

// goroutinesPerLeg is how many goroutines an idle leg holds.
const goroutinesPerLeg = 0
