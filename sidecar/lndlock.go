package sidecar

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/btcsuite/btclog/v2"
)

// errLndTaken is returned if another socketd uses the same lnd.
var errLndTaken = errors.New("another socketd uses this lnd already")

// lockLnd sees to it that no other socketd of this machine uses the same lnd:
// both would answer the same messages. lnd itself has nothing that only one
// program can hold, so it is the file with its certificate that is locked,
// which both have to read. Whoever closes what is returned gives it back, and
// so does the end of the process.
func lockLnd(cfg *Config, log btclog.Logger) (io.Closer, error) {
	file, err := os.Open(cfg.Lnd.TLSPath)
	if err != nil {
		return nil, fmt.Errorf("lnd.tlspath: %w", err)
	}

	err = flock(file)
	switch {
	case errors.Is(err, errWouldBlock):
		return nil, errors.Join(fmt.Errorf("%w: it has locked "+
			"lnd.tlspath, %s", errLndTaken, cfg.Lnd.TLSPath),
			file.Close())

	case err != nil:
		// Some file systems know no locks. That must not keep socketd
		// from its work.
		log.Warnf("Whether another socketd uses this lnd cannot be "+
			"told: lock %s: %v", cfg.Lnd.TLSPath, err)
	}

	return file, nil
}
