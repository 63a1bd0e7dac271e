package sidecar

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
)

const (
	// reopenMin and reopenMax bound the wait until a socket that has FAILED
	// is tried again.
	reopenMin = time.Second
	reopenMax = time.Minute

	// reasonGone and reasonPorts are why the offers of a socket end that
	// did not survive a restart.
	reasonGone  = "the socket is gone"
	reasonPorts = "the socket's ports are taken"
)

// processStart is about when the process was started.
var processStart = time.Now()

// keeper opens the sockets of the database again when the daemon starts, and
// those that FAILED until that works.
type keeper struct {
	// What follows is immutable.
	sockets  *sockets
	accounts *accounts
	offers   *offer.Manager
	store    *store.Offers
	db       *store.DB
	log      btclog.Logger

	// restored is closed when all sockets are as they were, as far as they
	// could be.
	restored chan struct{}

	// failed has the sockets that have FAILED. Only Run uses it.
	failed map[relay.ID]*reopening

	// ended has why sockets ended while the daemon did not run. Only Run
	// uses it.
	ended map[offer.ID]string
}

// reopening is a socket that has FAILED.
type reopening struct {
	kept store.Kept

	// next is when it is tried again, and delay how long it is waited for
	// after that.
	next  time.Time
	delay time.Duration
}

// Run opens the sockets again, ends the offers of those that are not there any
// more, and tries again what has FAILED until ctx is done.
func (k *keeper) Run(ctx context.Context) error {
	if err := k.restore(ctx); err != nil {
		return ignoreDone(ctx, err)
	}
	close(k.restored)

	switch err := k.endOffers(ctx); {
	case errors.Is(err, offer.ErrStopped):
		// Either the daemon stops, or the offers say what is wrong.
		<-ctx.Done()

		return nil

	case err != nil:
		return ignoreDone(ctx, err)
	}

	for {
		wait, ok := k.nextTry()
		if !ok {
			<-ctx.Done()

			return nil
		}
		if !sleep(ctx, wait) {
			return nil
		}
		k.retry(ctx)
	}
}

// ignoreDone returns an error unless ctx is done, which then is what it comes
// from.
func ignoreDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // It was told to end.
	}

	return err
}

// restore opens all sockets of the database again that have not ended
// meanwhile.
func (k *keeper) restore(ctx context.Context) error {
	kept, err := k.db.Sockets(ctx)
	if err != nil {
		return err
	}
	records, err := k.store.List(ctx)
	if err != nil {
		return err
	}
	live := liveOffers(records)

	now := time.Now()
	var (
		batch store.Batch
		again []store.Kept
		ports []uint16
	)
	for _, s := range kept {
		if !s.ExpiresAt.IsZero() && !s.ExpiresAt.After(now) {
			err := k.expired(&batch, &s)
			if err != nil {
				return err
			}

			continue
		}
		again = append(again, s)
		ports = append(ports, s.Ports[:]...)
	}

	// None of them gets a port of another one.
	k.sockets.relay.Hold(ports...)
	for i := range again {
		if err := k.restoreOne(&batch, &again[i], live); err != nil {
			return err
		}
	}

	if len(batch.Events) > 0 {
		if err := k.db.Write(ctx, batch); err != nil {
			return fmt.Errorf("write sockets: %w", err)
		}
	}
	k.accounts.restore(live)

	k.log.Infof("Sockets restored: %d open, %d FAILED, %d expired, %v "+
		"after the start", len(again)-len(k.failed), len(k.failed),
		len(k.ended), time.Since(processStart).Round(time.Millisecond))

	return nil
}

// expired ends a socket whose lifetime has ended while the daemon did not run.
func (k *keeper) expired(batch *store.Batch, s *store.Kept) error {
	reason := relay.CloseLifetime.String()
	event, err := encodeEvent(endEntry(relay.ID(s.ID), reason).event)
	if err != nil {
		return err
	}
	batch.Ended = append(batch.Ended, s.ID)
	batch.Events = append(batch.Events, event)
	k.ended[s.ID] = reason

	return nil
}

// restoreOne opens a socket again, and notes it as FAILED if that fails. It
// adds to the batch what has changed of it.
func (k *keeper) restoreOne(batch *store.Batch, s *store.Kept,
	live map[offer.ID][]offer.Record) error {

	// Not all that was read of it is kept.
	before := s.Counters
	known := &knownSocket{
		written:  make(chan struct{}),
		before:   &before,
		kept:     s.Socket,
		pins:     s.Pins,
		counters: s.Counters,
	}
	close(known.written)
	socket, openErr := k.sockets.relay.Open(restoreOptions(
		s, func(token offer.Token) bool {
			return admits(live[s.ID], token)
		},
	))
	if openErr != nil {
		k.log.Warnf("Socket %v is FAILED, and will be tried again: %v",
			s.ID, openErr)
		known.kept.State = store.SocketFailed
		known.kept.Reason = failure(openErr)
		k.failed[relay.ID(s.ID)] = &reopening{
			kept:  *s,
			next:  time.Now().Add(reopenMin),
			delay: reopenMin,
		}
	} else {
		known.kept.State, known.kept.Reason = store.SocketActive, ""
		known.socket = socket
		watch(socket, live[s.ID])
	}
	k.sockets.add(known)

	if known.kept.State == s.State {
		return nil
	}
	event, err := encodeEvent(k.changed(&known.kept))
	if err != nil {
		return err
	}
	batch.Sockets = append(batch.Sockets, known.kept)
	batch.Events = append(batch.Events, event)

	return nil
}

