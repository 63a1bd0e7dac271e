package sidecar

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
)

// The words of offer.allowrequests, beside public keys.
const (
	requestsOfNone    = "none"
	requestsOfAny     = "any"
	requestsOfChannel = "channel"
)

// maxCount is the largest number of sockets that a policy may have. The API has
// 32 bits for it.
const maxCount = math.MaxInt32

var (
	// errNobodyNamed is returned for an empty list of those whose requests
	// are met.
	errNobodyNamed = errors.New("is empty; \"none\" hosts for nobody")

	// errNoKey is returned for a word that is no public key.
	errNoKey = errors.New("is no public key of a node, which has 66 hex " +
		"digits")
)

// policyKeeper knows whose requests are met and how much may pass: what the
// options say, until it is set at run time. What was set holds over restarts,
// until it is reset.
type policyKeeper struct {
	// What follows is immutable.

	// self is our own node, and canHost tells that it can meet requests.
	self    offer.PubKey
	canHost bool

	// config is what the options say, and isDefault tells that nobody has
	// set any of them.
	config    store.Policy
	isDefault bool

	db     *store.DB
	offers *offer.Manager
	relay  *relay.Relay
	peers  *peers
	log    btclog.Logger

	// loaded is closed when the policy is the one that holds.
	loaded chan struct{}

	// mu guards what follows. It is held from the look at the policy until
	// the next one holds, so that no change undoes another.
	mu sync.Mutex

	// present is what holds, and isSet tells that it was set at run time.
	// The lists in it are replaced, never changed.
	present store.Policy
	isSet   bool
}

// newPolicyKeeper returns the keeper of the policy of a server's offers, by
// which they go already as the options have it.
func newPolicyKeeper(s *Server, db *store.DB,
	config store.Policy) *policyKeeper {

	// Those are valid.
	defaults := DefaultConfig()
	unset, _ := defaults.requestPolicy()

	return &policyKeeper{
		self:      s.lnd.Node().PubKey,
		canHost:   s.host.sockets.canHost() == nil,
		config:    config,
		isDefault: reflect.DeepEqual(config, unset),
		db:        db,
		offers:    s.offers,
		relay:     s.relay,
		peers:     s.peers,
		log:       s.logs.Daemon,
		loaded:    make(chan struct{}),
		present:   config,
	}
}

// wantsChannels tells whether requests are judged by the channels now.
func (k *policyKeeper) wantsChannels() bool {
	return k.canHost && k.offers.RequestPolicy().Channel
}

// prepare returns when it is known by what the first messages are judged: the
// policy, and the channels if it goes by them.
func (k *policyKeeper) prepare(ctx context.Context) {
	select {
	case <-k.loaded:
		k.peers.refreshChannels(ctx)

	case <-ctx.Done():
	}
}

// load puts the policy in force that was set before, if one was. It is called
// once, before there is anybody to ask.
func (k *policyKeeper) load(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()

	p, ok, err := k.db.Policy(ctx)
	if err != nil {
		return err
	}
	if ok {
		k.apply(p, true)
		k.log.Infof("Policy of socketcli policy in force, in the "+
			"place of the options: %v", describePolicy(&p))
		for _, text := range k.overridden() {
			k.log.Warn(text)
		}
	}
	close(k.loaded)

	return nil
}

// get returns the policy that holds, and whether it was set at run time.
func (k *policyKeeper) get() (store.Policy, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()

	return k.present, k.isSet
}

// update puts a policy in force that change makes of the one that holds, and
// returns it. If it fails everything stays as it is.
func (k *policyKeeper) update(ctx context.Context,
	change func(store.Policy) (store.Policy, error)) (store.Policy, error) {

	k.mu.Lock()
	defer k.mu.Unlock()

	p, err := change(k.present)
	if err != nil {
		return store.Policy{}, err
	}
	if err := k.db.SetPolicy(ctx, p); err != nil {
		return store.Policy{}, err
	}
	k.begin(ctx, p, true)
	k.log.Infof("Policy set: %v", describePolicy(&p))

	return p, nil
}

// reset puts the policy of the options in force again, and returns it.
func (k *policyKeeper) reset(ctx context.Context) (store.Policy, error) {
	k.mu.Lock()
	defer k.mu.Unlock()

	if err := k.db.ClearPolicy(ctx); err != nil {
		return store.Policy{}, err
	}
	k.begin(ctx, k.config, false)
	k.log.Infof("Policy reset to the options: %v",
		describePolicy(&k.config))

	return k.config, nil
}

// begin applies a policy that was written, once what it goes by is known. The
// caller holds mu.
func (k *policyKeeper) begin(ctx context.Context, p store.Policy,
	isSet bool) {

	// It was written, whoever has given up waiting for it.
	if k.canHost && p.Channel && !k.present.Channel {
		k.peers.learnChannels(context.WithoutCancel(ctx))
	}
	k.apply(p, isSet)
}

// apply makes everybody go by a policy. The caller holds mu.
func (k *policyKeeper) apply(p store.Policy, isSet bool) {
	k.present, k.isSet = p, isSet
	k.offers.SetRequestPolicy(p.RequestPolicy)
	k.relay.SetBandwidth(p.TotalBandwidth, p.NodeBandwidth)
}

// warnings returns what the operator should look at.
func (k *policyKeeper) warnings() []string {
	k.mu.Lock()
	defer k.mu.Unlock()

	return k.overridden()
}

