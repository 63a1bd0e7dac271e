package sidecar

import (
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/stretchr/testify/require"
)

// TestOfferConfig checks which policy the options make.
func TestOfferConfig(t *testing.T) {
	t.Parallel()

	cfg := OfferConfig{AutoAccept: "none"}
	p, err := cfg.policy()
	require.NoError(t, err)
	require.Equal(t, offer.AutoAcceptNone, p.AutoAccept)

	cfg = OfferConfig{AutoAccept: "channel"}
	p, err = cfg.policy()
	require.NoError(t, err)
	require.Equal(t, offer.AutoAcceptChannel, p.AutoAccept)

	cfg = OfferConfig{AutoAccept: "list", AutoAcceptList: testKeys[:2]}
	p, err = cfg.policy()
	require.NoError(t, err)
	require.Equal(t, offer.AutoAcceptList, p.AutoAccept)
	require.Len(t, p.List, 2)
	require.Equal(t, testKeys[1], p.List[1].String())

	for _, bad := range []struct {
		cfg  OfferConfig
		text string
	}{
		{OfferConfig{AutoAccept: "all"}, `offer.autoaccept: "all"`},
		{OfferConfig{}, `offer.autoaccept: ""`},
		{OfferConfig{AutoAccept: "list"}, "offer.autoacceptlist: is"},
		{OfferConfig{
			AutoAccept: "none", AutoAcceptList: []string{"02ab"},
		}, `offer.autoacceptlist: "02ab"`},
	} {
		_, err := bad.cfg.policy()
		require.ErrorContains(t, err, bad.text)
	}
}

// testRequestConfig returns the options as they are by default, changed.
func testRequestConfig(change func(*Config)) *Config {
	cfg := DefaultConfig()
	change(&cfg)

	return &cfg
}

// TestRequestPolicy checks which policy the options make.
func TestRequestPolicy(t *testing.T) {
	t.Parallel()

	var nodes []offer.PubKey
	for _, key := range testKeys {
		node, err := parsePubKey(key, offer.PubKey{})
		require.NoError(t, err)
		nodes = append(nodes, node)
	}
	cfg := DefaultConfig()
	want, err := cfg.requestPolicy()
	require.NoError(t, err)
	require.Equal(t, store.Policy{
		RequestPolicy: offer.RequestPolicy{
			Channel:      true,
			MaxHosted:    50,
			MaxPerNode:   5,
			MaxLifetime:  24 * time.Hour,
			MaxBandwidth: 12_500_000,
		},
		NodeBandwidth:  25_000_000,
		TotalBandwidth: 62_500_000,
	}, want)

	for _, c := range []struct {
		words   []string
		any     bool
		channel bool
		nodes   []offer.PubKey
	}{
		{[]string{"none"}, false, false, nil},
		{[]string{"any"}, true, false, nil},
		{[]string{"channel"}, false, true, nil},
		{[]string{"channel", "channel"}, false, true, nil},
		{testKeys[:1], false, false, nodes[:1]},
		{[]string{
			testKeys[1], "channel", testKeys[0],
			strings.ToUpper(testKeys[1]),
		}, false, true, []offer.PubKey{nodes[1], nodes[0]}},
	} {
		want.Any, want.Channel, want.Nodes = c.any, c.channel, c.nodes
		got, err := testRequestConfig(func(cfg *Config) {
			cfg.Offer.AllowRequests = c.words
		}).requestPolicy()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}

	got, err := testRequestConfig(func(cfg *Config) {
		cfg.Offer.AllowRequests = []string{"none"}
		cfg.Offer.OpenFor = testKeys[:2]
		cfg.Offer.MaxHosted = maxCount
		cfg.Offer.MaxLifetime = 1900 * time.Millisecond
		cfg.Offer.MaxBandwidth = 0
		cfg.Relay.NodeSockets = 1
		cfg.Relay.NodeBandwidth = 2
		cfg.Relay.Bandwidth = 3
	}).requestPolicy()
	require.NoError(t, err)
	require.Equal(t, store.Policy{
		RequestPolicy: offer.RequestPolicy{
			OpenFor:     nodes[:2],
			MaxHosted:   maxCount,
			MaxPerNode:  1,
			MaxLifetime: time.Second,
		},
		NodeBandwidth: 2, TotalBandwidth: 3,
	}, got)
}

// TestRequestPolicyErrors checks that the option is named in which there is a
// mistake.
func TestRequestPolicyErrors(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"--offer.allowrequests=all"},
			`offer.allowrequests: "all" is no public key of a ` +
				"node, which has 66 hex digits, nor none, " +
				"any or channel"},
		{[]string{"--offer.allowrequests="},
			`offer.allowrequests: ""`},
		{[]string{"--offer.allowrequests=02" +
			strings.Repeat("00", 32)}, "offer.allowrequests"},
		{[]string{
			"--offer.allowrequests=channel",
			"--offer.allowrequests=none",
		}, `offer.allowrequests: "none" stands alone`},
		{[]string{
			"--offer.allowrequests=any",
			"--offer.allowrequests=" + testKeys[0],
		}, `offer.allowrequests: "any" stands alone`},
		{[]string{"--offer.openfor=channel"},
			`offer.openfor: "channel" is no public key`},
		{[]string{"--offer.maxhosted=0"},
			"offer.maxhosted: 0 is less than 1"},
		{[]string{"--offer.maxhosted=2147483648"},
			"offer.maxhosted: 2147483648 is too large"},
		{[]string{"--relay.nodesockets=2147483648"},
			"relay.nodesockets: 2147483648 is too large"},
		{[]string{"--offer.maxlifetime=999ms"},
			"offer.maxlifetime: 999ms is not from 1s to 168h"},
		{[]string{"--offer.maxlifetime=-1h"}, "offer.maxlifetime"},
		{[]string{"--offer.maxlifetime=168h0m1s"},
			"offer.maxlifetime: 168h0m1s is not from 1s to 168h"},
		{[]string{"--offer.maxbandwidth=fast"}, "offer.maxbandwidth"},
	} {
		args := append(
			[]string{"--socketdir=" + t.TempDir()}, c.args...,
		)
		_, err := LoadConfig(args, nil)
		require.ErrorContains(t, err, c.text, c.args)
	}
}

// TestRequestPolicySources checks that what the file or the environment says of
// whose requests are met takes the place of the default.
func TestRequestPolicySources(t *testing.T) {
	t.Parallel()

	base := writeConf(t, "mainnet", "offer.allowrequests="+testKeys[0]+
		"\noffer.allowrequests="+testKeys[1])
	for want, environ := range map[string][]string{
		testKeys[0] + "," + testKeys[1]: nil,
		"any":                           {"any"},
		"channel," + testKeys[2]:        {"channel," + testKeys[2]},
	} {
		for i := range environ {
			environ[i] = "SOCKETD_OFFER_ALLOWREQUESTS=" + environ[i]
		}
		cfg, err := LoadConfig(
			[]string{"--socketdir=" + base}, environ,
		)
		require.NoError(t, err)
		p, err := cfg.requestPolicy()
		require.NoError(t, err)
		require.Equal(t, want, strings.Join(allowedWords(&p), ","))
	}
}
