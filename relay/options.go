package relay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Options says what socket to open.
type Options struct {
	// ID is the socket's name. Whoever has to know it before the socket is
	// open chooses it, at random. The zero value means that Open does.
	ID ID

	// Protocol is what the clients speak.
	Protocol Protocol

	// Admission is how the legs decide whom they take as their clients.
	// With ByToken each leg gets a token of its own, see Socket.Token.
	Admission Admission

	// Allow holds, for leg 1 and leg 2, the networks that the leg's clients
	// may come from. An empty list allows all.
	Allow [2][]netip.Prefix

	// Limits bound what passes through the socket.
	Limits Limits

	// IdleTimeout ends the socket when nothing passed in either direction
	// for so long. Dropped packets do not count, and neither does an open
	// connection. 0 means never.
	IdleTimeout time.Duration

	// ExpiresAt ends the socket, used or not. It is compared with the wall
	// clock. The zero value means never.
	ExpiresAt time.Time

	// Restore is set for a socket that was open before, in an earlier
	// relay, and is to be the same again.
	Restore *Restored
}

// Limits bound what passes through a socket. 0 is no limit.
type Limits struct {
	// Bandwidth is how many bytes of payload may pass in a second, in each
	// direction. Datagrams beyond it are dropped and counted; connections
	// are read no faster.
	Bandwidth uint64

	// Packets is how many datagrams may pass in a second, in each
	// direction. Those beyond it are dropped and counted. It is for UDP.
	Packets uint64

	// TotalBytes is how many bytes of payload may pass in the life of the
	// socket, both directions together. Never more do, but for a datagram
	// that passes in the other direction at the same moment on systems
	// other than Linux. A UDP socket ends when they have passed, or when
	// more datagrams come at once than may pass yet. A TCP socket ends when
	// a client sends more, so that a stream of the very size ends as it
	// should.
	TotalBytes uint64

	// Pairs is how many pairs of connections the socket may have, at most
	// Config.MaxPairs, which 0 stands for. It is for TCP.
	Pairs int
}

// validate tells what is wrong with the options.
func (o *Options) validate(now time.Time) error {
	switch {
	case o.Protocol != UDP && o.Protocol != TCP:
		return fmt.Errorf("%w: %v", ErrProtocol, o.Protocol)

	case o.Admission != Open && o.Admission != ByToken:
		return fmt.Errorf("%w: %v", ErrAdmission, o.Admission)

	case o.IdleTimeout < 0:
		return fmt.Errorf("%w: the idle timeout %v is negative",
			ErrOptions, o.IdleTimeout)

	case !o.ExpiresAt.IsZero() && !o.ExpiresAt.After(now):
		return fmt.Errorf("%w: the lifetime ended at %v", ErrOptions,
			o.ExpiresAt.UTC().Format(time.RFC3339))
	}

	if o.Restore != nil {
		if err := o.Restore.validate(o.Admission); err != nil {
			return err
		}
		if o.ID != (ID{}) && o.ID != o.Restore.ID {
			return fmt.Errorf("%w: the id is %v, and that to "+
				"restore %v", ErrOptions, o.ID, o.Restore.ID)
		}
	}

	for i, allow := range o.Allow {
		if err := allowList(allow).validate(); err != nil {
			return fmt.Errorf("%w: allow of leg %d: %w", ErrOptions,
				i+1, err)
		}
	}

	return o.Limits.validate(o.Protocol)
}

// validate tells what is wrong with the limits of a socket.
func (l *Limits) validate(protocol Protocol) error {
	switch {
	case l.Pairs < 0:
		return fmt.Errorf("%w: %d pairs", ErrOptions, l.Pairs)

	case l.Pairs > 0 && protocol != TCP:
		return fmt.Errorf("%w: pairs are for %v", ErrOptions, TCP)

	case l.Packets > 0 && protocol != UDP:
		return fmt.Errorf("%w: packets per second are for %v",
			ErrOptions, UDP)

	default:
		return nil
	}
}

// name returns the id of the socket to open, which is drawn at random if nobody
// chose it.
func (o *Options) name() ID {
	switch {
	case o.Restore != nil:
		return o.Restore.ID

	case o.ID != ID{}:
		return o.ID

	default:
		return newID()
	}
}

// clone returns a copy that shares no memory.
func (o Options) clone() Options {
	for i := range o.Allow {
		o.Allow[i] = slices.Clone(o.Allow[i])
	}

	return o
}
