package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// hostile is a label or an alias that a stranger may have thought of: it clears
// the screen, turns the order of letters round, and is long, wide and of two
// lines.
const hostile = "\x1b[2J\u202eevil\u009b1m\n東京東京東京東京東京"

// peerB is the key of a peer that has more in common with pubkey than a table
// shows of a key.
var peerB = pubkey[:9] + strings.Repeat("c", 57)

// testOffers returns one offer of every kind, as they are at now.
func testOffers(now time.Time) []*socketrpc.Offer {
	at := func(d time.Duration) int64 {
		return now.Add(d).Unix()
	}

	return []*socketrpc.Offer{{
		Id:         idOne,
		State:      socketrpc.Offer_PENDING,
		PeerPubkey: pubkey,
		PeerAlias:  "alice",
		Label:      "game",
		CreatedAt:  at(-150 * time.Second),
		ExpiresAt:  at(57*time.Minute + 30*time.Second),
		Next:       "waits for your decision",
	}, {
		Id:         idTwo,
		Direction:  socketrpc.Offer_OUTGOING,
		State:      socketrpc.Offer_QUEUED,
		PeerPubkey: peerB,
		PeerAlias:  "東京のライトニングノード",
		CreatedAt:  at(-150 * time.Minute),
		ExpiresAt:  at(150 * time.Hour),
		Next:       "waits for the peer to connect, expires in 7 days",
	}, {
		Id:         idThree,
		State:      socketrpc.Offer_REJECTED,
		IsRequest:  true,
		PeerPubkey: pubkey,
		PeerAlias:  hostile,
		Label:      hostile,
		CreatedAt:  at(-100 * time.Hour),
		ExpiresAt:  at(-99 * time.Hour),
		Reason:     "not\ttoday",
	}, {
		Id:         idOut,
		Direction:  socketrpc.Offer_OUTGOING,
		State:      socketrpc.Offer_EXPIRED,
		PeerPubkey: pubkey,
		CreatedAt:  at(-100 * time.Hour),
		ExpiresAt:  at(-99 * time.Hour),
		Next:       "the other node is told",
		Reason:     "not used",
	}}
}

// offersTable is how testOffers look on a wide terminal.
const offersTable = "" +
	"ID           DIR  KIND     PEER                           " +
	"STATE     AGE  EXPIRES  LABEL                 NEXT\n" +
	"abcdef01231  in   offer    02abababab alice               " +
	"PENDING   2m   in 58m   game                  waits for " +
	"your decision\n" +
	"abcdef01232  out  offer    02abababac 東京のライトニン…   " +
	"QUEUED    2h   in 7d    -                     waits for " +
	"the peer to connect, expires in 7 days\n" +
	"33333333     in   request  02abababab " +
	"\\u001b[2J\\u202eev…  REJECTED  4d   -        " +
	"\\u001b[2J\\u202eevil…  nothing (not\\u0009today)\n" +
	"44444444     out  offer    02abababab                     " +
	"EXPIRED   4d   4d ago   -                     the other " +
	"node is told (not used)\n"

// narrowOffersTable is how they look on one of 100 columns.
const narrowOffersTable = "" +
	"ID           DIR  KIND     PEER             STATE     AGE  " +
	"EXPIRES  LABEL     NEXT\n" +
	"abcdef01231  in   offer    02abababab ali…  PENDING   2m   " +
	"in 58m   game      waits for your decision\n" +
	"abcdef01232  out  offer    02abababac 東…   QUEUED    2h   " +
	"in 7d    -         waits for the peer to c…\n" +
	"33333333     in   request  02abababab \\u0…  REJECTED  " +
	"4d   -        \\u001b[…  nothing (not\\u0009today)\n" +
	"44444444     out  offer    02abababab       EXPIRED   4d   " +
	"4d ago   -         the other node is told…\n"

