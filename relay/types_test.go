package relay

import (
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestIDText checks that an id survives being written and read.
func TestIDText(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		var id ID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "id"))

		text := id.String()
		require.Len(t, text, 64)
		require.Equal(t, strings.ToLower(text), text)

		for _, form := range []string{text, strings.ToUpper(text)} {
			parsed, err := ParseID(form)
			require.NoError(t, err)
			require.Equal(t, id, parsed)
		}
	})

	for _, bad := range []string{
		"", "00", strings.Repeat("0", 63), strings.Repeat("0", 65),
		strings.Repeat("g", 64), strings.Repeat("0", 66),
		" " + strings.Repeat("0", 63),
	} {
		_, err := ParseID(bad)
		require.Error(t, err, bad)
	}

	first, second := newID(), newID()
	require.NotEqual(t, first, second)
}

// TestProtocolText checks the names of protocols.
func TestProtocolText(t *testing.T) {
	t.Parallel()

	for name, want := range map[string]Protocol{"udp": UDP, "tcp": TCP} {
		protocol, err := ParseProtocol(name)
		require.NoError(t, err)
		require.Equal(t, want, protocol)
		require.Equal(t, name, protocol.String())
	}
	require.Equal(t, "protocol 9", Protocol(9).String())

	for _, bad := range []string{"", "sctp", "UDP", "Tcp", "udp ", "1"} {
		_, err := ParseProtocol(bad)
		require.ErrorIs(t, err, ErrProtocol, bad)
	}
}

// TestLegOther checks that the legs are each other's far side.
func TestLegOther(t *testing.T) {
	t.Parallel()

	require.Equal(t, Leg2, Leg1.Other())
	require.Equal(t, Leg1, Leg2.Other())
}

// TestPortRangeText checks how ranges are read and written.
func TestPortRangeText(t *testing.T) {
	t.Parallel()

	good := map[string]PortRange{
		"21000-21999": {Low: 21000, High: 21999},
		"1-65535":     {Low: 1, High: math.MaxUint16},
		"7-7":         {Low: 7, High: 7},
	}
	for text, want := range good {
		ports, err := ParsePortRange(text)
		require.NoError(t, err)
		require.Equal(t, want, ports)
		require.Equal(t, text, ports.String())
	}

	for _, bad := range []string{
		"", "-", "1", "1-", "-1", "0-1", "2-1", "1-65536",
		"65536-65537", "a-b", "1-2-3", " 1-2", "1 - 2", "+1-2",
	} {
		_, err := ParsePortRange(bad)
		require.Error(t, err, bad)
	}

	all := PortRange{Low: 1, High: math.MaxUint16}
	require.Equal(t, 65535, all.size())
	require.True(t, all.contains(1))
	require.True(t, all.contains(65535))
	require.False(t, all.contains(0))
}

// TestReasons checks the words that users see.
func TestReasons(t *testing.T) {
	t.Parallel()

	drops := map[DropReason]string{
		DropStranger:   "stranger",
		DropNoClient:   "no_client",
		DropLimit:      "limit",
		DropSendError:  "send_error",
		DropKernel:     "kernel",
		DropBandwidth:  "bandwidth",
		DropPackets:    "packets",
		DropBytes:      "bytes",
		DropNotAllowed: "not_allowed",
		DropBadBind:    "bad_bind",
		numDropReasons: "reason 10",
	}
	for reason, word := range drops {
		require.Equal(t, word, reason.String())
	}

	closes := map[CloseReason]string{
		CloseStopped:  "stopped",
		CloseIdle:     "idle",
		CloseLifetime: "lifetime",
		CloseShutdown: "shutdown",
		CloseError:    "error",
		CloseBytes:    "bytes",
		0:             "reason 0",
	}
	for reason, word := range closes {
		require.Equal(t, word, reason.String())
	}
}

// TestConfig checks what New refuses.
func TestConfig(t *testing.T) {
	t.Parallel()

	good := map[string]func(*Config){
		"as it is": func(*Config) {},
		"logger": func(c *Config) {
			c.Logger = slog.New(slog.DiscardHandler)
		},
		"no rest": func(c *Config) { c.PortRest = 0 },
		"listen":  func(c *Config) { c.Listen = loopback4 },
		"listen all": func(c *Config) {
			c.Listen = netip.IPv6Unspecified()
		},
		"self": func(c *Config) {
			c.SelfAddrs = []netip.Addr{
				loopback6, netip.MustParseAddr("192.0.2.1"),
			}
		},
	}
	for name, change := range good {
		cfg := testConfig(t)
		change(&cfg)

		_, err := New(cfg, nil)
		require.NoError(t, err, name)
	}

	mapped := netip.MustParseAddr("::ffff:255.255.255.255")
	bad := map[string]func(*Config){
		"no ports":   func(c *Config) { c.Ports = PortRange{} },
		"one port":   func(c *Config) { c.Ports = PortRange{7, 7} },
		"backwards":  func(c *Config) { c.Ports = PortRange{9, 7} },
		"rest":       func(c *Config) { c.PortRest = -1 },
		"no sockets": func(c *Config) { c.MaxSockets = 0 },
		"no pin":     func(c *Config) { c.PinTimeout = 0 },
		"negative":   func(c *Config) { c.PinTimeout = -time.Second },
		"no pairs":   func(c *Config) { c.MaxPairs = 0 },
		"no queue":   func(c *Config) { c.MaxWaiting = 0 },
		"no wait":    func(c *Config) { c.WaitTimeout = 0 },
		"no conns":   func(c *Config) { c.MaxConns = 0 },
		"keep-alive": func(c *Config) { c.KeepAlive = time.Second - 1 },
		"multicast": func(c *Config) {
			c.Listen = netip.MustParseAddr("224.0.0.1")
		},
		"broadcast": func(c *Config) { c.Listen = mapped },
		"self zero": func(c *Config) {
			c.SelfAddrs = []netip.Addr{loopback4, {}}
		},
		"self broadcast": func(c *Config) {
			c.SelfAddrs = []netip.Addr{mapped}
		},
	}
	for name, change := range bad {
		cfg := testConfig(t)
		change(&cfg)

		_, err := New(cfg, nil)
		require.Error(t, err, name)
	}
}
