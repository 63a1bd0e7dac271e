package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
)

const (
	// demoCount is how many datagrams go each way, in windows of
	// demoWindow. It is what a socket lets through at once by its default
	// limits, however fast the clients are.
	demoCount  = 4_000
	demoWindow = 64

	// demoMove is how many datagrams a client has sent when it moves: in
	// the middle of a window, and of the exchange.
	demoMove = demoCount/2 + demoWindow/2

	// clientTimeout is how long nothing may come at a client.
	clientTimeout = 30 * time.Second

	// The seeds of the two clients.
	seedA = 0xa11ce
	seedB = 0xb0b
)

// udpClient is a client that runs as a process.
type udpClient struct {
	proc *regtest.Process

	// leg is the client's leg, and addr its address, which the leg is to be
	// pinned to.
	leg  uint32
	addr string

	// summary is what it did, once it has ended.
	summary clientSummary
}

var (
	// clientHello is the line with a client's address.
	clientHello = regexp.MustCompile(`^.*` + helloLine + ` (\S+)$`)

	// clientHeard is the line of a client that has heard the other one.
	clientHeard = regexp.MustCompile(`^.*` + heardLine + `$`)

	// clientMoved is the line with the two addresses of a client that has
	// moved.
	clientMoved = regexp.MustCompile(`^.*` + moveLine + ` (\S+) to (\S+) ` +
		`.*$`)

	// clientResult is the line with a client's summary.
	clientResult = regexp.MustCompile(`^\{.*\}$`)
)

// clientConfig returns what the client of a leg of the socket is to do.
func (d *demo) clientConfig(leg int) (clientConfig, error) {
	port, err := d.port(leg)
	if err != nil {
		return clientConfig{}, err
	}

	name, err := d.bindLeg(leg)
	if err != nil {
		return clientConfig{}, err
	}

	cfg := clientConfig{
		name:     "client-a",
		port:     port,
		leg:      name,
		token:    d.tokens[leg-1],
		count:    demoCount,
		window:   demoWindow,
		seed:     seedA,
		peerSeed: seedB,
		timeout:  clientTimeout,
	}
	if leg == 2 {
		cfg.name = "client-b"
		cfg.seed, cfg.peerSeed = seedB, seedA
	}

	return cfg, nil
}

// bindLeg returns the name of a leg of the socket in the handshake.
func (d *demo) bindLeg(leg int) (bind.Leg, error) {
	id, err := parseSocketID(d.socket.SocketId)
	if err != nil {
		return bind.Leg{}, fmt.Errorf("id of the socket: %w", err)
	}

	// The numbers are those of docs/relay-protocol.md.
	name := bind.Leg{SocketID: id, Num: uint8(leg), Protocol: 1}
	if d.socket.Protocol == "tcp" {
		name.Protocol = 2
	}

	return name, nil
}

// startClient starts a client and waits until its leg is pinned to it. The
// client sends the first window only when its standard input ends, if one is
// given.
func (d *demo) startClient(ctx context.Context, cfg clientConfig,
	stdin *os.File) (*udpClient, error) {

	args, env := clientArgs(cfg, stdin != nil), clientEnv(cfg)
	command := append(append(env[:len(env):len(env)], "socketdev"), args...)
	if err := d.say("$ %s &", shellJoin(command)); err != nil {
		return nil, err
	}

	proc, err := d.start(ctx, regtest.ProcessConfig{
		Name:    cfg.name,
		Path:    d.self,
		Args:    args,
		Env:     env,
		Stdin:   stdin,
		LogFile: d.lab.file(d.a.node, cfg.name+".log"),
	})
	if err != nil {
		return nil, err
	}

	match, err := proc.WaitLine(ctx, clientHello)
	if err != nil {
		return nil, err
	}
	c := &udpClient{proc: proc, leg: uint32(cfg.leg.Num), addr: match[1]}

	if err := d.say("%s", match[0]); err != nil {
		return nil, err
	}

	return c, d.awaitPin(ctx, c.leg, c.addr, "")
}

// awaitPin waits for the event that a leg has taken a client, instead of the
// one at the address old if it had one.
func (d *demo) awaitPin(ctx context.Context, leg uint32, client,
	old string) error {

	event, err := d.awaitEvent(
		ctx, d.a, socketrpc.Event_CLIENT_PINNED,
		func(event *socketrpc.Event) bool {
			return isPin(event, d.socket.SocketId, pinChange{
				leg, client, old,
			})
		},
	)
	if err != nil || old == "" {
		return err
	}

	return d.say("its data: %s", event.Data)
}

// pinChange is what an event says of a leg that has taken a client.
type pinChange struct {
	Leg           uint32 `json:"leg"`
	ClientAddr    string `json:"client_addr"`
	OldClientAddr string `json:"old_client_addr"`
}

// isPin says whether an event tells that a leg has taken a client.
func isPin(event *socketrpc.Event, socketID string, want pinChange) bool {
	var pin pinChange
	if err := json.Unmarshal(event.Data, &pin); err != nil {
		return false
	}

	return event.SocketId == socketID && pin == want
}

// awaitMove waits until the client has moved to another port, and its leg has
// followed it.
func (d *demo) awaitMove(ctx context.Context, c *udpClient) error {
	match, err := c.proc.WaitLine(ctx, clientMoved)
	if err != nil {
		return err
	}

	if err := d.say("%s", match[0]); err != nil {
		return err
	}

	from, to := match[1], match[2]
	if from != c.addr || to == from {
		return fmt.Errorf("it was at %s", c.addr)
	}
	c.addr = to

	return d.awaitPin(ctx, c.leg, to, from)
}

// finish waits until the client has done its work and reads its summary.
func (c *udpClient) finish(ctx context.Context) (string, error) {
	if err := c.proc.WaitExit(ctx); err != nil {
		return "", err
	}

	match, err := c.proc.WaitLine(ctx, clientResult)
	if err != nil {
		return "", err
	}

	if err := json.Unmarshal([]byte(match[0]), &c.summary); err != nil {
		return "", fmt.Errorf("summary of a client: %w", err)
	}

	return match[0], nil
}
