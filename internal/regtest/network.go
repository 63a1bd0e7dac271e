package regtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
)

// MaxNodes is how many nodes a network may have: they are named A to Z.
const MaxNodes = 26

// NodeConfig says how to run an lnd with a socketd beside it.
type NodeConfig struct {
	// Name is the alias of the node, and what errors call it.
	Name string

	// BinDir holds the programs, Dir takes everything that they write.
	BinDir string
	Dir    string

	// Backend is lnd's chain; nil for none.
	Backend *Backend

	// LndArgs and SocketdArgs are further options.
	LndArgs     []string
	SocketdArgs []string
}

// Node is an lnd and a socketd beside it, which uses a macaroon with exactly
// the permissions of SocketdLndPermissions.
type Node struct {
	Name    string
	Lnd     *Lnd
	Socketd *Socketd
}

// StartNode starts an lnd, bakes the macaroon for socketd, and starts socketd.
// If that fails nothing is left running.
func StartNode(ctx context.Context, cfg NodeConfig) (*Node, error) {
	lnd, err := StartLnd(ctx, LndConfig{
		Name:    cfg.Name,
		BinDir:  cfg.BinDir,
		Dir:     filepath.Join(cfg.Dir, "lnd"),
		Backend: cfg.Backend,
		Args:    cfg.LndArgs,
	})
	if err != nil {
		return nil, err
	}

	socketd, err := startBeside(ctx, lnd, cfg)
	if err != nil {
		return nil, errors.Join(err, lnd.Kill())
	}

	return &Node{Name: cfg.Name, Lnd: lnd, Socketd: socketd}, nil
}

// startBeside starts a socketd for a running lnd.
func startBeside(ctx context.Context, lnd *Lnd,
	cfg NodeConfig) (*Socketd, error) {

	macaroon := filepath.Join(cfg.Dir, "socketd-lnd.macaroon")
	err := lnd.BakeSocketdMacaroon(ctx, macaroon, SocketdLndPermissions())
	if err != nil {
		return nil, err
	}

	return StartSocketd(ctx, SocketdConfig{
		Name:            cfg.Name,
		BinDir:          cfg.BinDir,
		Dir:             filepath.Join(cfg.Dir, "socketd"),
		LndAddr:         lnd.RPCAddr(),
		LndTLSPath:      lnd.TLSCertPath(),
		LndMacaroonPath: macaroon,
		Args:            cfg.SocketdArgs,
	})
}

// Stop stops socketd and then lnd.
func (n *Node) Stop() error {
	return errors.Join(n.Socketd.Stop(), n.Lnd.Stop())
}

// Kill ends both at once.
func (n *Node) Kill() error {
	n.Socketd.Kill()

	return n.Lnd.Kill()
}

// NetworkConfig says how to run a network.
type NetworkConfig struct {
	// BinDir holds the programs: lnd and socketd, and for a chain btcd and
	// btcctl.
	BinDir string

	// Dir takes everything, in one directory per node, which is named
	// after the node in lower case.
	Dir string

	// Nodes is how many nodes there are, at most MaxNodes. They are named
	// A, B, C and so on.
	Nodes int

	// ChainNodes is how many of them, from the first on, have a chain: one
	// btcd for all. The others have none.
	ChainNodes int

	// LndArgs and SocketdArgs are further options of every node.
	LndArgs     []string
	SocketdArgs []string
}

// Network is a private network of nodes. It is immutable.
type Network struct {
	// Btcd is the chain, nil if no node has one.
	Btcd *Btcd

	// Nodes are the nodes in the order of their names.
	Nodes []*Node
}