// testSockets returns sockets as they are at now.
func testSockets(now time.Time) []*socketrpc.SocketInfo {
	at := func(d time.Duration) int64 {
		return now.Add(d).Unix()
	}

	return []*socketrpc.SocketInfo{{
		SocketId:  idOne,
		Protocol:  "udp",
		Admission: "open",
		Ip:        "192.0.2.1",
		IsDefault: true,
		CreatedAt: at(-100 * time.Hour),
		Leg1: &socketrpc.Leg{
			Port:       "21001",
			ClientAddr: "198.51.100.7:4242",
			BytesOut:   1_500_000,
		},
		Leg2: &socketrpc.Leg{
			Port:       "21002",
			ClientAddr: "[2001:db8::1]:4242",
			BytesOut:   1_234_567,
		},
	}, {
		SocketId:  idTwo,
		Protocol:  "tcp",
		Admission: "token",
		Ip:        "192.0.2.1",
		Label:     hostile,
		CreatedAt: at(-150 * time.Second),
		ExpiresAt: at(150 * time.Minute),
		Leg1: &socketrpc.Leg{
			Port:       "21003",
			ClientAddr: "198.51.100.7:4242",
		},
		Leg2:   &socketrpc.Leg{Port: "21004"},
		State:  socketrpc.SocketInfo_FAILED,
		Reason: "port 21003: address already in use",
	}}
}

// socketsTable is how testSockets look on a wide terminal.
const socketsTable = "" +
	"ID           TYPE              ADDRESS    PORT1  PORT2  " +
	"CLIENTS  PASSED  AGE  EXPIRES  LABEL                 " +
	"STATE   REASON\n" +
	"abcdef01231  udp open default  192.0.2.1  21001  21002  " +
	"both     2.7 MB  4d   never    -                     " +
	"ACTIVE  -\n" +
	"abcdef01232  tcp token         192.0.2.1  21003  21004  " +
	"leg 1    0 B     2m   in 3h    \\u001b[2J\\u202eevil…  " +
	"FAILED  port 21003: address already in use\n"

// respondLists makes the server answer with testOffers and testSockets.
func (s *testServer) respondLists() {
	now := time.Now()
	s.respond(
		socketrpc.Socket_ListOffers_FullMethodName,
		&socketrpc.ListOffersResponse{Offers: testOffers(now)},
	)
	s.respond(
		socketrpc.Socket_ListSockets_FullMethodName,
		&socketrpc.ListSocketsResponse{Sockets: testSockets(now)},
	)
}

// TestOfferTable checks the table of offers.
func TestOfferTable(t *testing.T) {
	t.Parallel()

	now := time.Unix(1_700_000_000, 0)
	require.Equal(t, offersTable,
		offerTable(testOffers(now), now).render(0))
	require.Equal(t, narrowOffersTable,
		offerTable(testOffers(now), now).render(100))
	require.Equal(t, "no offers\n", offerTable(nil, now).render(80))

	// Columns of which there is nothing are not there.
	offers := testOffers(now)[1:2]
	require.Equal(t, ""+
		"ID        DIR  PEER                          STATE   "+
		"AGE  EXPIRES  NEXT\n"+
		"abcdef01  out  02ababab 東京のライトニング…  QUEUED  "+
		"2h   in 7d    waits for the peer to connect, expires "+
		"in 7 days\n",
		offerTable(offers, now).render(0))

	// It is over for another reason than its time.
	ends := []socketrpc.Offer_State{
		socketrpc.Offer_QUEUED, socketrpc.Offer_SENT,
		socketrpc.Offer_PENDING, socketrpc.Offer_EXPIRED,
	}
	for number := range socketrpc.Offer_State_name {
		offers[0].State = socketrpc.Offer_State(number)
		want := ""
		if slices.Contains(ends, offers[0].GetState()) {
			want = "in 7d"
		}
		require.Equal(t, want, expiry(offers[0], now))
	}
}

