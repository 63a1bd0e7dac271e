package sidecar

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/sidecar/offer"
)

// errSubscriptionEnded is what a subscription ends with when lnd closes it
// without saying why.
var errSubscriptionEnded = errors.New("subscription ended")

// receiver takes the custom messages of all peers from lnd and hands them on.
// lnd ends a subscription for good when it goes away, so that the receiver
// subscribes again until it is stopped. All fields but the last are immutable.
type receiver struct {
	lnd    Lnd
	status *lndStatus
	handle func(peer offer.PubKey, msgType uint32, body []byte)
	log    btclog.Logger

	// before is called before each subscription.
	before func(ctx context.Context)

	// ready is closed when the first subscription was made.
	ready     chan struct{}
	readyOnce sync.Once
}

// newReceiver returns a receiver that calls handle, which must return at once,
// for every message.
func newReceiver(lnd Lnd, status *lndStatus, log btclog.Logger,
	handle func(offer.PubKey, uint32, []byte)) *receiver {

	return &receiver{
		lnd:    lnd,
		status: status,
		handle: handle,
		log:    log,
		before: func(context.Context) {},
		ready:  make(chan struct{}),
	}
}

// Run receives until ctx is done.
func (r *receiver) Run(ctx context.Context) error {
	delay := lndRetryMin
	for {
		subscribed, err := r.receive(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // It was told to end.
		}
		if subscribed {
			delay = lndRetryMin
			r.log.Warnf("lnd is away: %v; sockets keep relaying",
				err)
		}
		r.status.down()
		r.log.Debugf("Subscribing to custom messages again in %v: %v",
			delay, err)

		if !sleep(ctx, delay) {
			return nil
		}
		delay = min(2*delay, lndRetryMax)
	}
}

// receive makes one subscription and hands on its messages until it ends. It
// tells whether it came to be, and why it ended.
func (r *receiver) receive(ctx context.Context) (bool, error) {
	// While lnd starts, a subscription is made and fails later: a call that
	// is answered tells for sure.
	if err := r.lnd.Ping(ctx); err != nil {
		return false, fmt.Errorf("ping lnd: %w", err)
	}

	r.before(ctx)

	// The goroutine behind a subscription ends with its context.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	msgs, errs, err := r.lnd.Subscribe(ctx)
	if err != nil {
		return false, fmt.Errorf("subscribe to custom messages: %w",
			err)
	}

	r.status.up()
	r.log.Infof("Receiving the custom messages of peers")
	r.readyOnce.Do(func() { close(r.ready) })

	for msg := range msgs {
		r.handle(msg.Peer, msg.Type, msg.Body)
	}

	select {
	case err, ok := <-errs:
		if ok {
			return true, err
		}

	default:
	}

	return true, errSubscriptionEnded
}