// StartNetwork starts all nodes at once. They are no peers yet. The context
// bounds the start, not the life of the network: that takes a Stop. If a start
// fails, the error says everything that went wrong and nothing is left running.
func StartNetwork(ctx context.Context, cfg NetworkConfig) (*Network, error) {
	if cfg.Nodes < 1 || cfg.Nodes > MaxNodes {
		return nil, fmt.Errorf("a network has 1 to %d nodes, not %d",
			MaxNodes, cfg.Nodes)
	}

	n := &Network{}
	var backend *Backend
	if cfg.ChainNodes > 0 {
		btcd, err := StartBtcd(ctx, BtcdConfig{
			BinDir: cfg.BinDir,
			Dir:    filepath.Join(cfg.Dir, "btcd"),
		})
		if err != nil {
			return nil, err
		}

		n.Btcd = btcd
		backend = btcd.Backend()
	}

	nodes := make([]*Node, cfg.Nodes)
	err := parallel(cfg.Nodes, func(i int) error {
		name := string(rune('A' + i))
		nodeCfg := NodeConfig{
			Name:        name,
			BinDir:      cfg.BinDir,
			Dir:         filepath.Join(cfg.Dir, dirName(name)),
			LndArgs:     cfg.LndArgs,
			SocketdArgs: cfg.SocketdArgs,
		}
		if i < cfg.ChainNodes {
			nodeCfg.Backend = backend
		}

		var err error
		nodes[i], err = StartNode(ctx, nodeCfg)

		return err
	})

	for _, node := range nodes {
		if node != nil {
			n.Nodes = append(n.Nodes, node)
		}
	}
	if err != nil {
		return nil, errors.Join(err, n.Kill())
	}

	return n, nil
}

// dirName is the name of a node's directory.
func dirName(name string) string {
	return strings.ToLower(name)
}

// ConnectAll makes every pair of nodes peers.
func (n *Network) ConnectAll(ctx context.Context) error {
	return parallel(len(n.Nodes), func(i int) error {
		for _, other := range n.Nodes[i+1:] {
			err := n.Nodes[i].Lnd.ConnectPeer(ctx, other.Lnd)
			if err != nil {
				return err
			}
		}

		return nil
	})
}

// Watch returns when a process of the network ends, with its *ExitError, or
// with nil when ctx is done.
func (n *Network) Watch(ctx context.Context) error {
	watch, cancel := context.WithCancelCause(ctx)

	var wg sync.WaitGroup
	for _, proc := range n.processes() {
		wg.Go(func() {
			select {
			case <-proc.Done():
				cancel(proc.exitError())
			case <-watch.Done():
			}
		})
	}
	wg.Wait()
	cancel(nil)

	var exit *ExitError
	if errors.As(context.Cause(watch), &exit) {
		return exit
	}

	return nil
}

// processes returns every process of the network.
func (n *Network) processes() []*Process {
	var procs []*Process
	for _, node := range n.Nodes {
		procs = append(
			procs, node.Lnd.current(), node.Socketd.current(),
		)
	}
	if n.Btcd != nil {
		procs = append(procs, n.Btcd.current())
	}

	return procs
}

// Stop stops every socketd, then every lnd, then the chain. All are stopped
// even if some make trouble. Calling it again returns the same.
func (n *Network) Stop() error {
	errs := []error{
		parallel(len(n.Nodes), func(i int) error {
			return n.Nodes[i].Socketd.Stop()
		}),
		parallel(len(n.Nodes), func(i int) error {
			return n.Nodes[i].Lnd.Stop()
		}),
	}
	if n.Btcd != nil {
		errs = append(errs, n.Btcd.Stop())
	}

	return errors.Join(errs...)
}

// TakeDown stops everything as Stop does, and kills what is left of it once
// hurry is closed.
func (n *Network) TakeDown(hurry <-chan struct{}) error {
	stopped := make(chan struct{})

	var (
		wg      sync.WaitGroup
		killErr error
	)
	wg.Go(func() {
		select {
		case <-hurry:
			killErr = n.Kill()
		case <-stopped:
		}
	})

	err := n.Stop()
	close(stopped)
	wg.Wait()

	return errors.Join(err, killErr)
}

// Kill ends everything at once. It may be called while Stop runs, which then
// returns.
func (n *Network) Kill() error {
	err := parallel(len(n.Nodes), func(i int) error {
		return n.Nodes[i].Kill()
	})
	if n.Btcd != nil {
		n.Btcd.Kill()
	}

	return err
}

// parallel calls f for 0 to n-1 at the same time and joins the errors.
func parallel(n int, f func(i int) error) error {
	errs := make([]error, n)

	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			errs[i] = f(i)
		})
	}
	wg.Wait()

	return errors.Join(errs...)
}
