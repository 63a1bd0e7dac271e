//go:build itest

package itest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

const (
	// hostileEnv has how many messages the hostile peer sends.
	hostileEnv = "SOCKETD_ITEST_HOSTILE"

	// hostileMessages is how many it sends otherwise.
	hostileMessages = 10_000

	// hostileSenders is how many sends it has under way at a time.
	hostileSenders = 16

	// hostileKiB is by how much the memory of a daemon may grow under it,
	// and hostileBytes how large its database may become.
	hostileKiB   = 64 << 10
	hostileBytes = 8 << 20
)

// hostileCount returns how many messages the hostile peer sends.
func hostileCount(t *testing.T) int {
	t.Helper()

	text := os.Getenv(hostileEnv)
	if text == "" {
		return hostileMessages
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, hostileEnv)

	return n
}

// hostileID returns an id that nobody has.
func hostileID() wire.ID {
	var id wire.ID
	_, _ = rand.Read(id[:])

	return id
}

// hostileMessage returns one message of every kind in turn: good ones, answers
// to what was never asked, and what no node should send.
func hostileMessage(i int) (wire.MsgType, []byte, error) {
	var msg wire.Message
	switch i % 10 {
	case 0, 1:
		msg = &wire.Offer{
			ID:       hostileID(),
			Protocol: wire.ProtocolUDP,
			Addrs:    []netip.Addr{netip.MustParseAddr("8.8.8.8")},
			Port1:    21000,
			Port2:    21001,
			Legs:     wire.Leg2,
			Expiry: uint64(
				time.Now().Add(7 * 24 * time.Hour).Unix(),
			),
			SocketID: hostileID(),
			Label:    "hostile",
		}

	case 2:
		msg = &wire.Accept{ID: hostileID(), ReplyTo: hostileID()}

	case 3:
		msg = &wire.Reject{
			ID: hostileID(), ReplyTo: hostileID(),
			Code: wire.CodeDeclined, Text: "hostile",
		}

	case 4:
		msg = &wire.Close{ID: hostileID(), ReplyTo: hostileID()}

	case 5:
		msg = &wire.Ack{ID: hostileID(), ReplyTo: hostileID()}

	// Garbage, too long, and a request of another version.
	case 6:
		return wire.TypeOffer, bytes.Repeat([]byte{0xff}, 1000), nil

	case 7:
		return wire.TypeClose, make([]byte, 60_000), nil

	case 8:
		id := hostileID()

		return wire.TypeOffer + 2, append(
			[]byte{0, 1, 9, 2, wire.IDSize}, id[:]...,
		), nil

	// The node has no channel with us, and hosts for nobody else.
	default:
		msg = requestOf()
	}
	body, err := wire.Encode(msg)

	return msg.Type(), body, err
}

// diskUse returns how many bytes the database of a node's socketd has on disk.
// The log, which tells all at the level of these tests, is rotated.
func (n *node) diskUse(t *testing.T) int64 {
	t.Helper()

	var size int64
	err := filepath.WalkDir(n.Socketd.Dir(), func(_ string, d fs.DirEntry,
		err error) error {

		if err != nil || !strings.HasPrefix(d.Name(), "socketd.db") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += info.Size()

		return nil
	})
	require.NoError(t, err)

	return size
}

// flood has a node's lnd send messages to another node as fast as it can. It
// returns how many were sent once all are, or the context is done.
func (n *node) flood(ctx context.Context, to []byte, count int) int {
	var (
		sending    sync.WaitGroup
		next, sent atomic.Int64
	)
	for range hostileSenders {
		sending.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				typ, body, err := hostileMessage(i)
				if err != nil {
					return
				}
				req := &lnrpc.SendCustomMessageRequest{
					Peer: to, Type: uint32(typ), Data: body,
				}
				_, err = n.Lnd.Client().SendCustomMessage(
					ctx, req,
				)
				if err == nil {
					sent.Add(1)
				}
			}
		})
	}
	sending.Wait()

	return int(sent.Load())
}

