//go:build !portable

package relay

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is the size in bytes that every pipe asks for. An
	// unprivileged process gets it for its first 64 pipes, and less for
	// further ones (pipe(7), pipe-user-pages-soft).
	pipeSize = 1 << 20

	// fillSize is how many bytes are moved with one system call, so that
	// it does not keep others waiting for long.
	fillSize = 256 << 10

	// maxPipes is how many pipes a relay has at once, of two descriptors
	// each. Further connections have their bytes copied: so clients that
	// do not read what is sent to them cannot use up all descriptors.
	maxPipes = 48

	// sparePipes is how many pipes a loop keeps for later.
	sparePipes = 8
)

// pipe holds bytes of a connection on their way to the other, in the kernel.
type pipe struct {
	in, out int

	// held is the number of bytes in it.
	held int
}

// newPipe opens a pipe.
func newPipe() (*pipe, error) {
	var fds [2]int
	err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}

	// A small pipe works too, with more system calls.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)

	return &pipe{in: fds[1], out: fds[0]}, nil
}

// close closes the pipe. What is in it is lost.
func (p *pipe) close() error {
	return os.NewSyscallError("close", errors.Join(
		unix.Close(p.in), unix.Close(p.out),
	))
}

// fill moves bytes of a connection into the empty pipe, so many at most. None
// and no error means that the connection has ended; EAGAIN that there is
// nothing to move now.
func (p *pipe) fill(fd, size int) (int, error) {
	n, err := splice(fd, p.in, size)
	p.held += n

	return n, err
}

// drain moves bytes from the pipe into a connection. EAGAIN means that it takes
// none now.
func (p *pipe) drain(fd int) (int, error) {
	n, err := splice(p.out, fd, p.held)
	p.held -= n

	return n, err
}

// errTooManyPipes means that maxPipes are open.
var errTooManyPipes = errors.New("too many pipes")

// pipePool lends pipes. The loop's lock guards it.
type pipePool struct {
	// open counts the pipes of all loops of a relay. It is immutable.
	open *atomic.Int64

	// spare holds the pipes that are not lent.
	spare []*pipe
}

// get returns an empty pipe.
func (p *pipePool) get() (*pipe, error) {
	last := len(p.spare) - 1
	if last < 0 {
		return p.openPipe()
	}

	lent := p.spare[last]
	p.spare = p.spare[:last]

	return lent, nil
}

// openPipe opens one pipe more.
func (p *pipePool) openPipe() (*pipe, error) {
	if p.open.Add(1) > maxPipes {
		p.open.Add(-1)

		return nil, errTooManyPipes
	}

	opened, err := newPipe()
	if err != nil {
		p.open.Add(-1)
	}

	return opened, err
}

// closePipe closes a pipe.
func (p *pipePool) closePipe(closed *pipe) error {
	p.open.Add(-1)

	return closed.close()
}

// put takes a pipe back. One that holds bytes, which must not come out of
// another connection, is closed, and so is one too many.
func (p *pipePool) put(back *pipe) {
	if back.held == 0 && len(p.spare) < sparePipes {
		p.spare = append(p.spare, back)

		return
	}

	// There is nobody to tell of an error, and nothing to do about it.
	_ = p.closePipe(back)
}

// close closes the pipes that are not lent.
func (p *pipePool) close() error {
	var failed error
	for _, spare := range p.spare {
		failed = errors.Join(failed, p.closePipe(spare))
	}
	p.spare = nil

	return failed
}
