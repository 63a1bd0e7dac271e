//go:build race

package relay

// raceDetector tells that the race detector is on. It makes pools forget what
// they hold.
const raceDetector = true
