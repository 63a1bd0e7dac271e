//go:build itest && linux

package compare

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// daemonTime bounds the start of an lnd and two daemons beside it.
const daemonTime = time.Minute

// TestDaemons checks that the daemons that are compared run beside each other:
// each opens sockets of both protocols.
func TestDaemons(t *testing.T) {
	binDir, err := filepath.Abs("../../bin")
	require.NoError(t, err)
	s := &stage{
		self:   filepath.Join(binDir, "socketdev"),
		binDir: binDir,
		dir:    t.TempDir(),
	}
	defer func() { require.NoError(t, s.stop()) }()

	ctx, cancel := context.WithTimeout(t.Context(), daemonTime)
	defer cancel()
	for _, guarded := range []bool{false, true} {
		r, err := startSocketd(ctx, s, guarded)
		require.NoError(t, err)
		defer func() { require.NoError(t, r.stop()) }()

		for _, tcp := range []bool{false, true} {
			ends, release, err := r.open(ctx, tcp, 2)
			require.NoError(t, err)
			require.Len(t, ends.Sockets, 2)
			require.Equal(t, guarded, len(ends.Tokens) > 0)
			require.NoError(t, release())
		}
	}
}
