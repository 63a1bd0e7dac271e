package compare

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// limit is how long a test waits for something that happens soon.
const limit = 30 * time.Second

// generateDirect has the generator do a job, through the files that its process
// reads and writes.
func generateDirect(t *testing.T, spec Spec) Result {
	t.Helper()

	dir := t.TempDir()
	job, result := filepath.Join(dir, "job"), filepath.Join(dir, "result")
	if spec.Ends.Kind == "" {
		spec.Ends.Kind = Direct
	}
	spec.PIDs = []int{os.Getpid()}
	require.NoError(t, writeJSON(job, spec))
	require.NoError(t, RunJob(t.Context(), job, result))

	var r Result
	require.NoError(t, readJSON(result, &r))

	return r
}

// TestWindow sends datagrams with and without offload, and none is lost or
// counted twice.
func TestWindow(t *testing.T) {
	for _, test := range []struct {
		name    string
		offload bool
		size    int
		depth   Depth
	}{
		{"offload", true, 1200, Depth{Window: 200, Batch: 50}},
		{"one segment", true, 1200, Depth{Window: 4, Batch: 1}},
		{"plain", false, 1200, Depth{Window: 128, Batch: 32}},
		{"small", false, 64, Depth{Window: 64, Batch: 64}},
		{"empty", false, 0, Depth{Window: 8, Batch: 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := generateDirect(t, Spec{
				Work:     Window,
				Duration: 50 * time.Millisecond,
				Size:     test.size,
				Offload:  test.offload,
				Depths:   []Depth{test.depth},
			})
			require.Positive(t, r.Sent)
			require.Equal(t, r.Sent, r.Delivered)
			require.Zero(t, r.Sent%uint64(test.depth.Batch))
			require.Zero(t, r.Loss())
			require.Equal(t, test.depth, r.Depth)
			require.Positive(t, r.Elapsed)
		})
	}
}

// TestBestDepth checks that a depth is chosen which loses nothing.
func TestBestDepth(t *testing.T) {
	pairs, closeAll, err := openPairs(t.Context(), Spec{
		Ends: Ends{Kind: Direct}, Size: 1200,
	}, 1)
	require.NoError(t, err)
	defer closeAll()

	f := &flow{
		from: pairs[0].a, to: pairs[0].b, size: 1200,
		in: newInbox(false),
	}

	// The first one is far more than the receive queue takes.
	flood := Depth{Window: 64000, Batch: 1000}
	good := Depth{Window: 64, Batch: 32}
	depth, err := f.best(t.Context(), []Depth{
		flood, good,
	})
	require.NoError(t, err)
	require.Equal(t, good, depth)

	_, err = f.best(t.Context(), nil)
	require.ErrorIs(t, err, errFormat)

	// What is lost is seen, and does not end the flow.
	lossy, err := f.run(t.Context(), flood, time.Millisecond)
	require.NoError(t, err)
	require.Less(t, lossy.delivered, lossy.sent)
	require.Zero(t, lossy.rate())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.run(ctx, good, limit)
	require.ErrorIs(t, err, context.Canceled)
}

// TestNoAllocations checks that a flow allocates nothing per datagram.
func TestNoAllocations(t *testing.T) {
	for _, offload := range []bool{true, false} {
		pairs, closeAll, err := openPairs(t.Context(), Spec{
			Ends: Ends{Kind: Direct}, Size: 100, Offload: offload,
		}, 1)
		require.NoError(t, err)
		defer closeAll()

		from, to := pairs[0].a, pairs[0].b
		out := newOutbox(from.frame(100), 10, offload)
		in := newInbox(offload)
		allocs := testing.AllocsPerRun(100, func() {
			n, err := out.send(from.fd)
			if err != nil || n != 10 {
				panic("not sent")
			}
			for n > 0 {
				got, bytes, err := in.receive(to.fd)
				if err != nil || bytes != 100*got {
					panic("not received")
				}
				n -= got
			}
		})
		require.Zero(t, allocs)
	}
}

// TestLoad sends over several sessions, both ways.
func TestLoad(t *testing.T) {
	r := generateDirect(t, Spec{
		Work:     Load,
		Duration: 100 * time.Millisecond,
		Sessions: 10,
		Size:     200,
		Rate:     2000,
		Burst:    2,
	})

	// A burst is 40 datagrams, every 20 ms.
	require.Equal(t, uint64(200), r.Sent)
	require.Equal(t, uint64(200), r.Delivered)
	require.Equal(t, 2000, r.Rate)
	require.GreaterOrEqual(t, r.Elapsed, 95*time.Millisecond)
	require.Positive(t, r.RSS)
}

