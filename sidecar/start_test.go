package sidecar

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// TestDefaultSocketOptions checks that an empty request starts the socket that
// it always did: UDP and OPEN, without an end. What bounds its traffic is the
// daemon's.
func TestDefaultSocketOptions(t *testing.T) {
	t.Parallel()

	s := newServers(
		t, 1, "--relay.socketbandwidth=3M", "--relay.socketpackets=2k",
		"--relay.socketbytes=7G",
	)[0]
	started := s.start(&socketrpc.StartSocketRequest{})
	require.Equal(t, "udp", started.Protocol)
	require.Equal(t, "open", started.Admission)
	require.Empty(t, started.Token1)
	require.Empty(t, started.Token2)

	info := s.info(started.SocketId)
	require.True(t, info.IsDefault)
	require.Equal(t, "open", info.Admission)
	require.Zero(t, info.ExpiresAt)
	require.Empty(t, info.Leg1.Allow)
	require.True(t, proto.Equal(&socketrpc.SocketLimits{
		Bandwidth: proto.Uint64(3_000_000), Packets: proto.Uint64(2000),
		TotalBytes:  proto.Uint64(7_000_000_000),
		IdleTimeout: proto.Uint64(0), Lifetime: proto.Uint64(0),
	}, info.Limits), "%v", info.Limits)

	// It is the same as long as it runs, also by its id.
	require.True(t, proto.Equal(
		started, s.start(&socketrpc.StartSocketRequest{}),
	))
	require.True(t, proto.Equal(
		started, s.start(&socketrpc.StartSocketRequest{
			SocketId: started.SocketId,
		}),
	))

	// An empty message is a field that is set.
	further := s.start(&socketrpc.StartSocketRequest{
		Limits: &socketrpc.SocketLimits{},
	})
	require.NotEqual(t, started.SocketId, further.SocketId)
	require.Equal(t, "token", further.Admission)
}

