package store

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/stretchr/testify/require"
)

// childEnv names what this program does if it is run once more by a test.
const childEnv = "SOCKETD_STORE_TEST_CHILD"

// runChild does what a test kills: it works on the database in a file until it
// is killed, or until it cannot. It returns the exit code.
func runChild(role, path string) int {
	// The test waits until it may kill.
	fmt.Println("ready")

	ctx := context.Background()
	var err error
	switch role {
	case "write":
		err = writeForEver(ctx, path)

	case "upgrade":
		_, err = openWith(
			ctx, Config{Path: path}, withTest("next"), quiet,
		)
		fmt.Println("done")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}
	select {}
}

// crashID returns the id of what a step of writeForEver makes.
func crashID(step uint64) offer.ID {
	var id offer.ID
	copy(id[:], strconv.FormatUint(step, 10))

	return id
}

// model is what must be in the database after the events of writeForEver.
type model struct {
	// pending, ended and sockets have the ids of the offers that have a
	// message, of those that have none, and of the sockets.
	pending, ended, sockets map[offer.ID]bool
	forgotten               int
}

// modelOf returns what must be there after some events.
func modelOf(events []string) (*model, error) {
	m := &model{
		pending: make(map[offer.ID]bool),
		ended:   make(map[offer.ID]bool),
		sockets: make(map[offer.ID]bool),
	}
	for _, text := range events {
		what, id, _ := strings.Cut(text, " of ")
		raw, err := hex.DecodeString(id)
		if err != nil {
			return nil, err
		}

		id32 := offer.ID(raw)
		switch what {
		case "received":
			m.pending[id32] = true

		case "closed":
			delete(m.pending, id32)
			m.ended[id32] = true

		case "expired":
			delete(m.ended, id32)
			m.forgotten++

		case "started":
			m.sockets[id32] = true

		case "stopped":
			delete(m.sockets, id32)
		}
	}

	return m, nil
}

// anyOf returns one of some ids, and false if there is none.
func anyOf(ids map[offer.ID]bool) (offer.ID, bool) {
	for id := range ids {
		return id, true
	}

	return offer.ID{}, false
}

// writeForEver writes to a database what belongs together, and the cursor to
// its output each time when that was done.
func writeForEver(ctx context.Context, path string) error {
	d, err := Open(ctx, Config{Path: path}, quiet)
	if err != nil {
		return err
	}
	m, err := modelFrom(ctx, d)
	if err != nil {
		return err
	}

	for {
		last, _ := d.Cursor()
		err := writeStep(ctx, d, m, crashID(last+1))
		if err != nil {
			return err
		}
		last, _ = d.Cursor()
		fmt.Println(last)
	}
}

// modelFrom returns the model of what happened in a database.
func modelFrom(ctx context.Context, d *DB) (*model, error) {
	var data []string
	for {
		events, err := d.Events(ctx, uint64(len(data)), 1000)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			return modelOf(data)
		}
		for _, e := range events {
			data = append(data, string(e.Data))
		}
	}
}

// writeStep writes one of the things that happen to offers and sockets.
func writeStep(ctx context.Context, d *DB, m *model, fresh offer.ID) error {
	s := d.Offers(encodeEvent)
	r := plainRecord(fresh, testKey(1))
	switch rand.IntN(5) {
	case 0:
		m.pending[fresh] = true

		return s.Write(ctx, offer.Batch{
			Put:    []offer.Record{r},
			Add:    []offer.Message{messageOf(r, fresh, 50505)},
			Events: eventsOf(offer.EventReceived, r),
		})

	case 1:
		id, ok := anyOf(m.pending)
		if !ok {
			return nil
		}
		r.ID, r.State = id, offer.StateClosed
		delete(m.pending, id)
		m.ended[id] = true

		return s.Write(ctx, offer.Batch{
			Put:     []offer.Record{r},
			Silence: []offer.Offer{r.Offer},
			Events:  eventsOf(offer.EventClosed, r),
		})

	case 2:
		id, ok := anyOf(m.ended)
		if !ok {
			return nil
		}
		r.ID = id
		delete(m.ended, id)

		return s.Write(ctx, offer.Batch{
			Forget: []offer.Offer{r.Offer},
			Events: eventsOf(offer.EventExpired, r),
		})

	case 3:
		m.sockets[fresh] = true
		pins := testPins(fresh)

		return d.Write(ctx, Batch{
			Sockets: []Socket{plainSocket(fresh)},
			Pins:    pins[:],
			Events: [][]byte{
				fmt.Appendf(nil, "started of %v", fresh),
			},
		})

	default:
		id, ok := anyOf(m.sockets)
		if !ok {
			return nil
		}
		delete(m.sockets, id)

		return d.Write(ctx, Batch{
			Ended: []offer.ID{id},
			Events: [][]byte{
				fmt.Appendf(nil, "stopped of %v", id),
			},
		})
	}
}

// eventsOf returns one event of an offer.
func eventsOf(kind offer.EventKind, r offer.Record) []offer.Event {
	return []offer.Event{{Kind: kind, Offer: r.Offer}}
}

// child is a process that is to be killed.
type child struct {
	cmd   *exec.Cmd
	lines chan string
}

