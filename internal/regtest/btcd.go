package regtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

const (
	// miningAddr takes the coins of every block that is mined. Its key is
	// minerKey.
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

		// A node tells its peers what it hears of others this many
		// milliseconds later, rather than after a minute and a half,
		// and pauses as short between the parts.
		"--trickledelay=50",
		"--gossip.sub-batch-delay=50ms",
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
	_, err := b.mine(ctx, blocks)

	return err
}

// mine mines blocks and returns their hashes, in hex.
func (b *Btcd) mine(ctx context.Context, blocks int) ([]string, error) {
	out, err := b.call(ctx, "generate", strconv.Itoa(blocks))
	if err != nil {
		return nil, fmt.Errorf("mine %d blocks: %w", blocks, err)
	}

	var hashes []string
	if err := json.Unmarshal(out, &hashes); err != nil {
		return nil, fmt.Errorf("mine %d blocks: %w", blocks, err)
	}

	return hashes, nil
}

// Height returns how many blocks there are after the first one.
func (b *Btcd) Height(ctx context.Context) (uint32, error) {
	out, err := b.call(ctx, "getblockcount")
	if err != nil {
		return 0, err
	}
	height, err := strconv.ParseUint(string(out), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("getblockcount: %w", err)
	}

	return uint32(height), nil
}

// call makes a call of btcd's RPC and returns what btcctl prints: JSON, or a
// text without its quotes.
func (b *Btcd) call(ctx context.Context, method ...string) ([]byte, error) {
	//nolint:gosec // The program is the one of the config.
	cmd := exec.CommandContext(
		ctx, filepath.Join(b.cfg.BinDir, "btcctl"),
		append(b.CLIArgs(), method...)...,
	)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", method[0], err, out,
			stderr.Bytes())
	}

	return bytes.TrimSpace(out), nil
}

// CLIArgs returns the options with which btcctl reaches the chain.
func (b *Btcd) CLIArgs() []string {
	return []string{
		"--regtest",
		"--configfile=" + os.DevNull,
		"--rpcserver=" + b.rpcAddr,
		"--rpcuser=" + rpcUser,
		"--rpcpass=" + rpcPass,
		"--rpccert=" + b.certPath(),
	}
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