// overridden tells of options that somebody has chosen and that do not count.
// The caller holds mu.
func (k *policyKeeper) overridden() []string {
	if !k.isSet || k.isDefault || reflect.DeepEqual(k.config, k.present) {
		return nil
	}

	return []string{"the options on whom this node hosts for do not " +
		"count, because \"socketcli policy\" has set others; " +
		"\"socketcli policy --reset\" goes back to the options: " +
		describePolicy(&k.config)}
}

// describePolicy returns a policy as the options have it.
func describePolicy(p *store.Policy) string {
	return fmt.Sprintf("offer.allowrequests=%s offer.openfor=%s "+
		"offer.maxhosted=%d relay.nodesockets=%d offer.maxlifetime=%v "+
		"offer.maxbandwidth=%v relay.nodebandwidth=%v "+
		"relay.bandwidth=%v", strings.Join(allowedWords(p), ","),
		strings.Join(keyWords(p.OpenFor), ","), p.MaxHosted,
		p.MaxPerNode, p.MaxLifetime, Quantity(p.MaxBandwidth),
		Quantity(p.NodeBandwidth), Quantity(p.TotalBandwidth))
}

// requestPolicy returns the policy that the options make. Its errors name the
// option.
func (c *Config) requestPolicy() (store.Policy, error) {
	p := store.Policy{
		RequestPolicy: offer.RequestPolicy{
			MaxHosted:  c.Offer.MaxHosted,
			MaxPerNode: c.Relay.NodeSockets,

			// Nodes tell each other whole seconds.
			MaxLifetime:  c.Offer.MaxLifetime.Truncate(time.Second),
			MaxBandwidth: uint64(c.Offer.MaxBandwidth),
		},
		NodeBandwidth:  uint64(c.Relay.NodeBandwidth),
		TotalBandwidth: uint64(c.Relay.Bandwidth),
	}

	err := setAllowed(&p, c.Offer.AllowRequests, offer.PubKey{})
	if err != nil {
		return p, fmt.Errorf("offer.allowrequests: %w", err)
	}
	p.OpenFor, err = parseKeys(c.Offer.OpenFor, offer.PubKey{})
	if err != nil {
		return p, fmt.Errorf("offer.openfor: %w", err)
	}
	if err := checkCount(int64(p.MaxHosted)); err != nil {
		return p, fmt.Errorf("offer.maxhosted: %w", err)
	}
	if err := checkCount(int64(p.MaxPerNode)); err != nil {
		return p, fmt.Errorf("relay.nodesockets: %w", err)
	}
	if c.Offer.MaxLifetime < time.Second ||
		c.Offer.MaxLifetime > offer.MaxLifetime {

		return p, fmt.Errorf("offer.maxlifetime: %v is not from 1s to "+
			"168h", c.Offer.MaxLifetime)
	}

	return p, nil
}

// setAllowed sets whose requests are met from the words that say so. The list
// in the policy is replaced. own is our own node, if it is known.
func setAllowed(p *store.Policy, words []string, own offer.PubKey) error {
	if len(words) == 0 {
		return errNobodyNamed
	}

	p.Any, p.Channel, p.Nodes = false, false, nil
	for _, word := range words {
		switch word {
		case requestsOfNone, requestsOfAny:
			if len(words) > 1 {
				return fmt.Errorf("%q stands alone", word)
			}
			p.Any = word == requestsOfAny

		case requestsOfChannel:
			p.Channel = true

		default:
			node, err := parseListed(word, own)
			if errors.Is(err, errNoKey) {
				return fmt.Errorf("%w, nor %s, %s or %s", err,
					requestsOfNone, requestsOfAny,
					requestsOfChannel)
			}
			if err != nil {
				return err
			}
			p.Nodes = appendNew(p.Nodes, node)
		}
	}

	return nil
}

// parseKeys returns the nodes of a list of public keys, each of them once.
func parseKeys(words []string, own offer.PubKey) ([]offer.PubKey, error) {
	var nodes []offer.PubKey
	for _, word := range words {
		node, err := parseListed(word, own)
		if err != nil {
			return nil, err
		}
		nodes = appendNew(nodes, node)
	}

	return nodes, nil
}

// parseListed returns the node of a public key in a list.
func parseListed(word string, own offer.PubKey) (offer.PubKey, error) {
	node, err := parsePubKey(word, offer.PubKey{})
	switch {
	case err != nil:
		return node, fmt.Errorf("%.80q %w", word, errNoKey)

	case node == own:
		return node, fmt.Errorf("%q is the public key of this node",
			word)
	}

	return node, nil
}

// appendNew appends a node to others if it is not among them.
func appendNew(nodes []offer.PubKey, node offer.PubKey) []offer.PubKey {
	if slices.Contains(nodes, node) {
		return nodes
	}

	return append(nodes, node)
}

// checkCount returns an error for a number of sockets that no policy may have.
func checkCount(n int64) error {
	switch {
	case n < 1:
		return fmt.Errorf("%d is less than 1", n)

	case n > maxCount:
		return fmt.Errorf("%d is too large, at most %d is possible", n,
			maxCount)
	}

	return nil
}

// allowedWords returns the words that say whose requests are met.
func allowedWords(p *store.Policy) []string {
	var words []string
	if p.Any {
		words = append(words, requestsOfAny)
	}
	if p.Channel {
		words = append(words, requestsOfChannel)
	}
	words = append(words, keyWords(p.Nodes)...)
	if len(words) == 0 {
		words = append(words, requestsOfNone)
	}

	return words
}

// keyWords returns public keys in hex.
func keyWords(nodes []offer.PubKey) []string {
	words := make([]string, 0, len(nodes))
	for _, node := range nodes {
		words = append(words, node.String())
	}

	return words
}
