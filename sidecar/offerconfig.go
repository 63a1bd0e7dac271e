package sidecar

import (
	"errors"
	"fmt"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
)

// OfferConfig tells what is done about offers, and about requests for them.
//
//nolint:lll // The tags of an option cannot be broken.
type OfferConfig struct {
	AutoAccept     string   `long:"autoaccept" description:"Whose offers are accepted as soon as they come {none, channel, list}: nobody's, those of nodes with which this one has an open channel, or those of the nodes of offer.autoacceptlist"`
	AutoAcceptList []string `long:"autoacceptlist" description:"The public key of a node for offer.autoaccept=list. May be given several times"`

	AllowRequests []string      `long:"allowrequests" description:"Whose requests this node hosts sockets for {none, any, channel, <public key>}: nobody's, everybody's, those of nodes with which this one has an open channel, or those of a node. The latter two may be given several times and together. socketcli policy changes this and the options that bound it while socketd runs"`
	OpenFor       []string      `long:"openfor" description:"The public key of a node that may ask for an OPEN socket; all others get TOKEN ones only. May be given several times"`
	MaxHosted     int           `long:"maxhosted" description:"How many sockets are hosted on requests at once, for all nodes"`
	MaxLifetime   time.Duration `long:"maxlifetime" description:"How long a socket lives that is hosted on a request; 1s to 168h"`
	MaxBandwidth  Quantity      `long:"maxbandwidth" description:"How many bytes a socket that is hosted on a request may pass in a second, in each direction; 0 for no limit"`
}

// The values of offer.autoaccept.
const (
	autoAcceptNone    = "none"
	autoAcceptChannel = "channel"
	autoAcceptList    = "list"
)

const (
	// defaultMaxHosted, defaultMaxLifetime and defaultMaxBandwidth are what
	// a node hosts on requests if nobody says otherwise: half of the
	// default relay.maxsockets, and each as much as a socket of its own.
	defaultMaxHosted    = 50
	defaultMaxLifetime  = 24 * time.Hour
	defaultMaxBandwidth = 12_500_000
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
