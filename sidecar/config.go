package sidecar

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/btcsuite/btcd/btcutil"
	"github.com/socketd/socketd/relay"
	"github.com/socketd/socketd/sidecar/offer"
)

const (
	configFilename   = "socketd.conf"
	tlsCertFilename  = "tls.cert"
	tlsKeyFilename   = "tls.key"
	macaroonFilename = "socket.macaroon"
	readonlyFilename = "readonly.macaroon"
	logDirname       = "logs"
	logFilename      = "socketd.log"
	databaseFilename = "socketd.db"

	defaultNetwork   = "mainnet"
	defaultRPCPort   = "8881"
	defaultRESTPort  = "8882"
	defaultLndHost   = "localhost:10009"
	defaultRootKeyID = 50501
	defaultLogSizeMB = 20
	defaultLogFiles  = 10

	defaultHistory = 30 * 24 * time.Hour
)

// networks are the names that --network takes, lnd's own.
var networks = []string{
	"mainnet", "testnet", "testnet4", "signet", "simnet", "regtest",
}

// Config is every option of the daemon, as the command line, the environment
// and socketd.conf give it. It holds values only.
//
//nolint:lll // The tags of an option cannot be broken.
type Config struct {
	ShowVersion bool   `short:"V" long:"version" no-ini:"true" description:"Display version information and exit"`
	SocketDir   string `long:"socketdir" description:"The base directory; everything is kept in its subdirectory <network>"`
	ConfigFile  string `long:"configfile" no-ini:"true" description:"Path to the configuration file (default: <socketdir>/<network>/socketd.conf)"`
	Network     string `long:"network" description:"The network that lnd is on: mainnet, testnet, testnet4, signet, simnet or regtest"`

	DebugLevel  string `long:"debuglevel" description:"Logging level for all subsystems {trace, debug, info, warn, error, critical, off}, or <global-level>,<subsystem>=<level>,... to set them one by one"`
	MaxLogFiles int    `long:"maxlogfiles" description:"How many rotated log files are kept; 0 for no rotation"`
	MaxLogSize  int    `long:"maxlogfilesize" description:"The size in MB at which a log file is rotated"`

	RPCListen  string   `long:"rpclisten" description:"Address to serve gRPC on: host:port or unix:///path"`
	RESTListen string   `long:"restlisten" description:"Address to serve REST and WebSockets on: host:port or unix:///path"`
	RESTCORS   []string `long:"restcors" description:"An origin, such as https://app.example.com, whose pages may call REST and open WebSockets; * for any. May be given several times"`

	TLSCertPath     string   `long:"tlscertpath" description:"Path to the TLS certificate (default: <socketdir>/<network>/tls.cert)"`
	TLSKeyPath      string   `long:"tlskeypath" description:"Path to the TLS key (default: <socketdir>/<network>/tls.key)"`
	TLSExtraIPs     []string `long:"tlsextraip" description:"A further IP for the generated certificate. May be given several times"`
	TLSExtraDomains []string `long:"tlsextradomain" description:"A further domain for the generated certificate. May be given several times"`

	MacaroonRootKeyID uint64 `long:"macaroonrootkeyid" description:"The lnd root key id under which socketd's own macaroons are baked; lncli deletemacaroonid with it revokes them"`

	Lnd   LndConfig   `group:"lnd" namespace:"lnd"`
	Relay RelayConfig `group:"relay" namespace:"relay"`
	Offer OfferConfig `group:"offer" namespace:"offer"`
	Store StoreConfig `group:"store" namespace:"store"`
}

// StoreConfig tells what is kept.
//
//nolint:lll // The tags of an option cannot be broken.
type StoreConfig struct {
	History time.Duration `long:"history" description:"How long events, and offers that are over, are kept; at least 168h, which is as long as an offer may live"`
}

// LndConfig tells how to reach lnd.
//
//nolint:lll // The tags of an option cannot be broken.
type LndConfig struct {
	Host         string `long:"host" description:"lnd's gRPC address, host:port"`
	TLSPath      string `long:"tlspath" description:"Path to lnd's TLS certificate"`
	MacaroonPath string `long:"macaroonpath" description:"Path to the lnd macaroon that socketd uses (default: lnd's admin.macaroon; docs/operations.md has the line that bakes an exact one)"`
}

