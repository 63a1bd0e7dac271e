package compare

import (
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestParseVersion reads what the programs print.
func TestParseVersion(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]string{
		"4.6.1\n": "4.6.1",
		"0: log file opened\n0: Version\nCoturn-4.6.1 'G'\n": "4.6.1",
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - " +
			"https://haproxy.org/\nStatus: x\n": "2.6.12-1+deb12u4",
		"nginx version: nginx/1.22.1\n": "1.22.1",
		"socat by Gerhard Rieger - see www.dest-unreach.org 1.2\n" +
			"socat version 1.7.4.4 on 06 Nov\n": "1.7.4.4",
		"nothing": "of unknown version",
	} {
		require.Equal(t, want, parseVersion(text))
	}
}

// TestIsBound reads the kernel's table of sockets.
func TestIsBound(t *testing.T) {
	t.Parallel()

	const table = "  sl  local_address rem_address   st tx_queue\n" +
		"  40: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n" +
		"  41: 0100007F:1F91 0100007F:1F90 01 00000000:00000000\n"
	require.True(t, isBound(table, 0x1f90))
	require.False(t, isBound(table, 0x1f91))
	require.False(t, isBound(table, 0xf90))
	require.False(t, isBound("", 1))
}

// TestFreePorts checks that ports are different ones.
func TestFreePorts(t *testing.T) {
	s := &stage{}
	seen := make(map[uint16]bool)
	for range 10 {
		ports, err := s.freePorts(t.Context(), 2)
		require.NoError(t, err)
		require.Len(t, ports, 2)
		for _, port := range ports {
			require.False(t, seen[port])
			seen[port] = true
		}
	}

	// One that somebody has is left out, whatever it is had for.
	for _, network := range []string{"tcp", "udp"} {
		ports, err := (&stage{portsTaken: s.portsTaken}).freePorts(
			t.Context(), 1,
		)
		require.NoError(t, err)
		var taken io.Closer
		if network == "tcp" {
			taken, err = net.Listen("tcp4", address(ports[0]))
		} else {
			taken, err = net.ListenPacket(
				"udp4", address(ports[0]),
			)
		}
		require.NoError(t, err)
		next, err := s.freePorts(t.Context(), 1)
		require.NoError(t, err)
		require.NotEqual(t, ports, next)
		require.NoError(t, taken.Close())
	}

	s.portsTaken = portMax - portMin + 1
	_, err := s.freePorts(t.Context(), 1)
	require.ErrorContains(t, err, "all taken")
}

// TestFind looks for programs.
func TestFind(t *testing.T) {
	path, err := find("sh")
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(path))

	_, err = find("no-such-program-at-all")
	require.ErrorIs(t, err, errUnavailable)
	require.ErrorIs(t, err, exec.ErrNotFound)
}

// TestParsePorts reads the ports of a socket.
func TestParsePorts(t *testing.T) {
	t.Parallel()

	ports, err := parsePorts("10000", "65535")
	require.NoError(t, err)
	require.Equal(t, [2]uint16{10000, 65535}, ports)
	_, err = parsePorts("1", "65536")
	require.Error(t, err)
	_, err = parsePorts("", "1")
	require.Error(t, err)
}

// TestParallel checks that all is done, and that an error is told.
func TestParallel(t *testing.T) {
	t.Parallel()

	done := make([]int, 100)
	require.NoError(t, parallel(len(done), func(i int) error {
		done[i]++

		return nil
	}))
	for _, n := range done {
		require.Equal(t, 1, n)
	}
	require.NoError(t, parallel(0, nil))

	failed := errors.New("failed")
	require.ErrorIs(t, parallel(100, func(i int) error {
		if i == 57 {
			return failed
		}

		return nil
	}), failed)
}

// TestPinnedDir has a shell read what starts the daemon.
func TestPinnedDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's here")
	s := &stage{self: "/bin/echo", binDir: "/a 'b' $c", dir: dir}

	pinned, err := s.pinnedDir()
	require.NoError(t, err)
	out, err := exec.CommandContext(
		t.Context(), filepath.Join(pinned, "socketd"), "x y", "$z",
	).Output()
	require.NoError(t, err)
	require.Equal(t, "compare pin --core=0 -- /a 'b' $c/socketd x y $z\n",
		string(out))
}

// TestConfigs checks what makes the contestants what the tables call them.
func TestConfigs(t *testing.T) {
	t.Parallel()

	plain, splice := haproxyConfig(1, 2, false), haproxyConfig(1, 2, true)
	for _, config := range []string{plain, splice} {
		require.Contains(t, config, "nbthread 1\n")
		require.Contains(t, config, "mode tcp\n")
		require.Contains(t, config, "bind 127.0.0.1:1\n")
		require.Contains(t, config, "127.0.0.1:2\n")
	}
	require.Contains(t, plain, "splice-auto")
	require.NotContains(t, plain, "pipesize")
	require.Contains(t, splice, "tune.pipesize 1048576\n")
	require.Contains(t, splice, "option splice-request\n")
	require.Contains(t, splice, "option splice-response\n")

	config := nginxConfig("/m.so", "/pid", 1, 2)
	require.Contains(t, config, "load_module /m.so;\n")
	require.Contains(t, config, "worker_processes 1;\n")
	require.Contains(t, config, "listen 127.0.0.1:1 udp;\n")
	require.Contains(t, config, "listen 127.0.0.1:1;\n")
	require.Contains(t, config, "proxy_pass 127.0.0.1:2;\n")
	require.NotContains(t, nginxConfig("", "", 1, 2), "load_module")
}
