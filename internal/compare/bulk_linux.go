package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// bulkSize is how many bytes are written and read at once.
	bulkSize = 256 << 10

	// bulkTimes is how often that is done before it is the turn of the next
	// connection.
	bulkTimes = 16

	// bulkWarm is how long bulk data flows before it counts.
	bulkWarm = 200 * time.Millisecond
)

// bulk is the pairs of a Bulk. Their descriptors are its own.
type bulk struct {
	files []*os.File

	// fds has a first and a second connection in turns: the one takes
	// bytes, the other one gives them.
	fds    []unix.PollFd
	buffer []byte
	bytes  uint64
}

// runBulk does a Bulk.
func runBulk(ctx context.Context, spec Spec) (Result, error) {
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

	b, err := newBulk(pairs)
	if err != nil {
		return Result{}, err
	}
	defer b.close()

	if err := b.run(ctx, bulkWarm); err != nil {
		return Result{}, err
	}
	b.bytes = 0
	m, err := startMeter(spec.PIDs)
	if err != nil {
		return Result{}, err
	}
	if err := b.run(ctx, spec.Duration); err != nil {
		return Result{}, err
	}
	result, err := m.stop()
	result.Bytes = b.bytes

	return result, err
}

// newBulk takes over the connections. It is to be closed.
func newBulk(pairs []tcpPair) (*bulk, error) {
	b := &bulk{buffer: make([]byte, bulkSize)}

	for _, p := range pairs {
		for _, end := range []struct {
			conn   net.Conn
			events int16
		}{{p.a, unix.POLLOUT}, {p.b, unix.POLLIN}} {
			// The copy does not block either: it is the same
			// connection to the kernel.
			file, err := end.conn.(*net.TCPConn).File()
			if err != nil {
				b.close()

				return nil, err
			}

			b.files = append(b.files, file)
			b.fds = append(b.fds, unix.PollFd{
				Fd: int32(file.Fd()), Events: end.events,
			})
		}
	}

	return b, nil
}

// close closes the descriptors.
func (b *bulk) close() {
	for _, file := range b.files {
		_ = file.Close()
	}
}

// run sends and receives for a while. It never sleeps: a relay is not to wait
// until the clients are awake.
func (b *bulk) run(ctx context.Context, d time.Duration) error {
	for begin := time.Now(); time.Since(begin) < d; {
		if err := ctx.Err(); err != nil {
			return err
		}

		_, err := unix.Poll(b.fds, 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		for i := range b.fds {
			if b.fds[i].Revents == 0 {
				continue
			}
			err := b.drain(int(b.fds[i].Fd), i%2 == 0)
			if err != nil {
				return err
			}
		}
	}

	return nil
}

// drain sends until a connection takes no more, or receives until it gives no
// more, but not for ever.
func (b *bulk) drain(fd int, send bool) error {
	for range bulkTimes {
		n, err := b.move(fd, send)
		if err != nil {
			return err
		}
		if !send {
			b.bytes += uint64(n)
		}
		if n < bulkSize {
			break
		}
	}

	return nil
}

// move sends what a connection takes, or receives what it gives, and returns
// how many bytes that was. What is received the kernel forgets: the clients are
// to be as quick as can be.
func (b *bulk) move(fd int, send bool) (int, error) {
	call, flags := uintptr(unix.SYS_RECVFROM), unix.MSG_TRUNC
	if send {
		call, flags = unix.SYS_SENDTO, unix.MSG_NOSIGNAL
	}

	n, _, errno := unix.RawSyscall6(
		//nolint:gosec // a system call
		call, uintptr(fd), uintptr(unsafe.Pointer(&b.buffer[0])),
		bulkSize, uintptr(flags|unix.MSG_DONTWAIT), 0, 0,
	)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return 0, nil
	case errno != 0:
		return 0, fmt.Errorf("bulk: %w", errno)
	case n == 0:
		return 0, fmt.Errorf("bulk: %w", io.ErrUnexpectedEOF)
	default:
		return int(n), nil
	}
}
