package compare

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/protobuf/proto"
)

// The limits of a guarded daemon and of its sockets. All that they cost is
// there, and none of them is reached.
const (
	// highBandwidth is that of a socket in each direction, and
	// highTotalBandwidth that of the daemon, of which each socket has an
	// equal part, both in bytes per second.
	highBandwidth      = 100_000_000_000
	highTotalBandwidth = 10_000_000_000_000

	// highPackets is in datagrams per second, highBytes in bytes.
	highPackets = 1_000_000_000
	highBytes   = 1_000_000_000_000_000

	// highPairs is the most that the daemon allows by itself, and more than
	// are ever open in one socket.
	highPairs = 1000

	// highSeconds is a day.
	highSeconds = 24 * 60 * 60
)

// daemonArgs returns the options of the daemon.
func daemonArgs(guarded bool) []string {
	bandwidth := 0
	if guarded {
		bandwidth = highTotalBandwidth
	}
	rate := strconv.Itoa(bandwidth)

	// What a socket may is said when it is started.
	return []string{
		"--debuglevel=info",
		"--relay.listen=" + loopback.String(),
		"--relay.ports=" + daemonPorts,
		"--relay.maxsockets=" + strconv.Itoa(maxSockets),
		"--relay.idletimeout=0",
		"--relay.lifetime=0",
		"--relay.socketbandwidth=0",
		"--relay.socketpackets=0",
		"--relay.socketbytes=0",
		"--relay.bandwidth=" + rate,
		"--relay.nodebandwidth=" + rate,
	}
}

// request returns what starts a socket.
func (d *daemon) request(tcp bool) *socketrpc.StartSocketRequest {
	req := &socketrpc.StartSocketRequest{
		Protocol:  "udp",
		Admission: "open",
	}
	if tcp {
		req.Protocol = "tcp"
	}
	if !d.guarded {
		return req
	}

	req.Admission = "token"
	req.Limits = &socketrpc.SocketLimits{
		Bandwidth:   proto.Uint64(highBandwidth),
		TotalBytes:  proto.Uint64(highBytes),
		IdleTimeout: proto.Uint64(highSeconds),
		Lifetime:    proto.Uint64(highSeconds),
	}
	if tcp {
		req.Limits.Pairs = proto.Uint32(highPairs)
	} else {
		req.Limits.Packets = proto.Uint64(highPackets)
	}

	return req
}

// parseTokens reads the id and the tokens of a socket.
func parseTokens(resp *socketrpc.StartSocketResponse) (Tokens, error) {
	var tokens Tokens
	if err := tokens.Socket.UnmarshalText(
		[]byte(resp.SocketId),
	); err != nil {
		return Tokens{}, err
	}

	for i, text := range []string{resp.Token1, resp.Token2} {
		token, err := bind.ParseToken(text)
		if err != nil {
			return Tokens{}, fmt.Errorf("leg %d of a socket: %w",
				i+1, err)
		}
		tokens.Legs[i].Token = token
	}

	return tokens, nil
}

// errLimit means that a limit was reached that should be too high for that.
var errLimit = errors.New("a limit was reached")

// checkLimits fails if a limit of an open socket was reached: what it held back
// would be in the figures.
func (d *daemon) checkLimits(ctx context.Context) error {
	if !d.guarded {
		return nil
	}

	resp, err := socketrpc.NewSocketClient(d.conn).ListSockets(
		ctx, &socketrpc.ListSocketsRequest{},
	)
	if err != nil {
		return fmt.Errorf("list the sockets: %w", err)
	}

	return limitsReached(resp.Sockets)
}

// limitsReached returns errLimit if a limit of one of the sockets was reached.
func limitsReached(sockets []*socketrpc.SocketInfo) error {
	for _, socket := range sockets {
		for i, leg := range []*socketrpc.Leg{socket.Leg1, socket.Leg2} {
			for _, name := range []string{
				"bandwidth", "packets", "bytes", "limit",
			} {
				if n := leg.Drops[name]; n > 0 {
					return fmt.Errorf("%w: %s of leg %d, "+
						"%d times", errLimit, name,
						i+1, n)
				}
			}
		}
	}

	return nil
}