// changed returns the event that a socket has FAILED, or is open again.
func (k *keeper) changed(s *store.Socket) *socketrpc.Event {
	event := k.sockets.socketStarted(s)
	if s.State == store.SocketFailed {
		event.Type = socketrpc.Event_SOCKET_FAILED
		event.Reason = s.Reason
	}

	return event
}

// failure returns why a socket could not be opened, as it is shown.
func failure(err error) string {
	// What the relay was about to do is clear.
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}

	return err.Error()
}

// liveOffers returns our offers that have not ended, by their socket.
func liveOffers(records []offer.Record) map[offer.ID][]offer.Record {
	live := make(map[offer.ID][]offer.Record)
	for _, r := range records {
		if r.IsOwn() && !r.Ended() {
			live[r.SocketID] = append(live[r.SocketID], r)
		}
	}

	return live
}

// admits tells whether one of the offers has a token. The zero token is that of
// an OPEN socket.
func admits(live []offer.Record, token offer.Token) bool {
	if token.IsZero() {
		return true
	}
	for _, r := range live {
		if r.Tokens[0] == token || r.Tokens[1] == token {
			return true
		}
	}

	return false
}

// watch asks a socket to tell when a leg is used that is offered: it counts as
// the acceptance, unless that was noted before the restart.
func watch(socket *relay.Socket, live []offer.Record) {
	for _, r := range live {
		if !r.State.Pending() {
			continue
		}
		for _, leg := range []relay.Leg{relay.Leg1, relay.Leg2} {
			if r.Legs.Has(offer.Leg1 << (leg - relay.Leg1)) {
				socket.Watch(leg)
			}
		}
	}
}

// endOffers ends the offers whose socket is not open. It waits until the offers
// were read.
func (k *keeper) endOffers(ctx context.Context) error {
	offers, err := k.offers.List(ctx)
	if err != nil {
		return fmt.Errorf("end offers: %w", err)
	}

	done := make(map[offer.ID]bool)
	for i := range offers {
		o := &offers[i]
		if !o.IsOwn() || o.Ended() || done[o.SocketID] {
			continue
		}
		done[o.SocketID] = true

		_, err := k.sockets.find(relay.ID(o.SocketID))
		reason, ok := k.ended[o.SocketID]
		switch {
		case err == nil:
			continue

		case errors.Is(err, errFailed):
			reason = reasonPorts

		case !ok:
			reason = reasonGone
		}
		err = k.offers.SocketClosed(ctx, o.SocketID, reason)
		if err != nil {
			return fmt.Errorf("end offers: %w", err)
		}
	}
	k.ended = nil

	return nil
}

// nextTry returns how long to wait until a socket that has FAILED is tried
// again, and false if there is none.
func (k *keeper) nextTry() (time.Duration, bool) {
	var next time.Time
	for _, r := range k.failed {
		if next.IsZero() || r.next.Before(next) {
			next = r.next
		}
	}

	return max(0, time.Until(next)), len(k.failed) > 0
}

// retry tries again to open the sockets that are due.
func (k *keeper) retry(ctx context.Context) {
	for id, r := range k.failed {
		if time.Now().Before(r.next) {
			continue
		}
		if k.reopen(ctx, id, r) {
			delete(k.failed, id)

			continue
		}
		r.delay = min(2*r.delay, reopenMax)
		r.next = time.Now().Add(r.delay)
		if expiry := r.kept.ExpiresAt; !expiry.IsZero() &&
			expiry.Before(r.next) {

			r.next = expiry
		}
	}
}

// reopen tries to open a socket that has FAILED. It reports true if there is
// nothing left to try: it is open, or has ended.
func (k *keeper) reopen(ctx context.Context, id relay.ID, r *reopening) bool {
	k.sockets.opening.Lock()
	defer k.sockets.opening.Unlock()

	known := k.sockets.get(id)
	if known == nil {
		return true
	}

	expiry := r.kept.ExpiresAt
	if !expiry.IsZero() && !expiry.After(time.Now()) {
		err := k.sockets.end(ctx, id, relay.CloseLifetime.String())
		if err != nil {
			k.log.Warnf("Socket %v cannot end: %v", id, err)
		}

		return err == nil || errors.Is(err, errNoSocket)
	}

	// Its offers have ended, and their tokens with them.
	socket, err := k.sockets.relay.Open(restoreOptions(
		&r.kept, offer.Token.IsZero,
	))
	if err != nil {
		k.log.Debugf("Socket %v is still FAILED: %v", id, err)

		return false
	}

	// Whoever is told that it is open must find it so.
	was, kept := known.kept, known.kept
	kept.State, kept.Reason = store.SocketActive, ""
	k.sockets.setOpen(known, kept, socket)
	event, err := encodeEvent(k.changed(&kept))
	if err == nil {
		err = k.db.Write(context.WithoutCancel(ctx), store.Batch{
			Sockets: []store.Socket{kept},
			Events:  [][]byte{event},
		})
	}
	if err != nil {
		k.sockets.setOpen(known, was, nil)
		k.log.Warnf("Socket %v stays FAILED: %v", id, errors.Join(
			err, socket.Close(),
		))

		return false
	}
	k.log.Infof("Socket %v is open again", id)

	return true
}
