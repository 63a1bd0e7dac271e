package regtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

const (
	// miningAddr takes the coins of every block that is mined. Its key is
	// the number one, which everybody knows.
	miningAddr = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"

	// rpcUser and rpcPass open btcd's RPC, which listens on loopback.
	rpcUser = "regtest"
	rpcPass = "regtest"
)

// The lines in which btcd tells its addresses.
var (
	btcdRPCLine = regexp.MustCompile(`RPC server listening on (\S+)$`)
	btcdP2PLine = regexp.MustCompile(`CMGR: Server listening on (\S+)$`)
)

// BtcdConfig says how to run a btcd.
type BtcdConfig struct {
	// BinDir holds the programs, btcd and btcctl.
	BinDir string

	// Dir takes everything that it writes.
	Dir string
}

// Btcd is a private chain. Its methods may be called from any goroutine.
type Btcd struct {
	daemon

	cfg BtcdConfig

	// rpcAddr is immutable once StartBtcd has returned.
	rpcAddr string
}

// Backend tells an lnd how to reach its chain.
type Backend struct {
	// RPCAddr is the host:port of btcd's RPC, and CertPath the file that
	// holds its certificate.
	RPCAddr  string
	CertPath string
}

// lndArgs returns the options with which lnd uses the chain.
func (b *Backend) lndArgs() []string {
	return []string{
		"--bitcoin.node=btcd",
		"--btcd.rpchost=" + b.RPCAddr,
		"--btcd.rpccert=" + b.CertPath,
		"--btcd.rpcuser=" + rpcUser,
		"--btcd.rpcpass=" + rpcPass,
	}
}

// StartBtcd starts a btcd and mines one block, without which lnd would wait
// for ever to be synced. The context bounds the start, not the life of the
// process: that takes a Stop.
func StartBtcd(ctx context.Context, cfg BtcdConfig) (*Btcd, error) {
	b := &Btcd{
		daemon: daemon{
			name: "btcd",
			path: filepath.Join(cfg.BinDir, "btcd"),
			dir:  cfg.Dir,
		},
		cfg: cfg,
	}

	proc, err := b.start(ctx, []string{
		"--regtest",
		"--configfile=" + os.DevNull,
		"--datadir=" + filepath.Join(cfg.Dir, "data"),
		"--logdir=" + filepath.Join(cfg.Dir, "logs"),
		"--listen=" + loopback,
		"--rpclisten=" + loopback,
		"--rpcuser=" + rpcUser,
		"--rpcpass=" + rpcPass,
		"--rpccert=" + b.certPath(),
		"--rpckey=" + filepath.Join(cfg.Dir, "rpc.key"),
		"--nodnsseed",
		"--nobanning",
		"--rejectreplacement",
		"--txindex",
		"--miningaddr=" + miningAddr,
	})
	if err != nil {
		return nil, err
	}

	if err := b.awaitReady(ctx, proc); err != nil {
		proc.Kill()

		return nil, fmt.Errorf("start btcd: %w", err)
	}

	return b, nil
}

// awaitReady waits until btcd listens, and mines a block.
func (b *Btcd) awaitReady(ctx context.Context, proc *Process) error {
	match, err := proc.WaitLine(ctx, btcdRPCLine)
	if err != nil {
		return err
	}
	b.rpcAddr = match[1]

	// It is the last thing that btcd starts.
	if _, err := proc.WaitLine(ctx, btcdP2PLine); err != nil {
		return err
	}

	return b.Mine(ctx, 1)
}

// Mine mines blocks.
func (b *Btcd) Mine(ctx context.Context, blocks int) error {
	//nolint:gosec // The program is the one of the config.
	cmd := exec.CommandContext(
		ctx, filepath.Join(b.cfg.BinDir, "btcctl"),
		"--regtest",
		"--configfile="+os.DevNull,
		"--rpcserver="+b.rpcAddr,
		"--rpcuser="+rpcUser,
		"--rpcpass="+rpcPass,
		"--rpccert="+b.certPath(),
		"generate", strconv.Itoa(blocks),
	)

	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mine %d blocks: %w: %s", blocks, err, out)
	}

	return nil
}

// Backend returns what an lnd needs to use this chain.
func (b *Btcd) Backend() *Backend {
	return &Backend{
		RPCAddr:  b.rpcAddr,
		CertPath: b.certPath(),
	}
}

// Stop stops btcd in order. Calling it again returns the same.
func (b *Btcd) Stop() error {
	return b.stop()
}

// Kill ends btcd at once.
func (b *Btcd) Kill() {
	b.kill()
}

func (b *Btcd) certPath() string {
	return filepath.Join(b.cfg.Dir, "rpc.cert")
}
