//go:build !portable

package relay

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestTCPSmallPipes passes much where the system refuses large pipes.
func TestTCPSmallPipes(t *testing.T) {
	t.Parallel()

	if !inChild(t) {
		return
	}

	deny(t, unix.SYS_FCNTL, map[uint32]uint32{
		1: unix.F_SETPIPE_SZ,
	}, unix.EPERM)

	small, err := newPipe()
	require.NoError(t, err)
	size, err := unix.FcntlInt(uintptr(small.in), unix.F_GETPIPE_SZ, 0)
	require.NoError(t, err)
	require.Less(t, size, pipeSize)
	require.NoError(t, small.close())

	passMuch(t)
}

// TestTCPNoPipes passes much where the system has no pipe.
func TestTCPNoPipes(t *testing.T) {
	t.Parallel()

	if !inChild(t) {
		return
	}

	deny(t, unix.SYS_PIPE2, nil, unix.ENFILE)
	_, err := newPipe()
	require.ErrorIs(t, err, unix.ENFILE)

	passMuch(t)
}

// passMuch passes large streams over several pairs, both ways, and past slow
// readers.
func passMuch(t *testing.T) {
	t.Helper()

	w := newWorld(t, nil)
	s := w.openTCP()
	for range 2 {
		a, b := callBoth(t, s)
		there, back := pour(a, b, 1), pour(b, a, 2)
		there.requirePasses(t, 8<<20)
		back.requirePasses(t, 8<<20)
		requireEnd(t, there, back)

		c, d := callBoth(t, s)
		size := c.fill(stream(3))
		requireHolds(t, s)
		d.requireStream(3, size)
	}

	for _, leg := range []Leg{Leg1, Leg2} {
		requireDrops(t, s, leg, nil)
		require.Zero(t, legStats(s, leg).Resets)
	}
}

// newPool returns a pool of pipes of its own.
func newPool() *pipePool {
	return &pipePool{open: new(atomic.Int64)}
}

// TestPipePool checks what becomes of pipes that are given back.
func TestPipePool(t *testing.T) {
	files := openFiles()

	pool := newPool()
	var pipes []*pipe
	for range 2 * sparePipes {
		p, err := pool.get()
		require.NoError(t, err)
		pipes = append(pipes, p)
	}
	require.Equal(t, files+4*sparePipes, openFiles())

	// What holds bytes is not kept, and not more than a few are.
	for i, p := range pipes {
		if i%4 == 0 {
			n, err := unix.Write(p.in, []byte("secret"))
			require.NoError(t, err)
			p.held = n
		}
		pool.put(p)
	}
	require.Len(t, pool.spare, sparePipes)
	require.EqualValues(t, sparePipes, pool.open.Load())
	require.Equal(t, files+2*sparePipes, openFiles())

	// Every one that comes out is empty.
	for range sparePipes {
		p, err := pool.get()
		require.NoError(t, err)
		_, err = unix.Read(p.out, make([]byte, 1))
		require.ErrorIs(t, err, unix.EAGAIN)
		require.NoError(t, pool.closePipe(p))
	}
	require.Empty(t, pool.spare)

	p, err := pool.get()
	require.NoError(t, err)
	pool.put(p)
	require.NoError(t, pool.close())
	require.Zero(t, pool.open.Load())
	require.Equal(t, files, openFiles())
}

// TestManyPipes checks how many pipes there are at once.
func TestManyPipes(t *testing.T) {
	pool := newPool()
	var pipes []*pipe
	for range maxPipes {
		p, err := pool.get()
		require.NoError(t, err)
		pipes = append(pipes, p)
	}

	files := openFiles()
	for range 2 {
		_, err := pool.get()
		require.ErrorIs(t, err, errTooManyPipes)
	}
	require.Equal(t, files, openFiles())

	// There is room when one is back.
	pool.put(pipes[0])
	p, err := pool.get()
	require.NoError(t, err)
	require.Same(t, pipes[0], p)
	_, err = pool.get()
	require.ErrorIs(t, err, errTooManyPipes)

	for _, p := range pipes {
		require.NoError(t, pool.closePipe(p))
	}
	require.Zero(t, pool.open.Load())
}

// TestTCPManyPipes lets pairs flow while all pipes are elsewhere, and after one
// came back.
func TestTCPManyPipes(t *testing.T) {
	t.Parallel()

	w := newWorld(t, nil)
	s := w.openTCP()
	pipes := &w.plane.pipes
	pipes.Store(maxPipes)

	a, b := callBoth(t, s)
	there, back := pour(a, b, 1), pour(b, a, 2)
	there.requirePasses(t, 8<<20)
	back.requirePasses(t, 8<<20)
	require.EqualValues(t, maxPipes, pipes.Load())

	pipes.Add(-1)
	require.Eventually(t, func() bool {
		return pipes.Load() == maxPipes
	}, limit, tick)
	there.requirePasses(t, 8<<20)
	back.requirePasses(t, 8<<20)
	requireEnd(t, there, back)

	waitClosed(t, s)
	require.NoError(t, s.Close())
	require.EqualValues(t, maxPipes-1, pipes.Load())
}
