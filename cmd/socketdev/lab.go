package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/urfave/cli/v3"
)

// startTimeout bounds the start of a network. It takes a second or two on an
// idle machine.
const startTimeout = time.Minute

// labConfig says what kind of network is started.
type labConfig struct {
	// nodes is how many nodes there are.
	nodes int

	// channel gives all of them a chain, and the first two a channel with
	// each other.
	channel bool
}

// lab is a running network in a directory. It is immutable.
type lab struct {
	*regtest.Network

	// binDir holds the programs, dir everything that the network writes.
	binDir string
	dir    string

	// hasChannel tells that the first two nodes have a channel.
	hasChannel bool

	// took is how long the start took.
	took time.Duration
}

// withLab starts a network of nodes that are all peers, calls use, and takes
// everything down again: the network, and the directory if it is a temporary
// one.
func (p *program) withLab(ctx context.Context, cmd *cli.Command, cfg labConfig,
	use func(context.Context, *lab) error) (err error) {

	programs, err := binDir(cmd)
	if err != nil {
		return err
	}

	dir, remove, err := workDir(cmd.String("dir"))
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, remove())
	}()

	begin := time.Now()
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	networkCfg := regtest.NetworkConfig{
		BinDir: programs,
		Dir:    dir,
		Nodes:  cfg.nodes,
	}
	if cfg.channel {
		networkCfg.ChainNodes = cfg.nodes
	}
	network, err := regtest.StartNetwork(startCtx, networkCfg)
	if err != nil {
		return fmt.Errorf("start the network: %w", err)
	}
	defer func() {
		err = errors.Join(err, network.TakeDown(p.hurry))
	}()

	if err := network.ConnectAll(startCtx); err != nil {
		return err
	}
	if cfg.channel {
		if err := openChannel(startCtx, network); err != nil {
			return err
		}
	}

	return use(ctx, &lab{
		Network:    network,
		binDir:     programs,
		dir:        dir,
		hasChannel: cfg.channel,
		took:       time.Since(begin),
	})
}

// openChannel opens a channel between the first two nodes. Their socketds ask
// for the channels when they start and once a minute: they are started again,
// so that they know this one.
func openChannel(ctx context.Context, network *regtest.Network) error {
	if err := network.OpenChannel(ctx, 0, 1); err != nil {
		return err
	}

	for _, node := range network.Nodes[:2] {
		if err := node.Socketd.Restart(ctx); err != nil {
			return err
		}
	}

	return nil
}

// workDir returns the directory that takes everything, as an absolute path: the
// given one, which is kept, or a temporary one. The function that it returns
// removes the latter.
func workDir(given string) (string, func() error, error) {
	if given != "" {
		dir, err := filepath.Abs(given)
		if err != nil {
			return "", nil, fmt.Errorf("directory: %w", err)
		}

		return dir, func() error { return nil }, nil
	}

	dir, err := os.MkdirTemp("", "socketdev-")
	if err != nil {
		return "", nil, fmt.Errorf("make a directory: %w", err)
	}

	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// program returns the path of one of the programs.
func (l *lab) program(name string) string {
	return filepath.Join(l.binDir, name)
}

// file returns a path in the directory of a node.
func (l *lab) file(node *regtest.Node, name string) string {
	return filepath.Join(l.dir, suffix(node), name)
}

// socketcli returns the command that calls a node's socketd.
func (l *lab) socketcli(node *regtest.Node) []string {
	return append(
		[]string{l.program("socketcli")}, node.Socketd.CLIArgs()...,
	)
}

// lncli returns the command that calls a node's lnd.
func (l *lab) lncli(node *regtest.Node) []string {
	return append([]string{l.program("lncli")}, node.Lnd.CLIArgs()...)
}

// btcctl returns the command that calls the chain.
func (l *lab) btcctl() []string {
	return append([]string{l.program("btcctl")}, l.Btcd.CLIArgs()...)
}

// suffix is what tells a node's commands and files from those of others.
func suffix(node *regtest.Node) string {
	return strings.ToLower(node.Name)
}
