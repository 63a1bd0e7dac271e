package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// shortWorkers is how many short pairs there are at once.
	shortWorkers = 8
)

// meter measures for a while.
type meter struct {
	pids  []int
	begin time.Time
	cpu   time.Duration
}

// startMeter begins a measurement.
func startMeter(pids []int) (*meter, error) {
	cpu, err := readCPU(pids)

	return &meter{pids: pids, begin: time.Now(), cpu: cpu}, err
}

// stop ends a measurement.
func (m *meter) stop() (Result, error) {
	elapsed := time.Since(m.begin)
	cpu, err := readCPU(m.pids)

	return Result{Elapsed: elapsed, CPU: cpu - m.cpu}, err
}

// runIdle does an Idle.
func runIdle(ctx context.Context, spec Spec) (Result, error) {
	before, err := readSlab()
	if err != nil {
		return Result{}, err
	}

	ends, err := openTCP(ctx, spec.Ends)
	if err != nil {
		return Result{}, err
	}
	defer ends.close()

	pairs, err := ends.openAll(ctx, spec.Sessions)
	if err != nil {
		return Result{}, err
	}
	defer closePairs(pairs)

	rss, err := readRSS(spec.PIDs)
	if err != nil {
		return Result{}, err
	}
	after, err := readSlab()
	if err != nil {
		return Result{}, err
	}

	return Result{
		Pairs: uint64(len(pairs)),
		RSS:   rss,
		Slab:  max(after, before) - before,
	}, nil
}

// runShort does a Short.
func runShort(ctx context.Context, spec Spec) (Result, error) {
	ends, err := openTCP(ctx, spec.Ends)
	if err != nil {
		return Result{}, err
	}

	var accepting sync.WaitGroup
	if ends.lis != nil {
		accepting.Go(func() {
			acceptAll(ends.lis)
		})
	}
	defer accepting.Wait()
	defer ends.close()

	if _, err := ends.shortFor(ctx, warmShort); err != nil {
		return Result{}, err
	}
	m, err := startMeter(spec.PIDs)
	if err != nil {
		return Result{}, err
	}
	n, err := ends.shortFor(ctx, spec.Duration)
	if err != nil {
		return Result{}, err
	}
	result, err := m.stop()
	result.Pairs = n

	return result, err
}

// warmShort is how long short pairs come and go before they count.
const warmShort = 100 * time.Millisecond

// acceptAll answers every connection.
func acceptAll(lis net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()

	for {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			// Who called sees what went wrong.
			_ = answer(conn)
		})
	}
}

// answer answers one byte with one byte, and closes the connection when the
// other side has.
func answer(conn net.Conn) error {
	one := make([]byte, 1)

	err := conn.SetDeadline(time.Now().Add(tcpLimit))
	if err == nil {
		_, err = io.ReadFull(conn, one)
	}
	if err == nil {
		_, err = conn.Write(one)
	}
	if err == nil {
		_, err = conn.Read(one)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}

	return errors.Join(err, conn.Close())
}

// shortFor opens and closes pairs for a while and returns how many.
func (t *tcpEnds) shortFor(ctx context.Context,
	d time.Duration) (uint64, error) {

	var (
		wg       sync.WaitGroup
		count    atomic.Uint64
		errs     [shortWorkers]error
		deadline = time.Now().Add(d)
	)
	for worker := range shortWorkers {
		wg.Go(func() {
			call := t.shortCall(worker)
			for time.Now().Before(deadline) && ctx.Err() == nil {
				err := t.short(ctx, call)
				if err != nil {
					errs[worker] = fmt.Errorf("short "+
						"pair: %w", err)

					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()

	return count.Load(), errors.Join(append(errs[:], ctx.Err())...)
}

// shortCall returns what opens the connections of a worker's short pairs: the
// first clients' with leg 1, and where the second ones call too, theirs with
// leg 2.
func (t *tcpEnds) shortCall(worker int) func(context.Context, int) (net.Conn,
	error) {

	if t.lis == nil {
		return newCaller(&t.ends, 0, worker).call
	}

	return func(ctx context.Context, _ int) (net.Conn, error) {
		return dial(ctx, loopback, t.server)
	}
}

// short opens a pair, sends a byte each way and closes it. Of several at once
// in one socket any two connections may come together.
func (t *tcpEnds) short(ctx context.Context,
	call func(context.Context, int) (net.Conn, error)) (err error) {

	a, err := call(ctx, 1)
	if err != nil {
		return err
	}

	if t.lis == nil {
		b, err := call(ctx, 2)
		if err != nil {
			return errors.Join(err, a.Close())
		}

		answered := make(chan error, 1)
		go func() {
			answered <- answer(b)
		}()
		defer func() {
			err = errors.Join(err, <-answered)
		}()
	}

	one := []byte{1}
	err = a.SetDeadline(time.Now().Add(tcpLimit))
	if err == nil {
		_, err = a.Write(one)
	}
	if err == nil {
		_, err = io.ReadFull(a, one)
	}

	return errors.Join(err, a.Close())
}
