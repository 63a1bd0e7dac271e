package sidecar

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// udpClient is a client of a leg of a UDP socket, which knows nothing of the
// daemon behind it.
type udpClient struct {
	t    *testing.T
	conn *net.UDPConn
}

// dialUDP returns a client of a port.
func dialUDP(t *testing.T, port string) *udpClient {
	t.Helper()

	num, err := strconv.Atoi(port)
	require.NoError(t, err)
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{
		IP: net.IPv4(127, 0, 0, 1), Port: num,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))

	return &udpClient{t, conn}
}

// send sends a datagram.
func (c *udpClient) send(text string) {
	c.t.Helper()

	_, err := c.conn.Write([]byte(text))
	require.NoError(c.t, err)
}

// receive waits for a datagram.
func (c *udpClient) receive(want string) {
	c.t.Helper()

	buf := make([]byte, 2048)
	n, err := c.conn.Read(buf)
	require.NoError(c.t, err)
	require.Equal(c.t, want, string(buf[:n]))
}

// clients pins clients to both legs of a socket of a server.
func (s *testServer) clients(t *testing.T,
	socket *socketrpc.StartSocketResponse) (one, two *udpClient) {

	t.Helper()

	one, two = dialUDP(t, socket.Port1), dialUDP(t, socket.Port2)
	for _, c := range []*udpClient{one, two} {
		after := s.hub.cursor()
		c.send("")
		s.await(after, func(e *socketrpc.Event) bool {
			return e.Type == socketrpc.Event_CLIENT_PINNED &&
				e.SocketId == socket.SocketId
		})
	}
	one.receive("")

	return one, two
}

// infos returns all sockets of a server, without what depends on the time.
func (s *testServer) infos() []*socketrpc.SocketInfo {
	s.t.Helper()

	list, err := s.rpc.ListSockets(
		s.t.Context(), &socketrpc.ListSocketsRequest{},
	)
	require.NoError(s.t, err)
	for _, info := range list.Sockets {
		info.Leg1.LastSeen, info.Leg2.LastSeen = 0, 0
	}

	return list.Sockets
}

// requireSame checks that two lists of messages are the same.
func requireSame[T proto.Message](t *testing.T, want, got []T) {
	t.Helper()

	require.Len(t, got, len(want))
	for i := range want {
		require.True(t, proto.Equal(want[i], got[i]),
			"want %v\ngot  %v", want[i], got[i])
	}
}

// TestRestart checks that a restart changes nothing: every socket is as it was,
// counters included, running flows go on without their clients doing anything,
// pending offers too, and the events are the same.
func TestRestart(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2)
	a, b := servers[0], servers[1]

	fallback := a.start(&socketrpc.StartSocketRequest{})
	all := []*socketrpc.StartSocketResponse{
		fallback,
		a.start(&socketrpc.StartSocketRequest{
			Label:  "token",
			Allow1: []string{"127.0.0.0/8", "2001:db8::/32"},
			Allow2: []string{"192.0.2.1"},
			Limits: &socketrpc.SocketLimits{
				Bandwidth:   proto.Uint64(1_000_000),
				Packets:     proto.Uint64(2000),
				TotalBytes:  proto.Uint64(3_000_000_000),
				IdleTimeout: proto.Uint64(4000),
				Lifetime:    proto.Uint64(5000),
			},
		}),
		a.start(&socketrpc.StartSocketRequest{
			Protocol: "tcp",
			Limits: &socketrpc.SocketLimits{
				Pairs:    proto.Uint32(7),
				Lifetime: proto.Uint64(0),
			},
		}),
		a.start(&socketrpc.StartSocketRequest{
			Protocol: "tcp", Admission: "open",
		}),
	}
	one, two := a.clients(t, fallback)
	one.send("before")
	two.receive("before")

	pending := a.mustSend(b, all[1].SocketId)
	again, err := a.send(b, fallback.SocketId, 0)
	require.NoError(t, err)
	b.await(0, func(e *socketrpc.Event) bool { return e.Id == again })
	a.await(0, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_DELIVERED &&
			e.ReplyToId == again
	})

	infos, events := a.infos(), a.events()
	require.Len(t, infos, len(all))
	a.restart()

	requireSame(t, infos, a.infos())
	requireSame(t, events, a.events())
	for _, socket := range all {
		require.True(t, proto.Equal(socket, a.start(
			&socketrpc.StartSocketRequest{
				SocketId: socket.SocketId,
			},
		)))
	}
	require.True(t, proto.Equal(
		fallback, a.start(&socketrpc.StartSocketRequest{}),
	))
	a.awaitNode(all[1].SocketId, b.key())

	// Each of the clients goes on, the first packet counts as acceptance,
	// and no client is new.
	two.send("after")
	one.receive("after")
	one.send("after")
	two.receive("after")
	last := events[len(events)-1].Cursor
	used := a.await(last, func(*socketrpc.Event) bool { return true })
	require.Equal(t, socketrpc.Event_OFFER_ACCEPTED, used.Type)
	require.Equal(t, again, used.ReplyToId)
	require.Equal(t, last+1, used.Cursor)

	// So do the offers.
	b.accept(pending)
	a.await(last, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_OFFER_ACCEPTED &&
			e.ReplyToId == pending
	})

	// Both restart, and what is over stays over.
	a.stop(all[3].SocketId)
	events = a.events()
	a.restart()
	b.restart()
	require.Len(t, a.infos(), len(all)-1)
	requireSame(t, events, a.events()[:len(events)])
	one.send("again")
	two.receive("again")
	require.EqualValues(t, 3, a.info(fallback.SocketId).Leg1.PacketsIn-
		infos[0].Leg1.PacketsIn+1)
}

