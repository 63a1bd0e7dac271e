//go:build !race

package relay

// raceDetector tells that the race detector is on.
const raceDetector = false
