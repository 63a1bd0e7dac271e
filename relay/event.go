package relay

import (
	"net/netip"
	"strconv"
)

// Event tells what happened to a socket. It is one of EventPinned, EventUsed,
// EventLimit and EventClosed.
type Event interface {
	// isEvent keeps the set of events closed.
	isEvent()
}

// EventPinned tells that a leg took a client, or changed it.
type EventPinned struct {
	// SocketID names the socket.
	SocketID ID

	// Leg is the leg that took the client.
	Leg Leg

	// Old is the address of the client that was there before. It is the
	// zero value if there was none.
	Old netip.AddrPort

	// New is the address of the client that the leg has now.
	New netip.AddrPort
}

// EventUsed answers a call of Socket.Watch: the leg admitted a packet or a
// connection, or with ByToken a client that holds a granted token.
type EventUsed struct {
	// SocketID names the socket.
	SocketID ID

	// Leg is the leg that was watched.
	Leg Leg

	// Token is the granted token that admitted the client. It is the zero
	// value if the leg is OPEN.
	Token Token
}

// EventLimit tells that a limit bites: what a leg's client sent was dropped,
// has to wait, or was a connection too many. It comes at most once in 10
// seconds for each leg and reason.
type EventLimit struct {
	// SocketID names the socket.
	SocketID ID

	// Leg is the leg that the client sent to.
	Leg Leg

	// Reason tells which limit it is, by the reason that drops are counted
	// under.
	Reason DropReason
}

// EventClosed tells that a socket has ended: its ports are closed. It is the
// last event of the socket, and comes exactly once.
type EventClosed struct {
	// SocketID names the socket.
	SocketID ID

	// Reason tells what ended it.
	Reason CloseReason
}

func (EventPinned) isEvent() {}
func (EventUsed) isEvent()   {}
func (EventLimit) isEvent()  {}
func (EventClosed) isEvent() {}

// CloseReason tells what ended a socket.
type CloseReason uint8

const (
	// CloseStopped means that Socket.Close was called.
	CloseStopped CloseReason = iota + 1

	// CloseIdle means that nothing passed for Options.IdleTimeout.
	CloseIdle

	// CloseLifetime means that Options.ExpiresAt came.
	CloseLifetime

	// CloseShutdown means that the relay has shut down.
	CloseShutdown

	// CloseError means that the system took a port away: nothing could be
	// read from it any more.
	CloseError

	// CloseBytes means that Limits.TotalBytes have passed.
	CloseBytes
)

// String returns the reason in one word.
func (r CloseReason) String() string {
	switch r {
	case CloseStopped:
		return "stopped"

	case CloseIdle:
		return "idle"

	case CloseLifetime:
		return "lifetime"

	case CloseShutdown:
		return "shutdown"

	case CloseError:
		return "error"

	case CloseBytes:
		return "bytes"

	default:
		return "reason " + strconv.Itoa(int(r))
	}
}

// DropReason tells why a packet or a connection that arrived at a leg was not
// relayed.
type DropReason uint8

const (
	// DropStranger counts packets and connections that came from elsewhere
	// than the leg's client, and those from sources that no leg takes as
	// its client.
	DropStranger DropReason = iota

	// DropNoClient counts packets of the leg's client that came while the
	// other leg had no client to send them to, and connections that ended
	// before the other leg had one for them: they waited for too long, or
	// hung up.
	DropNoClient

	// DropLimit counts connections of the leg's client that came when as
	// many as are allowed were there. It also counts how often the system
	// had no file descriptor for a connection, which then waits outside.
	DropLimit

	// DropSendError counts packets of the leg's client that the system
	// refused to send out of the other leg, because they were too long
	// for it, had no route, or met a full send queue. It counts connections
	// too: those whose last bytes the other side did not take.
	DropSendError

	// DropKernel counts packets that came faster than the leg could read
	// them, and that the system dropped. It is known when the next packet
	// is read, and on Linux only.
	DropKernel

	// DropBandwidth counts packets of the leg's client beyond
	// Limits.Bandwidth, or the bandwidth of the account or of the relay.
	// With TCP nothing is dropped: it counts how often a connection was
	// not read for that.
	DropBandwidth

	// DropPackets counts packets of the leg's client beyond
	// Limits.Packets.
	DropPackets

	// DropBytes counts packets of the leg's client that are beyond
	// Limits.TotalBytes, and connections that had such bytes to send.
	DropBytes

	// DropNotAllowed counts packets and connections from addresses that
	// Options.Allow does not have.
	DropNotAllowed

	// DropBadBind counts messages and connections that were to bind a
	// client and did not: they are of another version or form, do not
	// verify, are too old or a repetition; or a connection sent nothing of
	// the kind in time.
	DropBadBind

	// numDropReasons is the number of reasons.
	numDropReasons
)

// String returns the reason as it is shown to users.
func (r DropReason) String() string {
	switch r {
	case DropStranger:
		return "stranger"

	case DropNoClient:
		return "no_client"

	case DropLimit:
		return "limit"

	case DropSendError:
		return "send_error"

	case DropKernel:
		return "kernel"

	case DropBandwidth:
		return "bandwidth"

	case DropPackets:
		return "packets"

	case DropBytes:
		return "bytes"

	case DropNotAllowed:
		return "not_allowed"

	case DropBadBind:
		return "bad_bind"

	default:
		return "reason " + strconv.Itoa(int(r))
	}
}
