//go:build !portable

package relay

import (
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Where a filter finds what the process asks for.
const (
	// callOffset is where the number of the system call is.
	callOffset = 0

	// argsOffset is where the arguments are, eight bytes each.
	argsOffset = 16
)

// deny makes a system call fail for the rest of the process's life, if the
// arguments of these indexes have these values.
func deny(t *testing.T, call uint32, args map[uint32]uint32, errno unix.Errno) {
	t.Helper()

	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)

	checks := map[uint32]uint32{callOffset: call}
	for index, value := range args {
		checks[argsOffset+8*index] = value
	}

	// Each check that fails skips the others and the refusal.
	var program []unix.SockFilter
	left := uint8(2 * len(checks))
	for offset, value := range checks {
		left -= 2
		program = append(program,
			unix.SockFilter{Code: load, K: offset},
			unix.SockFilter{Code: equal, Jf: left + 1, K: value},
		)
	}
	program = append(program,
		unix.SockFilter{
			Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(errno),
		},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	)

	filter := unix.SockFprog{
		Len:    uint16(len(program)),
		Filter: &program[0],
	}

	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, failed := unix.Syscall(
		unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&filter)),
	)
	require.Zero(t, failed)
}

// TestWithoutIPv6 opens sockets on a machine that has no IPv6.
func TestWithoutIPv6(t *testing.T) {
	if !inChild(t) {
		return
	}

	deny(t, unix.SYS_SOCKET, map[uint32]uint32{
		0: unix.AF_INET6,
	}, unix.EAFNOSUPPORT)

	w := newWorld(t, nil)
	s, c1, c2 := w.pair(loopback4, loopback4)
	require.False(t, s.leg(Leg1).port.inet6)

	c1.send(s.Port(Leg1), []byte("hello"))
	require.Equal(t, "hello", string(c2.receive()))

	// Who asks for IPv6 is told.
	for _, listen := range []string{"::", "::1"} {
		other := newWorld(t, func(cfg *Config) {
			cfg.Listen = netip.MustParseAddr(listen)
		})
		_, err := other.Open(Options{Protocol: UDP})
		require.ErrorIs(t, err, unix.EAFNOSUPPORT)
	}
}

// TestOptionRefused opens sockets on a machine that does not know an option
// that they need. Nothing stays behind.
func TestOptionRefused(t *testing.T) {
	tests := map[string][2]uint32{
		"set families": {unix.IPPROTO_IPV6, unix.IPV6_V6ONLY},
		"ask for local addresses": {
			unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO,
		},
		"ask for dropped packets": {unix.SOL_SOCKET, unix.SO_RXQ_OVFL},
	}
	for words, option := range tests {
		t.Run(strings.ReplaceAll(words, " ", "_"), func(t *testing.T) {
			if !inChild(t) {
				return
			}

			w := newWorld(t, nil)
			files, free := openFiles(), len(w.ports.free)
			deny(t, unix.SYS_SETSOCKOPT, map[uint32]uint32{
				1: option[0], 2: option[1],
			}, unix.ENOPROTOOPT)

			_, err := w.Open(Options{Protocol: UDP})
			require.ErrorIs(t, err, unix.ENOPROTOOPT)
			require.ErrorContains(t, err, words)
			require.Zero(t, w.NumSockets())
			require.Equal(t, files, openFiles())
			require.Len(t, w.ports.free, free)
		})
	}
}

// TestBufferRefused opens a socket where the system grants no large queues.
func TestBufferRefused(t *testing.T) {
	if !inChild(t) {
		return
	}

	for _, option := range []uint32{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		deny(t, unix.SYS_SETSOCKOPT, map[uint32]uint32{
			1: unix.SOL_SOCKET, 2: option,
		}, unix.EPERM)
	}

	w := newWorld(t, nil)
	s, c1, c2 := w.pair(loopback4, loopback6)
	c1.send(s.Port(Leg1), []byte("hello"))
	require.Equal(t, "hello", string(c2.receive()))
}
