package sidecar

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// errAway is what an lnd answers that is not there.
var errAway = errors.New("connection refused")

// peerLnd is an lnd whose peers and channels a test makes up. That of the
// integration tests is a real one; this one goes away when it is told to.
type peerLnd struct {
	Lnd

	mu       sync.Mutex
	away     bool
	online   []offer.PubKey
	channels []offer.PubKey
	missing  []string

	// events is the subscription, if there is one, and made is how many
	// there were.
	events chan offer.PubKey
	errs   chan error
	made   int

	pings int
}

// Ping returns an error if lnd is away.
func (l *peerLnd) Ping(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.pings++
	if l.away {
		return errAway
	}

	return nil
}

// MissingPermissions returns what the test says.
func (l *peerLnd) MissingPermissions(context.Context) ([]string, error) {
	return l.missing, nil
}

// SubscribePeers makes a subscription.
func (l *peerLnd) SubscribePeers(context.Context) (<-chan offer.PubKey,
	<-chan error, error) {

	l.mu.Lock()
	defer l.mu.Unlock()

	l.events = make(chan offer.PubKey)
	l.errs = make(chan error, 1)
	l.made++

	return l.events, l.errs, nil
}

// Peers returns the peers that are online.
func (l *peerLnd) Peers(context.Context) ([]offer.PubKey, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.online, nil
}

// ChannelPeers returns the nodes that there are channels with.
func (l *peerLnd) ChannelPeers(context.Context) ([]offer.PubKey, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.away {
		return nil, errAway
	}

	return l.channels, nil
}

// leave ends the subscription, as an lnd does that stops.
func (l *peerLnd) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.away = true
	l.errs <- errAway
	close(l.errs)
	close(l.events)
}

// watched is what runs of a test: peers, and what they told.
type watched struct {
	*peers
	notices *notices

	// wanted tells that somebody asks for the channels.
	wanted atomic.Bool

	mu   sync.Mutex
	told []offer.PubKey
}

// watchPeers runs peers until the test ends.
func watchPeers(t *testing.T, lnd *peerLnd, wantChannels bool) *watched {
	t.Helper()

	w := &watched{notices: &notices{log: btclog.Disabled}}
	w.wanted.Store(wantChannels)
	w.peers = newPeers(
		lnd, btclog.Disabled, w.wanted.Load,
		"lncli bakemacaroon …", w.notices, func(peer offer.PubKey) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, peer)
		},
	)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})

	return w
}

// takeTold returns who was told to be online since it was called last.
func (w *watched) takeTold() []offer.PubKey {
	synctest.Wait()

	w.mu.Lock()
	defer w.mu.Unlock()

	told := w.told
	w.told = nil

	return told
}

// TestPeers checks that peers are told that are online and that come, also
// those that came before the subscription was live, and again after lnd was
// away.
func TestPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := testNode(1), testNode(2)
		lnd := &peerLnd{online: []offer.PubKey{one}}
		w := watchPeers(t, lnd, false)
		require.Equal(t, []offer.PubKey{one}, w.takeTold())

		lnd.mu.Lock()
		lnd.online = []offer.PubKey{one, two}
		lnd.mu.Unlock()
		time.Sleep(peersAgain)
		require.Equal(t, []offer.PubKey{one, two}, w.takeTold())

		lnd.events <- two
		require.Equal(t, []offer.PubKey{two}, w.takeTold())
		time.Sleep(time.Hour)
		require.Empty(t, w.takeTold())

		// No goroutine spins while lnd is away.
		lnd.leave()
		lnd.mu.Lock()
		lnd.pings = 0
		lnd.mu.Unlock()
		time.Sleep(time.Hour)
		require.Empty(t, w.takeTold())
		lnd.mu.Lock()
		require.Less(t, lnd.pings, 1000)
		require.Equal(t, 1, lnd.made)
		lnd.away = false
		lnd.mu.Unlock()

		time.Sleep(lndRetryMax + peersAgain)
		require.Equal(
			t, []offer.PubKey{one, two, one, two}, w.takeTold(),
		)
		require.Empty(t, w.notices.get())
	})
}