// TestStartOptions checks what becomes of every field of a request, and of
// those that it leaves out.
func TestStartOptions(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1, "--relay.idletimeout=90500ms")[0]

	tests := []struct {
		name   string
		req    *socketrpc.StartSocketRequest
		admits string
		limits *socketrpc.SocketLimits
		allow  [2][]string
	}{{
		name:   "udp defaults",
		req:    &socketrpc.StartSocketRequest{Protocol: "udp"},
		admits: "token",
		limits: &socketrpc.SocketLimits{
			Bandwidth:   proto.Uint64(12_500_000),
			Packets:     proto.Uint64(50_000),
			TotalBytes:  proto.Uint64(0),
			IdleTimeout: proto.Uint64(91),
			Lifetime:    proto.Uint64(86_400),
		},
	}, {
		name: "tcp defaults",
		req: &socketrpc.StartSocketRequest{
			Protocol: "tcp", Admission: "open",
		},
		admits: "open",
		limits: &socketrpc.SocketLimits{
			Bandwidth:   proto.Uint64(12_500_000),
			TotalBytes:  proto.Uint64(0),
			IdleTimeout: proto.Uint64(91),
			Lifetime:    proto.Uint64(86_400),
			Pairs:       proto.Uint32(1000),
		},
	}, {
		name: "udp, all set",
		req: &socketrpc.StartSocketRequest{
			Admission: "token",
			Allow1:    []string{"192.0.2.0/24", "::ffff:192.0.2.1"},
			Allow2:    []string{"2001:db8::/32", "2001:db8:1::7"},
			Limits: &socketrpc.SocketLimits{
				Bandwidth:   proto.Uint64(math.MaxInt64),
				Packets:     proto.Uint64(1),
				TotalBytes:  proto.Uint64(1),
				IdleTimeout: proto.Uint64(maxSeconds),
				Lifetime:    proto.Uint64(7),
			},
		},
		admits: "token",
		limits: &socketrpc.SocketLimits{
			Bandwidth:   proto.Uint64(math.MaxInt64),
			Packets:     proto.Uint64(1),
			TotalBytes:  proto.Uint64(1),
			IdleTimeout: proto.Uint64(maxSeconds),
			Lifetime:    proto.Uint64(7),
		},
		allow: [2][]string{
			{"192.0.2.0/24", "192.0.2.1/32"},
			{"2001:db8::/32", "2001:db8:1::7/128"},
		},
	}, {
		name: "no limits",
		req: &socketrpc.StartSocketRequest{
			Protocol: "tcp",
			Limits: &socketrpc.SocketLimits{
				Bandwidth:   proto.Uint64(0),
				TotalBytes:  proto.Uint64(0),
				IdleTimeout: proto.Uint64(0),
				Lifetime:    proto.Uint64(0),
				Pairs:       proto.Uint32(0),
			},
		},
		admits: "token",
		limits: &socketrpc.SocketLimits{
			Bandwidth:   proto.Uint64(0),
			TotalBytes:  proto.Uint64(0),
			IdleTimeout: proto.Uint64(0),
			Lifetime:    proto.Uint64(0),
			Pairs:       proto.Uint32(1000),
		},
	}, {
		name: "fewer pairs",
		req: &socketrpc.StartSocketRequest{
			Protocol: "tcp",
			Limits: &socketrpc.SocketLimits{
				Lifetime: proto.Uint64(maxSeconds),
				Pairs:    proto.Uint32(1),
			},
		},
		admits: "token",
		limits: &socketrpc.SocketLimits{
			Bandwidth:   proto.Uint64(12_500_000),
			TotalBytes:  proto.Uint64(0),
			IdleTimeout: proto.Uint64(91),
			Lifetime:    proto.Uint64(maxSeconds),
			Pairs:       proto.Uint32(1),
		},
	}}
	for _, test := range tests {
		started := s.start(test.req)
		require.Equal(t, test.admits, started.Admission, test.name)

		info := s.info(started.SocketId)
		require.Equal(t, test.admits, info.Admission, test.name)
		require.False(t, info.IsDefault, test.name)
		require.True(t, proto.Equal(test.limits, info.Limits),
			"%s: %v", test.name, info.Limits)
		require.ElementsMatch(t, test.allow[0], info.Leg1.Allow,
			test.name)
		require.ElementsMatch(t, test.allow[1], info.Leg2.Allow,
			test.name)

		// What is shown is what the relay has.
		opts := s.socket(started.SocketId).Options()
		require.Equal(t, test.limits.GetBandwidth(),
			opts.Limits.Bandwidth)
		require.Equal(t, test.limits.GetPackets(), opts.Limits.Packets)
		require.Equal(t, test.admits, opts.Admission.String())
		require.Equal(t, test.limits.GetLifetime() > 0,
			info.ExpiresAt > 0, test.name)
		s.stop(started.SocketId)
	}
}

