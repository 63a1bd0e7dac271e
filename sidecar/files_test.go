package sidecar

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/lightningnetwork/lnd/cert"
	"github.com/stretchr/testify/require"
)

// testConfig returns the configuration of a daemon in a directory of the
// test's own.
func testConfig(tb testing.TB, args ...string) *Config {
	tb.Helper()

	cfg, err := LoadConfig(append([]string{
		"--socketdir=" + tb.TempDir(), "--network=regtest",
	}, args...), nil)
	require.NoError(tb, err)
	require.NoError(tb, makeDir(cfg))

	return cfg
}

// TestTLS checks that a certificate is generated once, kept, and generated
// anew when it has expired, unless it is somebody else's.
func TestTLS(t *testing.T) {
	t.Parallel()

	cfg := testConfig(t, "--tlsextraip=192.0.2.9",
		"--tlsextradomain=node.example")
	serial := func() string {
		tlsCfg, err := loadTLS(cfg, btclog.Disabled)
		require.NoError(t, err)
		leaf, err := x509.ParseCertificate(
			tlsCfg.Certificates[0].Certificate[0],
		)
		require.NoError(t, err)
		require.Equal(t, uint16(tls.VersionTLS12), tlsCfg.MinVersion)

		return leaf.SerialNumber.String()
	}

	first := serial()
	require.Equal(t, first, serial())
	key, err := os.Stat(cfg.TLSKeyPath)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0600), key.Mode())
	raw, err := os.ReadFile(cfg.TLSCertPath)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(raw))

	// Expired, and ours: renewed. Expired, and not ours: left alone.
	for organization, renewed := range map[string]bool{
		tlsOrganization: true,
		"a real CA":     false,
	} {
		certBytes, keyBytes, err := cert.GenCertPair(
			organization, nil, nil, false, -time.Hour,
		)
		require.NoError(t, err)
		require.NoError(t, cert.WriteCertPair(
			cfg.TLSCertPath, cfg.TLSKeyPath, certBytes, keyBytes,
		))
		serial()
		after, err := os.ReadFile(cfg.TLSCertPath)
		require.NoError(t, err)
		require.Equal(t, renewed, !bytes.Equal(certBytes, after),
			organization)
	}

	// A key that is missing is an error that names it.
	require.NoError(t, os.Remove(cfg.TLSKeyPath))
	_, err = loadTLS(cfg, btclog.Disabled)
	require.ErrorContains(t, err, "tls.key")
}

// TestWriteSecret checks that a secret is readable by its owner only, and that
// a write that fails leaves nothing behind.
func TestWriteSecret(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	require.NoError(t, writeSecret(path, []byte("one")))
	require.NoError(t, writeSecret(path, []byte("two")))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "two", string(data))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0600), info.Mode())

	// A directory stands in the way.
	blocked := filepath.Join(dir, "blocked")
	require.NoError(t, os.MkdirAll(filepath.Join(blocked, "x"), 0700))
	require.Error(t, writeSecret(blocked, []byte("three")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)

	require.ErrorContains(
		t, writeSecret(filepath.Join(dir, "no", "dir"), nil), "no/dir",
	)
}

// TestListenOrNothing checks that neither listener stays open if one cannot be
// opened, and that a unix socket works.
func TestListenOrNothing(t *testing.T) {
	t.Parallel()

	cfg := testConfig(t)
	tlsCfg, err := loadTLS(cfg, btclog.Disabled)
	require.NoError(t, err)
	busy, err := new(net.ListenConfig).Listen(
		t.Context(), "tcp", "127.0.0.1:0",
	)
	require.NoError(t, err)
	defer busy.Close()

	path := filepath.Join(t.TempDir(), "rpc.sock")
	cfg.RPCListen = "unix://" + path
	cfg.RESTListen = busy.Addr().String()
	_, err = listen(t.Context(), cfg, tlsCfg)
	require.ErrorContains(t, err, "restlisten: ")
	_, err = os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist)

	cfg.RESTListen = "127.0.0.1:0"
	lis, err := listen(t.Context(), cfg, tlsCfg)
	require.NoError(t, err)
	require.Equal(t, path, lis.GRPC.Addr().String())
	require.NoError(t, lis.GRPC.Close())
	require.NoError(t, lis.REST.Close())

	cfg.RPCListen = busy.Addr().String()
	_, err = listen(t.Context(), cfg, tlsCfg)
	require.ErrorContains(t, err, "rpclisten: ")
}

// TestPipeListener checks the connection inside the process: it carries bytes
// both ways, and ends when it is closed.
func TestPipeListener(t *testing.T) {
	t.Parallel()

	pipe := newPipeListener()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := pipe.Accept()
		if err == nil {
			accepted <- conn
		}
	}()
	client, err := pipe.dial(t.Context(), "")
	require.NoError(t, err)
	server := <-accepted

	go func() { _, _ = client.Write([]byte("hello")) }()
	buf := make([]byte, 5)
	_, err = server.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(buf))
	require.NoError(t, client.Close())
	require.NoError(t, server.Close())

	// Nobody accepts: the dial ends with its context.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = pipe.dial(ctx, "")
	require.ErrorIs(t, err, context.Canceled)

	require.NoError(t, pipe.Close())
	require.NoError(t, pipe.Close())
	_, err = pipe.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = pipe.dial(t.Context(), "")
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestLoggers checks that each subsystem has its level, and that all of them
// are known to --debuglevel.
func TestLoggers(t *testing.T) {
	var out bytes.Buffer
	logs, err := newLoggers(&out, "off,RELY=debug,SCKD=info")
	require.NoError(t, err)
	logs.Relay.Debug("shown")
	logs.Relay.Log(t.Context(), -8, "too fine")
	logs.Daemon.Info("shown too")
	logs.Daemon.Debug("hidden")
	logs.Offer.Error("hidden")
	logs.RPC.Error("hidden")
	require.Contains(t, out.String(), "RELY: shown")
	require.Contains(t, out.String(), "SCKD: shown too")
	require.NotContains(t, out.String(), "hidden")
	require.NotContains(t, out.String(), "too fine")

	for _, subsystem := range []string{
		"SCKD", "RPCS", "RELY", "OFFR", "LNDC", "GRPC",
	} {
		_, err := newLoggers(&out, "info,"+subsystem+"=off")
		require.NoError(t, err)
	}
	_, err = newLoggers(&out, "NOPE=info")
	require.ErrorContains(t, err, "debuglevel: ")
}
