package sidecar

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btclog/v2"
	"github.com/lightninglabs/lndclient"
	"github.com/lightningnetwork/lnd/lnrpc"
	"github.com/lightningnetwork/lnd/lnrpc/verrpc"
	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/socketrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// lndRetryMin and lndRetryMax bound the wait between two attempts to
	// reach lnd.
	lndRetryMin = 250 * time.Millisecond
	lndRetryMax = 5 * time.Second

	// lndKeyRootID is the root key id under which the documents bake the
	// lnd macaroon that socketd runs on. It is not the one of socketd's own
	// macaroons, so that either can be revoked alone.
	lndKeyRootID = 50500
)

// minLndVersion is the oldest lnd that has every method that is called:
// custom messages, CheckMacaroonPermissions and macaroons with external
// permissions came with 0.14. No build tag is needed.
var minLndVersion = &verrpc.Version{AppMajor: 0, AppMinor: 14, AppPatch: 0}

// ErrNoMacaroon is returned when there is no macaroon to talk to lnd with.
var ErrNoMacaroon = errors.New("no lnd macaroon")

// NodeInfo describes the node that socketd runs beside.
type NodeInfo struct {
	PubKey     offer.PubKey
	Alias      string
	Network    string
	LndVersion string
}

// Message is a custom message of a peer (BOLT 1, types of 32768 and more).
type Message struct {
	Peer offer.PubKey
	Type uint32
	Body []byte
}

// Lnd is what the server needs of the lnd beside it. Errors carry the gRPC
// status that lnd answered with.
type Lnd interface {
	// Messenger sends custom messages.
	offer.Messenger

	// LndPeers knows lnd's peers.
	LndPeers

	// Node describes the node, as it was when the connection was made.
	Node() NodeInfo

	// Ping returns nil if lnd answers calls.
	Ping(ctx context.Context) error

	// CheckMacaroon returns nil if the macaroon is one of this lnd and
	// holds the permission, or the one for the method as a whole.
	CheckMacaroon(ctx context.Context, mac []byte,
		perm socketrpc.Permission, fullMethod string) error

	// Subscribe streams the custom messages of all peers until ctx is done
	// or lnd goes away; then both channels are closed.
	Subscribe(ctx context.Context) (<-chan Message, <-chan error, error)

	// BakeMacaroon makes a macaroon that holds external permissions.
	BakeMacaroon(ctx context.Context, perms []socketrpc.Permission,
		rootKeyID uint64) ([]byte, error)
}

// LndPermissions returns the permissions that socketd's lnd macaroon needs, as
// lncli bakemacaroon takes them. Those of optionalPermissions are needed only
// for a part of what socketd does.
func LndPermissions() []string {
	perms := []string{
		"uri:/lnrpc.Lightning/GetInfo",
		"uri:/verrpc.Versioner/GetVersion",
		"uri:/lnrpc.Lightning/CheckMacaroonPermissions",
		"uri:/lnrpc.Lightning/SendCustomMessage",
		"uri:/lnrpc.Lightning/SubscribeCustomMessages",
	}
	for _, optional := range optionalPermissions {
		perms = append(perms, optional.name)
	}

	return perms
}

// lndMacaroonLine is the command that bakes the macaroon which socketd needs
// to talk to lnd.
func lndMacaroonLine(network, path string) string {
	return fmt.Sprintf("lncli --network %s bakemacaroon --root_key_id %d "+
		"--save_to %s %s", network, lndKeyRootID, path,
		strings.Join(LndPermissions(), " "))
}

// lndConn is the Lnd of a node that is reached over the network.
type lndConn struct {
	services *lndclient.GrpcLndServices
	node     NodeInfo
}

// connectLnd connects to lnd, waiting as long as it is locked, starting or not
// there. It returns early only if ctx is done, or for what waiting does not
// mend: a wrong network, an old version, a missing or refused macaroon.
func connectLnd(ctx context.Context, cfg *Config,
	log btclog.Logger) (*lndConn, error) {

	if err := checkLndFiles(cfg); err != nil {
		return nil, err
	}

	delay := lndRetryMin
	for {
		services, err := lndclient.NewLndServices(
			&lndclient.LndServicesConfig{
				LndAddress: cfg.Lnd.Host,
				Network: lndclient.Network(
					cfg.Network,
				),
				CustomMacaroonPath: cfg.Lnd.MacaroonPath,
				TLSPath:            cfg.Lnd.TLSPath,
				CheckVersion:       minLndVersion,
				BlockUntilUnlocked: true,
				CallerCtx:          ctx,
			},
		)
		if err == nil {
			return newLndConn(services, cfg.Network), nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !isLndAway(err) {
			return nil, fmt.Errorf("connect to lnd at %s: %w",
				cfg.Lnd.Host, err)
		}

		log.Infof("Waiting for lnd at %s: %v", cfg.Lnd.Host, err)
		if !sleep(ctx, delay) {
			return nil, ctx.Err()
		}
		delay = min(2*delay, lndRetryMax)
	}
}

// newLndConn wraps a connection that has been checked.
func newLndConn(services *lndclient.GrpcLndServices,
	network string) *lndConn {

	return &lndConn{
		services: services,
		node: NodeInfo{
			PubKey:     offer.PubKey(services.NodePubkey),
			Alias:      services.NodeAlias,
			Network:    network,
			LndVersion: services.Version.Version,
		},
	}
}

// checkLndFiles tells what to do about files that are missing, before anything
// is dialled.
func checkLndFiles(cfg *Config) error {
	_, err := os.Stat(cfg.Lnd.TLSPath)
	if err != nil {
		return fmt.Errorf("lnd.tlspath: %w", err)
	}

	_, err = os.Stat(cfg.Lnd.MacaroonPath)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w at %s; bake one with\n\n  %s\n\nand "+
			"name it with --lnd.macaroonpath", ErrNoMacaroon,
			cfg.Lnd.MacaroonPath, lndMacaroonLine(
				cfg.Network, cfg.networkDir()+"/lnd.macaroon",
			))
	}
	if err != nil {
		return fmt.Errorf("lnd.macaroonpath: %w", err)
	}

	return nil
}

