package sidecar

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFit checks how sockets and connections share the limit of open files.
func TestFit(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name     string
		files    int
		sockets  int
		conns    int
		room     int
		want     [2]int
		warnings []string
	}{{
		name: "default", files: 20000, sockets: 100,
		room: 9648, want: [2]int{100, 19160},
	}, {
		name: "all used", files: 20000, sockets: 9648,
		room: 9648, want: [2]int{9648, 64},
	}, {
		name: "chosen", files: 20000, sockets: 8000, conns: 3360,
		room: 9648, want: [2]int{8000, 3360},
	}, {
		name: "few connections leave more sockets", files: 20000,
		sockets: 9679, conns: 2, room: 9679, want: [2]int{9679, 2},
	}, {
		name: "too many sockets", files: 20000, sockets: 9649,
		room: 9648, want: [2]int{9648, 64},
		warnings: []string{"relay.maxsockets=9649 is cut to 9648, " +
			"which is what a limit of 20000 open files leaves " +
			"room for: set LimitNOFILE=20002 or more in the " +
			"systemd unit, or the hard limit of ulimit -n " +
			"(docs/operations.md), or set relay.maxsockets=9648"},
	}, {
		name: "too many connections", files: 20000, sockets: 8000,
		conns: 3361, room: 9648, want: [2]int{8000, 3360},
		warnings: []string{"relay.maxconns=3361 is cut to 3360, " +
			"which is what a limit of 20000 open files leaves " +
			"room for: set LimitNOFILE=20001 or more in the " +
			"systemd unit, or the hard limit of ulimit -n " +
			"(docs/operations.md), or set relay.maxconns=3360"},
	}, {
		name: "low", files: 256, sockets: 100,
		room: 48, want: [2]int{48, 32},
		warnings: []string{"relay.maxsockets=100 is cut to 48, " +
			"which is what a limit of 256 open files leaves room " +
			"for: set LimitNOFILE=904 or more in the systemd " +
			"unit, or the hard limit of ulimit -n " +
			"(docs/operations.md), or set relay.maxsockets=48"},
	}, {
		name: "least", files: 16, sockets: 1, conns: 2,
		room: 3, want: [2]int{1, 2},
	}, {
		name: "no limit", files: noFileLimit, sockets: 100,
		conns: 500, room: 1073741471, want: [2]int{100, 500},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()

			cfg := DefaultConfig().Relay
			cfg.MaxSockets = test.sockets
			cfg.MaxConns = test.conns
			before := cfg

			got, err := cfg.fit(test.files)
			require.NoError(t, err)
			require.Equal(t, test.room, got.sockets)
			require.Equal(t, test.want, [2]int{
				got.cfg.MaxSockets, got.cfg.MaxConns,
			})
			require.Equal(t, test.warnings, got.warnings)
			require.Equal(t, before, cfg)

			// Nothing else changes, and what fits, fits again.
			again, err := got.cfg.fit(test.files)
			require.NoError(t, err)
			require.Equal(t, got.cfg, again.cfg)
			require.Empty(t, again.warnings)
		})
	}
}

// TestFitWarning checks that what a warning asks for is enough.
func TestFitWarning(t *testing.T) {
	t.Parallel()

	cfg := DefaultConfig().Relay
	cfg.MaxSockets = 9649
	cut, err := cfg.fit(20001)
	require.NoError(t, err)
	require.Len(t, cut.warnings, 1)
	whole, err := cfg.fit(20002)
	require.NoError(t, err)
	require.Empty(t, whole.warnings)

	cfg.MaxConns = 10_000
	cut, err = cfg.fit(20000)
	require.NoError(t, err)
	require.Len(t, cut.warnings, 2)
	require.Contains(t, cut.warnings[1], "LimitNOFILE=29938 or more")
	whole, err = cfg.fit(29938)
	require.NoError(t, err)
	require.Empty(t, whole.warnings)
}

// TestFitNothing checks that a limit that leaves no room for a pair is an
// error.
func TestFitNothing(t *testing.T) {
	t.Parallel()

	cfg := DefaultConfig().Relay
	for files := range 13 {
		_, err := cfg.fit(files)
		require.ErrorContains(t, err, "LimitNOFILE=904", files)
	}
}

// TestDescribeRoom checks the line that tells the owner what fits.
func TestDescribeRoom(t *testing.T) {
	t.Parallel()

	cfg := DefaultConfig().Relay
	got, err := cfg.fit(20000)
	require.NoError(t, err)
	require.Equal(t, "A limit of 20000 open files makes room for 9648 "+
		"sockets; up to 100 (relay.maxsockets) leave 19160 TCP "+
		"connections", got.describe())

	got, err = cfg.fit(noFileLimit)
	require.NoError(t, err)
	require.Equal(t, "No limit of open files; up to 100 sockets "+
		"(relay.maxsockets)", got.describe())
}
