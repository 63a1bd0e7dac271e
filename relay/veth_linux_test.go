//go:build !portable

package relay

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestVeth sends bursts of all shapes over devices that cut long datagrams into
// fragments and that do not do all that loopback does. What one client sent as
// so many datagrams the other one gets as the same datagrams.
func TestVeth(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		mtu1, mtu2 int

		// change changes the devices.
		change func(n *network, t *testing.T)
	}{
		"plain": {mtu1: 1500, mtu2: 1500},

		// What comes as a run of long datagrams cannot leave as one.
		"narrow": {mtu1: 9000, mtu2: 1500},

		// Kernels before 6.11 refuse to send a run then.
		"checksum": {
			mtu1: 1500, mtu2: 1500,
			change: (*network).sumInSoftware,
		},

		// Separate packets reach the relay joined.
		"joined": {
			mtu1: 1500, mtu2: 1500,
			change: (*network).joinPackets,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if !inNetwork(t) {
				return
			}

			n := newNetwork(t, test.mtu1, test.mtu2)
			if test.change != nil {
				test.change(n, t)
			}

			n.requireNarrow(t)
			n.checkAll(t)
		})
	}
}

// sumInSoftware takes from the relay's devices what sending runs needs.
func (n *network) sumInSoftware(t *testing.T) {
	t.Helper()

	for i := range n.spaces {
		require.NoError(t, errors.Join(
			setFeature(device(i), unix.ETHTOOL_SGSO, 0),
			setFeature(device(i), unix.ETHTOOL_STXCSUM, 0),
		))
	}
}

// joinPackets lets the system cut the clients' runs into packets before they
// leave, and join packets when they arrive.
func (n *network) joinPackets(t *testing.T) {
	t.Helper()

	for i, space := range n.spaces {
		require.NoError(t, setFeature(
			device(i), unix.ETHTOOL_SGRO, 1,
		))
		require.NoError(t, space.do(func() error {
			return errors.Join(
				setFeature(clientDevice, unix.ETHTOOL_SGRO, 1),
				setFeature(
					clientDevice, unix.ETHTOOL_STXCSUM, 0,
				),
			)
		}))
	}

	// See that it does.
	hop, _ := addrs(0, 1)
	to := place{ip: hop, mtu: n.mtu[0]}.client(t, 0, sendOne, true)
	from := n.place(0, false).client(t, to.addr().Port(), sendRuns, false)
	from.leg, to.leg = to.addr(), from.addr()
	require.NoError(t, pass(from, to, burstOf(1, 0, 20, 1000)))
	require.Positive(t, to.joined)
}

// checkAll plays scripts between the two clients.
func (n *network) checkAll(t *testing.T) {
	t.Helper()

	w := newQuietWorld(t)
	for _, how := range vethScripts(newWindow(t, n.places(false, false))) {
		for _, inet6 := range []bool{false, true} {
			how.play(t, w, n.places(inet6, inet6))
		}
	}

	rapid.Check(t, func(rt *rapid.T) {
		places := n.places(
			rapid.Bool().Draw(rt, "IPv6"),
			rapid.Bool().Draw(rt, "IPv6"),
		)
		limits := newWindow(rt, places)

		drawScript(rt, limits, longestOf(places)).play(rt, w, places)
	})
}

// places returns the places of both clients.
func (n *network) places(inet61, inet62 bool) [2]place {
	return [2]place{n.place(0, inet61), n.place(1, inet62)}
}

// vethScripts returns scripts that each cross the limit of the way out, both up
// and down.
func vethScripts(limits window) []script {
	long := slices.Repeat([]int{8000}, 8)
	short := slices.Repeat([]int{1200}, 54)
	edge := []int{1453, 1453, 1452, 1452, 1473, 1473, 1472, 1472, 1471}

	rounds := [][2][]int{}
	for _, sizes := range [][]int{
		short, long, short, edge,
		slices.Concat(short[:20], long[:4], short[:20], edge),
		{maxIPv4, maxIPv4}, short,
	} {
		sizes = limits.fit(sizes)
		rounds = append(rounds, [2][]int{sizes, sizes})
	}

	var scripts []script
	for mode := range numSendModes {
		for _, gro := range []bool{false, true} {
			scripts = append(scripts, script{
				modes:  [2]sendMode{mode, mode},
				gro:    [2]bool{gro, gro},
				rounds: rounds,
			})
		}
	}

	return scripts
}

// requireNarrow checks that the network is as these tests want it: the system
// takes no run of datagrams that each need fragments, but takes each of them.
func (n *network) requireNarrow(t *testing.T) {
	t.Helper()

	// The relay's end of the way to client 2.
	ip, _ := addrs(1, 1)
	to, _ := addrs(1, 2)
	from := place{ip: ip, mtu: n.mtu[1]}.client(t, 0, sendRuns, false)
	from.leg = netip.AddrPortFrom(to, 9)

	longest := n.mtu[1] - overhead4
	payload := make([]byte, longest+1)
	require.NoError(t, from.send(payload, payload))

	_, err := from.batch.WriteBatch([]ipv4.Message{{
		Buffers: [][]byte{payload, payload},
		OOB:     segmentControl(len(payload)),
		Addr:    from.messages([][]byte{payload})[0].Addr,
	}}, 0)
	require.Error(t, err)
	require.True(t, errors.Is(err, unix.EMSGSIZE) ||
		errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIO), err)

	// What a device that computes no checksums makes of a run depends on
	// the kernel.
	err = from.send(payload[:longest], payload[:longest])
	t.Logf("A run of %d bytes each: %v", longest, err)
}
