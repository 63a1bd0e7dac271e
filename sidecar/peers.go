package sidecar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/sidecar/offer"
)

const (
	// peersAgain is how long after a subscription was asked for the peers
	// are listed a second time: lnd may not have begun before.
	peersAgain = time.Second

	// channelsInterval is how often the channels are listed.
	channelsInterval = time.Minute

	// channelsSoon is how soon at the earliest they are listed again when
	// somebody asks about a node of whose channel nothing is known: it may
	// have just opened. Anybody can make somebody ask.
	channelsSoon = 10 * time.Second
)

// errNoPermission is what a subscription fails with that the macaroon does not
// allow.
var errNoPermission = errors.New("the lnd macaroon does not allow it")

// peers knows from lnd which peers come online, and which nodes we have
// channels with. Where lnd's macaroon does not allow to know it, it does
// without.
type peers struct {
	// What follows is immutable.
	lnd Lnd
	log btclog.Logger

	// online is told of the peers that are online, some of them again and
	// again.
	online func(offer.PubKey)

	// wantChannels tells whether somebody asks for the channels now. It is
	// called without mu.
	wantChannels func() bool

	// bakeLine is the command that makes a macaroon that holds everything,
	// and notices are where it is shown.
	bakeLine string
	notices  *notices

	// missed tells Run that somebody has asked about a node that there is
	// no channel with, as far as is known.
	missed chan struct{}

	mu sync.Mutex

	// channels has the nodes that we have an open channel with, as of the
	// last time that lnd was asked.
	channels map[offer.PubKey]struct{}

	// missing are the permissions that the macaroon does not hold. It is
	// the same one until we stop, so that checked tells that they are
	// known.
	missing []string
	checked bool

	// warned tells that the owner knows that the channels cannot be known.
	warned bool
}

// A compile-time check that peers is what the offers need.
var _ offer.Channels = (*peers)(nil)

// newPeers returns peers of which nothing is known.
func newPeers(lnd Lnd, log btclog.Logger, wantChannels func() bool,
	bakeLine string, notices *notices,
	online func(offer.PubKey)) *peers {

	return &peers{
		lnd:          lnd,
		log:          log,
		online:       online,
		wantChannels: wantChannels,
		bakeLine:     bakeLine,
		notices:      notices,
		missed:       make(chan struct{}, 1),
	}
}

// Run watches lnd until ctx is done. lnd ends a subscription for good when it
// goes away, so that it is made again.
func (p *peers) Run(ctx context.Context) error {
	delay := lndRetryMin
	for {
		subscribed, err := p.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // It was told to end.

		case subscribed:
			delay = lndRetryMin

		// Another macaroon comes with another start.
		case errors.Is(err, errNoPermission):
			delay = channelsInterval
		}
		p.log.Debugf("Watching lnd's peers again in %v: %v", delay, err)

		if !sleep(ctx, delay) {
			return nil
		}
		delay = min(2*delay, lndRetryMax)
	}
}