// RelayConfig tells what the relay may do.
//
//nolint:lll // The tags of an option cannot be broken.
type RelayConfig struct {
	ExternalIPs []string      `long:"externalip" description:"A public IP address of this host, given to clients and in offers; without one, or with an empty value, this node does not host. May be given several times, the preferred one first (default: 127.0.0.1 on regtest and simnet)"`
	OfferLocal  Switch        `long:"offerlocal" optional:"true" optional-value:"true" description:"Offer the private addresses of this machine's interfaces as well, behind the external ones, so that nodes in the same local network need not come from outside. Whoever gets an offer sees them"`
	Listen      string        `long:"listen" description:"The IP address that relay ports are opened on (default: all addresses)"`
	Ports       string        `long:"ports" description:"The ports that sockets use"`
	MaxSockets  int           `long:"maxsockets" description:"How many sockets may be open at once; each takes two file descriptors"`
	PinTimeout  time.Duration `long:"pintimeout" description:"After how much silence of its client a leg takes the next one; a client with an open connection is not silent"`
	IdleTimeout time.Duration `long:"idletimeout" description:"After how much time without a byte or a packet in either direction a socket other than the default one is stopped, open connections or not; 0 for never"`
	Lifetime    time.Duration `long:"lifetime" description:"How long a socket other than the default one may live; 0 for ever"`
	MaxPairs    int           `long:"maxpairs" description:"How many pairs of connections a TCP socket may have; further connections wait"`
	MaxWaiting  int           `long:"maxwaiting" description:"How many connections may wait at a leg of a TCP socket for their partners; further ones are refused"`
	WaitTimeout time.Duration `long:"waittimeout" description:"How long a connection may wait for its partner"`
	KeepAlive   time.Duration `long:"keepalive" description:"After how much silence of a connection its client is asked whether it is still there, and after how much more without an answer the connection ends; at least 1s"`
	MaxConns    int           `long:"maxconns" description:"How many connections all TCP sockets together may have, each a file descriptor; 0 for as many as the limit of open files leaves"`

	Bandwidth       Quantity `long:"bandwidth" description:"How many bytes all sockets together may pass in a second, both directions; 0 for no limit. As all numbers of bytes and packets, with k, M or G behind it for thousands, millions or billions"`
	SocketBandwidth Quantity `long:"socketbandwidth" description:"How many bytes a socket may pass in a second, in each direction, unless its start says otherwise; 0 for no limit"`
	SocketPackets   Quantity `long:"socketpackets" description:"How many datagrams a UDP socket may pass in a second, in each direction, unless its start says otherwise; 0 for no limit"`
	SocketBytes     Quantity `long:"socketbytes" description:"After how many bytes, both directions, a socket is stopped, unless its start says otherwise; 0 for no limit"`
	NodeBandwidth   Quantity `long:"nodebandwidth" description:"How many bytes all sockets that are counted against one far end may pass together in a second, both directions; 0 for no limit"`
	NodeSockets     int      `long:"nodesockets" description:"How many sockets one far end may have of this node at once: offered to it, or hosted on its requests"`

	// localAddrs are the addresses that OfferLocal is about. Whoever looks
	// at the machine fills them in.
	localAddrs []netip.Addr
}

// DefaultConfig returns the options as they are when nothing is set.
func DefaultConfig() Config {
	return Config{
		SocketDir:         btcutil.AppDataDir("socketd", false),
		Network:           defaultNetwork,
		DebugLevel:        "info",
		MaxLogFiles:       defaultLogFiles,
		MaxLogSize:        defaultLogSizeMB,
		RPCListen:         "127.0.0.1:" + defaultRPCPort,
		RESTListen:        "127.0.0.1:" + defaultRESTPort,
		MacaroonRootKeyID: defaultRootKeyID,
		Lnd: LndConfig{
			Host: defaultLndHost,
			TLSPath: filepath.Join(
				btcutil.AppDataDir("lnd", false), "tls.cert",
			),
		},
		Relay: RelayConfig{
			Ports:       "21000-21999",
			MaxSockets:  100,
			PinTimeout:  30 * time.Second,
			IdleTimeout: 10 * time.Minute,
			Lifetime:    24 * time.Hour,
			MaxPairs:    1000,
			MaxWaiting:  100,
			WaitTimeout: 2 * time.Minute,
			KeepAlive:   time.Minute,

			// docs/operations.md tells what they protect.
			Bandwidth:       62_500_000,
			SocketBandwidth: 12_500_000,
			SocketPackets:   50_000,
			NodeBandwidth:   25_000_000,
			NodeSockets:     5,
		},
		Offer: OfferConfig{
			AutoAccept:    autoAcceptNone,
			AllowRequests: []string{requestsOfChannel},
			MaxHosted:     defaultMaxHosted,
			MaxLifetime:   defaultMaxLifetime,
			MaxBandwidth:  defaultMaxBandwidth,
		},
		Store: StoreConfig{History: defaultHistory},
	}
}

