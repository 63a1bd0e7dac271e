package relay

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOptions opens sockets with options that cannot be. The error names what
// is wrong, and nothing stays behind.
func TestOptions(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	free := len(w.ports.free)

	tests := []struct {
		opts Options
		want error
		text string
	}{{
		opts: Options{}, want: ErrProtocol, text: "protocol 0",
	}, {
		opts: Options{Protocol: 3}, want: ErrProtocol,
		text: "protocol 3",
	}, {
		opts: Options{Protocol: UDP, Admission: 2}, want: ErrAdmission,
		text: "admission 2",
	}, {
		opts: Options{Protocol: UDP, IdleTimeout: -time.Second},
		want: ErrOptions, text: "the idle timeout -1s is negative",
	}, {
		opts: Options{Protocol: UDP, ExpiresAt: time.Unix(0, 0)},
		want: ErrOptions,
		text: "the lifetime ended at 1970-01-01T00:00:00Z",
	}, {
		opts: Options{Protocol: TCP, Limits: Limits{Pairs: -1}},
		want: ErrOptions, text: "-1 pairs",
	}, {
		opts: Options{Protocol: UDP, Limits: Limits{Pairs: 1}},
		want: ErrOptions, text: "pairs are for tcp",
	}, {
		opts: Options{Protocol: TCP, Limits: Limits{Packets: 1}},
		want: ErrOptions, text: "packets per second are for udp",
	}}
	for _, test := range tests {
		_, err := w.Open(test.opts)
		require.ErrorIs(t, err, test.want)
		require.ErrorContains(t, err, test.text)
	}

	require.Zero(t, w.NumSockets())
	require.Len(t, w.ports.free, free)
	w.noEvent()
}

// TestOptionsExtremes opens sockets with the least and the most of everything.
func TestOptionsExtremes(t *testing.T) {
	t.Parallel()

	w := newWorld(t, func(cfg *Config) {
		cfg.Bandwidth = math.MaxUint64
		cfg.AccountBandwidth = math.MaxUint64
	})

	for _, limits := range []Limits{
		{},
		{Bandwidth: 1, Packets: 1, TotalBytes: 2},
		{
			Bandwidth: math.MaxUint64, Packets: math.MaxUint64,
			TotalBytes: math.MaxUint64,
		},
	} {
		opts := Options{Protocol: UDP, Limits: limits}
		s := w.openWith(opts)
		require.Equal(t, opts, s.Options())
		s.Charge("somebody")

		// A packet passes whatever the limits are.
		c1, c2 := w.join(s, loopback4, loopback6)
		c1.send(s.Port(Leg1), []byte("x"))
		require.Equal(t, "x", string(c2.receive()))
	}

	for _, pairs := range []int{0, 1, math.MaxInt} {
		opts := Options{Protocol: TCP, Limits: Limits{Pairs: pairs}}
		s := w.openWith(opts)
		require.Equal(t, opts, s.Options())
		s.Charge("somebody")

		c1, c2 := callBoth(t, s)
		c1.say("hello")
		c2.hear("hello")
	}
}

// TestOptionsCopied checks that a socket does not share its options with
// anybody who may change them.
func TestOptionsCopied(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	opts := Options{
		Protocol: UDP,
		Allow: [2][]netip.Prefix{
			prefixes("192.0.2.0/24"), prefixes("2001:db8::/32"),
		},
	}
	want := opts.clone()
	s := w.openWith(opts)

	for i := range opts.Allow {
		opts.Allow[i][0] = netip.Prefix{}
	}
	require.Equal(t, want, s.Options())

	got := s.Options()
	got.Allow[0][0] = netip.Prefix{}
	require.Equal(t, want, s.Options())
	require.Equal(t, allowList(want.Allow[1]), s.leg(Leg2).allow)
}

// prefixes parses networks.
func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}

	return list
}

// TestAllowValidate checks which lists of networks can be.
func TestAllowValidate(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)

	network := netip.MustParsePrefix("192.0.2.0/24")
	for text, list := range map[string][]netip.Prefix{
		"invalid Prefix is no network": {{}},
		"::ffff:192.0.2.0/120 is no network": {
			network, netip.MustParsePrefix("::ffff:192.0.2.0/120"),
		},
		"192.0.2.1/24 has bits behind its length, the network is " +
			"192.0.2.0/24": {netip.MustParsePrefix("192.0.2.1/24")},
		"2001:db8::1/64 has bits behind its length, the network is " +
			"2001:db8::/64": {
			netip.MustParsePrefix("2001:db8::1/64"),
		},
		"65 networks, at most 64": slices.Repeat(
			[]netip.Prefix{network}, maxAllow+1,
		),
	} {
		for i, name := range []string{"leg 1", "leg 2"} {
			opts := Options{Protocol: UDP}
			opts.Allow[i] = list
			_, err := w.Open(opts)
			require.ErrorIs(t, err, ErrOptions)
			require.ErrorContains(t, err,
				"allow of "+name+": "+text)
		}
	}
	require.Zero(t, w.NumSockets())

	for _, list := range [][]netip.Prefix{
		nil,
		{},
		prefixes("0.0.0.0/0", "::/0"),
		prefixes("192.0.2.1/32", "2001:db8::1/128"),
		slices.Repeat([]netip.Prefix{network}, maxAllow),
	} {
		w.openWith(Options{
			Protocol: TCP, Allow: [2][]netip.Prefix{list, list},
		})
	}
}
