package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// TestFlagPrecedence checks that a flag counts more than its environment
// variable, and that more than the default.
func TestFlagPrecedence(t *testing.T) {
	good, bad := newTestServer(t), newTestServer(t)

	setEnv := func(name, value string) {
		t.Setenv("SOCKETCLI_"+name, value)
	}

	check := func(args ...string) {
		t.Helper()

		res := runArgs(t.Context(), append(args, "getinfo")...)
		require.Equal(t, exitDone, res.code, res.stderr)
		require.Equal(t, []string{good.macaroon},
			good.waitCall(t).macaroon)
		bad.noCall(t)
	}

	// Everything from the environment.
	setEnv("RPCSERVER", good.addr)
	setEnv("SOCKETDIR", good.dir)
	check()

	// An empty variable is as good as none.
	setEnv("NETWORK", "")
	setEnv("TLSCERTPATH", "")
	setEnv("MACAROONPATH", "")
	check()

	// Flags before the command and after it.
	setEnv("RPCSERVER", bad.addr)
	setEnv("SOCKETDIR", bad.dir)
	flags := []string{"--rpcserver", good.addr, "--socketdir", good.dir}
	check(flags...)

	res := runArgs(t.Context(), append([]string{"getinfo"}, flags...)...)
	require.Equal(t, exitDone, res.code, res.stderr)
	good.waitCall(t)

	// The paths of single files count more than those of directories.
	goodDir := filepath.Join(good.dir, "mainnet")
	setEnv("RPCSERVER", good.addr)
	setEnv("TLSCERTPATH", filepath.Join(goodDir, "tls.cert"))
	setEnv("MACAROONPATH", filepath.Join(goodDir, "socket.macaroon"))
	check()

	setEnv("TLSCERTPATH", "/nowhere")
	setEnv("MACAROONPATH", "/nowhere")
	check(
		"--tlscertpath", filepath.Join(goodDir, "tls.cert"),
		"--macaroonpath", filepath.Join(goodDir, "socket.macaroon"),
	)

	// The network is a directory of the home directory.
	setEnv("TLSCERTPATH", "")
	setEnv("MACAROONPATH", "")
	setEnv("SOCKETDIR", good.dir)
	require.NoError(t, os.Rename(
		goodDir, filepath.Join(good.dir, "regtest"),
	))
	check("--network", "regtest")
	check("-n", "regtest")
	setEnv("NETWORK", "regtest")
	check()

	// A bad variable is a usage error as the flag is.
	setEnv("NETWORK", "main")
	res = runArgs(t.Context(), "getinfo")
	require.Equal(t, exitUsage, res.code)
	require.Contains(t, res.stderr, `--network: "main"`)
}

// TestDefaultPaths checks where the files are looked for.
func TestDefaultPaths(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)

	for _, network := range networks {
		dir := filepath.Join(home, ".socketd", network)
		args := []string{"-n", network, "getinfo"}

		res := runArgs(t.Context(), args...)
		require.Equal(t, exitFailed, res.code)
		require.Contains(t, res.stderr, filepath.Join(dir, "tls.cert"))

		_, cert := newCertificate(t)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		writeFile(t, filepath.Join(dir, "tls.cert"), cert)

		res = runArgs(t.Context(), args...)
		require.Equal(t, exitFailed, res.code)
		require.Contains(t, res.stderr,
			filepath.Join(dir, "socket.macaroon"))
	}
}

// TestExpandPath checks ~ and variables in paths.
func TestExpandPath(t *testing.T) {
	server := newTestServer(t)
	t.Setenv("HOME", server.dir)
	t.Setenv("NETDIR", "mainnet")
	t.Setenv("TILDE", "~/mainnet")

	for _, dir := range []string{
		"~/mainnet", "~/$NETDIR", "~/${NETDIR}", "$HOME/mainnet",
		"$TILDE", "~/mainnet/../$NETDIR/",
	} {
		res := server.runCLI(
			t, "--socketdir=/nowhere", "--tlscertpath="+dir+
				"/tls.cert", "--macaroonpath", dir+
				"/socket.macaroon", "getinfo",
		)
		require.Equal(t, exitDone, res.code, res.stderr)
		require.Equal(t, socketrpc.Socket_GetInfo_FullMethodName,
			server.waitCall(t).method)
	}

	for _, dir := range []string{"~", "~/", "$HOME"} {
		res := server.runCLI(t, "--socketdir="+dir, "getinfo")
		require.Equal(t, exitDone, res.code, res.stderr)
		server.waitCall(t)
	}

	// Only a ~ of its own is the home directory.
	for _, path := range []string{"~else/tls.cert", "a/~/tls.cert"} {
		res := server.runCLI(t, "--tlscertpath="+path, "getinfo")
		require.Equal(t, exitFailed, res.code)
		require.Contains(t, res.stderr, "open "+path+": ")
	}

	// Without a home directory ~ is an error, and other paths are not.
	t.Setenv("HOME", "")
	res := server.runCLI(t, "--socketdir=~/x", "getinfo")
	require.Equal(t, exitFailed, res.code)
	require.Contains(t, res.stderr, "--tlscertpath: expand ~: ")

	res = server.runCLI(
		t, "--tlscertpath="+server.dir+"/mainnet/tls.cert",
		"--macaroonpath=~/x", "getinfo",
	)
	require.Equal(t, exitFailed, res.code)
	require.Contains(t, res.stderr, "--macaroonpath: expand ~: ")

	res = server.runCLI(t, "getinfo")
	require.Equal(t, exitDone, res.code, res.stderr)
}