// TestOfferTableHost checks that the host of a socket is shown where it is a
// third node, and that it is said who says so.
func TestOfferTableHost(t *testing.T) {
	t.Parallel()

	now := time.Unix(1_700_000_000, 0)
	offers := []*socketrpc.Offer{{
		// One that is passed on to this node.
		Id:         idOne,
		State:      socketrpc.Offer_PENDING,
		PeerPubkey: pubkey,
		PeerAlias:  "alice",
		HostPubkey: peerB,
		Label:      hostile,
		CreatedAt:  now.Unix(),
		ExpiresAt:  now.Unix() + 60,
		Next:       "waits for your decision",
	}, {
		// One of the host.
		Id:         idThree,
		State:      socketrpc.Offer_ACCEPTED,
		PeerPubkey: peerB,
		HostPubkey: peerB,
		CreatedAt:  now.Unix(),
	}, {
		// One that this node passes on.
		Id:         idOut,
		Direction:  socketrpc.Offer_OUTGOING,
		State:      socketrpc.Offer_SENT,
		PeerPubkey: pubkey,
		HostPubkey: peerB,
		ParentId:   idThree,
		CreatedAt:  now.Unix(),
		ExpiresAt:  now.Unix() + 60,
	}, {
		// One of this node's own.
		Id:         idA,
		Direction:  socketrpc.Offer_OUTGOING,
		State:      socketrpc.Offer_ACCEPTED,
		PeerPubkey: pubkey,
		HostPubkey: "03" + pubkey[2:],
		CreatedAt:  now.Unix(),
	}}
	require.Equal(t, ""+
		"ID        DIR  PEER              STATE     AGE  EXPIRES  "+
		"HOST                           LABEL                 "+
		"NEXT\n"+
		"abcdef01  in   02abababab alice  PENDING   0s   in 60s   "+
		"02abababac (as the peer says)  \\u001b[2J\\u202eevil…  "+
		"waits for your decision\n"+
		"33333333  in   02abababac        ACCEPTED  0s   -        "+
		"-                              -                     -\n"+
		"44444444  out  02abababab        SENT      0s   in 60s   "+
		"02abababac                     -                     -\n"+
		"0a0a0a0a  out  02abababab        ACCEPTED  0s   -        "+
		"-                              -                     -\n",
		offerTable(offers, now).render(0))

	// The host of a request is the node that is asked.
	request := &socketrpc.Offer{
		IsRequest: true, PeerPubkey: pubkey, HostPubkey: peerB,
	}
	require.Empty(t, thirdHost(request))
}

// TestSocketTable checks the table of sockets.
func TestSocketTable(t *testing.T) {
	t.Parallel()

	now := time.Unix(1_700_000_000, 0)
	require.Equal(t, socketsTable,
		socketTable(testSockets(now), now).render(0))
	require.Equal(t, "no sockets\n", socketTable(nil, now).render(0))

	// Whom they are for.
	sockets := testSockets(now)
	sockets[0].PeerPubkey = pubkey
	sockets[1].PeerPubkey, sockets[1].RequestId = peerB, idA
	table := socketTable(sockets, now).render(0)
	for _, text := range []string{
		"EXPIRES  FOR                LABEL",
		"never    02abababab         -",
		"in 3h    hosted 02abababac  \\u001b[2J",
	} {
		require.Contains(t, table, text)
	}

	socket := testSockets(now)[1]
	leg1, leg2 := socket.GetLeg1(), socket.GetLeg2()
	require.Equal(t, "none", clientsOf(leg2, leg2))
	require.Equal(t, "leg 1", clientsOf(leg1, leg2))
	require.Equal(t, "leg 2", clientsOf(leg2, leg1))
	require.Equal(t, "both", clientsOf(leg1, leg1))
}

// TestByteCount checks how numbers of bytes are told.
func TestByteCount(t *testing.T) {
	t.Parallel()

	for bytes, want := range map[uint64]string{
		0:             "0 B",
		999:           "999 B",
		1000:          "1.0 kB",
		1999:          "1.9 kB",
		999_999:       "999.9 kB",
		1_000_000:     "1.0 MB",
		12_345_678:    "12.3 MB",
		5_000_000_000: "5.0 GB",
		1 << 63:       "9.2 EB",
		1<<64 - 1:     "18.4 EB",
	} {
		require.Equal(t, want, byteCount(bytes), bytes)
	}
}

