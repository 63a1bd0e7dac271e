package compare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/socketd/socketd/internal/regtest"
)

const (
	// relayCore is the core of the relays, generatorCore that of the
	// clients, counted among those that this process may use.
	relayCore     = 0
	generatorCore = 1

	// startLimit is how long a relay may take to listen, and startEvery how
	// often it is looked at meanwhile.
	startLimit = 10 * time.Second
	startEvery = 10 * time.Millisecond

	// portMin and portMax are the ports of the other relays, and of who is
	// called by them.
	portMin = 7000
	portMax = 9999

	// turnPortMin and turnPortMax are the ports that coturn relays from:
	// below those that the system gives to clients.
	turnPortMin = 26000
	turnPortMax = 31999
)

// errUnavailable means that a contestant cannot take part in a row.
var errUnavailable = errors.New("not available")

// relay is a contestant at work.
type relay interface {
	// open makes sessions ready: n sockets for a relay that has sockets.
	// The function that it returns ends them.
	open(ctx context.Context, tcp bool, n int) (Ends, func() error, error)

	// pids returns the processes of the relay, without their children.
	pids() []int

	// stop ends the relay.
	stop() error
}

// noRelay is what the clients do without a relay.
type noRelay struct{}

// open returns that the clients find each other.
func (noRelay) open(context.Context, bool, int) (Ends, func() error, error) {
	return Ends{Kind: Direct}, func() error { return nil }, nil
}

// pids returns nothing.
func (noRelay) pids() []int {
	return nil
}

// stop does nothing.
func (noRelay) stop() error {
	return nil
}

// processRelay is a relay that is one process with its children.
type processRelay struct {
	procs []*regtest.Process

	// udp and tcp say where it is found.
	udp, tcp Ends
}

// open returns where the relay is found. It has no sockets to open.
func (p *processRelay) open(_ context.Context, tcp bool, _ int) (Ends,
	func() error, error) {

	ends := p.udp
	if tcp {
		ends = p.tcp
	}

	return ends, func() error { return nil }, nil
}

// pids returns its processes.
func (p *processRelay) pids() []int {
	var pids []int
	for _, proc := range p.procs {
		pids = append(pids, proc.Pid())
	}

	return pids
}

// stop kills it: it has nothing to put in order.
func (p *processRelay) stop() error {
	for _, proc := range p.procs {
		proc.Kill()
	}

	return nil
}

// stage is where the contestants are started. It is for one goroutine.
type stage struct {
	// The following fields are immutable: this program, the directory of
	// the others, and the directory that takes everything.

	self   string
	binDir string
	dir    string

	// lnd serves the daemon. It is started when it is needed first.
	lnd *regtest.Lnd

	// started counts what was started, for names of files, and portsTaken
	// the ports that were given out or found taken.
	started    int
	portsTaken int
}

// file returns a path for a new file.
func (s *stage) file(name string) string {
	s.started++

	return filepath.Join(s.dir, fmt.Sprintf("%d-%s", s.started, name))
}

// become returns the command line that runs a program on a core.
func (s *stage) become(core int, argv ...string) []string {
	return append([]string{
		s.self, "compare", "pin", "--core=" + strconv.Itoa(core), "--",
	}, argv...)
}

// run starts a program on a core. It ends with ctx.
func (s *stage) run(ctx context.Context, core int, name string,
	argv ...string) (*regtest.Process, error) {

	argv = s.become(core, argv...)

	return regtest.Start(ctx, regtest.ProcessConfig{
		Name:    name,
		Path:    argv[0],
		Args:    argv[1:],
		LogFile: s.file(filepath.Base(name) + ".log"),
	})
}

// relay starts a program that relays, and waits until it listens.
func (s *stage) relay(ctx context.Context, udp, tcp Ends, name string,
	argv ...string) (*processRelay, error) {

	proc, err := s.run(ctx, relayCore, name, argv...)
	if err != nil {
		return nil, err
	}

	r := &processRelay{procs: []*regtest.Process{proc}, udp: udp, tcp: tcp}
	for network, ends := range map[string]Ends{"udp": udp, "tcp": tcp} {
		if ends.Server == 0 {
			continue
		}

		err := awaitListening(ctx, proc, network, ends.Server)
		if err != nil {
			return nil, errors.Join(err, r.stop())
		}
	}

	return r, nil
}

// awaitListening waits until somebody has the port, or the process has ended.
func awaitListening(ctx context.Context, proc *regtest.Process, network string,
	port uint16) error {

	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()

	ticker := time.NewTicker(startEvery)
	defer ticker.Stop()

	for {
		text, err := os.ReadFile(filepath.Join(procDir, "net", network))
		if err != nil {
			return fmt.Errorf("look for listeners: %w", err)
		}
		if isBound(string(text), port) {
			return nil
		}

		select {
		case <-ticker.C:
		case <-proc.Done():
			return proc.WaitExit(ctx)
		case <-ctx.Done():
			out, err := proc.Output()

			return errors.Join(fmt.Errorf("nobody listens at "+
				"%s port %d: %w; output: %s", network, port,
				ctx.Err(), out), err)
		}
	}
}

// isBound reads /proc/net/udp or tcp, and says whether a socket without a far
// end has the port.
func isBound(table string, port uint16) bool {
	local := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > 2 && strings.HasSuffix(fields[1], local) &&
			strings.HasSuffix(fields[2], ":0000") {

			return true
		}
	}

	return false
}

// freePorts returns ports of loopback that nobody has, neither for UDP nor for
// TCP, and that it has not returned before. They are none of those that the
// system gives to clients: such a one could be taken at any time.
func (s *stage) freePorts(ctx context.Context, n int) ([]uint16, error) {
	var ports []uint16
	for ; len(ports) < n; s.portsTaken++ {
		port := portMin + s.portsTaken
		if port > portMax {
			return nil, fmt.Errorf("ports %d to %d are all taken",
				portMin, portMax)
		}
		if isFree(ctx, uint16(port)) {
			ports = append(ports, uint16(port))
		}
	}

	return ports, nil
}

// isFree says whether nobody has the port.
func isFree(ctx context.Context, port uint16) bool {
	var config net.ListenConfig
	lis, err := config.Listen(ctx, "tcp4", address(port))
	if err != nil {
		return false
	}
	conn, err := config.ListenPacket(ctx, "udp4", address(port))
	if err == nil {
		err = conn.Close()
	}

	return errors.Join(err, lis.Close()) == nil
}

// sbin are the directories in which only root looks for programs. Debian keeps
// daemons there.
var sbin = []string{"/usr/sbin", "/sbin"}

// find returns the path of a program.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}

	for _, dir := range sbin {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if err == nil {
			return path, nil
		}
	}

	return "", fmt.Errorf("%s: %w: %w", name, errUnavailable,
		exec.ErrNotFound)
}
