package sidecar

import (
	"testing"

	"github.com/socketd/socketd/sidecar/offer"
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
