//go:build !portable

package relay

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// benchEnv makes the test binary a relay that benchmarks drive. It has the
// order as JSON.
const benchEnv = "RELAY_BENCH_PROCESS"

// benchOrder says what sockets the process opens.
type benchOrder struct {
	Protocol  Protocol
	Admission Admission
	Sockets   int
	Ports     PortRange

	// Limits are those of every socket, and Bandwidth is the relay's and
	// every account's. Each socket has an account if it is not 0.
	Limits    Limits
	Bandwidth uint64
}

// benchReply is what the process answers to each line that it reads.
type benchReply struct {
	// Ports holds the two ports of every socket.
	Ports [][2]uint16

	// Allocs and Bytes are what the process has allocated so far.
	Allocs, Bytes uint64

	// Admitted and Rejected are what became of the packets that came to
	// leg 1 of the first socket and that the kernel did not drop.
	Admitted, Rejected uint64

	// Err tells what went wrong.
	Err string
}

// benchProcess is a relay in a process of its own, so that its CPU time and its
// allocations are told from those of its clients.
type benchProcess struct {
	tb    testing.TB
	cmd   *exec.Cmd
	in    *json.Decoder
	ask   func()
	ports [][2]uint16
}

// startBenchProcess starts a relay with open sockets.
func startBenchProcess(tb testing.TB, order benchOrder) *benchProcess {
	tb.Helper()

	text, err := json.Marshal(order)
	require.NoError(tb, err)

	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), benchEnv+"="+string(text))
	cmd.Stderr = os.Stderr

	stdin, err := cmd.StdinPipe()
	require.NoError(tb, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())

	tb.Cleanup(func() {
		// The process ends with its input.
		_ = stdin.Close()
		_ = cmd.Wait()
	})

	p := &benchProcess{tb: tb, cmd: cmd, in: json.NewDecoder(stdout)}
	p.ask = func() {
		_, err := stdin.Write([]byte{'\n'})
		require.NoError(tb, err)
	}
	p.ports = p.reply().Ports

	return p
}

// reply asks the process how it is.
func (p *benchProcess) reply() benchReply {
	p.tb.Helper()
	p.ask()

	var reply benchReply
	require.NoError(p.tb, p.in.Decode(&reply))
	require.Empty(p.tb, reply.Err)

	return reply
}

// cpu returns the CPU time that the process has used, of all its threads, those
// that are gone left out: the relay ends none.
func (p *benchProcess) cpu() time.Duration {
	p.tb.Helper()

	pattern := fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid)
	files, err := filepath.Glob(pattern)
	require.NoError(p.tb, err)
	require.NotEmpty(p.tb, files)

	total := time.Duration(0)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(p.tb, err)

		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		require.NoError(p.tb, err)
		total += time.Duration(ns)
	}

	return total
}

// measure runs a benchmark's body and reports what the relay used for each of
// its operations.
func (p *benchProcess) measure(b *testing.B, unit string, body func()) {
	b.Helper()

	b.ReportAllocs()
	before, cpu := p.reply(), p.cpu()
	b.ResetTimer()
	body()
	b.StopTimer()
	used, after := p.cpu()-cpu, p.reply()

	n := float64(b.N)
	b.ReportMetric(float64(used)/n, "relay-ns/"+unit)
	b.ReportMetric(float64(after.Allocs-before.Allocs)/n, "allocs/op")
	b.ReportMetric(float64(after.Bytes-before.Bytes)/n, "B/op")
}

// runBenchProcess is the other side: it opens the sockets and answers until its
// input ends.
func runBenchProcess(order string) int {
	out := json.NewEncoder(os.Stdout)

	sockets, stop, err := serveBench(order)
	if err != nil {
		_ = out.Encode(benchReply{Err: err.Error()})

		return 1
	}
	defer stop()

	ports := make([][2]uint16, len(sockets))
	for i, s := range sockets {
		ports[i] = [2]uint16{s.Port(Leg1), s.Port(Leg2)}
	}

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)

		leg1 := sockets[0].Stats().Leg1
		err := out.Encode(benchReply{
			Ports:    ports,
			Allocs:   mem.Mallocs,
			Bytes:    mem.TotalAlloc,
			Admitted: leg1.PacketsIn,
			Rejected: leg1.Drops[DropStranger] +
				leg1.Drops[DropBadBind],
		})
		if err != nil {
			return 1
		}
	}

	return 0
}

// serveBench runs a relay with open sockets.
func serveBench(text string) ([]*Socket, func(), error) {
	var order benchOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return nil, nil, err
	}

	relay, err := New(Config{
		Ports:       order.Ports,
		MaxSockets:  order.Sockets,
		PinTimeout:  time.Hour,
		MaxPairs:    10000,
		MaxWaiting:  10000,
		WaitTimeout: time.Hour,
		MaxConns:    20000,
		KeepAlive:   time.Hour,

		Bandwidth:        order.Bandwidth,
		AccountBandwidth: order.Bandwidth,
	}, nil)
	if err != nil {
		return nil, nil, err
	}

	sockets := make([]*Socket, order.Sockets)
	for i := range sockets {
		sockets[i], err = relay.Open(Options{
			Protocol: order.Protocol, Admission: order.Admission,
			Limits: order.Limits,
		})
		if err == nil && order.Bandwidth > 0 {
			sockets[i].Charge(strconv.Itoa(i))
		}
		if err != nil {
			return nil, nil, err
		}
	}

	return sockets, func() {
		for _, s := range relay.Sockets() {
			_ = s.Close()
		}
	}, nil
}
