package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"
)

const (
	defaultRPCServer = "localhost:8881"
	defaultSocketDir = "~/.socketd"
	defaultNetwork   = "mainnet"

	tlsCertName  = "tls.cert"
	macaroonName = "socket.macaroon"
)

// networks are the names that --network takes.
var networks = []string{
	"mainnet", "testnet", "testnet4", "signet", "simnet", "regtest",
}

// config says where socketd is and with what to talk to it.
type config struct {
	rpcServer    string
	tlsCertPath  string
	macaroonPath string
}

// envVar is the environment variable that sets a flag. It counts only while it
// is not empty, as is usual with environment variables.
type envVar string

// Lookup returns the value of the variable and whether it has one.
func (e envVar) Lookup() (string, bool) {
	value := os.Getenv(string(e))

	return value, value != ""
}

// String returns how errors name the variable.
func (e envVar) String() string {
	return "environment variable " + string(e)
}

// GoString returns the variable as Go source.
func (e envVar) GoString() string {
	return fmt.Sprintf("envVar(%q)", string(e))
}

// IsFromEnv tells the help text that this is an environment variable.
func (e envVar) IsFromEnv() bool {
	return true
}

// Key returns the name of the variable for the help text.
func (e envVar) Key() string {
	return string(e)
}

// globalFlags returns the flags that every command takes.
func globalFlags() []cli.Flag {
	env := func(name string) cli.ValueSourceChain {
		return cli.NewValueSourceChain(envVar("SOCKETCLI_" + name))
	}

	return []cli.Flag{
		&cli.StringFlag{
			Name:  "rpcserver",
			Value: defaultRPCServer,
			Usage: "the `address` of socketd, host:port or " +
				"unix:///path",
			Sources: env("RPCSERVER"),
		},
		&cli.StringFlag{
			Name:      "socketdir",
			Value:     defaultSocketDir,
			Usage:     "the `path` of socketd's home directory",
			TakesFile: true,
			Sources:   env("SOCKETDIR"),
		},
		&cli.StringFlag{
			Name:    "network",
			Aliases: []string{"n"},
			Value:   defaultNetwork,
			Usage: "the `network` that socketd runs on, one of " +
				strings.Join(networks, ", "),
			Sources: env("NETWORK"),
		},
		&cli.StringFlag{
			Name:        "tlscertpath",
			DefaultText: "<socketdir>/<network>/" + tlsCertName,
			Usage:       "the `path` of socketd's TLS certificate",
			TakesFile:   true,
			Sources:     env("TLSCERTPATH"),
		},
		&cli.StringFlag{
			Name:        "macaroonpath",
			DefaultText: "<socketdir>/<network>/" + macaroonName,
			Usage:       "the `path` of the macaroon to present",
			TakesFile:   true,
			Sources:     env("MACAROONPATH"),
		},
		&cli.BoolFlag{
			Name: jsonFlag,
			Usage: "print JSON on a terminal, too, where list, " +
				"offers and events would print what is " +
				"easier to read",
			Sources: env("JSON"),
		},
	}
}

// loadConfig reads the global flags of cmd.
func loadConfig(cmd *cli.Command) (*config, error) {
	rpcServer, err := option(cmd, "rpcserver")
	if err != nil {
		return nil, err
	}
	if err := checkAddress(rpcServer); err != nil {
		return nil, err
	}

	socketDir, err := option(cmd, "socketdir")
	if err != nil {
		return nil, err
	}

	network, err := option(cmd, "network")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(networks, network) {
		return nil, usagef("--network: %q is not one of %s", network,
			strings.Join(networks, ", "))
	}

	networkDir := filepath.Join(socketDir, network)

	tlsCertPath, err := pathOption(
		cmd, "tlscertpath", filepath.Join(networkDir, tlsCertName),
	)
	if err != nil {
		return nil, err
	}

	macaroonPath, err := pathOption(
		cmd, "macaroonpath", filepath.Join(networkDir, macaroonName),
	)
	if err != nil {
		return nil, err
	}

	return &config{
		rpcServer:    rpcServer,
		tlsCertPath:  tlsCertPath,
		macaroonPath: macaroonPath,
	}, nil
}

// checkAddress returns an error if addr is no address of a socketd. gRPC would
// take an address without a port for one with the port of HTTPS.
func checkAddress(addr string) error {
	if strings.HasPrefix(addr, "unix:") {
		return nil
	}

	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return usagef("--rpcserver: %q is neither host:port nor "+
			"unix:///path", addr)
	}

	return nil
}

// pathOption returns the path that a flag names, or byDefault if the flag was
// not given, with ~ and variables expanded.
func pathOption(cmd *cli.Command, name, byDefault string) (string, error) {
	path, err := option(cmd, name)
	if err != nil {
		return "", err
	}
	if path == "" {
		path = byDefault
	}

	path, err = expandPath(path)
	if err != nil {
		return "", fmt.Errorf("--%s: %w", name, err)
	}

	return path, nil
}

// expandPath replaces variables by their values and a leading ~ by the home
// directory.
func expandPath(path string) (string, error) {
	path = os.ExpandEnv(path)

	rest, ok := strings.CutPrefix(path, "~")
	if ok && (rest == "" || os.IsPathSeparator(rest[0])) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("expand ~: %w", err)
		}
		path = home + rest
	}

	return filepath.Clean(path), nil
}
