// Package compare measures the sockets of a real daemon side by side with other
// relays: coturn, haproxy, nginx, socat and pion/turn. Every relay is a process
// of its own on one core, and one generator on another core is both clients. It
// serves cmd/socketdev.
package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrSystem is returned on systems on which nothing can be measured: there are
// no cores to choose, no segmentation offload and no /proc.
var ErrSystem = errors.New("this needs Linux")

// Kind says how the two clients of a session come together.
type Kind string

const (
	// Direct clients have no relay between them.
	Direct Kind = "direct"

	// Socket clients each send to a port of a socket, or connect to it.
	Socket Kind = "socket"

	// TURN has a first client that speaks TURN to the relay, and a second
	// one that is its peer and knows nothing of it.
	TURN Kind = "turn"

	// Proxy has a first client that calls the relay, which calls the second
	// one.
	Proxy Kind = "proxy"
)

// Work says what the generator does.
type Work string

const (
	// Window sends one flow of datagrams as fast as they arrive, with a
	// bounded number of them under way.
	Window Work = "window"

	// Load sends datagrams over many sessions, both ways, at a fixed rate.
	Load Work = "load"

	// Ping sends single datagrams there and back.
	Ping Work = "ping"

	// Bulk sends bytes over TCP from the first clients to the second ones.
	Bulk Work = "bulk"

	// Short opens TCP pairs, sends a byte each way and closes them.
	Short Work = "short"

	// Idle opens TCP pairs, sends a byte each way and keeps them.
	Idle Work = "idle"
)

// Ends says where the clients find the relay, and each other.
type Ends struct {
	Kind Kind `json:"kind"`

	// Sockets are the ports of both legs of each socket; only for Socket.
	Sockets [][2]uint16 `json:"sockets,omitempty"`

	// Tokens are what the clients of each of them bind with. There are none
	// if the sockets are OPEN.
	Tokens []Tokens `json:"tokens,omitempty"`

	// Server is the port of the relay; only for TURN and Proxy.
	Server uint16 `json:"server,omitempty"`

	// Upstream is the port that the relay calls; only for Proxy.
	Upstream uint16 `json:"upstream,omitempty"`
}

// Depth is how much of a flow is under way.
type Depth struct {
	// Window is how many datagrams may be under way.
	Window int `json:"window"`

	// Batch is how many datagrams are sent at once: with offload as one
	// segmented datagram, without as so many messages of one call.
	Batch int `json:"batch"`
}

// Spec is one job of the generator.
type Spec struct {
	Work Work `json:"work"`
	Ends Ends `json:"ends"`

	// PIDs are the processes of the relay. Their descendants count too.
	PIDs []int `json:"pids,omitempty"`

	// Duration is how long to measure.
	Duration time.Duration `json:"duration,omitempty"`

	// Sessions is how many sessions or pairs there are at once.
	Sessions int `json:"sessions,omitempty"`

	// Size is the size of a datagram's payload in bytes.
	Size int `json:"size,omitempty"`

	// Offload says that the clients use segmentation offload.
	Offload bool `json:"offload,omitempty"`

	// Depths are those of a Window. If there are several the best one is
	// found first.
	Depths []Depth `json:"depths,omitempty"`

	// Rate is how many datagrams per second are offered, over all sessions
	// and both ways, and Burst how many of them follow each other in a
	// session: for Load. For Ping it is the number of round trips per
	// second.
	Rate  int `json:"rate,omitempty"`
	Burst int `json:"burst,omitempty"`

	// Rates are tried one after the other before a Load, until the relay
	// loses a third of what it is offered, or the last one; that is the
	// rate then. If there are none it is Rate.
	Rates []int `json:"rates,omitempty"`
}

// Result is what came of a job.
type Result struct {
	// Sent and Delivered count datagrams, Bytes what arrived over TCP,
	// Pairs the TCP pairs that were opened.
	Sent      uint64 `json:"sent,omitempty"`
	Delivered uint64 `json:"delivered,omitempty"`
	Bytes     uint64 `json:"bytes,omitempty"`
	Pairs     uint64 `json:"pairs,omitempty"`

	// Elapsed is how long that took, CPU the user and system time of the
	// relay meanwhile.
	Elapsed time.Duration `json:"elapsed,omitempty"`
	CPU     time.Duration `json:"cpu,omitempty"`

	// RSS is the resident memory of the relay at the end, Slab that of the
	// kernel, both in bytes.
	RSS  uint64 `json:"rss,omitempty"`
	Slab uint64 `json:"slab,omitempty"`

	// P50 and P99 are percentiles of the round trip, Samples is how many
	// there were.
	P50     time.Duration `json:"p50,omitempty"`
	P99     time.Duration `json:"p99,omitempty"`
	Samples int           `json:"samples,omitempty"`

	// Depth and Rate are those that were used.
	Depth Depth `json:"depth"`
	Rate  int   `json:"rate,omitempty"`
}

// Loss returns the share of the datagrams that did not arrive.
func (r Result) Loss() float64 {
	if r.Sent == 0 || r.Delivered >= r.Sent {
		return 0
	}

	return float64(r.Sent-r.Delivered) / float64(r.Sent)
}

// writeJSON writes a value to a file that only its owner can read.
func writeJSON(path string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}

	return os.WriteFile(path, text, 0o600)
}

// readJSON reads a value from a file.
func readJSON(path string, value any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}

	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}

	return nil
}
