package sidecar

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// testAddrs parses addresses.
func testAddrs(text string) []netip.Addr {
	addrs := []netip.Addr{}
	for _, one := range strings.Fields(text) {
		addrs = append(addrs, netip.MustParseAddr(one))
	}

	return addrs
}

// testInterfaces are those of a machine in a home that also runs containers and
// a VPN.
func testInterfaces() []netInterface {
	const up = net.FlagUp | net.FlagBroadcast | net.FlagMulticast

	return []netInterface{
		{"lo", net.FlagUp | net.FlagLoopback, testAddrs(
			"127.0.0.1 ::1 10.1.1.1",
		)},
		{"eth0", up, testAddrs(
			"192.168.1.5 fe80::5 fd00:1::5 2a00:1::5",
		)},
		{"docker0", up, testAddrs("172.17.0.1")},
		{"br-0123456789ab", up, testAddrs("172.18.0.1 fd00:2::1")},
		{"wg0", net.FlagUp | net.FlagPointToPoint, testAddrs(
			"10.8.0.2 fd00:8::2",
		)},
		{"eth1", net.FlagBroadcast, testAddrs("10.9.0.1")},
		{"wlan0", up, testAddrs("169.254.7.7 192.168.1.5 10.0.0.6")},
		{"eth2", up, nil},
	}
}

// TestReachJudge checks what is said of external addresses.
func TestReachJudge(t *testing.T) {
	t.Parallel()

	notPublic := func(addr string) string {
		return "relay.externalip=" + addr + " is not a public " +
			"address: nobody outside of its own network can " +
			"reach this host's sockets there"
	}
	behind := func(addr, to string) string {
		return "relay.externalip=" + addr + " is no address of this " +
			"machine, so that a router has to forward UDP and " +
			"TCP 20000-20999 to " + to + "; no client from " +
			"outside has come yet to show that it does"
	}
	const home4, home6 = "192.168.1.5 or 10.0.0.6", "fd00:1::5 or 2a00:1::5"

	type table map[string]struct {
		network, external string
		seen4, seen6      bool

		// These are the addresses that it warns about.
		notPublic, behind4, behind6 string
	}
	for name, test := range (table{
		"no host":         {},
		"its own address": {external: "2a00:1::5"},
		"behind a router": {external: "8.8.8.8", behind4: "8.8.8.8"},
		"IPv6 elsewhere": {
			external: "2a00:2::1", behind6: "2a00:2::1",
		},
		"a client has come": {external: "8.8.8.8", seen4: true},
		"one by IPv6 has":   {external: "2a00:2::1", seen6: true},
		"one by IPv6 only": {
			external: "8.8.8.8", seen6: true, behind4: "8.8.8.8",
		},
		"one by IPv4 only": {
			external: "2a00:2::1", seen4: true,
			behind6: "2a00:2::1",
		},
		"private": {
			external: "192.168.1.5", seen4: true,
			notPublic: "192.168.1.5",
		},
		"carrier": {
			external: "100.64.0.9", seen4: true,
			notPublic: "100.64.0.9",
		},
		"loopback": {
			external: "127.0.0.1", notPublic: "127.0.0.1",
		},
		"link-local": {external: "fe80::5", notPublic: "fe80::5"},
		"unique local": {
			external: "fd00:1::5", notPublic: "fd00:1::5",
		},
		"documentation": {
			external: "203.0.113.7", notPublic: "203.0.113.7",
		},
		"private on regtest": {
			network: "regtest", external: "127.0.0.1 192.168.1.5",
		},
		"simnet": {network: "simnet", external: "fd00:1::5"},
		"elsewhere on regtest": {
			network: "regtest", external: "10.0.0.7",
			behind4: "10.0.0.7",
		},
		"each by itself": {
			external: "8.8.8.8 10.0.0.6 2a00:1::5 2a00:2::1",
			seen6:    true,
			behind4:  "8.8.8.8", notPublic: "10.0.0.6",
		},
	}) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			r := &reach{
				network:  test.network,
				external: testAddrs(test.external),
				ports:    "20000-20999",
			}
			if r.network == "" {
				r.network = "mainnet"
			}
			r.seen4.Store(test.seen4)
			r.seen6.Store(test.seen6)

			var want []string
			if test.behind4 != "" {
				want = append(want, behind(test.behind4, home4))
			}
			if test.behind6 != "" {
				want = append(want, behind(test.behind6, home6))
			}
			if test.notPublic != "" {
				want = append(want, notPublic(test.notPublic))
			}
			require.Equal(t, want, r.judge(testInterfaces()))
		})
	}

	// Nothing is known of where it is.
	r := &reach{external: testAddrs("8.8.8.8"), ports: "20000-20999"}
	require.Equal(t, []string{behind("8.8.8.8", "this machine")},
		r.judge(nil))
}

