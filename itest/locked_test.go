//go:build itest

package itest

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/socketd/socketd/internal/regtest"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// lockable is an lnd whose wallet has a password, as a real one has.
type lockable struct {
	dir     string
	rpcAddr string
	proc    *regtest.Process
	conn    *grpc.ClientConn
}

// walletPassword is the password of a lockable's wallet.
var walletPassword = []byte("password")

// start starts the node and connects to it. It is locked, or has no wallet.
func (l *lockable) start(ctx context.Context, t *testing.T) {
	t.Helper()

	var err error
	l.proc, err = regtest.Start(context.WithoutCancel(ctx),
		regtest.ProcessConfig{
			Name:    "lockable lnd",
			Path:    filepath.Join(binDir, "lnd"),
			LogFile: filepath.Join(l.dir, "output.log"),
			Args: []string{
				"--configfile=" + os.DevNull,
				"--lnddir=" + l.dir, "--bitcoin.regtest",
				"--bitcoin.node=nochainbackend",
				"--nobootstrap", "--listen=127.0.0.1:0",
				"--rpclisten=" + l.rpcAddr,
				"--restlisten=127.0.0.1:0",
			},
		},
	)
	require.NoError(t, err)
	match, err := l.proc.WaitLine(ctx, regexp.MustCompile(
		`RPC server listening on (\S+)$`,
	))
	require.NoError(t, err)
	l.rpcAddr = match[1]

	creds, err := credentials.NewClientTLSFromFile(l.certPath(), "")
	require.NoError(t, err)
	l.conn, err = grpc.NewClient(
		l.rpcAddr, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
	)
	require.NoError(t, err)
}

// stop stops the node.
func (l *lockable) stop(t *testing.T) {
	t.Helper()

	_ = l.conn.Close()
	require.NoError(t, l.proc.Stop())
}

// certPath is the file with the node's certificate.
func (l *lockable) certPath() string {
	return filepath.Join(l.dir, "tls.cert")
}

// waitFor waits until the node is in a state.
func (l *lockable) waitFor(ctx context.Context, t *testing.T,
	want lnrpc.WalletState) {

	t.Helper()

	stream, err := lnrpc.NewStateClient(l.conn).SubscribeState(
		ctx, &lnrpc.SubscribeStateRequest{},
	)
	require.NoError(t, err)
	for {
		update, err := stream.Recv()
		require.NoError(t, err)
		if update.State == want {
			return
		}
	}
}

// create makes the wallet and bakes the macaroon for socketd.
func (l *lockable) create(ctx context.Context, t *testing.T, path string) {
	t.Helper()

	l.waitFor(ctx, t, lnrpc.WalletState_NON_EXISTING)
	unlocker := lnrpc.NewWalletUnlockerClient(l.conn)
	seed, err := unlocker.GenSeed(ctx, &lnrpc.GenSeedRequest{})
	require.NoError(t, err)
	wallet, err := unlocker.InitWallet(ctx, &lnrpc.InitWalletRequest{
		WalletPassword:     walletPassword,
		CipherSeedMnemonic: seed.CipherSeedMnemonic,
	})
	require.NoError(t, err)

	l.waitFor(ctx, t, lnrpc.WalletState_SERVER_ACTIVE)

	ctx = metadata.AppendToOutgoingContext(
		ctx, "macaroon", hex.EncodeToString(wallet.AdminMacaroon),
	)
	req := &lnrpc.BakeMacaroonRequest{RootKeyId: regtest.SocketdRootKeyID}
	for _, perm := range regtest.SocketdLndPermissions() {
		req.Permissions = append(
			req.Permissions, &lnrpc.MacaroonPermission{
				Entity: "uri", Action: perm[len("uri:"):],
			},
		)
	}
	baked, err := lnrpc.NewLightningClient(l.conn).BakeMacaroon(ctx, req)
	require.NoError(t, err)
	raw, err := hex.DecodeString(baked.Macaroon)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0600))
}

// TestLockedLnd starts socketd beside an lnd that is locked: it waits, ^C works
// meanwhile, and it gets ready once the wallet is unlocked.
func TestLockedLnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()

	var (
		dir = t.TempDir()
		mac = filepath.Join(dir, "lnd.macaroon")
		lnd = &lockable{dir: t.TempDir(), rpcAddr: "127.0.0.1:0"}
	)
	lnd.start(ctx, t)
	t.Cleanup(func() { lnd.stop(t) })
	lnd.create(ctx, t, mac)
	lnd.stop(t)
	lnd.start(ctx, t)

	socketd := regtest.NewSocketd(regtest.SocketdConfig{
		Name: "locked", BinDir: binDir, Dir: dir, LndAddr: lnd.rpcAddr,
		LndTLSPath: lnd.certPath(), LndMacaroonPath: mac,
	})
	locked := regexp.MustCompile("Wallet is locked")

	proc, err := socketd.Launch(ctx)
	require.NoError(t, err)
	_, err = proc.WaitLine(ctx, locked)
	require.NoError(t, err)
	require.NoError(t, socketd.Stop())

	proc, err = socketd.Launch(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, socketd.Stop()) }()
	_, err = proc.WaitLine(ctx, locked)
	require.NoError(t, err)

	_, err = lnrpc.NewWalletUnlockerClient(lnd.conn).UnlockWallet(
		ctx, &lnrpc.UnlockWalletRequest{WalletPassword: walletPassword},
	)
	require.NoError(t, err)
	_, err = proc.WaitLine(ctx, regexp.MustCompile("Ready$"))
	require.NoError(t, err)
}
