package main

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/socketd/socketd/socketrpc"
	"github.com/urfave/cli/v3"
	"google.golang.org/protobuf/proto"
)

// The flags of the limits of a socket.
const (
	bandwidthFlag   = "bandwidth"
	packetsFlag     = "packets"
	totalBytesFlag  = "total_bytes"
	idleTimeoutFlag = "idle_timeout"
	lifetimeFlag    = "lifetime"
	pairsFlag       = "pairs"
)

// limitText says how the help describes a limit of a socket.
type limitText struct {
	name, usage string

	// option is socketd's option that has the default, without relay.
	// before it.
	option string

	// zero is what 0 means, where that is allowed, and only is the protocol
	// that has the limit, empty for both.
	zero, only string
}

// limitTexts describe the limits of a socket.
var limitTexts = []limitText{{
	name: bandwidthFlag, option: "socketbandwidth",
	usage: "how many `bytes` may pass in a second, in each direction, as " +
		"in 12500k",
	zero: "0 for no limit",
}, {
	name: packetsFlag, option: "socketpackets",
	usage: "how many `packets` may pass in a second, in each direction",
	zero:  "0 for no limit", only: "udp only",
}, {
	name: totalBytesFlag, option: "socketbytes",
	usage: "after how many `bytes` in both directions the socket stops, " +
		"as in 100G",
	zero: "0 for no limit",
}, {
	name: idleTimeoutFlag, option: "idletimeout",
	usage: "after how much `time` without traffic the socket stops, as " +
		"in 10m",
	zero: "0 for never",
}, {
	name: lifetimeFlag, option: "lifetime",
	usage: "after how much `time` the socket stops, as in 24h",
	zero:  "0 for never",
}, {
	name: pairsFlag, option: "maxpairs",
	usage: "how `many` pairs of connections there may be",
	zero:  "at most relay.maxpairs, which 0 stands for", only: "tcp only",
}}

// limitFlags returns the flags of the limits of a socket of this node. The
// default of each is an option of socketd.
func limitFlags() []cli.Flag {
	var flags []cli.Flag
	for _, text := range limitTexts {
		flags = append(flags, &cli.StringFlag{
			Name:        text.name,
			DefaultText: "socketd's relay." + text.option,
			Usage: joinTexts(
				text.usage, text.zero, text.only,
			),
		})
	}

	return flags
}

// askedLimitFlags returns the flags of the limits that another node is asked
// for. It chooses those that are not set, and hosts without a limit for nobody.
func askedLimitFlags() []cli.Flag {
	var flags []cli.Flag
	for _, text := range limitTexts {
		flags = append(flags, &cli.StringFlag{
			Name:        text.name,
			DefaultText: hostChooses,
			Usage:       joinTexts(text.usage, text.only),
		})
	}

	return flags
}

// hostChooses is the default of what another node is asked for.
const hostChooses = "the host's choice"

// joinTexts returns the texts that are not empty, as one.
func joinTexts(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool {
		return text == ""
	}), "; ")
}

// parseLimits returns the limits that the command line sets, or nil if it sets
// none.
func parseLimits(cmd *cli.Command) (*socketrpc.SocketLimits, error) {
	var limits socketrpc.SocketLimits
	for _, limit := range []struct {
		name  string
		field **uint64
		parse func(name, text string) (*uint64, error)
	}{
		{bandwidthFlag, &limits.Bandwidth, parseQuantity},
		{packetsFlag, &limits.Packets, parseQuantity},
		{totalBytesFlag, &limits.TotalBytes, parseQuantity},
		{idleTimeoutFlag, &limits.IdleTimeout, parseSeconds},
		{lifetimeFlag, &limits.Lifetime, parseSeconds},
	} {
		text, err := option(cmd, limit.name)
		if err != nil {
			return nil, err
		}
		if text == "" {
			continue
		}

		*limit.field, err = limit.parse(limit.name, text)
		if err != nil {
			return nil, err
		}
	}

	text, err := option(cmd, pairsFlag)
	if err != nil {
		return nil, err
	}
	if text != "" {
		pairs, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, usagef("--%s: %q is not a whole number "+
				"of pairs", pairsFlag, text)
		}
		limits.Pairs = proto.Uint32(uint32(pairs))
	}

	if proto.Size(&limits) == 0 {
		return nil, nil
	}

	return &limits, nil
}

// quantityUnits are the suffixes of a quantity. They are decimal, as
// bandwidths are.
var quantityUnits = map[byte]uint64{
	'k': 1_000,
	'M': 1_000_000,
	'G': 1_000_000_000,
}

// parseQuantity returns the number of bytes or packets that is the value of a
// flag, as in 100, 50k, 25M or 1G. The text is not empty.
func parseQuantity(name, text string) (*uint64, error) {
	digits, unit := text, uint64(1)
	if u, ok := quantityUnits[text[len(text)-1]]; ok {
		digits, unit = text[:len(text)-1], u
	}

	n, err := strconv.ParseUint(digits, 10, 64)
	switch {
	case err != nil && strings.Trim(digits, "0123456789") != "",
		digits == "":

		return nil, usagef("--%s: %q is not a whole number, with k, "+
			"M or G behind it or without", name, text)

	case err != nil || n > math.MaxUint64/unit:
		return nil, usagef("--%s: %q is too large", name, text)
	}

	return proto.Uint64(n * unit), nil
}

// parseSeconds returns the time in seconds that is the value of a flag, as in
// 90s, 10m or 24h.
func parseSeconds(name, text string) (*uint64, error) {
	duration, err := time.ParseDuration(text)
	if err != nil || duration < 0 || duration%time.Second != 0 {
		return nil, usagef("--%s: %q is not a time of whole seconds, "+
			"as in 90s, 10m or 24h, or 0", name, text)
	}

	return proto.Uint64(uint64(duration / time.Second)), nil
}