// TestReachPinned checks which clients prove that somebody gets in.
func TestReachPinned(t *testing.T) {
	t.Parallel()

	for client, want := range map[string]string{
		"9.9.9.9":     "IPv4",
		"2a00:3::1":   "IPv6",
		"192.168.1.9": "",
		"127.0.0.1":   "",
		"100.64.0.1":  "",
		"fd00:1::9":   "",
		"fe80::9":     "",

		// It is this machine, by a router that sends it back or not.
		"8.8.8.8":   "",
		"2a00:1::5": "",
	} {
		r := &reach{external: testAddrs("8.8.8.8")}
		r.pinnedBeside(testInterfaces(), netip.MustParseAddr(client))
		require.Equal(t, want == "IPv4", r.seen4.Load(), client)
		require.Equal(t, want == "IPv6", r.seen6.Load(), client)
	}

	// With the interfaces that there are.
	r := &reach{}
	for _, client := range []string{"127.0.0.1:1", "[::ffff:10.0.0.1]:1"} {
		r.pinned(netip.MustParseAddrPort(client))
		require.False(t, r.seen4.Load())
	}
	r.pinned(netip.MustParseAddrPort("[::ffff:9.9.9.9]:1"))
	require.True(t, r.seen4.Load())
	r.pinned(netip.MustParseAddrPort("[2a00:3::1]:1"))
	require.True(t, r.seen6.Load())
}

// TestReadInterfaces reads those of this machine.
func TestReadInterfaces(t *testing.T) {
	t.Parallel()

	interfaces, err := readInterfaces()
	require.NoError(t, err)
	require.True(t, isOwn(interfaces, netip.MustParseAddr("127.0.0.1")))
	for _, addr := range lanAddrs(interfaces) {
		require.False(t, addr.IsLoopback())
	}

	all, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, addr := range all {
		prefix, err := netip.ParsePrefix(addr.String())
		require.NoError(t, err)
		require.True(t, isOwn(interfaces, prefix.Addr()))
	}
}

// TestReachServer checks that GetInfo warns until a client from outside has
// come.
func TestReachServer(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2)
	s := newServers(t, 1, "--relay.externalip=8.8.8.8",
		"--relay.externalip=127.0.0.1")[0]

	warnings := func(s *testServer) []string {
		info, err := s.rpc.GetInfo(
			t.Context(), &socketrpc.GetInfoRequest{},
		)
		require.NoError(t, err)

		return info.Warnings
	}
	require.Empty(t, warnings(servers[0]))

	socket := s.start(&socketrpc.StartSocketRequest{})
	pin := func(client string) {
		after := s.hub.cursor()
		s.relayEvents.notify(relay.EventPinned{
			SocketID: s.socket(socket.SocketId).ID(),
			Leg:      relay.Leg1,
			New:      netip.MustParseAddrPort(client),
		})
		s.await(after, func(e *socketrpc.Event) bool {
			return e.Type == socketrpc.Event_CLIENT_PINNED
		})
	}

	pin("192.168.1.9:1000")
	got := warnings(s)
	require.Len(t, got, 1)
	require.Contains(t, got[0], "relay.externalip=8.8.8.8 is no address")
	require.Contains(t, got[0], "UDP and TCP "+s.cfg.Relay.Ports+" to ")

	pin("9.9.9.9:1000")
	require.Empty(t, warnings(s))
}

