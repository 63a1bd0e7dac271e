//go:build itest

package regtest

import (
	"context"
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"gopkg.in/macaroon.v2"
)

// binDir holds the programs: the tests run in the package's directory.
var binDir = filepath.Join("..", "..", "bin")

// timeLimit bounds a test: nothing here takes more than seconds.
func timeLimit(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)

	return ctx
}

// startLnd starts an lnd that is stopped at the end of the test, in order.
func startLnd(ctx context.Context, t *testing.T, cfg LndConfig) *Lnd {
	t.Helper()

	cfg.BinDir = binDir
	cfg.Dir = filepath.Join(t.TempDir(), "lnd")
	lnd, err := StartLnd(ctx, cfg)
	require.NoError(t, err)

	t.Cleanup(func() {
		require.NoError(t, lnd.Stop())
	})

	return lnd
}

// TestLnd starts an lnd, asks it by its own client, and restarts it.
func TestLnd(t *testing.T) {
	ctx := timeLimit(t)
	lnd := startLnd(ctx, t, LndConfig{Name: "ann"})

	info, err := lnd.Client().GetInfo(ctx, &lnrpc.GetInfoRequest{})
	require.NoError(t, err)
	require.Equal(t, "ann", info.Alias)
	require.Equal(t, info.IdentityPubkey, lnd.PubKey())
	require.Equal(t, "regtest", info.Chains[0].Network)

	args := append(lnd.CLIArgs(), "getinfo")
	raw, err := exec.CommandContext(
		ctx, filepath.Join(binDir, "lncli"), args...,
	).Output()
	require.NoError(t, err)

	var said struct {
		PubKey string `json:"identity_pubkey"`
	}
	require.NoError(t, json.Unmarshal(raw, &said))
	require.Equal(t, lnd.PubKey(), said.PubKey)

	// Somebody listens at each address.
	addrs := []string{lnd.P2PAddr(), lnd.RPCAddr(), lnd.RESTAddr()}
	for _, addr := range addrs {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}

	require.ErrorIs(t, lnd.Start(ctx), ErrRunning)

	// The same node comes back at the same addresses.
	pid, pubKey := lnd.Pid(), lnd.PubKey()
	require.NoError(t, lnd.Restart(ctx))
	require.NotEqual(t, pid, lnd.Pid())
	require.Equal(t, pubKey, lnd.PubKey())
	require.Equal(
		t, addrs[0]+" "+addrs[1]+" "+addrs[2],
		lnd.P2PAddr()+" "+lnd.RPCAddr()+" "+lnd.RESTAddr(),
	)

	_, err = lnd.Client().GetInfo(ctx, &lnrpc.GetInfoRequest{})
	require.NoError(t, err)

	require.NoError(t, lnd.Stop())
	require.NoError(t, lnd.Stop())
	_, err = lnd.Client().GetInfo(ctx, &lnrpc.GetInfoRequest{})
	require.Error(t, err)

	require.NoError(t, lnd.Start(ctx))
	require.NoError(t, lnd.Kill())
	<-lnd.Done()
}

// TestLndStartFails checks that a node that cannot start says why and leaves
// nothing behind.
func TestLndStartFails(t *testing.T) {
	_, err := StartLnd(timeLimit(t), LndConfig{
		Name:   "bad",
		BinDir: binDir,
		Dir:    t.TempDir(),
		Args:   []string{"--no-such-option"},
	})
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.ErrorContains(t, err, "start lnd bad")
	require.ErrorContains(t, err, "no-such-option")

	// A node whose start is called off. It had no time to get far.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = StartLnd(ctx, LndConfig{
		Name:   "late",
		BinDir: binDir,
		Dir:    t.TempDir(),
	})
	require.ErrorIs(t, err, context.Canceled)
}

// TestNoMacaroons starts an lnd without authentication.
func TestNoMacaroons(t *testing.T) {
	ctx := timeLimit(t)
	lnd := startLnd(ctx, t, LndConfig{Name: "open", NoMacaroons: true})

	require.NoFileExists(t, lnd.AdminMacaroonPath())
	_, err := lnd.Client().ListPeers(ctx, &lnrpc.ListPeersRequest{})
	require.NoError(t, err)
}

