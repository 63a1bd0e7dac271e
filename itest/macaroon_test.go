//go:build itest

package itest

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"gopkg.in/macaroon.v2"
)

// ownRootKeyID is the root key id of socketd's own macaroons.
const ownRootKeyID = 50501

// bare returns a client without a macaroon of its own: the test adds one to
// each call.
func (n *node) bare(t *testing.T) socketrpc.SocketClient {
	t.Helper()

	conn, err := grpc.NewClient(
		n.Socketd.RPCAddr(), grpc.WithTransportCredentials(
			credentials.NewTLS(n.tlsConfig(t)),
		),
	)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })

	return socketrpc.NewSocketClient(conn)
}

// bake bakes a macaroon of the node for socketd's API.
func (n *node) bake(t *testing.T, perms ...string) []byte {
	t.Helper()

	mac, err := n.Lnd.BakeMacaroon(
		testContext(t), perms, ownRootKeyID, true,
	)
	require.NoError(t, err)

	return mac
}

// constrain adds first-party caveats to a macaroon, as lncli
// constrainmacaroon does.
func constrain(t *testing.T, raw []byte, caveats ...string) []byte {
	t.Helper()

	var mac macaroon.Macaroon
	require.NoError(t, mac.UnmarshalBinary(raw))
	for _, caveat := range caveats {
		require.NoError(t, mac.AddFirstPartyCaveat([]byte(caveat)))
	}
	raw, err := mac.MarshalBinary()
	require.NoError(t, err)

	return raw
}

// lncli runs lncli against the node.
func (n *node) lncli(t *testing.T, args ...string) string {
	t.Helper()

	cmd := exec.CommandContext(
		testContext(t), filepath.Join(binDir, "lncli"),
		append(n.Lnd.CLIArgs(), args...)...,
	)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	return string(out)
}

// httpCode returns the HTTP status that the gateway gives a gRPC code.
func httpCode(code codes.Code) int {
	switch code {
	case codes.OK:
		return http.StatusOK

	case codes.Unauthenticated:
		return http.StatusUnauthorized

	case codes.PermissionDenied:
		return http.StatusForbidden

	default:
		return http.StatusTeapot
	}
}

// macaroonCase is a macaroon, and what comes of a call that reads and one that
// writes with it.
type macaroonCase struct {
	name        string
	macaroon    []byte
	read, write codes.Code
}

// macaroonCases returns the table of macaroons for node a.
func macaroonCases(t *testing.T, a, b *node) []macaroonCase {
	t.Helper()

	const (
		ok     = codes.OK
		denied = codes.PermissionDenied
		unauth = codes.Unauthenticated

		future = "time-before 2100-01-01T00:00:00Z"
		past   = "time-before 2020-01-01T00:00:00Z"
		method = "uri:/socket.Socket/"
	)
	var (
		full     = a.bake(t, "socket:read", "socket:write")
		readonly = a.bake(t, "socket:read")
		getInfo  = a.bake(t, method+"GetInfo")
		stop     = a.bake(t, method+"StopSocket")
		admin    = readFile(t, a.Lnd.AdminMacaroonPath())
		flipped  = append([]byte{}, full...)
	)
	flipped[len(flipped)-1] ^= 1

	return []macaroonCase{
		{"right", full, ok, ok},
		{"baked by socketd", readFile(t, a.Socketd.MacaroonPath()),
			ok, ok},
		{"baked by socketd, read-only", readFile(
			t, a.Socketd.ReadonlyMacaroonPath(),
		), ok, denied},
		{"read-only", readonly, ok, denied},
		{"for one method", getInfo, ok, denied},
		{"for another method", stop, denied, ok},
		{"lnd's admin", admin, denied, denied},
		{"not expired", constrain(t, full, future), ok, ok},
		{"expired", constrain(t, full, past), denied, denied},
		{"other lnd's", readFile(t, b.Socketd.MacaroonPath()), denied,
			denied},
		{"wrong signature", flipped, denied, denied},
		{"garbage", []byte("garbage"), unauth, unauth},
		{"empty", []byte{}, unauth, unauth},
		{"none", nil, unauth, unauth},
		{"unknown caveat", constrain(t, full, "colour red"), unauth,
			unauth},
		{"custom caveat", constrain(t, full, "lnd-custom app x"),
			unauth, unauth},
		{"right ip", constrain(t, full, "ipaddr 127.0.0.1"), ok, ok},
		{"wrong ip", constrain(t, full, "ipaddr 192.0.2.1"), denied,
			denied},
		{"right range", constrain(t, full, "iprange 127.0.0.0/8"), ok,
			ok},
		{"wrong range", constrain(t, full, "iprange 192.0.2.0/24"),
			denied, denied},
	}
}