// explore sends one kind of message after the other to a node, each until the
// node has counted it for what it is.
func (n *node) explore(t *testing.T, victim *node) {
	t.Helper()

	for reason, kind := range map[string]int{
		"limit": 0, "unsolicited": 2, "malformed": 6, "oversized": 7,
		"version": 8, "policy": 9,
	} {
		before := victim.info(t).MessagesRefused[reason]
		require.Eventually(t, func() bool {
			typ, body, err := hostileMessage(kind)
			require.NoError(t, err)
			n.sendCustom(t, victim, uint32(typ), body)

			return victim.info(t).MessagesRefused[reason] > before
		}, testTimeout, 100*time.Millisecond, reason)
	}
}

// TestHostilePeer has a peer send messages of every kind as fast as lnd lets
// it: what they make a node keep is bounded, the offers of another peer go
// through meanwhile, nothing is logged as an error, and the counters tell.
func TestHostilePeer(t *testing.T) {
	victim, hostile, good := startNode(t), startNode(t), startNode(t)
	for _, n := range []*node{hostile, good} {
		require.NoError(t, n.Lnd.ConnectPeer(
			testContext(t), victim.Lnd,
		))
	}
	socket := good.startSocket(t, "").SocketId
	onGood := good.subscribe(t)
	before := usageOf(t, victim)

	count := hostileCount(t)
	done := make(chan int)
	start := time.Now()
	to, err := hex.DecodeString(victim.pubkey())
	require.NoError(t, err)
	go func() { done <- hostile.flood(t.Context(), to, count) }()

	// The good node has its offers through all the time.
	var slowest time.Duration
	var sent, deals int
	for sent == 0 {
		at := time.Now()
		id := good.send(t, victim, socket)
		onGood.match(t, func(e *socketrpc.Event) bool {
			return e.Type == socketrpc.Event_OFFER_DELIVERED &&
				e.ReplyToId == id
		})
		_, err := victim.client.RejectOffer(
			testContext(t), &socketrpc.RejectOfferRequest{Id: id},
		)
		require.NoError(t, err)
		onGood.match(t, func(e *socketrpc.Event) bool {
			return e.Type == socketrpc.Event_OFFER_REJECTED &&
				e.ReplyToId == id
		})
		slowest = max(slowest, time.Since(at))
		deals++

		// Its own rate is not what is tried here.
		select {
		case sent = <-done:
		case <-time.After(500 * time.Millisecond):
		}
	}
	took := time.Since(start)
	require.Equal(t, count, sent)

	after := usageOf(t, victim)
	require.Less(t, after.kib-before.kib, hostileKiB)
	require.Less(t, victim.diskUse(t), int64(hostileBytes))

	// What is not counted as dropped was read, as much as the rate allows.
	refused := victim.info(t).MessagesRefused
	read := 30 + 10*uint64(took/time.Second+1)
	require.GreaterOrEqual(t, refused["rate"]+read, uint64(sent))
	hostile.explore(t, victim)

	// The room of one peer is full now.
	list, err := victim.client.ListOffers(
		testContext(t), &socketrpc.ListOffersRequest{},
	)
	require.NoError(t, err)
	var kept int
	for _, offer := range list.Offers {
		if offer.PeerPubkey == hostile.pubkey() {
			kept++
		}
	}
	require.Equal(t, 20, kept)

	log := readFile(t, victim.Socketd.LogPath())
	for _, level := range []string{"[ERR]", "[CRT]"} {
		require.NotContains(t, string(log), level)
	}
	t.Logf("%d messages in %v, refused %v; %d offers of another peer, "+
		"the slowest %v; %d KiB more memory, a database of "+
		"%d bytes", sent,
		took, refused, deals, slowest, after.kib-before.kib,
		victim.diskUse(t))
}