// TestBakeMacaroon bakes what socketd needs from lnd.
func TestBakeMacaroon(t *testing.T) {
	ctx := timeLimit(t)
	lnd := startLnd(ctx, t, LndConfig{Name: "ann"})

	path := filepath.Join(t.TempDir(), "exact.macaroon")
	err := lnd.BakeSocketdMacaroon(ctx, path, SocketdLndPermissions())
	require.NoError(t, err)
	require.FileExists(t, path)

	raw, err := lnd.BakeMacaroon(
		ctx, []string{"socket:read", "socket:write"}, 50501, true,
	)
	require.NoError(t, err)
	var mac macaroon.Macaroon
	require.NoError(t, mac.UnmarshalBinary(raw))

	ids, err := lnd.Client().ListMacaroonIDs(
		ctx, &lnrpc.ListMacaroonIDsRequest{},
	)
	require.NoError(t, err)
	require.ElementsMatch(
		t, []uint64{0, SocketdRootKeyID, 50501}, ids.RootKeyIds,
	)

	// What is not lnd's own needs to be allowed.
	_, err = lnd.BakeMacaroon(ctx, []string{"socket:read"}, 50501, false)
	require.Error(t, err)
	require.NotEqual(t, codes.OK, status.Code(err))

	_, err = lnd.BakeMacaroon(ctx, []string{"socket"}, 50501, true)
	require.ErrorContains(t, err, "not entity:action")
}

// TestPeers connects nodes, with a chain and without, several times and from
// both sides at once.
func TestPeers(t *testing.T) {
	ctx := timeLimit(t)

	btcd, err := StartBtcd(ctx, BtcdConfig{
		BinDir: binDir,
		Dir:    filepath.Join(t.TempDir(), "btcd"),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, btcd.Stop())
	})

	ann := startLnd(ctx, t, LndConfig{
		Name:    "ann",
		Backend: btcd.Backend(),
	})
	bob := startLnd(ctx, t, LndConfig{Name: "bob"})
	eve := startLnd(ctx, t, LndConfig{Name: "eve"})

	require.NoError(t, parallel(4, func(i int) error {
		if i%2 == 0 {
			return ann.ConnectPeer(ctx, bob)
		}

		return bob.ConnectPeer(ctx, ann)
	}))
	require.NoError(t, ann.ConnectPeer(ctx, bob))

	for _, pair := range [][2]*Lnd{{ann, bob}, {bob, ann}} {
		peers, err := pair[0].HasPeer(ctx, pair[1].PubKey())
		require.NoError(t, err)
		require.True(t, peers)
	}

	strangers, err := eve.HasPeer(ctx, ann.PubKey())
	require.NoError(t, err)
	require.False(t, strangers)

	// A node that went away and came back can be connected to again.
	require.NoError(t, bob.Restart(ctx))
	require.NoError(t, bob.ConnectPeer(ctx, ann))

	// A node with a chain is synced once there is a block.
	info, err := ann.Client().GetInfo(ctx, &lnrpc.GetInfoRequest{})
	require.NoError(t, err)
	require.Equal(t, uint32(1), info.BlockHeight)

	require.NoError(t, btcd.Mine(ctx, 3))
	_, err = ann.WaitLine(ctx, regexp.MustCompile(`height=4\b`))
	require.NoError(t, err)

	// Nobody is there to connect to.
	require.NoError(t, eve.Stop())
	err = ann.ConnectPeer(ctx, eve)
	require.ErrorContains(t, err, "connect lnd ann to lnd eve")

	// A node that says that it is another one is not connected to.
	err = ann.ConnectPeer(ctx, &Lnd{
		daemon:  daemon{name: "impostor"},
		p2pAddr: bob.P2PAddr(),
		pubKey:  eve.PubKey(),
		conn:    bob.Conn(),
	})
	require.ErrorContains(t, err, "connect lnd ann to impostor")
}