// TestMacaroons goes through the table over gRPC, REST and WebSocket. The HTTP
// calls claim to come from elsewhere, which nobody must believe.
func TestMacaroons(t *testing.T) {
	a, b := shared.a, shared.b
	client := a.bare(t)

	for _, test := range macaroonCases(t, a, b) {
		t.Run(test.name, func(t *testing.T) {
			ctx := testContext(t)
			header := http.Header{
				"X-Forwarded-For": {"192.0.2.1"},
				"Grpc-Metadata-Socketd-Client-Addr": {
					"192.0.2.1:1",
				},
			}
			if test.macaroon != nil {
				ctx = withMacaroon(ctx, test.macaroon)
				header.Set(
					macaroonHTTPHeader,
					hex.EncodeToString(test.macaroon),
				)
			}

			_, err := client.GetInfo(
				ctx, &socketrpc.GetInfoRequest{},
			)
			require.Equal(t, test.read, status.Code(err), "%v", err)
			_, err = client.StopSocket(
				ctx, &socketrpc.StopSocketRequest{},
			)
			require.Equal(
				t, test.write, status.Code(err), "%v", err,
			)

			resp := a.restRequest(
				t, http.MethodGet, "/v1/socket/getinfo", "",
				header.Clone(),
			)
			require.Equal(t, httpCode(test.read), resp.StatusCode)
			resp = a.restRequest(
				t, http.MethodPost, "/v1/socket/stop", "{}",
				header.Clone(),
			)
			require.Equal(t, httpCode(test.write), resp.StatusCode)

			// The macaroons for one method are for none that
			// streams.
			want := test.read
			if strings.HasPrefix(test.name, "for one") {
				want = codes.PermissionDenied
			}
			code := http.StatusSwitchingProtocols
			if want != codes.OK {
				code = httpCode(want)
			}
			_, ws, _ := a.dialWebSocket(
				t, "/v1/socket/events", "", false, header,
			)
			require.Equal(t, code, ws.StatusCode)
		})
	}
}

// TestMacaroonMetadata checks that a call must carry exactly one macaroon, and
// that one macaroon cannot hide behind another.
func TestMacaroonMetadata(t *testing.T) {
	a := shared.a
	mac := a.macaroonHex(t)
	ctx := metadata.AppendToOutgoingContext(
		testContext(t), socketrpc.MacaroonHeader, mac,
		socketrpc.MacaroonHeader, mac,
	)
	_, err := a.bare(t).GetInfo(ctx, &socketrpc.GetInfoRequest{})
	requireCode(t, err, codes.Unauthenticated, "expected one, got 2")

	// The address that the REST side passes on is believed from nobody
	// else.
	ctx = withMacaroon(testContext(t), constrain(
		t, a.bake(t, "socket:read"), "ipaddr 192.0.2.1",
	))
	ctx = metadata.AppendToOutgoingContext(
		ctx, "socketd-client-addr", "192.0.2.1:1",
	)
	_, err = a.bare(t).GetInfo(ctx, &socketrpc.GetInfoRequest{})
	requireCode(t, err, codes.PermissionDenied, "works only for clients at")
}

// TestMacaroonRevoked deletes the root key id of socketd's macaroons while the
// daemon runs: calls are refused at once, and a stream ends when it is checked
// again. The daemon's own access to lnd stays, and new macaroons are baked at
// the next start.
func TestMacaroonRevoked(t *testing.T) {
	n := startNode(t)
	events := n.subscribe(t)
	ws, _, err := n.dialWebSocket(
		t, "/v1/socket/events", n.macaroonHex(t), false, nil,
	)
	require.NoError(t, err)
	old := n.macaroonHex(t)

	n.lncli(t, "deletemacaroonid", strconv.Itoa(ownRootKeyID))
	_, err = n.client.GetInfo(
		testContext(t), &socketrpc.GetInfoRequest{},
	)
	require.Equal(t, codes.PermissionDenied, status.Code(err), "%v", err)

	_, err = events.stream.Recv()
	require.Equal(t, codes.Unauthenticated, status.Code(err), "%v", err)

	var last map[string]any
	require.NoError(t, ws.ReadJSON(&last))
	require.Equal( //nolint:testifylint // The number is a whole one.
		t, float64(codes.Unauthenticated),
		last["error"].(map[string]any)["code"],
	)

	require.NoError(t, os.Remove(n.Socketd.MacaroonPath()))
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	require.NoError(t, n.Socketd.Restart(ctx))
	require.NotEqual(t, old, n.macaroonHex(t))
	again, err := newNode(n.Node)
	require.NoError(t, err)
	defer again.close()
	again.info(t)
}

