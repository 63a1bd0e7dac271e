package sidecar

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/socketd/socketd/relay"
	"github.com/stretchr/testify/require"
)

// BenchmarkRestore measures how long it takes to open the database and all
// sockets in it again.
func BenchmarkRestore(b *testing.B) {
	for _, count := range []int{1, 1000} {
		b.Run(fmt.Sprintf("sockets=%d", count), func(b *testing.B) {
			s := newServers(
				b, 1, "--relay.ports=10000-19999",
				"--relay.maxsockets="+strconv.Itoa(count),
			)[0]
			for range count {
				_, err := s.rpc.sockets.start(relay.Options{
					Protocol:  relay.UDP,
					Admission: relay.ByToken,
				}, "")
				require.NoError(b, err)
			}
			s.end()

			for b.Loop() {
				s.begin()
				require.Equal(b, count, s.relay.NumSockets())
				b.StopTimer()
				s.end()
				b.StartTimer()
			}
		})
	}
}