// networkDir is the directory that holds everything of one network.
func (c *Config) networkDir() string {
	return filepath.Join(c.SocketDir, c.Network)
}

// databasePath is the file of the database.
func (c *Config) databasePath() string {
	return filepath.Join(c.networkDir(), databaseFilename)
}

// complete fills in the options whose default depends on others and expands
// every path.
func (c *Config) complete() {
	c.SocketDir = expandPath(c.SocketDir)

	dir := c.networkDir()
	if c.TLSCertPath == "" {
		c.TLSCertPath = filepath.Join(dir, tlsCertFilename)
	}
	if c.TLSKeyPath == "" {
		c.TLSKeyPath = filepath.Join(dir, tlsKeyFilename)
	}
	if c.Lnd.MacaroonPath == "" {
		c.Lnd.MacaroonPath = c.adminMacaroonPath()
	}

	for _, path := range []*string{
		&c.TLSCertPath, &c.TLSKeyPath, &c.Lnd.TLSPath,
		&c.Lnd.MacaroonPath,
	} {
		*path = expandPath(*path)
	}

	// On a private network everything is on this machine, so that a host
	// works without being told its address.
	if len(c.Relay.ExternalIPs) == 0 && isPrivateNetwork(c.Network) {
		c.Relay.ExternalIPs = []string{"127.0.0.1"}
	}

	// An empty value takes the default back.
	c.Relay.ExternalIPs = slices.DeleteFunc(
		c.Relay.ExternalIPs, func(ip string) bool { return ip == "" },
	)
}

// adminMacaroonPath is where lnd keeps its admin macaroon by default.
func (c *Config) adminMacaroonPath() string {
	return filepath.Join(
		btcutil.AppDataDir("lnd", false), "data", "chain", "bitcoin",
		c.Network, "admin.macaroon",
	)
}

// expandPath resolves a leading ~ and environment variables, and cleans the
// path.
func expandPath(path string) string {
	if path == "" {
		return ""
	}

	if path == "~" || strings.HasPrefix(path, "~/") {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, path[1:])
		}
	}

	return filepath.Clean(os.ExpandEnv(path))
}

// validate checks every option that the parser cannot check by its type. Its
// errors name the option.
func (c *Config) validate() error {
	if !slices.Contains(networks, c.Network) {
		return fmt.Errorf("network: %q is none of %s", c.Network,
			strings.Join(networks, ", "))
	}

	if c.MacaroonRootKeyID == 0 {
		return errors.New("macaroonrootkeyid: lnd never deletes root " +
			"key id 0, so macaroons under it cannot be revoked")
	}

	if c.MaxLogFiles < 0 {
		return fmt.Errorf("maxlogfiles: %d is negative", c.MaxLogFiles)
	}
	if c.MaxLogSize < 1 {
		return fmt.Errorf("maxlogfilesize: %d is less than 1 MB",
			c.MaxLogSize)
	}

	for option, addr := range map[string]string{
		"rpclisten": c.RPCListen, "restlisten": c.RESTListen,
	} {
		if _, err := parseListen(addr); err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
	}

	for _, ip := range c.TLSExtraIPs {
		if _, err := netip.ParseAddr(ip); err != nil {
			return fmt.Errorf("tlsextraip: %w", err)
		}
	}

	if _, _, err := net.SplitHostPort(c.Lnd.Host); err != nil {
		return fmt.Errorf("lnd.host: %w", err)
	}

	if c.Store.History < offer.MaxLifetime {
		return fmt.Errorf("store.history: %v is less than %v, which "+
			"an offer may live", c.Store.History,
			offer.MaxLifetime)
	}

	if _, err := c.Offer.policy(); err != nil {
		return err
	}
	if err := c.Relay.validate(); err != nil {
		return err
	}
	_, err := c.requestPolicy()

	return err
}

