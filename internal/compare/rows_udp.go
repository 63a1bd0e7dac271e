package compare

import (
	"fmt"
	"time"
)

// flowRows returns the rows with one flow of datagrams.
func flowRows() []*row {
	flow := func(key, title, about string, size int, offload bool,
		depths []Depth) *row {

		return &row{
			key:   key,
			title: title,
			about: about,
			spec: Spec{
				Work:     Window,
				Duration: flowTime,
				Size:     size,
				Offload:  offload,
				Depths:   depths,
			},
			sockets:     1,
			contestants: everybodyUDP,
			figures:     flowFigures,
		}
	}

	return []*row{
		flow("udp-offload", "UDP, one flow, 1,200 bytes, clients "+
			"with segmentation offload", "The clients send up "+
			"to 50 datagrams with one call (UDP_SEGMENT) and "+
			"take runs of them whole (UDP_GRO), as QUIC and "+
			"WireGuard do.", largeSize, true, offloadDepths),
		flow("udp-plain", "UDP, one flow, 1,200 bytes, clients "+
			"without offload", "The clients use sendmmsg and "+
			"recvmmsg with one datagram per message.",
			largeSize, false, plainDepths),
		flow("udp-small", "UDP, one flow, 64 bytes, clients without "+
			"offload", "As before, with small datagrams.",
			smallSize, false, plainDepths),
	}
}

// sessionsRow returns the row about many sessions.
func sessionsRow() *row {
	return &row{
		key: "udp-sessions",
		title: fmt.Sprintf("UDP, %s sessions both ways, 1,200 bytes",
			thousands(manySessions)),
		about: fmt.Sprintf("Datagrams without offload, in bursts: "+
			"every first client sends %d, then every second one, "+
			"at the smallest rate at which coturn loses a third. "+
			"Memory is what the relay's processes grew by from no "+
			"session to all of them.", loadBurst),
		spec: Spec{
			Work:     Load,
			Duration: loadTime,
			Sessions: manySessions,
			Size:     largeSize,
			Rates:    loadRates,
			Burst:    loadBurst,
		},
		gauge:   nameCoturn,
		sockets: manySessions,
		fresh:   true,
		contestants: []string{
			nameNone, nameSocketd, nameGuarded, nameCoturn,
			namePion,
		},
		figures: []figure{
			{head: "offered, kpps", of: func(s sample) float64 {
				return perSecond(
					float64(s.Sent)/1e3, s.Elapsed,
				)
			}},
			{
				head: "delivered, %", digits: 1, mean: true,
				of: func(s sample) float64 {
					return 100 - s.Loss()*100
				},
			},
			lossFigure,
			{
				head:  "relay CPU, ns/packet",
				ratio: "CPU: socketd / it",
				cost:  true, of: cpuPerPacket,
			},
			{
				head:   "memory, KiB/session",
				ratio:  "memory: socketd / it",
				digits: 1, cost: true,
				of: func(s sample) float64 {
					return s.growth() / manySessions
				},
			},
		},
	}
}

// latencyRow returns the row about round trips.
func latencyRow() *row {
	micros := func(d time.Duration) float64 {
		return float64(d.Nanoseconds()) / 1e3
	}
	p50 := func(s sample) float64 { return micros(s.P50) }

	return &row{
		key:   "udp-latency",
		title: "UDP, round trips of 64 bytes",
		about: fmt.Sprintf("One datagram there and back at a time, %s "+
			"times a second. Added is what is more than without a "+
			"relay.", thousands(pingRate)),
		spec: Spec{
			Work:     Ping,
			Duration: pingTime,
			Size:     smallSize,
			Rate:     pingRate,
		},
		sockets:     1,
		contestants: everybodyUDP,
		figures: []figure{
			{head: "p50, µs", digits: 1, cost: true, of: p50},
			{
				head: "p99, µs", digits: 1, cost: true,
				of: func(s sample) float64 {
					return micros(s.P99)
				},
			},
			{
				head: "added p50, µs", digits: 1, over: true,
				ratio: "added: socketd / it", cost: true,
				of: p50,
			},
			lossFigure,
		},
	}
}