// TestPeersChannels checks that the channels are known as they were a minute
// ago at most, and as they were last while lnd is away.
func TestPeersChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := testNode(1), testNode(2)
		lnd := &peerLnd{channels: []offer.PubKey{one}}
		w := watchPeers(t, lnd, true)
		synctest.Wait()
		require.True(t, w.HasChannel(one))
		require.False(t, w.HasChannel(two))

		lnd.mu.Lock()
		lnd.channels = []offer.PubKey{two}
		lnd.mu.Unlock()
		time.Sleep(channelsInterval)
		synctest.Wait()
		require.False(t, w.HasChannel(one))
		require.True(t, w.HasChannel(two))

		lnd.leave()
		time.Sleep(time.Hour)
		require.True(t, w.HasChannel(two))
	})
}

// TestPeersChannelsMissed checks that the channels are listed again soon, and
// not at once, when somebody asks about a node without one.
func TestPeersChannelsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := testNode(1)
		lnd := &peerLnd{}
		w := watchPeers(t, lnd, true)
		synctest.Wait()
		lnd.mu.Lock()
		lnd.channels = []offer.PubKey{one}
		lnd.mu.Unlock()

		time.Sleep(channelsSoon - time.Second)
		require.False(t, w.HasChannel(one))
		synctest.Wait()
		require.False(t, w.HasChannel(one))
		time.Sleep(time.Second)
		synctest.Wait()
		require.False(t, w.HasChannel(one))
		synctest.Wait()
		require.True(t, w.HasChannel(one))
	})
}

// TestPeersUnwanted checks that lnd is not asked for channels that nobody wants
// to know of.
func TestPeersUnwanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lnd := &peerLnd{channels: []offer.PubKey{testNode(1)}}
		w := watchPeers(t, lnd, false)
		time.Sleep(time.Hour)
		require.False(t, w.HasChannel(testNode(1)))

		// Who begins to want them has them at once.
		w.wanted.Store(true)
		w.learnChannels(t.Context())
		require.True(t, w.HasChannel(testNode(1)))

		lnd.mu.Lock()
		lnd.channels = nil
		lnd.mu.Unlock()
		time.Sleep(channelsInterval)
		synctest.Wait()
		require.False(t, w.HasChannel(testNode(1)))
		require.Empty(t, w.notices.get())
	})
}

// TestPeersWantedLater checks that the owner is told once that the channels
// cannot be known, when somebody begins to ask for them.
func TestPeersWantedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lnd := &peerLnd{
			channels: []offer.PubKey{testNode(1)},
			missing:  []string{permChannels},
		}
		w := watchPeers(t, lnd, false)
		synctest.Wait()
		require.Empty(t, w.notices.get())

		w.wanted.Store(true)
		for range 2 {
			w.learnChannels(t.Context())
			require.Len(t, w.notices.get(), 1)
		}
		require.Contains(t, w.notices.get()[0], "allowrequests=channel")
		require.False(t, w.HasChannel(testNode(1)))
	})
}

// TestPeersMissing checks what an older macaroon costs: the owner is told once
// which permission is missing and what does not work, and the rest works.
func TestPeersMissing(t *testing.T) {
	for _, c := range []struct {
		missing      []string
		wantChannels bool
		texts        []string
		told         int
	}{
		{[]string{permNodeInfo}, true, []string{
			permNodeInfo, "connect by themselves",
		}, 1},
		{[]string{permConnect}, true, []string{
			permConnect, "connect by themselves",
		}, 1},
		{[]string{permPeerEvents}, true, []string{
			permPeerEvents, "30 seconds later",
		}, 0},
		{[]string{permListPeers}, true, []string{
			permListPeers, "30 seconds later",
		}, 0},
		{[]string{permChannels}, true, []string{
			permChannels, "autoaccept", "allowrequests",
		}, 1},
		{[]string{permChannels}, false, nil, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			one := testNode(1)
			lnd := &peerLnd{
				missing:  c.missing,
				online:   []offer.PubKey{one},
				channels: []offer.PubKey{one},
			}
			w := watchPeers(t, lnd, c.wantChannels)
			require.Len(t, w.takeTold(), c.told, c.missing)
			time.Sleep(time.Hour)
			synctest.Wait()

			warnings := w.notices.get()
			if c.texts == nil {
				require.Empty(t, warnings)

				return
			}
			require.Len(t, warnings, 1)
			for _, text := range append(c.texts, w.bakeLine) {
				require.Contains(t, warnings[0], text)
			}
			require.Equal(
				t, c.missing[0] != permChannels,
				w.HasChannel(one),
			)
		})
	}
}