// TestOverload checks that the first rate which loses a third is found.
func TestOverload(t *testing.T) {
	for _, test := range []struct {
		rates []int
		lost  bool
		rate  int
	}{
		{[]int{100, 200}, false, 200},
		{[]int{100, 200}, true, 100},
	} {
		pairs, closeAll, err := openPairs(t.Context(), Spec{
			Ends: Ends{Kind: Direct}, Size: 10,
		}, 2)
		require.NoError(t, err)
		defer closeAll()

		spec := Spec{Size: 10, Burst: 1, Rates: test.rates}
		l, err := newLoad(pairs, spec)
		require.NoError(t, err)
		defer func() {
			require.NoError(t, unix.Close(l.epoll))
		}()
		if test.lost {
			// Nobody looks at the second clients any more.
			for _, p := range pairs {
				require.NoError(t, unix.EpollCtl(
					l.epoll, unix.EPOLL_CTL_DEL, p.b.fd,
					nil,
				))
			}
		}

		rate, err := l.overload(t.Context(), spec)
		require.NoError(t, err)
		require.Equal(t, test.rate, rate)
		require.Positive(t, l.sent)
	}
}

// TestPing measures round trips.
func TestPing(t *testing.T) {
	r := generateDirect(t, Spec{
		Work:     Ping,
		Duration: 100 * time.Millisecond,
		Size:     64,
		Rate:     1000,
	})
	require.Equal(t, 100, r.Samples)
	require.Equal(t, uint64(100), r.Delivered)
	require.Positive(t, r.P50)
	require.GreaterOrEqual(t, r.P99, r.P50)
}

// TestTCPWork does all that is done over TCP.
func TestTCPWork(t *testing.T) {
	r := generateDirect(t, Spec{
		Work: Bulk, Duration: 50 * time.Millisecond, Sessions: 2,
	})
	require.Greater(t, r.Bytes, uint64(1<<20))
	require.GreaterOrEqual(t, r.Elapsed, 50*time.Millisecond)

	r = generateDirect(t, Spec{
		Work: Short, Duration: 50 * time.Millisecond,
	})
	require.GreaterOrEqual(t, r.Pairs, uint64(shortWorkers))

	r = generateDirect(t, Spec{Work: Idle, Sessions: 20})
	require.Equal(t, uint64(20), r.Pairs)
	require.Positive(t, r.RSS)
}

// TestTURN sends datagrams through a real TURN server that asks who is there.
func TestTURN(t *testing.T) {
	ports, err := (&stage{}).freePorts(t.Context(), 1)
	require.NoError(t, err)
	port := ports[0]

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served error
	wg.Go(func() {
		served = ServeTURN(ctx, port)
	})
	defer func() {
		cancel()
		wg.Wait()
		require.NoError(t, served)
	}()

	table := filepath.Join(procDir, "net", "udp")
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(table)

		return err == nil && isBound(string(text), port)
	}, limit, time.Millisecond)

	ends := Ends{Kind: TURN, Server: port}
	for _, offload := range []bool{false, true} {
		r := generateDirect(t, Spec{
			Work:     Window,
			Ends:     ends,
			Duration: 50 * time.Millisecond,
			Size:     1200,
			Offload:  offload,
			Depths:   []Depth{{Window: 16, Batch: 8}},
		})
		require.Positive(t, r.Delivered)
		require.Equal(t, r.Sent, r.Delivered)
	}

	r := generateDirect(t, Spec{
		Work:     Load,
		Ends:     ends,
		Duration: 50 * time.Millisecond,
		Sessions: 3,
		Size:     100,
		Rate:     600,
		Burst:    1,
	})
	require.Equal(t, uint64(30), r.Sent)
	require.Equal(t, r.Sent, r.Delivered)
}

// TestNoPath checks that a relay which does not answer is told.
func TestNoPath(t *testing.T) {
	dir := t.TempDir()
	job := filepath.Join(dir, "job")
	require.NoError(t, writeJSON(job, Spec{Work: "nothing"}))
	err := RunJob(t.Context(), job, filepath.Join(dir, "result"))
	require.ErrorContains(t, err, `unknown work "nothing"`)
	require.NoFileExists(t, filepath.Join(dir, "result"))

	err = RunJob(t.Context(), filepath.Join(dir, "none"), "")
	require.ErrorIs(t, err, os.ErrNotExist)

	ports, err := (&stage{}).freePorts(t.Context(), 2)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err = openPairs(ctx, Spec{
		Ends: Ends{
			Kind: Socket, Sockets: [][2]uint16{{
				ports[0], ports[1],
			}},
		},
		Size: 10,
	}, 1)
	require.ErrorIs(t, err, errNoPath)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
