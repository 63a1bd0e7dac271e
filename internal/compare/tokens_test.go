package compare

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// startResponse returns what a daemon answers that has started a TOKEN socket.
func startResponse() *socketrpc.StartSocketResponse {
	return &socketrpc.StartSocketResponse{
		SocketId: strings.Repeat("0f", 32),
		Token1:   strings.Repeat("a1", 16),
		Token2:   strings.Repeat("b2", 16),
	}
}

// TestParseTokens reads the tokens of a socket, and what is none.
func TestParseTokens(t *testing.T) {
	t.Parallel()

	resp := startResponse()
	tokens, err := parseTokens(resp)
	require.NoError(t, err)
	require.Equal(t, byte(0x0f), tokens.Socket[31])
	require.Equal(t, resp.Token1, tokens.Legs[0].Hex())
	require.Equal(t, resp.Token2, tokens.Legs[1].Hex())

	for _, change := range []func(*socketrpc.StartSocketResponse){
		func(r *socketrpc.StartSocketResponse) { r.SocketId = "0f" },
		func(r *socketrpc.StartSocketResponse) { r.SocketId = "" },
		func(r *socketrpc.StartSocketResponse) { r.Token1 = "" },
		func(r *socketrpc.StartSocketResponse) { r.Token2 += "b2" },
	} {
		resp := startResponse()
		change(resp)
		_, err := parseTokens(resp)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "b2b2")
		require.NotContains(t, err.Error(), "a1a1")
	}
}

// TestTokensInJob checks that tokens get to the generator in a file that nobody
// else can read, and are in nothing that is printed.
func TestTokensInJob(t *testing.T) {
	t.Parallel()

	tokens, err := parseTokens(startResponse())
	require.NoError(t, err)
	spec := Spec{Ends: Ends{
		Kind:    Socket,
		Sockets: [][2]uint16{{10000, 10001}},
		Tokens:  []Tokens{tokens},
	}}

	path := filepath.Join(t.TempDir(), "job")
	require.NoError(t, writeJSON(path, spec))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())

	var got Spec
	require.NoError(t, readJSON(path, &got))
	require.Equal(t, spec, got)

	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		text := fmt.Sprintf(verb, got)
		require.Contains(t, text, "(token)")
		require.NotContains(t, text, "a1a1")
		require.NotContains(t, text, "161 161")
	}

	// What is none is an error that does not show it.
	for _, text := range []string{
		`{"socket": "0f"}`, `{"legs": ["a1a1"]}`,
	} {
		err := json.Unmarshal([]byte(text), new(Tokens))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "a1a1")
	}
}

// TestRequest checks that one daemon's sockets are OPEN and have no limits, and
// that the other one's have tokens and every limit that there is.
func TestRequest(t *testing.T) {
	t.Parallel()

	for protocol, tcp := range map[string]bool{"udp": false, "tcp": true} {
		req := (&daemon{}).request(tcp)
		require.Equal(t, protocol, req.Protocol)
		require.Equal(t, "open", req.Admission)
		require.Nil(t, req.Limits)

		req = (&daemon{guarded: true}).request(tcp)
		require.Equal(t, protocol, req.Protocol)
		require.Equal(t, "token", req.Admission)

		other := protoreflect.Name("pairs")
		if tcp {
			other = "packets"
		}
		limits := req.Limits.ProtoReflect()
		fields := limits.Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			require.Equal(t, f.Name() != other, limits.Has(f),
				"%s: %s", protocol, f.Name())
		}
	}

	// The limits of the daemon are set or not in the same options.
	open, guarded := daemonArgs(false), daemonArgs(true)
	require.Len(t, guarded, len(open))
	for _, name := range []string{"bandwidth", "nodebandwidth"} {
		require.Contains(t, open, "--relay."+name+"=0")
		require.Contains(t, guarded,
			"--relay."+name+"=10000000000000")
	}
	for _, name := range []string{
		"socketbandwidth", "socketpackets", "socketbytes",
	} {
		require.Contains(t, open, "--relay."+name+"=0")
	}
}

// TestLimitsReached checks that a limit which was reached is seen.
func TestLimitsReached(t *testing.T) {
	t.Parallel()

	socket := func(leg1, leg2 map[string]uint64) *socketrpc.SocketInfo {
		return &socketrpc.SocketInfo{
			Leg1: &socketrpc.Leg{Drops: leg1},
			Leg2: &socketrpc.Leg{Drops: leg2},
		}
	}
	quiet := map[string]uint64{
		"no_client": 3, "kernel": 9, "bandwidth": 0, "packets": 0,
		"bytes": 0, "limit": 0,
	}
	good := socket(quiet, quiet)
	require.NoError(t, limitsReached([]*socketrpc.SocketInfo{good}))
	require.NoError(t, limitsReached(nil))

	for _, name := range []string{
		"bandwidth", "packets", "bytes", "limit",
	} {
		bad := socket(quiet, map[string]uint64{name: 7})
		err := limitsReached([]*socketrpc.SocketInfo{good, bad})
		require.ErrorIs(t, err, errLimit)
		require.ErrorContains(t, err, name+" of leg 2, 7 times")
	}
}

// TestCallerAddresses checks that those who call a TOKEN socket at the same
// time are not too many at an address, and that those of an OPEN one have the
// same.
func TestCallerAddresses(t *testing.T) {
	t.Parallel()

	ends := Ends{Kind: Socket, Sockets: [][2]uint16{{1, 2}}}
	for worker := range shortWorkers {
		c := newCaller(&ends, 0, worker)
		require.Equal(t, loopback, c.from)
		require.Equal(t, [2]*bind.Key{}, c.keys)
	}

	tokens, err := parseTokens(startResponse())
	require.NoError(t, err)
	ends.Tokens = []Tokens{tokens}
	count := make(map[string]int)
	for worker := range shortWorkers {
		c := newCaller(&ends, 0, worker)
		require.True(t, c.from.IsLoopback())
		require.NotContains(t, c.keys, (*bind.Key)(nil))
		count[c.from.String()]++
	}
	for _, n := range count {
		require.LessOrEqual(t, n, 4)
	}
	require.Contains(t, count, "127.0.0.2")
}

// TestGuardedRows checks that wherever the daemon takes part, it does so a
// second time, with tokens and limits, right after.
func TestGuardedRows(t *testing.T) {
	t.Parallel()

	for _, r := range rows() {
		i := slices.Index(r.contestants, nameSocketd)
		require.Equal(t, nameGuarded, r.contestants[i+1], r.key)
		require.True(t, slices.ContainsFunc(
			r.figures, func(f figure) bool { return f.cost },
		), r.key)
	}
}