// startChild starts a process that does something with the database in a file,
// and returns when it has begun.
func startChild(t *testing.T, role, path string) *child {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	c := &child{cmd: cmd, lines: make(chan string, 1<<20)}
	go func() {
		defer close(c.lines)

		reader := bufio.NewReader(stdout)
		for {
			// What is cut off was not said.
			line, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			c.lines <- strings.TrimSpace(line)
		}
	}()
	require.Equal(t, "ready", <-c.lines)

	return c
}

// kill kills the process at once, and returns the last thing that it has said,
// or nothing.
func (c *child) kill(t *testing.T) string {
	t.Helper()

	require.NoError(t, c.cmd.Process.Kill())
	var last string
	for line := range c.lines {
		last = line
	}
	require.Error(t, c.cmd.Wait())
	require.False(t, c.cmd.ProcessState.Exited(), "it ended by itself")

	return last
}

// requireModel requires that a database has what its events say, and no more.
func requireModel(t *testing.T, d *DB) {
	t.Helper()

	m, err := modelFrom(t.Context(), d)
	require.NoError(t, err)
	s := d.Offers(encodeEvent)
	records, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, records, len(m.pending)+len(m.ended))
	for _, r := range records {
		if r.State == offer.StatePending {
			require.Contains(t, m.pending, r.ID)
		} else {
			require.Contains(t, m.ended, r.ID)
		}
	}

	msgs, err := s.Messages(t.Context())
	require.NoError(t, err)
	require.Len(t, msgs, len(m.pending))
	for _, msg := range msgs {
		require.Contains(t, m.pending, msg.OfferID)
	}
	forgotten, err := s.Forgotten(t.Context(), 1<<20)
	require.NoError(t, err)
	require.Len(t, forgotten, m.forgotten)

	sockets, err := d.Sockets(t.Context())
	require.NoError(t, err)
	require.Len(t, sockets, len(m.sockets))
	for _, socket := range sockets {
		require.Contains(t, m.sockets, socket.ID)
		require.Equal(t, testPins(socket.ID), socket.Pins)
	}
}

// TestKilled checks that a process that is killed while it writes leaves all
// that it has written, and of what it was about to write all or nothing.
func TestKilled(t *testing.T) {
	const rounds = 12

	path := filepath.Join(t.TempDir(), "dir", "socketd.db")
	var written uint64
	for range rounds {
		c := startChild(t, "write", path)
		first, ok := <-c.lines
		require.True(t, ok, "it ended by itself")
		time.Sleep(time.Duration(rand.IntN(50_000)) * time.Microsecond)
		said := c.kill(t)
		if said == "" {
			said = first
		}

		var cursor uint64
		_, err := fmt.Sscan(said, &cursor)
		require.NoError(t, err)
		d := openPath(t, path)
		last, _ := d.Cursor()
		require.GreaterOrEqual(t, last, cursor)
		require.LessOrEqual(t, last, cursor+1)
		requireModel(t, d)
		require.NoError(t, d.Close())
		written = last
	}
	t.Logf("%d steps were written, and %d processes killed", written,
		rounds)
}

// TestKilledWhileUpgrading checks that a process that is killed while it makes
// or upgrades a database leaves one that the next one can work with.
func TestKilledWhileUpgrading(t *testing.T) {
	const rounds = 12

	next := testSchema(t, "next")
	done := make(map[bool]int)
	for i := range 2 * rounds {
		isNew := i%2 == 0
		path := filepath.Join(t.TempDir(), "dir", "socketd.db")
		if !isNew {
			path = oldDatabase(t, latestSchema)
		}

		c := startChild(t, "upgrade", path)
		time.Sleep(time.Duration(rand.IntN(25_000)) * time.Microsecond)
		done[c.kill(t) == "done"]++

		d, err := openWith(
			t.Context(), Config{Path: path}, next, quiet,
		)
		require.NoError(t, err)
		closeLater(t, d)
		if isNew {
			requireSockets(t, d)
		} else {
			requireFixture(t, d, latestSchema)
		}
		require.NoError(t, d.Close())
		for _, suffix := range append([]string{""}, journals...) {
			found, err := exists(path + ".next" + suffix)
			require.NoError(t, err)
			require.False(t, found, suffix)
		}
	}
	t.Logf("%d were killed before they had done it, %d after",
		done[false], done[true])
}

// TestLockedByOther checks that the lock of another process is seen, and ends
// with it.
func TestLockedByOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socketd.db")
	c := startChild(t, "write", path)
	_, ok := <-c.lines
	require.True(t, ok)
	_, err := Open(t.Context(), Config{Path: path}, quiet)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("(%d)", c.cmd.Process.Pid))
	c.kill(t)
	openPath(t, path)
}

// TestChild checks that what the killed processes do is what it is taken for.
func TestChild(t *testing.T) {
	d := openPath(t, filepath.Join(t.TempDir(), "socketd.db"))
	m, err := modelFrom(t.Context(), d)
	require.NoError(t, err)
	for i := range uint64(200) {
		require.NoError(t, writeStep(t.Context(), d, m, crashID(i)))
	}
	requireModel(t, d)
	last, _ := d.Cursor()
	require.Greater(t, last, uint64(50))
}
