package sidecar

import (
	"math"
	"net/netip"
	"time"

	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/protobuf/proto"
)

const (
	// maxAllow is how many networks a leg may allow, as the relay has it.
	maxAllow = 64

	// maxSeconds is the longest time that a limit may be, in seconds. It is
	// some 292 years.
	maxSeconds = uint64(math.MaxInt64 / time.Second)
)

// socketDefaults is what a socket has where its start says nothing.
type socketDefaults struct {
	// bandwidth, packets and totalBytes are the fields of relay.Limits.
	bandwidth  uint64
	packets    uint64
	totalBytes uint64

	// idle and lifetime are 0 for never.
	idle     time.Duration
	lifetime time.Duration

	// maxPairs is how many pairs a TCP socket may have at most.
	maxPairs int
}

// socketDefaults returns what the options say of sockets.
func (r *RelayConfig) socketDefaults() socketDefaults {
	return socketDefaults{
		bandwidth:  uint64(r.SocketBandwidth),
		packets:    uint64(r.SocketPackets),
		totalBytes: uint64(r.SocketBytes),
		idle:       r.IdleTimeout,
		lifetime:   r.Lifetime,
		maxPairs:   r.MaxPairs,
	}
}

// limits returns the limits of a socket that was told of none.
func (d *socketDefaults) limits(protocol relay.Protocol) relay.Limits {
	limits := relay.Limits{
		Bandwidth:  d.bandwidth,
		TotalBytes: d.totalBytes,
	}
	if protocol == relay.UDP {
		limits.Packets = d.packets
	}

	return limits
}

// defaultSocket returns the options of the default socket, which has neither an
// idle nor a lifetime limit.
func (d *socketDefaults) defaultSocket() relay.Options {
	return relay.Options{
		Protocol:  relay.UDP,
		Admission: relay.Open,
		Limits:    d.limits(relay.UDP),
	}
}

// parseStart returns the options of a further socket that a request describes.
func (d *socketDefaults) parseStart(req *socketrpc.StartSocketRequest,
	now time.Time) (relay.Options, error) {

	var (
		opts relay.Options
		err  error
	)
	opts.Protocol, err = parseProtocol(req.Protocol)
	if err != nil {
		return opts, err
	}
	opts.Admission, err = parseAdmission(req.Admission)
	if err != nil {
		return opts, err
	}
	opts.Allow[0], err = parseAllow("allow1", req.Allow1)
	if err != nil {
		return opts, err
	}
	opts.Allow[1], err = parseAllow("allow2", req.Allow2)
	if err != nil {
		return opts, err
	}

	limits := req.Limits
	if limits == nil {
		limits = &socketrpc.SocketLimits{}
	}
	opts.Limits = d.limits(opts.Protocol)
	if err := d.parseLimits(&opts, limits); err != nil {
		return opts, err
	}

	return opts, d.parseTimes(&opts, limits, now)
}

// parseLimits puts the limits of what may pass that a request sets into the
// options of a socket.
func (d *socketDefaults) parseLimits(opts *relay.Options,
	req *socketrpc.SocketLimits) error {

	for _, limit := range []struct {
		name string
		from *uint64
		to   *uint64
	}{
		{"bandwidth", req.Bandwidth, &opts.Limits.Bandwidth},
		{"packets", req.Packets, &opts.Limits.Packets},
		{"total_bytes", req.TotalBytes, &opts.Limits.TotalBytes},
	} {
		switch {
		case limit.from == nil:

		case *limit.from > maxQuantity:
			return invalid("limits."+limit.name, "%d is too "+
				"large, at most %d is possible", *limit.from,
				int64(maxQuantity))

		default:
			*limit.to = *limit.from
		}
	}

	if req.Packets != nil && opts.Protocol != relay.UDP {
		return invalid("limits.packets", "a %v socket has no packets "+
			"to count, this is for %v", opts.Protocol, relay.UDP)
	}
	if req.Pairs == nil {
		return nil
	}

	switch {
	case opts.Protocol != relay.TCP:
		return invalid("limits.pairs", "a %v socket has no pairs of "+
			"connections, this is for %v", opts.Protocol, relay.TCP)

	case uint64(*req.Pairs) > uint64(d.maxPairs):
		return invalid("limits.pairs", "%d is more than "+
			"relay.maxpairs, which is %d", *req.Pairs, d.maxPairs)
	}
	opts.Limits.Pairs = int(*req.Pairs)

	return nil
}