// TestOfferLocal checks which addresses of the local network are offered, and
// that they are told wherever addresses are.
func TestOfferLocal(t *testing.T) {
	t.Parallel()

	servers := newServers(t, 2, "--relay.externalip=127.0.0.1",
		"--relay.externalip=::1", "--relay.offerlocal")
	s, to := servers[0], servers[1]

	// Nobody has looked at the machine yet.
	const external = "127.0.0.1 ::1"
	socket := s.start(&socketrpc.StartSocketRequest{})
	require.Equal(t, strings.Fields(external), socket.Ips)

	s.cfg.Relay.setLocal(testInterfaces())
	s.restart()
	const want = external + " 192.168.1.5 fd00:1::5 10.0.0.6"
	started := s.start(&socketrpc.StartSocketRequest{Label: "x"})
	for _, ips := range [][]string{
		s.start(&socketrpc.StartSocketRequest{}).Ips, started.Ips,
		s.info(socket.SocketId).Ips, s.info(started.SocketId).Ips,
	} {
		require.Equal(t, strings.Fields(want), ips)
	}
	require.Equal(t, "127.0.0.1", started.Ip)

	event := s.await(0, func(e *socketrpc.Event) bool {
		return e.SocketId == started.SocketId
	})
	require.Equal(t, socketrpc.Event_SOCKET_STARTED, event.Type)
	var data struct {
		IP  string   `json:"ip"`
		IPs []string `json:"ips"`
	}
	require.NoError(t, json.Unmarshal(event.Data, &data))
	require.Equal(t, "127.0.0.1", data.IP)
	require.Equal(t, strings.Fields(want), data.IPs)

	s.mustSend(to, started.SocketId)
	offers, err := to.offers.List(t.Context())
	require.NoError(t, err)
	require.Len(t, offers, 1)
	require.Equal(t, testAddrs(want), offers[0].Addrs)

	// They are no reason to warn.
	info, err := s.rpc.GetInfo(t.Context(), &socketrpc.GetInfoRequest{})
	require.NoError(t, err)
	require.Empty(t, info.Warnings)
}

// TestOfferLocalOptions checks when and how many local addresses are offered.
func TestOfferLocalOptions(t *testing.T) {
	t.Parallel()

	// The owner does not want it.
	cfg := testConfig(t)
	require.NoError(t, cfg.Relay.readLocal())
	require.Empty(t, cfg.Relay.localAddrs)

	// With the interfaces that there are.
	cfg = testConfig(t, "--relay.offerlocal=true")
	require.NoError(t, cfg.Relay.readLocal())
	for _, addr := range cfg.Relay.localAddrs {
		require.True(t, addr.IsPrivate())
	}

	// One that is told already is not told twice, and no more than fit into
	// an offer.
	cfg = testConfig(t, "--relay.externalip=8.8.8.8",
		"--relay.externalip=192.168.1.5", "--relay.offerlocal")
	cfg.Relay.setLocal(testInterfaces())
	addrs, err := cfg.Relay.offeredAddrs()
	require.NoError(t, err)
	require.Equal(t, testAddrs("8.8.8.8 192.168.1.5 fd00:1::5 10.0.0.6"),
		addrs)

	var many netInterface
	many.flags = net.FlagUp
	for i := range maxExternalAddrs {
		many.addrs = append(many.addrs, netip.MustParseAddr(
			fmt.Sprintf("10.0.0.%d", i+1),
		))
	}
	cfg.Relay.setLocal([]netInterface{many})
	addrs, err = cfg.Relay.offeredAddrs()
	require.NoError(t, err)
	require.Len(t, addrs, maxExternalAddrs)
	require.Equal(t, testAddrs("8.8.8.8 192.168.1.5 10.0.0.1"), addrs[:3])

	for option, want := range map[string]string{
		"--relay.externalip=": "relay.offerlocal: the local " +
			"addresses are offered behind those of relay." +
			"externalip, which is not set",
		"--relay.offerlocal=maybe": `"maybe" is neither true nor false`,
	} {
		_, err := LoadConfig([]string{
			"--socketdir=" + t.TempDir(), "--network=regtest",
			"--relay.offerlocal", option,
		}, nil)
		require.ErrorContains(t, err, want)
	}
}

// TestSwitch checks how an option is turned on and off.
func TestSwitch(t *testing.T) {
	t.Parallel()

	load := func(environ []string, file string, args ...string) Switch {
		base := writeConf(t, "regtest", file)
		cfg, err := LoadConfig(append([]string{
			"--socketdir=" + base, "--network=regtest",
		}, args...), environ)
		require.NoError(t, err)

		return cfg.Relay.OfferLocal
	}
	on := []string{"SOCKETD_RELAY_OFFERLOCAL=true"}

	require.False(t, bool(load(nil, "")))
	require.True(t, bool(load(nil, "", "--relay.offerlocal")))
	require.True(t, bool(load(nil, "", "--relay.offerlocal=true")))
	require.True(t, bool(load(nil, "relay.offerlocal=true")))
	require.True(t, bool(load(nil, "relay.offerlocal=1")))
	require.True(t, bool(load(on, "relay.offerlocal=false")))
	require.False(t, bool(load(on, "", "--relay.offerlocal=false")))
}
