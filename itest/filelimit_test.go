//go:build itest

package itest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

// startLimited starts a node whose socketd may open few files: soft at first,
// and hard at most.
func startLimited(t *testing.T, soft, hard int) *node {
	t.Helper()

	bin, err := filepath.Abs(binDir)
	require.NoError(t, err)
	limited := t.TempDir()
	for _, name := range []string{"lnd", "lncli"} {
		require.NoError(t, os.Symlink(
			filepath.Join(bin, name), filepath.Join(limited, name),
		))
	}
	script := fmt.Sprintf("#!/bin/sh\nulimit -Sn %d && ulimit -Hn %d && "+
		"exec '%s/socketd' \"$@\"\n", soft, hard, bin)
	require.NoError(t, os.WriteFile(
		filepath.Join(limited, "socketd"), []byte(script), 0o700,
	))

	started, err := regtest.StartNode(testContext(t), regtest.NodeConfig{
		Name: "limited", BinDir: limited, Dir: t.TempDir(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, started.Stop()) })

	n, err := newNode(started)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.close()) })

	return n
}

// TestFewFiles checks a daemon that may open few files: it raises the soft
// limit, says what does not fit, and has sockets and connections up to that and
// no more, so that nothing else lacks a file descriptor.
func TestFewFiles(t *testing.T) {
	n := startLimited(t, 64, 128)

	limits := string(readFile(
		t, fmt.Sprintf("/proc/%d/limits", n.Socketd.Pid()),
	))
	require.Regexp(t, `(?m)^Max open files +128 +128 `, limits)
	out, err := n.Socketd.Output()
	require.NoError(t, err)
	require.Contains(t, out, "A limit of 128 open files makes room for "+
		"24 sockets; up to 24 (relay.maxsockets) leave 16 TCP "+
		"connections")

	info := n.info(t)
	require.Equal(t, uint32(24), info.MaxSockets)
	warning := "relay.maxsockets=100 is cut to 24, which is what a limit " +
		"of 128 open files leaves room for: set LimitNOFILE=904 or more"
	require.Contains(t, strings.Join(info.Warnings, "\n"), warning)
	require.Contains(t, out, warning)

	socket := n.startTCP(t, "")
	for range 23 {
		n.startSocket(t, "")
	}
	_, err = n.client.StartSocket(
		testContext(t), &socketrpc.StartSocketRequest{},
	)
	requireCode(t, err, codes.ResourceExhausted, "24")

	// All descriptors that there are for connections.
	for range 8 {
		connectLeg(t, socket.Port1)
		connectLeg(t, socket.Port2)
	}
	n.awaitLegs(t, socket.SocketId, func(leg1,
		leg2 *socketrpc.Leg) bool {

		return leg1.Open == 8 && leg2.Open == 8
	})
	requireRefused(t, "127.0.0.1", socket.Port1)
	n.awaitLegs(t, socket.SocketId, func(leg1,
		_ *socketrpc.Leg) bool {

		return leg1.Drops["limit"] == 1
	})

	// A new client of the API gets in.
	n.socketcli(t, "list")
}
