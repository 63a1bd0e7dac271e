package sidecar

import (
	"errors"
	"fmt"

	"github.com/socketd/socketd/sidecar/offer"
)

// OfferConfig tells what is done about offers.
//
//nolint:lll // The tags of an option cannot be broken.
type OfferConfig struct {
	AutoAccept     string   `long:"autoaccept" description:"Whose offers are accepted as soon as they come {none, channel, list}: nobody's, those of nodes with which this one has an open channel, or those of the nodes of offer.autoacceptlist"`
	AutoAcceptList []string `long:"autoacceptlist" description:"The public key of a node for offer.autoaccept=list. May be given several times"`
}

// The values of offer.autoaccept.
const (
	autoAcceptNone    = "none"
	autoAcceptChannel = "channel"
	autoAcceptList    = "list"
)

// errNoAutoAcceptList is returned for a list that nobody is on.
var errNoAutoAcceptList = errors.New("offer.autoacceptlist: is empty; name " +
	"the nodes whose offers are accepted")

// policy returns which offers are accepted without anybody being asked.
func (c *OfferConfig) policy() (offer.Policy, error) {
	var p offer.Policy
	for _, text := range c.AutoAcceptList {
		node, err := parsePubKey(text, offer.PubKey{})
		if err != nil {
			return p, fmt.Errorf("offer.autoacceptlist: %q is no "+
				"public key of a node, which has 66 hex digits",
				text)
		}
		p.List = append(p.List, node)
	}

	switch c.AutoAccept {
	case autoAcceptNone:

	case autoAcceptChannel:
		p.AutoAccept = offer.AutoAcceptChannel

	case autoAcceptList:
		p.AutoAccept = offer.AutoAcceptList

	default:
		return p, fmt.Errorf("offer.autoaccept: %q is not %s, %s or %s",
			c.AutoAccept, autoAcceptNone, autoAcceptChannel,
			autoAcceptList)
	}

	if p.AutoAccept == offer.AutoAcceptList && len(p.List) == 0 {
		return p, errNoAutoAcceptList
	}

	return p, nil
}