// parseTimes puts the times at which a socket ends into its options: those that
// a request sets, and else the defaults.
func (d *socketDefaults) parseTimes(opts *relay.Options,
	req *socketrpc.SocketLimits, now time.Time) error {

	idle, lifetime := d.idle, d.lifetime
	for _, limit := range []struct {
		name string
		from *uint64
		to   *time.Duration
	}{
		{"idle_timeout", req.IdleTimeout, &idle},
		{"lifetime", req.Lifetime, &lifetime},
	} {
		switch {
		case limit.from == nil:

		case *limit.from > maxSeconds:
			return invalid("limits."+limit.name, "%d seconds are "+
				"too long, at most %d are possible",
				*limit.from, maxSeconds)

		default:
			*limit.to = time.Duration(*limit.from) * time.Second
		}
	}

	opts.IdleTimeout = idle
	if lifetime > 0 {
		opts.ExpiresAt = now.Add(lifetime)
	}

	return nil
}

// parseAdmission parses the admission of a further socket; empty stands for
// tokens.
func parseAdmission(s string) (relay.Admission, error) {
	if s == "" {
		return relay.ByToken, nil
	}

	admission, err := relay.ParseAdmission(s)
	if err != nil {
		return 0, invalid("admission", "%q is not known, use %q or %q",
			s, relay.Open, relay.ByToken)
	}

	return admission, nil
}

// parseAllow parses the networks that a leg allows. An address stands for the
// network that has only it.
func parseAllow(field string, list []string) ([]netip.Prefix, error) {
	if len(list) > maxAllow {
		return nil, invalid(field, "%d networks, at most %d can be "+
			"allowed", len(list), maxAllow)
	}

	allow := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			addr, addrErr := netip.ParseAddr(s)
			if addrErr != nil || addr.Zone() != "" {
				return nil, invalid(field, "%q is neither a "+
					"network, such as 192.0.2.0/24, nor "+
					"an address", s)
			}
			addr = addr.Unmap()
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}

		switch {
		case prefix.Addr().Is4In6():
			return nil, invalid(field, "%q is IPv4 in IPv6: write "+
				"it as IPv4", s)

		case prefix != prefix.Masked():
			return nil, invalid(field, "%q has bits behind its "+
				"length, the network is %v", s,
				prefix.Masked())
		}

		allow = append(allow, prefix)
	}

	return allow, nil
}

// marshalLimits returns the limits of a socket as the API has them. Those that
// its protocol does not know are not set.
func (d *socketDefaults) marshalLimits(
	socket *store.Socket) *socketrpc.SocketLimits {

	opts := socketOptions(socket)
	limits := &socketrpc.SocketLimits{
		Bandwidth:   proto.Uint64(opts.Limits.Bandwidth),
		TotalBytes:  proto.Uint64(opts.Limits.TotalBytes),
		IdleTimeout: wholeSeconds(opts.IdleTimeout),
		Lifetime:    proto.Uint64(0),
	}
	if !opts.ExpiresAt.IsZero() {
		// The socket was there a moment after its lifetime had begun.
		limits.Lifetime = wholeSeconds(
			opts.ExpiresAt.Sub(socket.CreatedAt),
		)
	}

	if opts.Protocol == relay.UDP {
		limits.Packets = proto.Uint64(opts.Limits.Packets)

		return limits
	}

	pairs := opts.Limits.Pairs
	if pairs == 0 {
		pairs = d.maxPairs
	}
	limits.Pairs = proto.Uint32(uint32(pairs))

	return limits
}

// wholeSeconds returns a time in seconds. What is begun counts as a whole one:
// 0 would say that there is no limit.
func wholeSeconds(d time.Duration) *uint64 {
	seconds := uint64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}

	return &seconds
}

// marshalAllow returns the networks that a leg allows as the API has them.
func marshalAllow(allow []netip.Prefix) []string {
	list := make([]string, 0, len(allow))
	for _, prefix := range allow {
		list = append(list, prefix.String())
	}

	return list
}
