package main

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// hostileIPs are addresses that no offer may lead this machine to.
var hostileIPs = strings.Fields(`
	127.0.0.1 127.9.9.9 ::1 10.0.0.1 172.16.0.1 192.168.1.1 fd00::1
	100.64.0.1 169.254.169.254 fe80::1 fec0::1 224.0.0.1 ff02::1 0.0.0.0 ::
	255.255.255.255 240.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1
	::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: 2001::1 100::1
	192.0.2.7 198.18.0.1 198.51.100.1 203.0.113.1 2001:db8::1
`)

// ownIP is the address at which the node of the tests hosts.
const ownIP = "9.9.9.9"

// withIPs makes the world's offer, and its socket, have several addresses.
func (w *pipeWorld) withIPs(ips ...string) *pipeWorld {
	w.offer.Ips = ips
	accepted := &socketrpc.AcceptOfferResponse{Offer: w.offer}
	own := &socketrpc.StartSocketResponse{
		SocketId: ownSocket, Protocol: w.offer.Protocol, Ip: ips[0],
		Port1: w.offer.Port2, Port2: "1", Admission: w.offer.Admission,
		Ips: ips,
	}
	if own.Admission == admissionToken {
		accepted.Token2, own.Token1 = w.token.Hex(), w.token.Hex()
	}
	w.offers(w.offer)
	w.respond(socketrpc.Socket_AcceptOffer_FullMethodName, accepted)
	w.respond(socketrpc.Socket_StartSocket_FullMethodName, own)

	return w
}

// TestIsPublic checks what another node may lead this machine to.
func TestIsPublic(t *testing.T) {
	t.Parallel()

	own := []netip.Prefix{
		netip.MustParsePrefix("9.9.9.0/24"),
		netip.MustParsePrefix("2a00:1:2:3::/64"),
	}
	for addr, want := range map[string]bool{
		"8.8.8.8:1024":            true,
		"8.8.8.8:1023":            false,
		"8.8.8.8:22":              false,
		"[2a00::1]:21000":         true,
		"[2a00::1]:1023":          false,
		"9.9.8.255:21000":         true,
		"9.9.9.9:21000":           false,
		"9.9.10.0:21000":          true,
		"[2a00:1:2:2::1]:21000":   true,
		"[2a00:1:2:3::9]:9735":    false,
		"[::ffff:8.8.8.8]:21000":  false,
		"[2a00::1%eth0]:21000":    false,
		"255.255.255.255:21000":   false,
		"[64:ff9b::808:808]:2000": false,
	} {
		require.Equal(t, want,
			isPublic(netip.MustParseAddrPort(addr), own), addr)
	}

	for _, ip := range hostileIPs {
		addr := netip.AddrPortFrom(netip.MustParseAddr(ip), 21000)
		require.False(t, isPublic(addr, nil), ip)
	}

	// Where this machine is, too.
	networks, err := attachedNetworks()
	require.NoError(t, err)
	require.Contains(t, networks, netip.MustParsePrefix("127.0.0.0/8"))
}

// atPort returns the addresses in a text, with a port.
func atPort(text string) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, ip := range strings.Fields(text) {
		addrs = append(addrs, netip.AddrPortFrom(
			netip.MustParseAddr(ip), 21000,
		))
	}

	return addrs
}

// TestOfferedAddrs checks which addresses of an offer are tried.
func TestOfferedAddrs(t *testing.T) {
	t.Parallel()

	match := &pipeMatch{isOffer: true, id: "x"}
	for name, test := range map[string]struct {
		named, want  string
		allowPrivate bool
	}{
		"one":   {named: "8.8.8.8", want: "8.8.8.8"},
		"twice": {named: "8.8.8.8 8.8.8.8", want: "8.8.8.8"},
		"three of both families": {
			named: "8.8.8.8 8.8.8.9 8.8.8.10 2a00::1 2a00::2",
			want:  "8.8.8.8 2a00::1 8.8.8.9",
		},
		"the good ones": {
			named: "127.0.0.1 10.0.0.1 ::1 8.8.8.8 2a00::1",
			want:  "8.8.8.8 2a00::1",
		},
		"three of those that are allowed": {
			named: "127.0.0.1 10.0.0.1 ::1 ::ffff:127.0.0.1 " +
				"10.0.0.2",
			want:         "127.0.0.1 ::1 10.0.0.1",
			allowPrivate: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got, err := offeredAddrs(
				match, atPort(test.named), nil,
				test.allowPrivate,
			)
			require.NoError(t, err)
			require.Equal(t, atPort(test.want), got)
		})
	}
}

// TestPipeOwn checks that no offer leads a program to the address at which this
// node hosts.
func TestPipeOwn(t *testing.T) {
	leg := netip.MustParseAddrPort(ownIP + ":21000")
	w := newPipeWorld(t, protocolTCP, admissionOpen, leg)
	got := w.runCLI(t, "pipe", pipeOffer)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.stderr, "names "+leg.String()+", which is no "+
		"public address outside of this machine's networks")
	require.Empty(t, got.stdout)
}

