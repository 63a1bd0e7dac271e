package store

import (
	"crypto/rand"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// benchDB opens a new database for a benchmark, and returns where it is.
func benchDB(b *testing.B) (*DB, string) {
	b.Helper()

	path := filepath.Join(b.TempDir(), "socketd.db")
	d, err := Open(b.Context(), Config{Path: path}, quiet)
	require.NoError(b, err)
	b.Cleanup(func() { _ = d.Close() })

	return d, path
}

// randomID returns an id as they are.
func randomID() offer.ID {
	var id offer.ID
	_, _ = rand.Read(id[:])

	return id
}

// benchRecord returns a record as they are in practice.
func benchRecord() offer.Record {
	r := fullRecord()
	r.ID, r.SocketID, r.DecisionID = randomID(), randomID(), randomID()
	_, _ = rand.Read(r.Peer[:])
	r.Addrs = r.Addrs[1:]
	r.Legs, r.Label, r.Reason = offer.Leg2, "backup", ""
	r.ReplyTo, r.EndedAt = offer.ID{}, time.Time{}
	r.Tokens[0] = offer.Token{}

	return r
}

// benchSocket returns a socket as they are in practice.
func benchSocket() Socket {
	s := fullSocket(randomID())
	s.Allow, s.Label = [2][]netip.Prefix{}, "backup"
	s.State, s.Reason, s.Default = SocketActive, "", false

	return s
}

// eventData returns as much data as an event has.
func eventData(offer.Event) ([]byte, error) {
	return make([]byte, 480), nil
}

// bytesEach returns how many bytes of its file a database needs for each of a
// number of things that were written to it.
func bytesEach(b *testing.B, path string, before int64, things int) float64 {
	b.Helper()

	return float64(sizeOf(b, path)-before) / float64(things)
}

// sizeOf returns how long a file is whose database has no journal.
func sizeOf(b *testing.B, path string) int64 {
	b.Helper()

	info, err := os.Stat(path)
	require.NoError(b, err)

	return info.Size()
}

// BenchmarkStep measures a step of an offer: its record changes, a message is
// done with, another one is to be delivered, and an event is told.
func BenchmarkStep(b *testing.B) {
	d, _ := benchDB(b)
	s := d.Offers(eventData)
	records := make([]offer.Record, 100)
	for i := range records {
		records[i] = benchRecord()
	}

	var i int
	for b.Loop() {
		r := records[i%len(records)]
		r.State = offer.State(i % 4)
		err := s.Write(b.Context(), offer.Batch{
			Put:     []offer.Record{r},
			Silence: []offer.Offer{r.Offer},
			Add: []offer.Message{
				messageOf(r, randomID(), 50509),
			},
			Events: []offer.Event{{Offer: r.Offer}},
		})
		require.NoError(b, err)
		i++
	}
}

// BenchmarkPins measures how long it takes to write the pins of as many legs
// at once, with their events.
func BenchmarkPins(b *testing.B) {
	for _, legs := range []int{1, 100} {
		b.Run(strconv.Itoa(legs), func(b *testing.B) {
			d, _ := benchDB(b)
			var batch Batch
			for range legs {
				s := benchSocket()
				pin := testPins(s.ID)[0]
				data, _ := eventData(offer.Event{})
				batch.Sockets = append(batch.Sockets, s)
				batch.Pins = append(batch.Pins, pin)
				batch.Events = append(batch.Events, data)
			}
			require.NoError(b, d.Write(b.Context(), batch))

			batch.Sockets = nil
			for b.Loop() {
				err := d.Write(b.Context(), batch)
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkGet measures a look at a record among 10,000.
func BenchmarkGet(b *testing.B) {
	d, _ := benchDB(b)
	s := d.Offers(eventData)
	batch := offer.Batch{}
	for range 10_000 {
		batch.Put = append(batch.Put, benchRecord())
	}
	require.NoError(b, s.Write(b.Context(), batch))

	var i int
	for b.Loop() {
		r := &batch.Put[i%len(batch.Put)]
		_, err := s.Get(b.Context(), r.Peer, r.ID)
		require.NoError(b, err)
		i++
	}
}

// BenchmarkSize measures how many bytes of the file there are for each of what
// is kept: a record, a record with the message that makes the offer, an event,
// and a socket with a pin and counters for each leg.
func BenchmarkSize(b *testing.B) {
	const things = 10_000

	var total offer.Batch
	var sockets Batch
	for range things {
		r := benchRecord()
		msg := messageOf(r, r.ID, 50501)
		msg.Body = make([]byte, 220)
		total.Put = append(total.Put, r)
		total.Add = append(total.Add, msg)
		total.Events = append(total.Events, offer.Event{})

		socket := benchSocket()
		pins, counters := testPins(socket.ID), testCounters(socket.ID)
		sockets.Sockets = append(sockets.Sockets, socket)
		sockets.Pins = append(sockets.Pins, pins[:]...)
		sockets.Counters = append(sockets.Counters, counters[:]...)
	}

	for name, write := range map[string]func(d *DB) error{
		"offer": func(d *DB) error {
			return d.Offers(eventData).Write(
				b.Context(), offer.Batch{Put: total.Put},
			)
		},
		"offer+message": func(d *DB) error {
			return d.Offers(eventData).Write(
				b.Context(), offer.Batch{
					Put: total.Put, Add: total.Add,
				},
			)
		},
		"event": func(d *DB) error {
			return d.Offers(eventData).Write(
				b.Context(), offer.Batch{Events: total.Events},
			)
		},
		"socket": func(d *DB) error {
			return d.Write(b.Context(), sockets)
		},
	} {
		b.Run(name, func(b *testing.B) {
			var each float64
			for b.Loop() {
				d, path := benchDB(b)
				require.NoError(b, d.Close())
				before := sizeOf(b, path)

				d, err := Open(
					b.Context(), Config{Path: path}, quiet,
				)
				require.NoError(b, err)
				require.NoError(b, write(d))
				require.NoError(b, d.Close())
				each = bytesEach(b, path, before, things)
			}
			b.ReportMetric(each, "bytes/thing")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkOpen measures how long it takes from the start until everything is
// there again: 1,000 sockets with their pins, 10,000 offers of which 1,000 have
// a message to be delivered, and 100,000 events behind it.
func BenchmarkOpen(b *testing.B) {
	d, path := benchDB(b)
	s := d.Offers(eventData)
	var sockets Batch
	for range 1000 {
		socket := benchSocket()
		pins, counters := testPins(socket.ID), testCounters(socket.ID)
		sockets.Sockets = append(sockets.Sockets, socket)
		sockets.Pins = append(sockets.Pins, pins[:]...)
		sockets.Counters = append(sockets.Counters, counters[:]...)
	}
	require.NoError(b, d.Write(b.Context(), sockets))

	var batch offer.Batch
	for i := range 10_000 {
		r := benchRecord()
		batch.Put = append(batch.Put, r)
		if i%10 == 0 {
			msg := messageOf(r, r.ID, 50501)
			msg.Body = make([]byte, 220)
			batch.Add = append(batch.Add, msg)
		}
	}
	for range 100_000 {
		batch.Events = append(batch.Events, offer.Event{})
	}
	require.NoError(b, s.Write(b.Context(), batch))
	require.NoError(b, d.Close())
	b.Logf("the file has %d bytes", sizeOf(b, path))

	took := make(map[string]time.Duration)
	for b.Loop() {
		start := time.Now()
		lap := func(name string) {
			took[name] += time.Since(start)
			start = time.Now()
		}
		d, err := Open(b.Context(), Config{Path: path}, quiet)
		require.NoError(b, err)
		lap("open-ms")
		_, err = d.Sockets(b.Context())
		require.NoError(b, err)
		lap("sockets-ms")
		s := d.Offers(eventData)
		_, err = s.List(b.Context())
		require.NoError(b, err)
		_, err = s.Messages(b.Context())
		require.NoError(b, err)
		lap("offers-ms")
		require.NoError(b, d.Close())
	}
	for name, sum := range took {
		b.ReportMetric(
			float64(sum.Microseconds())/1000/float64(b.N), name,
		)
	}
}
