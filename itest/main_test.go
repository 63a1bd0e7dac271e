//go:build itest

// Package itest has the integration tests: real lnd nodes, and the programs of
// bin/ as processes of their own. `make itest` builds what they need.
package itest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"go.uber.org/goleak"
)

const (
	// binDir is where the Makefile puts the programs.
	binDir = "../bin"

	// startTimeout bounds the start of a network.
	startTimeout = 2 * time.Minute
)

// shared is the network that most tests use: A, whose lnd has a btcd behind
// it, B and C, all peers of each other.
var shared struct {
	*regtest.Network
	a, b, c *node
}

// TestMain runs the tests on the shared network, and fails them if they leave
// a goroutine behind.
func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runTests runs the tests on the shared network.
func runTests(m *testing.M) (code int, err error) {
	for _, name := range []string{
		"socketd", "socketcli", "socketdev", "lnd", "lncli", "btcd",
		"btcctl",
	} {
		_, err := os.Stat(filepath.Join(binDir, name))
		if err != nil {
			return 1, fmt.Errorf("run make itest: %w", err)
		}
	}

	dir, err := os.MkdirTemp("", "socketd-itest-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	shared.Network, err = regtest.StartNetwork(ctx, regtest.NetworkConfig{
		BinDir:     binDir,
		Dir:        dir,
		Nodes:      3,
		ChainNodes: 1,
	})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, shared.Stop()) }()

	if err := shared.ConnectAll(ctx); err != nil {
		return 1, err
	}
	for i, n := range []**node{&shared.a, &shared.b, &shared.c} {
		*n, err = newNode(shared.Nodes[i])
		if err != nil {
			return 1, err
		}

		// The first call connects.
		_, err := (*n).client.GetInfo(ctx, &socketrpc.GetInfoRequest{})
		if err != nil {
			return 1, err
		}
	}

	before := openFiles()
	code = m.Run()
	if after := openFiles(); code == 0 && after != before {
		return 1, fmt.Errorf("%d files open before the tests, %d after",
			before, after)
	}

	for _, n := range []*node{shared.a, shared.b, shared.c} {
		err = errors.Join(err, n.close())
	}
	if err := errors.Join(err, shared.Stop()); err != nil {
		return 1, err
	}

	return code, goleak.Find()
}

// openFiles counts the open file descriptors.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}

	return len(entries)
}
