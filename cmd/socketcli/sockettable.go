package main

import (
	"strconv"
	"time"

	"github.com/socketd/socketd/socketrpc"
)

// socketColumns are the columns of socketTable. A label may be a stranger's:
// what follows it is a word of ours, see offerColumns.
var socketColumns = []column{
	{title: "ID"},
	{title: "TYPE"},
	{title: "ADDRESS"},
	{title: "PORT1"},
	{title: "PORT2"},
	{title: "CLIENTS"},
	{title: "PASSED"},
	{title: "AGE"},
	{title: "EXPIRES"},
	{title: "FOR", optional: true},
	{title: "LABEL", optional: true, most: nameColumns, least: 8},
	{title: "STATE"},
	{title: "REASON", optional: true, most: 70, least: 20},
}

// socketTable returns the sockets as a table.
func socketTable(sockets []*socketrpc.SocketInfo, now time.Time) *table {
	t := &table{columns: socketColumns, empty: "no sockets"}

	var ids, peers []string
	for _, socket := range sockets {
		ids = append(ids, socket.GetSocketId())
		peers = append(peers, socket.GetPeerPubkey())
	}
	ids = shorten(ids)
	peers = shorten(peers)

	for i, socket := range sockets {
		leg1, leg2 := socket.GetLeg1(), socket.GetLeg2()

		t.add(
			ids[i], socketType(socket), socket.GetIp(),
			leg1.GetPort(), leg2.GetPort(), clientsOf(leg1, leg2),
			byteCount(leg1.GetBytesOut()+leg2.GetBytesOut()),
			age(socket.GetCreatedAt(), now),
			socketEnd(socket, now), socketFor(socket, peers[i]),
			socket.GetLabel(), socket.GetState().String(),
			socket.GetReason(),
		)
	}

	return t
}

// socketType returns a socket's protocol and admission, and whether it is the
// default one.
func socketType(socket *socketrpc.SocketInfo) string {
	text := socket.GetProtocol() + " " + socket.GetAdmission()
	if socket.GetIsDefault() {
		text += " default"
	}

	return text
}

// socketFor returns the node that a socket is counted against, whose key is
// given cut, and whether the socket is hosted on a request of it.
func socketFor(socket *socketrpc.SocketInfo, peer string) string {
	if socket.GetRequestId() != "" {
		return "hosted " + peer
	}

	return peer
}

// clientsOf returns which legs of a socket have a client.
func clientsOf(leg1, leg2 *socketrpc.Leg) string {
	has1, has2 := leg1.GetClientAddr() != "", leg2.GetClientAddr() != ""

	switch {
	case has1 && has2:
		return "both"

	case has1:
		return "leg 1"

	case has2:
		return "leg 2"

	default:
		return "none"
	}
}

// socketEnd returns when a socket's lifetime ends.
func socketEnd(socket *socketrpc.SocketInfo, now time.Time) string {
	if socket.GetExpiresAt() == 0 {
		return "never"
	}

	return relative(socket.GetExpiresAt(), now)
}

// byteCount returns a number of bytes in the largest decimal unit of which
// there is at least one, rounded down to a tenth.
func byteCount(bytes uint64) string {
	const step = 1000

	if bytes < step {
		return strconv.FormatUint(bytes, 10) + " B"
	}

	units := []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	tenths := bytes / (step / 10)
	for tenths >= 10*step {
		tenths /= step
		units = units[1:]
	}

	return strconv.FormatUint(tenths/10, 10) + "." +
		strconv.FormatUint(tenths%10, 10) + " " + units[0]
}