// TestPipeHostile checks that no offer leads a program to this machine or the
// network of its owner, or to a port that is not for this.
func TestPipeHostile(t *testing.T) {
	side := newTCPSide(t)
	leg := side.Addr().(*net.TCPAddr).AddrPort()
	const end = " public address outside of this machine's networks " +
		"with a port of 1024 or more; --allow_private uses it all " +
		"the same\n"

	// A daemon that does not tell of several addresses.
	w := newPipeWorld(t, "tcp", "open", leg)
	require.Equal(t, result{
		code: exitFailed,
		stderr: "[socketcli] offer " + pipeOffer + " names " +
			leg.String() + ", which is no" + end,
	}, w.runCLI(t, "pipe", pipeOffer))

	for _, admission := range []string{admissionOpen, admissionToken} {
		for _, protocol := range []string{protocolUDP, protocolTCP} {
			w := newPipeWorld(t, protocol, admission, leg)
			w.withIPs(hostileIPs...)
			res := w.runCLI(t, "pipe", pipeOffer)
			require.Equal(t, exitFailed, res.code)
			require.True(t, strings.HasPrefix(
				res.stderr, "[socketcli] offer "+pipeOffer+
					" names "+leg.String()+", 127.9.9.9:",
			), res.stderr)
			require.True(t, strings.HasSuffix(
				res.stderr, ", none of which is a"+end,
			), res.stderr)
		}
	}

	w = newPipeWorld(
		t, "tcp", "open",
		netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), 22),
	)
	w.withIPs("8.8.8.8", "2a00::1")
	require.Equal(t, result{
		code: exitFailed,
		stderr: "[socketcli] offer " + pipeOffer + " names " +
			"8.8.8.8:22, [2a00::1]:22, none of which is a" + end,
	}, w.runCLI(t, "pipe", pipeOffer))

	// The first connection that there is at the leg is ours.
	own, err := net.DialTCP("tcp", nil, side.Addr().(*net.TCPAddr))
	require.NoError(t, err)
	defer own.Close()
	require.Equal(t, own.LocalAddr(), side.accept().RemoteAddr())
}

// TestPipeAddresses uses legs of which only one address works.
func TestPipeAddresses(t *testing.T) {
	side := newTCPSide(t)
	leg := side.Addr().(*net.TCPAddr).AddrPort()

	for _, admission := range []string{admissionOpen, admissionToken} {
		w := newPipeWorld(t, "tcp", admission, leg).withIPs(
			"127.0.0.2", "127.0.0.3", "127.0.0.1",
		)
		p := w.startPipe(t, pipeOffer)
		conn := side.accept()
		if admission == admissionToken {
			side.bind(conn, w.leg(t, pipeOffer, 2), w.token)
		}
		p.say("words")
		hear(t, conn, "words")
		require.NoError(t, conn.CloseWrite())
		require.NoError(t, p.stdin.Close())
		hearEnd(t, conn)
		require.Equal(t, result{}, p.end())

		// The fourth one of an offer is left alone.
		w.withIPs("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
		res := w.runCLI(t, "pipe", pipeOffer, "--allow_private")
		require.Equal(t, exitFailed, res.code)
		require.Contains(t, res.stderr, "connection refused")
		port := leg.String()[len("127.0.0.1"):]
		for _, tried := range []string{"2", "3", "4"} {
			require.Contains(t, res.stderr, "127.0.0."+tried+port)
		}
		require.NotContains(t, res.stderr, "127.0.0.5")

		// This node trusts itself.
		w.withIPs("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1")
		p = w.startPipe(t, ownSocket)
		conn = side.accept()
		if admission == admissionToken {
			side.bind(conn, w.leg(t, ownSocket, 2), w.token)
		}
		require.NoError(t, conn.CloseWrite())
		require.NoError(t, p.stdin.Close())
		hearEnd(t, conn)
		require.Equal(t, result{}, p.end())
	}
}

// TestPipeAddressesUDP does the same with UDP: a leg that takes tokens is where
// somebody answers, an OPEN one is the first that there is a way to.
func TestPipeAddressesUDP(t *testing.T) {
	side := newUDPSide(t, loopback)
	silent, err := net.ListenUDP("udp", &net.UDPAddr{
		IP: net.IPv4(127, 0, 0, 2), Port: int(side.addr().Port()),
	})
	require.NoError(t, err)
	defer silent.Close()

	for admission, ips := range map[string][]string{
		admissionToken: {"127.0.0.2", "127.0.0.1"},

		// There is no way to a link-local address without a link.
		admissionOpen: {"fe80::1", "127.0.0.1", "127.0.0.2"},
	} {
		w := newPipeWorld(t, "udp", admission, side.addr()).withIPs(
			ips...,
		)
		p := w.startPipe(t, pipeOffer)
		if admission == admissionToken {
			side.bind(w.leg(t, pipeOffer, 1), w.token)
		} else {
			first, _ := side.receive()
			require.Empty(t, first)
		}
		program := newUDPSide(t, loopback)
		program.send(p.listening(), []byte("words"))
		got, _ := side.receive()
		require.Equal(t, "words", string(got))

		require.NoError(t, p.Process.Signal(os.Interrupt))
		require.Equal(t, exitDone, p.end().code)
	}

	w := newPipeWorld(t, "udp", "open", side.addr()).withIPs(
		"fe80::1", "fe80::2",
	)
	res := w.runCLI(t, "pipe", pipeOffer, "--allow_private")
	require.Equal(t, exitFailed, res.code)
	for _, ip := range w.offer.Ips {
		require.Contains(t, res.stderr, joinHostPort(ip, w.offer.Port2))
	}
	require.Equal(t, 1, strings.Count(res.stderr, "\n"))
}
