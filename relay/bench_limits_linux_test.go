//go:build !portable

package relay

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

const (
	// limitsPackets is how many packets go through one relay before it is
	// the other's turn, and limitsBytes how many bytes of a pair at most.
	limitsPackets = 16 * burstPackets
	limitsBytes   = 32 << 20

	// muchLimit is a limit that never bites.
	muchLimit = 1 << 50
)

// contest measures what limits cost that do not bite: the same work is done by
// a relay without them and by one that has all of them, in turns within one
// run. Two runs of one program differ by more than what is to be seen here.
type contest struct {
	relays [2]*benchProcess

	// done counts what each has done, used the CPU time that it took, and
	// ratios compares the two each time that both have had their turn.
	done, used [2]float64
	ratios     []float64
}

// newContest starts both relays.
func newContest(b *testing.B, protocol Protocol, sockets int) *contest {
	b.Helper()

	c := &contest{}
	for i := range c.relays {
		order := benchOrder{
			Protocol: protocol, Sockets: sockets,
			Ports: freePorts(b, max(2*sockets, 3)),
		}
		if i == 1 {
			order.Bandwidth = muchLimit
			order.Limits = Limits{
				Bandwidth:  muchLimit,
				TotalBytes: muchLimit,
			}
			if protocol == UDP {
				order.Limits.Packets = muchLimit
			}
		}
		c.relays[i] = startBenchProcess(b, order)
	}

	return c
}

// run does b.N operations with each relay, in slices. It reports what one costs
// the relay with limits, the one without, and the median of the ratios.
func (c *contest) run(b *testing.B, unit string, slice int,
	body func(relay, count int)) {

	b.Helper()

	// Once before it counts.
	for i := range c.relays {
		body(i, slice)
	}

	b.ResetTimer()
	for done, round := 0, 0; done < b.N; round++ {
		count := min(slice, b.N-done)
		done += count

		var costs [2]float64
		for turn := range c.relays {
			i := (round + turn) % 2
			before := c.relays[i].cpu()
			body(i, count)
			used := float64(c.relays[i].cpu() - before)

			c.done[i] += float64(count)
			c.used[i] += used
			costs[i] = used / float64(count)
		}

		// Those that are too short say nothing.
		if count == slice || round == 0 {
			c.ratios = append(c.ratios, costs[1]/costs[0])
		}
	}
	b.StopTimer()

	slices.Sort(c.ratios)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(c.used[0]/c.done[0], "free-ns/"+unit)
	b.ReportMetric(c.used[1]/c.done[1], "limited-ns/"+unit)
	b.ReportMetric(c.ratios[len(c.ratios)/2], "limited/free")
}

// BenchmarkLimitsUDP compares what packets cost a relay whose sockets have
// every limit, of which none bites, with what they cost one without.
func BenchmarkLimitsUDP(b *testing.B) {
	for _, size := range []int{64, 1200} {
		for _, sockets := range []int{1, 100} {
			for _, offload := range []bool{false, true} {
				name := fmt.Sprintf("%s/sockets=%d/offload=%v",
					sizeName(size), sockets, offload)

				b.Run(name, func(b *testing.B) {
					benchLimitsUDP(
						b, size, sockets, offload,
					)
				})
			}
		}
	}
}

// benchLimitsUDP is one case of BenchmarkLimitsUDP.
func benchLimitsUDP(b *testing.B, size, sockets int, offload bool) {
	b.Helper()

	c := newContest(b, UDP, sockets)
	var generators [2]*generator
	for i, p := range c.relays {
		generators[i] = newGenerator(b, p.ports, size, offload)
	}

	c.run(b, "packet", limitsPackets, func(relay, count int) {
		for left := count; left > 0; left -= burstPackets {
			generators[relay].burst(b, min(left, burstPackets))
		}
	})
}

// BenchmarkLimitsTCP is the same with what is written to a pair of connections.
func BenchmarkLimitsTCP(b *testing.B) {
	for _, size := range []int{1200, 1 << 20} {
		b.Run(sizeName(size), func(b *testing.B) {
			c := newContest(b, TCP, 1)
			var conns [2][][2]net.Conn
			for i, p := range c.relays {
				conns[i] = [][2]net.Conn{
					dialPair(b, p.ports[0]),
				}
			}

			sizes := drawSizes(size, burstConns)
			buffer := make([]byte, size)
			slice := min(limitsBytes/size, 2000)
			c.run(b, "write", slice, func(relay, count int) {
				for range count {
					benchWrite(
						b, conns[relay], sizes, buffer,
					)
				}
			})
		})
	}
}

// benchWrite is one operation of BenchmarkLimitsTCP.
func benchWrite(b *testing.B, conns [][2]net.Conn, sizes []int,
	buffer []byte) {

	b.Helper()

	_ = conns[0][1].SetReadDeadline(time.Now().Add(limit))
	benchWrites(b, conns, b.N-1, sizes, buffer)
}