// isLndAway tells whether an error means that lnd is not there, locked, or
// starting, so that another attempt may succeed.
func isLndAway(err error) bool {
	if lndclient.IsUnlockError(err) {
		return true
	}

	st, ok := status.FromError(err)

	return ok && st.Code() == codes.Unavailable
}

// sleep waits for d. It returns false if ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-timer.C:
		return true

	case <-ctx.Done():
		return false
	}
}

// close ends the connection and waits for its goroutines.
func (l *lndConn) close() {
	l.services.Close()
}

// Node describes the node.
func (l *lndConn) Node() NodeInfo {
	return l.node
}

// Ping returns nil if lnd answers calls.
func (l *lndConn) Ping(ctx context.Context) error {
	// After a restart of lnd gRPC would wait out its own backoff first.
	l.services.ClientConn.ResetConnectBackoff()

	ctx, timeout, client := l.services.Client.RawClientWithMacAuth(ctx)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	_, err := client.GetInfo(ctx, &lnrpc.GetInfoRequest{})

	return err
}

// CheckMacaroon asks lnd about a macaroon.
func (l *lndConn) CheckMacaroon(ctx context.Context, mac []byte,
	perm socketrpc.Permission, fullMethod string) error {

	// With an empty list lnd would answer "valid" to any macaroon of its
	// own, so the list never is.
	valid, err := l.services.Client.CheckMacaroonPermissions(
		ctx, mac, []lndclient.MacaroonPermission{{
			Entity: perm.Entity,
			Action: perm.Action,
		}}, fullMethod,
	)
	if err != nil {
		return err
	}
	if !valid {
		return status.Error(codes.InvalidArgument, "permission denied")
	}

	return nil
}

// Send hands a custom message to lnd, which writes it to the peer's
// connection. It fails with offer.ErrNotConnected if there is none.
func (l *lndConn) Send(ctx context.Context, peer offer.PubKey, msgType uint16,
	body []byte) error {

	err := l.services.Client.SendCustomMessage(ctx, lndclient.CustomMessage{
		Peer:    [33]byte(peer),
		MsgType: uint32(msgType),
		Data:    body,
	})
	if status.Code(err) == codes.NotFound {
		return fmt.Errorf("%w: %w", offer.ErrNotConnected, err)
	}

	return err
}

// Subscribe streams the custom messages of all peers.
func (l *lndConn) Subscribe(ctx context.Context) (<-chan Message, <-chan error,
	error) {

	in, errs, err := l.services.Client.SubscribeCustomMessages(ctx)
	if err != nil {
		return nil, nil, err
	}

	out := make(chan Message)
	go func() {
		defer close(out)

		for msg := range in {
			select {
			case out <- Message{
				Peer: offer.PubKey(msg.Peer),
				Type: msg.MsgType,
				Body: msg.Data,
			}:

			case <-ctx.Done():
				return
			}
		}
	}()

	return out, errs, nil
}

// BakeMacaroon makes a macaroon that holds external permissions.
func (l *lndConn) BakeMacaroon(ctx context.Context,
	perms []socketrpc.Permission, rootKeyID uint64) ([]byte, error) {

	ctx, timeout, client := l.services.Client.RawClientWithMacAuth(ctx)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	req := &lnrpc.BakeMacaroonRequest{
		RootKeyId:                rootKeyID,
		AllowExternalPermissions: true,
	}
	for _, perm := range perms {
		req.Permissions = append(
			req.Permissions, &lnrpc.MacaroonPermission{
				Entity: perm.Entity,
				Action: perm.Action,
			},
		)
	}

	resp, err := client.BakeMacaroon(ctx, req)
	if err != nil {
		return nil, err
	}

	mac, err := hex.DecodeString(resp.Macaroon)
	if err != nil {
		// The library's error would repeat a part of it.
		return nil, errors.New("lnd's macaroon is not hex")
	}

	return mac, nil
}

// lndStatus remembers since when lnd has not answered.
type lndStatus struct {
	mu    sync.Mutex
	since time.Time
}

// up notes that lnd answers.
func (s *lndStatus) up() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.since = time.Time{}
}

// down notes that lnd does not answer, and returns since when.
func (s *lndStatus) down() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.since.IsZero() {
		s.since = time.Now()
	}

	return s.since
}
