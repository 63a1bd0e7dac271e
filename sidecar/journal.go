package sidecar

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/store"
	"github.com/socketd/socketd/socketrpc"
	"golang.org/x/time/rate"
)

const (
	// maxEntries is how many entries may wait to be written, while the
	// database does not take any. Further ones are let go, but for ends.
	maxEntries = 10_000

	// writeRetry is how long to wait after the database has failed, and
	// writeLogInterval how often that is logged at most.
	writeRetry       = 5 * time.Second
	writeLogInterval = time.Minute

	// countBatch is how many sockets are written at once of which only what
	// they have counted is new: others may want to write meanwhile.
	countBatch = 128
)

// entry is something that happened to a socket and is to be written.
type entry struct {
	id relay.ID

	// leg is the leg that took a client, 0 if none did.
	leg relay.Leg

	// ended tells that the socket is over.
	ended bool

	event *socketrpc.Event
}

// journal collects what happens to sockets and writes it. It is for one
// goroutine.
type journal struct {
	// db and log are immutable.
	db  *store.DB
	log btclog.Logger

	// entries is what is to be written, in the order in which it happened.
	entries []entry

	// next is when it may be written.
	next time.Time

	// failed limits how often a failure is logged.
	failed rate.Sometimes
}

// newJournal returns a journal in which nothing is.
func newJournal(db *store.DB, log btclog.Logger) *journal {
	return &journal{
		db:     db,
		log:    log,
		failed: rate.Sometimes{Interval: writeLogInterval},
	}
}

// add adds an entry.
func (j *journal) add(e entry) {
	if len(j.entries) < maxEntries || e.ended {
		j.entries = append(j.entries, e)
	}
}

// remove takes an entry back that was not written: the last one of an end.
func (j *journal) remove(e entry) {
	j.entries = slices.DeleteFunc(j.entries, func(other entry) bool {
		return other.ended && other.id == e.id
	})
}

// due returns how long what is there may wait, and false if nothing is there.
func (j *journal) due(now time.Time) (time.Duration, bool) {
	return max(0, j.next.Sub(now)), len(j.entries) > 0
}

// legKey names a leg.
type legKey struct {
	id  relay.ID
	leg relay.Leg
}

// write writes all that is there. If that fails it is tried again later.
func (j *journal) write(ctx context.Context, sockets *sockets) error {
	if len(j.entries) == 0 {
		return nil
	}

	var (
		batch store.Batch
		early []entry
		pins  = make(map[legKey]store.Pin)
	)
	for _, e := range j.entries {
		// If it is not in the database that is not yet, or not any
		// more.
		k := sockets.get(e.id)
		if k != nil && !k.isWritten() {
			early = append(early, e)

			continue
		}
		if k == nil {
			if _, ok := sockets.relay.Socket(e.id); ok {
				early = append(early, e)
			}

			continue
		}

		data, err := encodeEvent(e.event)
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		batch.Events = append(batch.Events, data)
		if e.ended {
			batch.Ended = append(batch.Ended, offer.ID(e.id))
		}

		socket := sockets.openSocket(k)
		if e.leg == 0 || socket == nil {
			continue
		}
		now := socket.Keep()
		pins[legKey{e.id, e.leg}] = keptPin(&now, e.leg, time.Now())
	}
	batch.Pins = slices.Collect(maps.Values(pins))

	if err := j.writeBatch(ctx, sockets, batch); err != nil {
		j.next = time.Now().Add(writeRetry)

		return err
	}
	for _, id := range batch.Ended {
		sockets.forget(relay.ID(id))
	}

	j.entries = early
	j.next = time.Now().Add(writeInterval)

	return nil
}

// writeBatch writes a batch, and notes what was written of the legs.
func (j *journal) writeBatch(ctx context.Context, sockets *sockets,
	batch store.Batch) error {

	if len(batch.Events)+len(batch.Pins)+len(batch.Counters) == 0 {
		return nil
	}

	if err := j.db.Write(context.WithoutCancel(ctx), batch); err != nil {
		err = fmt.Errorf("write sockets: %w", err)
		j.failed.Do(func() { j.log.Errorf("Database failed: %v", err) })

		return err
	}

	for _, pin := range batch.Pins {
		if k := sockets.get(relay.ID(pin.SocketID)); k != nil {
			k.pins[pin.Leg-1] = pin
		}
	}
	for _, counters := range batch.Counters {
		if k := sockets.get(relay.ID(counters.SocketID)); k != nil {
			k.counters[counters.Leg-1] = counters
		}
	}

	return nil
}

// count writes what legs have counted and who their clients are, where that has
// changed.
func (j *journal) count(ctx context.Context, sockets *sockets) {
	for batch := range slices.Chunk(sockets.opened(), countBatch) {
		var b store.Batch
		for _, k := range batch {
			countSocket(&b, k)
		}
		if err := j.writeBatch(ctx, sockets, b); err != nil {
			return
		}
	}
}

// countSocket adds what is new of the legs of an open socket to a batch.
func countSocket(b *store.Batch, k *knownSocket) {
	socket := k.socket
	now, stats := socket.Keep(), socket.Stats()
	for i, leg := range []*relay.LegStats{&stats.Leg1, &stats.Leg2} {
		num := relay.Leg1 + relay.Leg(i)
		pin := keptPin(&now, num, time.Now())
		if !samePin(&pin, &k.pins[i]) {
			b.Pins = append(b.Pins, pin)
		}

		addCounters(leg, k.before, num)
		counters := keptCounters(socket.ID(), num, leg)
		if !sameCounters(&counters, &k.counters[i]) {
			b.Counters = append(b.Counters, counters)
		}
	}
}

// sameCounters tells whether nothing was counted in between.
func sameCounters(a, b *store.Counters) bool {
	return a.PacketsIn == b.PacketsIn && a.BytesIn == b.BytesIn &&
		a.PacketsOut == b.PacketsOut && a.BytesOut == b.BytesOut &&
		a.Accepted == b.Accepted && a.Resets == b.Resets &&
		maps.Equal(a.Drops, b.Drops)
}