// validate checks the relay's options.
func (r *RelayConfig) validate() error {
	external, err := r.externalAddrs()
	if err != nil {
		return err
	}
	if r.OfferLocal && len(external) == 0 {
		return errNoExternalIP
	}

	if _, err := r.listenAddr(); err != nil {
		return err
	}

	if _, err := relay.ParsePortRange(r.Ports); err != nil {
		return fmt.Errorf("relay.ports: %w", err)
	}

	if r.MaxSockets < 1 {
		return fmt.Errorf("relay.maxsockets: %d is less than 1",
			r.MaxSockets)
	}

	if r.PinTimeout <= 0 {
		return fmt.Errorf("relay.pintimeout: %v is not positive",
			r.PinTimeout)
	}
	if r.IdleTimeout < 0 {
		return fmt.Errorf("relay.idletimeout: %v is negative",
			r.IdleTimeout)
	}
	if r.Lifetime < 0 {
		return fmt.Errorf("relay.lifetime: %v is negative", r.Lifetime)
	}

	if r.NodeSockets < 1 {
		return fmt.Errorf("relay.nodesockets: %d is less than 1",
			r.NodeSockets)
	}

	return r.validateTCP()
}

// validateTCP checks the options of TCP sockets.
func (r *RelayConfig) validateTCP() error {
	switch {
	case r.MaxPairs < 1:
		return fmt.Errorf("relay.maxpairs: %d is less than 1",
			r.MaxPairs)

	case r.MaxWaiting < 1:
		return fmt.Errorf("relay.maxwaiting: %d is less than 1",
			r.MaxWaiting)

	case r.WaitTimeout <= 0:
		return fmt.Errorf("relay.waittimeout: %v is not positive",
			r.WaitTimeout)

	case r.KeepAlive < time.Second:
		return fmt.Errorf("relay.keepalive: %v is less than 1s",
			r.KeepAlive)

	case r.MaxConns < 0 || r.MaxConns == 1:
		return fmt.Errorf("relay.maxconns: %d is neither 0 nor "+
			"enough for a pair, which is two", r.MaxConns)

	default:
		return nil
	}
}

// externalAddrs returns the addresses at which clients reach this host's
// sockets, the preferred one first.
func (r *RelayConfig) externalAddrs() ([]netip.Addr, error) {
	addrs := make([]netip.Addr, 0, len(r.ExternalIPs))
	for _, ip := range r.ExternalIPs {
		addr, err := netip.ParseAddr(ip)
		switch {
		case err != nil:
			return nil, fmt.Errorf("relay.externalip: %w", err)

		case addr.IsUnspecified() || addr.IsMulticast() ||
			addr.Zone() != "":

			return nil, fmt.Errorf("relay.externalip: %s is no "+
				"address that clients can send to", ip)
		}

		addrs = append(addrs, addr.Unmap())
	}

	if len(addrs) > maxExternalAddrs {
		return nil, fmt.Errorf("relay.externalip: an offer carries "+
			"at most %d addresses", maxExternalAddrs)
	}

	return addrs, nil
}

// listenAddr returns the address that relay ports are opened on, the zero
// address for all of them.
func (r *RelayConfig) listenAddr() (netip.Addr, error) {
	if r.Listen == "" {
		return netip.Addr{}, nil
	}

	addr, err := netip.ParseAddr(r.Listen)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("relay.listen: %w", err)
	}

	return addr.Unmap(), nil
}

// formatListen returns the address of a listener as the options have it.
func formatListen(addr net.Addr) string {
	if addr.Network() == "unix" {
		return "unix://" + addr.String()
	}

	return addr.String()
}

// parseListen splits a listening address into the network and the address that
// net.Listen takes.
func parseListen(addr string) ([2]string, error) {
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		if path == "" {
			return [2]string{}, fmt.Errorf("%q has no path", addr)
		}

		return [2]string{"unix", path}, nil
	}

	if _, _, err := net.SplitHostPort(addr); err != nil {
		return [2]string{}, err
	}

	return [2]string{"tcp", addr}, nil
}
