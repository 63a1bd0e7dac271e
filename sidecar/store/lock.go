package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// fileLock is a file that one process has locked. The lock ends with the
// process, however that ends; the file stays.
type fileLock struct {
	file *os.File
}

// lockFile locks a file, and writes into it who did. The error wraps ErrLocked
// if another process has done so.
func lockFile(path string) (*fileLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}

	l := &fileLock{file: file}
	err = lock(file)
	if errors.Is(err, errWouldBlock) {
		err = fmt.Errorf("%w%s", ErrLocked, l.owner())
	}
	if err == nil {
		err = l.sign()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}

	return l, nil
}

// owner tells which process has the lock, as far as it is known.
func (l *fileLock) owner() string {
	text, err := io.ReadAll(io.LimitReader(l.file, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return ""
	}

	return fmt.Sprintf(" (%d)", pid)
}

// sign writes the id of this process into the file, for others to read.
func (l *fileLock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)

	return err
}

// release lets others lock the file.
func (l *fileLock) release() error {
	return l.file.Close()
}
