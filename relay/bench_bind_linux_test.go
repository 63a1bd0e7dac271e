//go:build !portable

package relay

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	"github.com/stretchr/testify/require"
)

// settleTick is how long nothing must be counted to tell that all was.
const settleTick = 50 * time.Millisecond

// BenchmarkInjection sends what is to be rejected, as fast as the system takes
// it, and measures what a rejected packet costs the relay. None may be
// admitted, however many there are.
func BenchmarkInjection(b *testing.B) {
	payload := make([]byte, bind.Size)
	forged := helloOf(bind.NewKey(
		bind.Leg{SocketID: newID(), Num: 1, Protocol: 1}, NewToken(),
	))

	for _, test := range []struct {
		name      string
		admission Admission
		packet    []byte
	}{
		{"to=open/payload", Open, payload},
		{"to=token/payload", ByToken, payload},
		{"to=token/forged", ByToken, forged},
	} {
		for _, offload := range []bool{false, true} {
			name := test.name + "/offload=false"
			if offload {
				name = test.name + "/offload=true"
			}

			b.Run(name, func(b *testing.B) {
				benchInjection(
					b, test.admission, test.packet, offload,
				)
			})
		}
	}
}

// benchInjection is one case of BenchmarkInjection.
func benchInjection(b *testing.B, admission Admission, packet []byte,
	offload bool) {

	b.Helper()

	p := startBenchProcess(b, benchOrder{
		Protocol: UDP, Sockets: 1, Ports: freePorts(b, 2),
		Admission: admission,
	})

	// An OPEN leg takes the first to come: that is not the injector.
	if admission == Open {
		newClient(b, loopback4).send(p.ports[0][0], nil)
		require.Eventually(b, func() bool {
			return p.reply().Admitted == 1
		}, limit, tick)
	}

	before, cpu := p.reply(), p.cpu()
	from := benchClient(b, offload)
	to := from.route(source{
		addr: netip.AddrPortFrom(loopback4, p.ports[0][0]),
	})

	b.ResetTimer()
	e := newEngine()
	inject(b, e, from, &to, packet, b.N, offload)
	b.StopTimer()

	// All that came in has been looked at when no more is counted: the
	// relay does nothing else.
	after := p.reply()
	require.Eventually(b, func() bool {
		last := after
		after = p.reply()

		return after.Rejected == last.Rejected
	}, limit, settleTick)
	used := p.cpu() - cpu

	rejected := float64(after.Rejected - before.Rejected)
	require.Equal(b, before.Admitted, after.Admitted)
	b.ReportMetric(float64(used)/rejected, "relay-ns/rejected")
	b.ReportMetric(rejected/float64(b.N), "rejected/sent")
	b.ReportMetric(float64(after.Admitted-before.Admitted), "admitted")
}

// inject sends so many packets.
func inject(b *testing.B, e *engine, from *port, to *route, packet []byte,
	count int, offload bool) {

	b.Helper()

	plainFrom := 1
	if offload {
		plainFrom = math.MaxInt
	}

	for left := count; left > 0; {
		part := min(left, batch)
		for range part {
			e.add(packet, len(packet), plainFrom)
		}
		left -= part

		if s := e.send(from.fd, to); s.packets == 0 {
			b.Fatal("nothing was sent")
		}
	}
}