// rewrite changes a socket of a server in its database while the server does
// not run.
func (s *testServer) rewrite(id string, change func(*store.Socket)) {
	s.t.Helper()

	db, err := store.Open(s.t.Context(), store.Config{
		Path: s.cfg.databasePath(),
	}, s.logs.Store)
	require.NoError(s.t, err)
	defer func() { require.NoError(s.t, db.Close()) }()

	kept, err := db.Sockets(s.t.Context())
	require.NoError(s.t, err)
	for _, k := range kept {
		if k.ID.String() != id {
			continue
		}
		change(&k.Socket)
		require.NoError(s.t, db.Write(s.t.Context(), store.Batch{
			Sockets: []store.Socket{k.Socket},
		}))

		return
	}
	require.Fail(s.t, "no such socket", id)
}

// TestRestartExpired checks that a socket whose lifetime was over meanwhile
// ends at the start, and its offers with it.
func TestRestartExpired(t *testing.T) {
	t.Parallel()

	for _, admission := range []string{"open", "token"} {
		servers := newServers(t, 2)
		a, b := servers[0], servers[1]
		socket := a.start(&socketrpc.StartSocketRequest{
			Admission: admission,
		})
		id := a.mustSend(b, socket.SocketId)

		a.end()
		a.rewrite(socket.SocketId, func(s *store.Socket) {
			s.ExpiresAt = time.Now().Add(-time.Second)
		})
		a.begin()

		require.Empty(t, a.infos())
		stopped := a.await(0, func(e *socketrpc.Event) bool {
			return e.Type == socketrpc.Event_SOCKET_STOPPED
		})
		require.Equal(t, "lifetime", stopped.Reason)
		require.Equal(t, socket.SocketId, stopped.SocketId)
		b.await(0, func(e *socketrpc.Event) bool {
			return e.Type == socketrpc.Event_OFFER_CLOSED &&
				e.Id != id
		})

		// It ended once.
		a.restart()
		require.Len(t, a.ofType(socketrpc.Event_SOCKET_STOPPED), 1)
	}
}

// ofType returns the events of a type.
func (s *testServer) ofType(
	kind socketrpc.Event_Type) []*socketrpc.Event {

	s.t.Helper()

	var found []*socketrpc.Event
	for _, e := range s.events() {
		if e.Type == kind {
			found = append(found, e)
		}
	}

	return found
}

// TestRestartBytes checks that what has passed before a restart counts towards
// the limit of a socket.
func TestRestartBytes(t *testing.T) {
	t.Parallel()

	a := newServers(t, 1)[0]
	socket := a.start(&socketrpc.StartSocketRequest{
		Admission: "open",
		Limits: &socketrpc.SocketLimits{
			TotalBytes: proto.Uint64(1000),
		},
	})
	one, two := a.clients(t, socket)
	text := string(make([]byte, 400))
	one.send(text)
	two.receive(text)
	two.send(text)
	one.receive(text)

	a.restart()
	require.EqualValues(t, 400, a.info(socket.SocketId).Leg1.BytesOut)
	one.send(text)
	end := a.await(0, func(e *socketrpc.Event) bool {
		return e.Type == socketrpc.Event_SOCKET_STOPPED
	})
	require.Equal(t, "bytes", end.Reason)
	a.restart()
	require.Empty(t, a.infos())
}

