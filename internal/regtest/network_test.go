package regtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNetworkSize checks that a network of an impossible size is refused.
func TestNetworkSize(t *testing.T) {
	for _, nodes := range []int{-1, 0, MaxNodes + 1} {
		_, err := StartNetwork(t.Context(), NetworkConfig{
			Dir:   t.TempDir(),
			Nodes: nodes,
		})
		require.ErrorContains(t, err, "1 to 26 nodes")
	}
}

// TestMissingPrograms checks the errors of a directory without programs: every
// node's, and none of a process that was never started.
func TestMissingPrograms(t *testing.T) {
	dir, binDir := t.TempDir(), t.TempDir()

	_, err := StartNetwork(t.Context(), NetworkConfig{
		BinDir: binDir,
		Dir:    dir,
		Nodes:  2,
	})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "start lnd A")
	require.ErrorContains(t, err, "start lnd B")

	_, err = StartNetwork(t.Context(), NetworkConfig{
		BinDir:     binDir,
		Dir:        dir,
		Nodes:      2,
		ChainNodes: 1,
	})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "start btcd")

	_, err = StartSocketd(t.Context(), SocketdConfig{
		Name:   "A",
		BinDir: binDir,
		Dir:    dir,
	})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "start socketd A")
}

// TestSocketdPaths checks where a socketd is told to keep its files.
func TestSocketdPaths(t *testing.T) {
	s := NewSocketd(SocketdConfig{Dir: "/dir"})
	home := filepath.Join("/dir", "regtest")

	require.Equal(t, "/dir", s.Dir())
	require.Equal(t, filepath.Join(home, "tls.cert"), s.TLSCertPath())
	require.Equal(t, filepath.Join(home, "tls.key"), s.TLSKeyPath())
	require.Equal(
		t, filepath.Join(home, "socket.macaroon"), s.MacaroonPath(),
	)
	require.Equal(
		t, filepath.Join(home, "readonly.macaroon"),
		s.ReadonlyMacaroonPath(),
	)
	require.Equal(
		t, filepath.Join(home, "logs", "socketd.log"), s.LogPath(),
	)
}

// childNetwork returns a network whose btcd, lnd and socketd are the test
// binary in a role.
func childNetwork(t *testing.T, role string,
	names ...string) (*Network, []*Process) {

	t.Helper()

	var procs []*Process
	for _, name := range names {
		cfg := childConfig(t, role)
		cfg.Name = name
		proc := startChild(t, cfg)
		_, err := proc.WaitLine(t.Context(), readyLine)
		require.NoError(t, err)
		procs = append(procs, proc)
	}

	return &Network{
		Btcd: &Btcd{daemon: daemon{proc: procs[0]}},
		Nodes: []*Node{{
			Lnd:     &Lnd{daemon: daemon{proc: procs[1]}},
			Socketd: &Socketd{daemon: daemon{proc: procs[2]}},
		}},
	}, procs
}

// TestTakeDown checks that a network is stopped in order, and at once if there
// is a hurry.
func TestTakeDown(t *testing.T) {
	names := []string{"btcd", "lnd", "socketd"}

	n, procs := childNetwork(t, "daemon", names...)
	require.NoError(t, n.TakeDown(nil))
	for _, proc := range procs {
		out, err := proc.Output()
		require.NoError(t, err)
		require.Contains(t, out, "bye")
	}

	// These do not stop by themselves.
	n, procs = childNetwork(t, "deaf", names...)
	hurry := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- n.TakeDown(hurry)
	}()

	_, err := procs[2].WaitLine(t.Context(), regexp.MustCompile("heard"))
	require.NoError(t, err)
	close(hurry)
	require.NoError(t, <-done)
	for _, proc := range procs {
		require.True(t, proc.ended())
	}

	// A part that ended before is an error.
	n, procs = childNetwork(t, "daemon", names...)
	require.NoError(t, procs[1].cmd.Process.Kill())
	<-procs[1].Done()

	var exit *ExitError
	require.ErrorAs(t, n.TakeDown(nil), &exit)
	require.Equal(t, "lnd", exit.Name)
}

// TestWatch checks that the end of any process of a network is noticed.
func TestWatch(t *testing.T) {
	names := []string{"btcd", "lnd", "socketd"}
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			n, procs := childNetwork(t, "daemon", names...)

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.NoError(t, n.Watch(ctx))

			watched := make(chan error, 1)
			go func() {
				watched <- n.Watch(t.Context())
			}()
			procs[i].Kill()

			var exit *ExitError
			require.ErrorAs(t, <-watched, &exit)
			require.Equal(t, name, exit.Name)
		})
	}
}

// TestParallel checks that every call is made and every error kept.
func TestParallel(t *testing.T) {
	errOne, errTwo := errors.New("one"), errors.New("two")

	errs := []error{errOne, nil, errTwo}
	err := parallel(len(errs), func(i int) error {
		return errs[i]
	})
	require.ErrorIs(t, err, errOne)
	require.ErrorIs(t, err, errTwo)
	require.NoError(t, parallel(0, nil))
}