// TestStartRefused checks that each mistake in a request is InvalidArgument and
// names its field, and that nothing is started.
func TestStartRefused(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1, "--relay.maxpairs=10")[0]
	running := s.start(&socketrpc.StartSocketRequest{Label: "running"})

	limits := func(protocol string,
		limits *socketrpc.SocketLimits) *socketrpc.StartSocketRequest {

		return &socketrpc.StartSocketRequest{
			Protocol: protocol, Limits: limits,
		}
	}
	allow := func(list ...string) *socketrpc.StartSocketRequest {
		return &socketrpc.StartSocketRequest{Allow1: list}
	}
	tooLarge := proto.Uint64(math.MaxInt64 + 1)
	tooLong := proto.Uint64(maxSeconds + 1)

	tests := []struct {
		want string
		req  *socketrpc.StartSocketRequest
	}{
		{`admission: "OPEN" is not known, use "open" or "token"`,
			&socketrpc.StartSocketRequest{Admission: "OPEN"}},
		{"allow1: \"\"", allow("")},
		{`allow1: "example.com" is neither a network, such as`,
			allow("192.0.2.1", "example.com")},
		{"allow1: ", allow("192.0.2.0/33")},
		{"allow1: ", allow("192.0.2.0/-1")},
		{"allow1: ", allow("192.0.2.0/24 ")},
		{"allow1: ", allow("192.0.2.0/024")},
		{"allow1: ", allow("192.0.2")},
		{"allow1: ", allow("fe80::1%eth0")},
		{"allow1: ", allow("fe80::/10%eth0")},
		{`allow1: "192.0.2.1/24" has bits behind its length, the ` +
			"network is 192.0.2.0/24", allow("192.0.2.1/24")},
		{`allow1: "::ffff:192.0.2.0/120" is IPv4 in IPv6`,
			allow("::ffff:192.0.2.0/120")},
		{"allow2: 65 networks, at most 64",
			&socketrpc.StartSocketRequest{
				Allow2: strings.Split(strings.Repeat(
					"192.0.2.1,", 64,
				)+"192.0.2.1", ","),
			}},
		{"limits.bandwidth: ", limits("", &socketrpc.SocketLimits{
			Bandwidth: tooLarge,
		})},
		{"limits.packets: ", limits("udp", &socketrpc.SocketLimits{
			Packets: tooLarge,
		})},
		{"limits.total_bytes: ", limits("tcp", &socketrpc.SocketLimits{
			TotalBytes: proto.Uint64(math.MaxUint64),
		})},
		{"limits.idle_timeout: ", limits("", &socketrpc.SocketLimits{
			IdleTimeout: tooLong,
		})},
		{"limits.lifetime: ", limits("", &socketrpc.SocketLimits{
			Lifetime: proto.Uint64(math.MaxUint64),
		})},
		{"limits.packets: a tcp socket", limits("tcp",
			&socketrpc.SocketLimits{Packets: proto.Uint64(0)})},
		{"limits.pairs: a udp socket", limits("udp",
			&socketrpc.SocketLimits{Pairs: proto.Uint32(0)})},
		{"limits.pairs: 11 is more than relay.maxpairs, which is 10",
			limits("tcp", &socketrpc.SocketLimits{
				Pairs: proto.Uint32(11),
			})},
		{"limits.pairs: ", limits("tcp", &socketrpc.SocketLimits{
			Pairs: proto.Uint32(math.MaxUint32),
		})},
		{"socket_id: not hex", &socketrpc.StartSocketRequest{
			SocketId: "my socket",
		}},
		{"label: must not be set beside socket_id",
			&socketrpc.StartSocketRequest{
				SocketId: running.SocketId, Label: "running",
			}},
		{"allow2: must not be set beside socket_id",
			&socketrpc.StartSocketRequest{
				SocketId: running.SocketId,
				Allow2:   []string{"192.0.2.1"},
			}},
		{"limits: must not be set beside socket_id",
			&socketrpc.StartSocketRequest{
				SocketId: running.SocketId,
				Limits:   &socketrpc.SocketLimits{},
			}},
	}
	for _, test := range tests {
		_, err := s.rpc.StartSocket(t.Context(), test.req)
		requireStatus(t, err, codes.InvalidArgument, test.want)
	}

	_, err := s.rpc.StartSocket(
		t.Context(), &socketrpc.StartSocketRequest{
			SocketId: strings.Repeat("ab", 32),
		},
	)
	requireStatus(t, err, codes.NotFound, "socket_id: ")
	require.Equal(t, 1, s.relay.NumSockets())
}

// TestMaxAllow checks that the relay takes as many networks as a request may
// have, and no more.
func TestMaxAllow(t *testing.T) {
	t.Parallel()

	s := newServers(t, 1)[0]
	opts := relay.Options{Protocol: relay.UDP}
	for i := range maxAllow {
		opts.Allow[0] = append(opts.Allow[0], netip.PrefixFrom(
			netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32,
		))
	}
	_, err := s.relay.Open(opts)
	require.NoError(t, err)

	opts.Allow[0] = append(opts.Allow[0], opts.Allow[0][0])
	_, err = s.relay.Open(opts)
	require.ErrorIs(t, err, relay.ErrOptions)
}

// TestAdmissionNumbers checks that an offer has the relay's number for each
// admission, and its name.
func TestAdmissionNumbers(t *testing.T) {
	t.Parallel()

	for _, admission := range []relay.Admission{
		relay.Open, relay.ByToken,
	} {
		require.Equal(t, admission.String(),
			wire.Admission(admission).String())
	}
	require.Equal(t, relay.ByToken, relay.Admission(wire.AdmissionToken))
}

// TestWholeSeconds checks that no time becomes no limit.
func TestWholeSeconds(t *testing.T) {
	t.Parallel()

	for d, want := range map[time.Duration]uint64{
		0: 0, 1: 1, time.Second: 1, time.Second + 1: 2,
		24*time.Hour - time.Millisecond: 86_400,
		math.MaxInt64:                   maxSeconds + 1,
	} {
		require.Equal(t, want, *wholeSeconds(d), fmt.Sprint(d))
	}
}