// TestPinIsWritten checks that a client that is told is in the database.
func TestPinIsWritten(t *testing.T) {
	t.Parallel()

	a := newServers(t, 1)[0]
	socket := a.start(&socketrpc.StartSocketRequest{Admission: "open"})
	one, two := a.clients(t, socket)

	kept, err := a.db.Sockets(t.Context())
	require.NoError(t, err)
	for i, c := range []*udpClient{one, two} {
		pin := kept[0].Pins[i]
		require.Equal(t, c.conn.LocalAddr().String(),
			pin.Client.String())
		require.Equal(t, "127.0.0.1", pin.Local.String())
	}
}

// TestDatabaseFails checks that nothing is done that could not be written.
func TestDatabaseFails(t *testing.T) {
	t.Parallel()

	a := newServers(t, 1)[0]
	socket := a.start(&socketrpc.StartSocketRequest{Admission: "open"})
	one, two := a.clients(t, socket)
	require.NoError(t, a.db.Close())

	_, err := a.rpc.StartSocket(
		t.Context(), &socketrpc.StartSocketRequest{},
	)
	requireStatus(t, err, codes.Internal, "keep socket: ")
	_, err = a.rpc.StopSocket(t.Context(), &socketrpc.StopSocketRequest{
		SocketId: socket.SocketId,
	})
	requireStatus(t, err, codes.Internal, "write sockets: ")

	require.Len(t, a.infos(), 1)
	require.Equal(t, 1, a.relay.NumSockets())
	one.send("goes on")
	two.receive("goes on")

	// The next start finds what was written.
	_ = a.stopParts()
	a.stopParts = nil
	_ = a.db.Close()
	a.begin()
	require.Len(t, a.infos(), 1)
	one.send("goes on")
	two.receive("goes on")
}

// TestRestoreOptions checks that every field of a socket goes into the database
// and out of it, and which clients come back.
func TestRestoreOptions(t *testing.T) {
	t.Parallel()

	addr := netip.MustParseAddrPort("192.0.2.7:1234")
	live, dead := offer.Token{3}, offer.Token{4}
	k := &store.Kept{Socket: store.Socket{
		ID: offer.ID{1}, Protocol: offer.UDP, Admission: offer.ByToken,
		Ports: [2]uint16{21000, 21001}, Label: "label", Default: true,
		Allow: [2][]netip.Prefix{
			{netip.MustParsePrefix("192.0.2.0/24")}, nil,
		},
		Limits: store.Limits{
			Bandwidth: 1, Packets: 2, TotalBytes: 3, Pairs: 4,
		},
		IdleTimeout: 5, CreatedAt: time.Unix(6, 0),
		ExpiresAt: time.Unix(7, 0),
		Tokens:    offer.Tokens{{1}, {2}},
	}}
	k.Counters[0] = store.Counters{BytesIn: 1, BytesOut: 10}
	k.Counters[1] = store.Counters{BytesIn: 2, BytesOut: 20}
	admits := func(token offer.Token) bool { return token == live }

	for _, test := range []struct {
		token offer.Token
		want  bool
	}{{k.Tokens[1], true}, {live, true}, {dead, false}} {
		k.Pins[1] = store.Pin{
			Client: addr, Local: addr.Addr(), Token: test.token,
		}
		opts := restoreOptions(k, admits)
		want := [2]relay.RestoredClient{}
		if test.want {
			want[1] = relay.RestoredClient{
				Addr: addr, Local: addr.Addr(),
				Token: relay.Token(test.token),
			}
		}
		require.Equal(t, &relay.Restored{
			ID: relay.ID{1}, CreatedAt: time.Unix(6, 0),
			Ports: k.Ports, Tokens: [2]relay.Token{{1}, {2}},
			Clients: want, PassedBytes: 30,
		}, opts.Restore)
		opts.Restore = nil
		require.Equal(t, relay.Options{
			Protocol: relay.UDP, Admission: relay.ByToken,
			Allow: k.Allow, IdleTimeout: 5,
			ExpiresAt: time.Unix(7, 0), Limits: relay.Limits{
				Bandwidth: 1, Packets: 2, TotalBytes: 3,
				Pairs: 4,
			},
		}, opts)
	}

	k.Protocol = offer.TCP
	require.EqualValues(t, 3, passedBytes(k))
}