// TestEventLine checks what a terminal shows of events.
func TestEventLine(t *testing.T) {
	t.Parallel()

	const when = 1_700_000_000
	zone := time.FixedZone("", 3600)

	tests := []struct {
		name  string
		event *socketrpc.Event
		line  string
	}{{
		name: "an offer",
		event: &socketrpc.Event{
			Id:         idA,
			ReplyToId:  idB,
			FromPubkey: pubkey,
			Data: []byte(`{"protocol":"udp","ip":"192.0.2.1",` +
				`"port1":"21001","port2":"21002",` +
				`"socket_id":"` + idOne + `","admission":` +
				`"token","leg":2,"label":"a game",` +
				`"expires_at":1700003600}`),
			ServiceType: "socket",
			Type:        socketrpc.Event_OFFER_RECEIVED,
			Cursor:      41,
			Timestamp:   when,
			SocketId:    idOne,
		},
		line: `2023-11-14 23:13:20  41  OFFER_RECEIVED  id=0a0a0a0a ` +
			`reply_to_id=0b0b0b0b from_pubkey=02ababab ` +
			`socket_id=abcdef01 protocol=udp ip=192.0.2.1 ` +
			`port1=21001 port2=21002 admission=token leg=2 ` +
			`label="a game" expires_at="2023-11-15 00:13:20"`,
	}, {
		name: "a limit, which is the reason as well",
		event: &socketrpc.Event{
			Data:      []byte(`{"leg":1,"limit":"packets"}`),
			Type:      socketrpc.Event_LIMIT,
			Cursor:    42,
			Timestamp: when,
			SocketId:  idOne,
			Reason:    "packets",
		},
		line: `2023-11-14 23:13:20  42  LIMIT  socket_id=abcdef01 ` +
			`reason=packets leg=1 limit=packets`,
	}, {
		name: "an offer that is passed on",
		event: &socketrpc.Event{
			Id:         idA,
			FromPubkey: pubkey,
			Data: []byte(`{"ip":"192.0.2.1","ips":["192.0.2.1",` +
				`"2001:db8::1"],"none":[],"host_pubkey":"` +
				peerB + `","parent_id":"` + idB + `"}`),
			Type:   socketrpc.Event_OFFER_RECEIVED,
			Cursor: 43,
		},
		line: `1970-01-01 01:00:00  43  OFFER_RECEIVED  ` +
			`id=0a0a0a0a from_pubkey=02ababab ip=192.0.2.1 ` +
			`ips="192.0.2.1,2001:db8::1" host_pubkey="02ababab ` +
			`(as the peer says)" parent_id=0b0b0b0b`,
	}, {
		name: "an offer of the host",
		event: &socketrpc.Event{
			Id:         idA,
			FromPubkey: pubkey,
			Data: []byte(`{"ip":"192.0.2.1","ips":["192.0.2.1"],` +
				`"host_pubkey":"` + pubkey + `"}`),
			Type: socketrpc.Event_OFFER_RECEIVED,
		},
		line: `1970-01-01 01:00:00  0  OFFER_RECEIVED  id=0a0a0a0a ` +
			`from_pubkey=02ababab ip=192.0.2.1 ` +
			`host_pubkey=02ababab`,
	}, {
		name: "what this node passes on",
		event: &socketrpc.Event{
			Id:         idA,
			ReplyToId:  idB,
			FromPubkey: pubkey,
			Data: []byte(`{"host_pubkey":"` + peerB +
				`"}`),
			Type: socketrpc.Event_OFFER_ACCEPTED,
		},
		line: `1970-01-01 01:00:00  0  OFFER_ACCEPTED  id=0a0a0a0a ` +
			`reply_to_id=0b0b0b0b from_pubkey=02ababab ` +
			`host_pubkey=02ababab`,
	}, {
		name: "nothing but a type",
		event: &socketrpc.Event{
			Type: socketrpc.Event_SOCKET_STOPPED,
		},
		line: `1970-01-01 01:00:00  0  SOCKET_STOPPED`,
	}, {
		name: "what would look like something else",
		event: &socketrpc.Event{
			Type: socketrpc.Event_Type(99),
			Reason: "x\" id=00000000\n2023-11-14\x1b[2J\u202e" +
				"a\u0301\u0301\u0301\u0301",
			Data: []byte("{\"a b\":\"=\",\"c\u202e\":null}"),
		},
		line: `1970-01-01 01:00:00  0  99  reason="x\" id=00000000\n` +
			`2023-11-14\x1b[2J\u202e` + "a\u0301\u0301\u0301" +
			`\u0301" "a b"="="`,
	}, {
		name: "data of another kind",
		event: &socketrpc.Event{
			Data: []byte(`{"deep":{"a":1}}`),
		},
		line: `1970-01-01 01:00:00  0  UNKNOWN  data="{\"deep\":` +
			`{\"a\":1}}"`,
	}, {
		name: "a list of what is not plain",
		event: &socketrpc.Event{
			Data: []byte(`{"a":[[1]]}`),
		},
		line: `1970-01-01 01:00:00  0  UNKNOWN  data="{\"a\":` +
			`[[1]]}"`,
	}, {
		name: "a list that does not end",
		event: &socketrpc.Event{
			Data: []byte(`{"a":[1`),
		},
		line: `1970-01-01 01:00:00  0  UNKNOWN  data="{\"a\":` +
			`[1"`,
	}, {
		name: "data that is no JSON",
		event: &socketrpc.Event{
			Data: []byte("{\"a\":1}\xff"),
		},
		line: `1970-01-01 01:00:00  0  UNKNOWN  data="{\"a\":1}\xff"`,
	}}

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()

			require.Equal(t, test.line,
				eventLine(test.event, zone))
		})
	}
}