// watch makes one subscription and watches until it ends. It tells whether it
// came to be, and why it ended.
func (p *peers) watch(ctx context.Context) (bool, error) {
	if err := p.lnd.Ping(ctx); err != nil {
		return false, fmt.Errorf("ping lnd: %w", err)
	}
	if err := p.checkMacaroon(ctx); err != nil {
		return false, fmt.Errorf("check the lnd macaroon: %w", err)
	}
	p.refreshChannels(ctx)

	if p.lacks(permPeerEvents) {
		return false, errNoPermission
	}

	// The goroutine behind a subscription ends with its context.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	events, errs, err := p.lnd.SubscribePeers(ctx)
	if err != nil {
		return false, fmt.Errorf("subscribe to peer events: %w", err)
	}
	p.listPeers(ctx)

	again := time.NewTimer(peersAgain)
	defer again.Stop()
	channels := time.NewTicker(channelsInterval)
	defer channels.Stop()
	listed := time.Now()
	for {
		select {
		case peer, ok := <-events:
			if !ok {
				return true, subscriptionError(errs)
			}
			p.online(peer)

		case <-again.C:
			p.listPeers(ctx)

		case <-channels.C:
			p.refreshChannels(ctx)
			listed = time.Now()

		case <-p.missed:
			if time.Since(listed) >= channelsSoon {
				p.refreshChannels(ctx)
				listed = time.Now()
			}

		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
}

// subscriptionError returns why a subscription that has ended did so.
func subscriptionError(errs <-chan error) error {
	if err, ok := <-errs; ok {
		return err
	}

	return errSubscriptionEnded
}

// listPeers tells of all peers that are online.
func (p *peers) listPeers(ctx context.Context) {
	if p.lacks(permListPeers) {
		return
	}
	online, err := p.lnd.Peers(ctx)
	if err != nil {
		p.log.Debugf("List peers: %v", err)
	}
	for _, peer := range online {
		p.online(peer)
	}
}

// refreshChannels asks lnd for the channels, if somebody else asks for them.
func (p *peers) refreshChannels(ctx context.Context) {
	if p.wantChannels() && !p.lacks(permChannels) {
		p.listChannels(ctx)
	}
}

// learnChannels asks lnd for the channels, or tells the owner that it must not,
// because somebody will ask for them from now on. When it returns they are
// known, if lnd has answered.
func (p *peers) learnChannels(ctx context.Context) {
	if !p.lacks(permChannels) {
		p.listChannels(ctx)

		return
	}

	p.mu.Lock()
	warned := p.warned
	p.warned = true
	p.mu.Unlock()

	if !warned {
		p.notices.add(p.warnings([]string{permChannels})...)
	}
}

// listChannels asks lnd for the channels. If it does not answer, what was known
// before stays.
func (p *peers) listChannels(ctx context.Context) {
	nodes, err := p.lnd.ChannelPeers(ctx)
	if err != nil {
		p.log.Debugf("List channels: %v", err)

		return
	}

	channels := make(map[offer.PubKey]struct{}, len(nodes))
	for _, node := range nodes {
		channels[node] = struct{}{}
	}
	p.mu.Lock()
	p.channels = channels
	p.mu.Unlock()
}

// HasChannel tells whether we have an open channel with a node, as of the last
// time that lnd was asked.
func (p *peers) HasChannel(node offer.PubKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	_, ok := p.channels[node]
	if !ok {
		select {
		case p.missed <- struct{}{}:
		default:
		}
	}

	return ok
}

// checkMacaroon notes which permissions the macaroon does not hold, and tells
// the owner, once.
func (p *peers) checkMacaroon(ctx context.Context) error {
	p.mu.Lock()
	checked := p.checked
	p.mu.Unlock()

	if checked {
		return nil
	}
	missing, err := p.lnd.MissingPermissions(ctx)
	if err != nil {
		return err
	}

	// The channels are missed only by those who ask for them.
	wanted := p.wantChannels()
	missed := slices.DeleteFunc(slices.Clone(missing), func(
		perm string) bool {

		return perm == permChannels && !wanted
	})

	p.mu.Lock()
	p.missing = missing
	p.checked = true
	p.warned = slices.Contains(missed, permChannels)
	p.mu.Unlock()

	p.notices.add(p.warnings(missed)...)

	return nil
}

// lacks tells whether the macaroon is known not to hold a permission.
func (p *peers) lacks(perm string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	return slices.Contains(p.missing, perm)
}

// warnings tells what does not work for want of permissions.
func (p *peers) warnings(missing []string) []string {
	if len(missing) == 0 {
		return nil
	}

	var lost []string
	has := func(perms ...string) bool {
		return slices.ContainsFunc(missing, func(perm string) bool {
			return slices.Contains(perms, perm)
		})
	}
	if has(permNodeInfo, permConnect) {
		lost = append(lost, "offers to nodes that are not connected "+
			"wait until these connect by themselves")
	}
	if has(permPeerEvents, permListPeers) {
		lost = append(lost, "offers to nodes that connect are sent "+
			"up to 30 seconds later")
	}
	if has(permChannels) {
		lost = append(lost, "offer.autoaccept=channel accepts "+
			"nothing, and offer.allowrequests=channel hosts for "+
			"nobody")
	}

	return []string{fmt.Sprintf("socketd's lnd macaroon does not hold %s: "+
		"%s; bake a new one: %s", strings.Join(missing, ", "),
		strings.Join(lost, "; "), p.bakeLine)}
}