// TestMacaroonFiles checks the files that socketd writes, and that it runs on
// exactly the permissions that it documents.
func TestMacaroonFiles(t *testing.T) {
	a := shared.a
	for _, path := range []string{
		a.Socketd.MacaroonPath(), a.Socketd.ReadonlyMacaroonPath(),
		a.Socketd.TLSKeyPath(),
	} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0600), info.Mode(), path)
	}
	dir, err := os.Stat(filepath.Dir(a.Socketd.MacaroonPath()))
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|0700, dir.Mode())

	// No secret is ever logged.
	log := string(readFile(t, a.Socketd.LogPath()))
	require.NotContains(t, log, a.macaroonHex(t))
	require.NotEmpty(t, log)
}

// TestWithoutBaking runs a socketd whose lnd macaroon may not bake: it runs,
// and says which lines make its own macaroons. The lines work as printed.
func TestWithoutBaking(t *testing.T) {
	var (
		lnd = startLnd(t)
		dir = t.TempDir()
		mac = filepath.Join(dir, "lnd.macaroon")
		ctx = testContext(t)
	)
	require.NoError(t, lnd.BakeSocketdMacaroon(
		ctx, mac, documentedPermissions(),
	))
	own, err := regtest.StartSocketd(ctx, regtest.SocketdConfig{
		Name: "no-bake", BinDir: binDir, Dir: dir,
		LndAddr: lnd.RPCAddr(), LndTLSPath: lnd.TLSCertPath(),
		LndMacaroonPath: mac,
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, own.Stop()) }()

	out, err := own.Output()
	require.NoError(t, err)
	var ran int
	for line := range strings.Lines(out) {
		_, command, ok := strings.Cut(line, "make it with: lncli ")
		if !ok {
			continue
		}
		args := append(lnd.CLIArgs(), strings.Fields(command)...)
		cmd := exec.CommandContext(
			ctx, filepath.Join(binDir, "lncli"), args...,
		)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		ran++
	}
	require.Equal(t, 2, ran)

	conn, err := own.Dial()
	require.NoError(t, err)
	defer conn.Close()
	info, err := socketrpc.NewSocketClient(conn).GetInfo(
		ctx, &socketrpc.GetInfoRequest{},
	)
	require.NoError(t, err)
	require.Len(t, info.Warnings, 2)
}

// TestOutsideProgram builds a program in a module of its own, without the
// replace line that this module needs, and calls a daemon with it.
func TestOutsideProgram(t *testing.T) {
	a := shared.a
	program := filepath.Join(t.TempDir(), "outside")
	build := exec.CommandContext(
		t.Context(), "go", "build", "-trimpath", "-o", program, ".",
	)
	build.Dir = "../socketrpc/testdata/outside"
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	run := exec.CommandContext(
		testContext(t), program, a.Socketd.RPCAddr(),
		a.Socketd.TLSCertPath(), a.Socketd.MacaroonPath(),
	)
	out, err = run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, a.pubkey()+"\n", string(out))
}

// TestStreamOfSlowClient checks that a client that goes away in mid-stream
// leaves nothing behind: the daemon serves on.
func TestStreamOfSlowClient(t *testing.T) {
	a := shared.a
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	stream, err := a.client.SubscribeEvents(
		ctx, &socketrpc.SubscribeEventsRequest{},
	)
	require.NoError(t, err)
	_, err = stream.Header()
	require.NoError(t, err)
	cancel()
	_, err = stream.Recv()
	require.Equal(t, codes.Canceled, status.Code(err))
	require.NotErrorIs(t, err, io.EOF)

	start := time.Now()
	a.info(t)
	require.Less(t, time.Since(start), testTimeout)
}

// TestUnixSocket serves gRPC on a unix socket: socketcli works there, and a
// macaroon for an address does not.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rpc.sock")
	n := startNode(t, "--rpclisten=unix://"+path)
	require.Equal(t, "unix://"+path, n.Socketd.RPCAddr())
	require.Equal(t, n.pubkey(), n.socketcli(t, "getinfo")["node_pubkey"])

	ctx := withMacaroon(testContext(t), constrain(
		t, n.bake(t, "socket:read"), "ipaddr 127.0.0.1",
	))
	_, err := n.bare(t).GetInfo(ctx, &socketrpc.GetInfoRequest{})
	requireCode(t, err, codes.PermissionDenied, "over a unix socket")
}
