package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/socketd/socketd/socketrpc"
)

const (
	// The reasons for which a leg drops packets here.
	dropStranger = "stranger"
	dropNoClient = "no_client"
	dropBadBind  = "bad_bind"

	// The reason by which a leg counts that it had to wait.
	dropBandwidth = "bandwidth"

	// refusalTime is how long the refusal of a datagram may take.
	refusalTime = 2 * time.Second
)

// legCounts are the counters of a leg.
type legCounts struct {
	client     string
	packetsIn  uint64
	bytesIn    uint64
	packetsOut uint64
	bytesOut   uint64
	drops      map[string]uint64

	// accepted counts the connections that were admitted; all of them have
	// ended cleanly. paced says that reading them may have had to wait,
	// however often.
	accepted uint64
	paced    bool
}

// checkExchange checks what two clients say of an exchange of count datagrams
// each way.
func checkExchange(a, b *clientSummary, count uint64) error {
	for _, pair := range [][2]*clientSummary{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]

		switch {
		case from.Sent != count:
			return fmt.Errorf("%s sent %d datagrams, not %d",
				from.Name, from.Sent, count)

		case to.Received != count:
			return fmt.Errorf("%s received %d datagrams, not %d",
				to.Name, to.Received, count)

		case to.BytesReceived != from.BytesSent:
			return fmt.Errorf("%s received %d bytes, %s sent %d",
				to.Name, to.BytesReceived, from.Name,
				from.BytesSent)

		case to.HellosReceived > from.HellosSent:
			return fmt.Errorf("%s received %d hellos, %s sent %d",
				to.Name, to.HellosReceived, from.Name,
				from.HellosSent)
		}
	}

	return nil
}

// wantLegs returns what the socket has to count: every datagram and every hello
// of each leg's client comes in, and leaves at the other leg unless that has no
// client yet; what strangers injected is dropped. The handshake is no traffic.
func wantLegs(a, b *clientSummary, injected [2]intrusions) [2]legCounts {
	var legs [2]legCounts
	for i, pair := range [2][2]*clientSummary{{a, b}, {b, a}} {
		own, other := pair[0], pair[1]

		legs[i] = legCounts{
			client:     own.Addr,
			packetsIn:  own.Sent + own.HellosSent,
			bytesIn:    own.BytesSent,
			packetsOut: own.Received + own.HellosReceived,
			bytesOut:   own.BytesReceived,
			drops: map[string]uint64{
				dropStranger: injected[i].packets,
				dropBadBind:  injected[i].binds,
				dropNoClient: own.HellosSent -
					other.HellosReceived,
			},
		}
	}

	return legs
}

// checkSockets finds a socket among those listed and compares its legs.
func checkSockets(list *socketrpc.ListSocketsResponse, id string,
	want [2]legCounts) error {

	for _, socket := range list.Sockets {
		if socket.SocketId == id {
			return errors.Join(
				checkLeg("leg 1", socket.Leg1, want[0]),
				checkLeg("leg 2", socket.Leg2, want[1]),
			)
		}
	}

	return fmt.Errorf("the socket %s is not listed", id)
}

// checkLeg compares the counters of a leg, and says everything that differs.
func checkLeg(name string, leg *socketrpc.Leg, want legCounts) error {
	var errs []error
	if leg.GetClientAddr() != want.client {
		errs = append(errs, fmt.Errorf("%s is pinned to %q, its "+
			"client is at %q", name, leg.GetClientAddr(),
			want.client))
	}

	compare := func(what string, got, want uint64) {
		if got != want {
			errs = append(errs, fmt.Errorf("%s counts %s=%d, it "+
				"should be %d", name, what, got, want))
		}
	}
	compare("packets_in", leg.GetPacketsIn(), want.packetsIn)
	compare("bytes_in", leg.GetBytesIn(), want.bytesIn)
	compare("packets_out", leg.GetPacketsOut(), want.packetsOut)
	compare("bytes_out", leg.GetBytesOut(), want.bytesOut)
	compare("accepted", leg.GetAccepted(), want.accepted)
	compare("open", uint64(leg.GetOpen()), 0)
	compare("waiting", uint64(leg.GetWaiting()), 0)
	compare("resets", leg.GetResets(), 0)
	compare("unbound", uint64(leg.GetUnbound()), 0)

	// A reason that nobody expects has to be zero.
	reasons := make([]string, 0, len(want.drops))
	for reason := range want.drops {
		reasons = append(reasons, reason)
	}
	for reason := range leg.GetDrops() {
		_, isWanted := want.drops[reason]
		if isWanted || want.paced && reason == dropBandwidth {
			continue
		}
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		compare("drops."+reason, leg.GetDrops()[reason],
			want.drops[reason])
	}

	return errors.Join(errs...)
}

// checkClosed checks that nobody has a UDP port: that it can be opened on all
// addresses, and that a datagram to it is refused.
func checkClosed(ctx context.Context, port uint16) error {
	var listen net.ListenConfig
	taken, err := listen.ListenPacket(
		ctx, "udp", ":"+strconv.Itoa(int(port)),
	)
	if err != nil {
		return fmt.Errorf("not free: %w", err)
	}
	if err := taken.Close(); err != nil {
		return fmt.Errorf("close port: %w", err)
	}

	var dialer net.Dialer
	conn, err := dialer.DialContext(
		ctx, "udp", netip.AddrPortFrom(loopback, port).String(),
	)
	if err != nil {
		return fmt.Errorf("open port: %w", err)
	}

	return errors.Join(checkRefused(conn), conn.Close())
}

// checkRefused sends a datagram and waits for the refusal.
func checkRefused(conn net.Conn) error {
	err := conn.SetReadDeadline(time.Now().Add(refusalTime))
	if err != nil {
		return fmt.Errorf("wait for refusal: %w", err)
	}

	if _, err := conn.Write([]byte("is anybody there?")); err != nil {
		return fmt.Errorf("send datagram: %w", err)
	}

	_, err = conn.Read(make([]byte, 1))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	if err == nil {
		return errors.New("a datagram to it is answered")
	}

	return fmt.Errorf("a datagram to it is not refused: %w", err)
}
