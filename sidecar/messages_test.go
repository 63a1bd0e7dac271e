package sidecar

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// messageLnd is an lnd that comes and goes, as far as custom messages go.
type messageLnd struct {
	Lnd

	mu    sync.Mutex
	away  bool
	pings int

	// msgs and errs are those of the subscription, nil if there is none.
	msgs chan Message
	errs chan error
}

// Ping answers unless lnd is away.
func (l *messageLnd) Ping(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.pings++
	if l.away {
		return errAway
	}

	return nil
}

// Subscribe makes a subscription.
func (l *messageLnd) Subscribe(context.Context) (<-chan Message, <-chan error,
	error) {

	l.mu.Lock()
	defer l.mu.Unlock()

	if l.away {
		return nil, nil, errAway
	}
	l.msgs, l.errs = make(chan Message), make(chan error, 1)

	return l.msgs, l.errs, nil
}

// leave ends the subscription, as lnd does when it goes away.
func (l *messageLnd) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.away = true
	l.errs <- errAway
	close(l.msgs)
	close(l.errs)
}

// awaySince returns since when lnd is away, the zero time while it is not.
func (s *lndStatus) awaySince() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.since
}

// TestReceiverHour checks that messages are received again after lnd was away
// for an hour, that the status tells since when it was, and that nothing spins
// meanwhile.
func TestReceiverHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			lnd    = &messageLnd{}
			status = &lndStatus{}
			got    []uint32
		)
		r := newReceiver(lnd, status, btclog.Disabled, func(
			_ offer.PubKey, msgType uint32, _ []byte) {

			got = append(got, msgType)
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		synctest.Wait()
		lnd.msgs <- Message{Type: 1}
		synctest.Wait()
		require.Zero(t, status.awaySince())

		left := time.Now()
		lnd.leave()
		time.Sleep(time.Hour)
		require.Equal(t, left, status.awaySince())
		lnd.mu.Lock()
		require.Less(t, lnd.pings, int(time.Hour/lndRetryMax)+20)
		lnd.away = false
		lnd.mu.Unlock()

		time.Sleep(lndRetryMax)
		synctest.Wait()
		require.Zero(t, status.awaySince())
		lnd.msgs <- Message{Type: 2}
		synctest.Wait()
		require.Equal(t, []uint32{1, 2}, got)

		cancel()
		close(lnd.msgs)
		require.NoError(t, <-ended)
	})
}
