package sidecar

import (
	"fmt"
	"math"
)

const (
	// filesPerSocket is how many file descriptors a socket takes: one for
	// each port. A connection of a TCP socket takes one more.
	filesPerSocket = 2

	// filesPerPair is how many a pair of connections takes.
	filesPerPair = 2

	// reservedFiles is how many are left for everything else: the clients
	// of both API listeners, the 48 pipes that connections may borrow
	// while bytes flow, and some for lnd and the log.
	reservedFiles = 2*maxConns + 2*48 + 32

	// minConns is how many TCP connections there is room for, however many
	// sockets may be open.
	minConns = 64

	// noFileLimit is the limit where there is none.
	noFileLimit = math.MaxInt32
)

// room is what the relay may have within the limit of open files.
type room struct {
	// files is the limit.
	files int

	// sockets is how many sockets it leaves room for.
	sockets int

	// cfg has the options with the numbers that fit.
	cfg RelayConfig

	// warnings tell what did not fit.
	warnings []string
}

// fit cuts the numbers of sockets and connections to what a process may have
// that may open so many files, and fills in the number of connections if it is
// open. The error means that there is no room for a single pair.
func (r *RelayConfig) fit(files int) (*room, error) {
	// With a very low limit the half has to do for everything else.
	reserved := min(reservedFiles, files/2)
	left := files - reserved

	// Sockets leave some room for connections.
	kept := min(minConns, left/4)
	if r.MaxConns > 0 {
		kept = min(kept, r.MaxConns)
	}

	m := &room{files: files, cfg: *r}
	m.sockets = (left - kept) / filesPerSocket
	if m.sockets < 1 || kept < filesPerPair {
		return nil, fmt.Errorf("a limit of %d open files is too low: "+
			"%s", files, raiseHint(reservedFiles+minConns+
			filesPerSocket*r.MaxSockets))
	}

	wanted := reservedFiles + filesPerSocket*r.MaxSockets
	if m.sockets < r.MaxSockets {
		m.cfg.MaxSockets = m.sockets
		m.warn("sockets", r.MaxSockets, m.sockets, wanted+minConns)
	}
	left -= filesPerSocket * m.cfg.MaxSockets

	switch {
	case r.MaxConns == 0:
		m.cfg.MaxConns = left

	case r.MaxConns > left:
		m.cfg.MaxConns = left
		m.warn("conns", r.MaxConns, left, wanted+r.MaxConns)
	}

	return m, nil
}

// warn records that an option was cut, and how many files it would need.
func (m *room) warn(what string, from, to, wanted int) {
	m.warnings = append(m.warnings, fmt.Sprintf("relay.max%s=%d is cut "+
		"to %d, which is what a limit of %d open files leaves room "+
		"for: %s, or set relay.max%s=%d", what, from, to, m.files,
		raiseHint(wanted), what, to))
}

// raiseHint tells how to get a higher limit.
func raiseHint(files int) string {
	return fmt.Sprintf("set LimitNOFILE=%d or more in the systemd unit, "+
		"or the hard limit of ulimit -n (docs/operations.md)", files)
}

// describe tells what there is room for.
func (m *room) describe() string {
	if m.files == noFileLimit {
		return fmt.Sprintf("No limit of open files; up to %d sockets "+
			"(relay.maxsockets)", m.cfg.MaxSockets)
	}

	return fmt.Sprintf("A limit of %d open files makes room for %d "+
		"sockets; up to %d (relay.maxsockets) leave %d TCP "+
		"connections", m.files, m.sockets, m.cfg.MaxSockets,
		m.cfg.MaxConns)
}
