package sidecar

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jessevdk/go-flags"
	"github.com/stretchr/testify/require"
)

// writeConf writes a configuration file for a network and returns the base
// directory that it is found in.
func writeConf(t *testing.T, network, content string) string {
	t.Helper()

	base := t.TempDir()
	dir := filepath.Join(base, network)
	require.NoError(t, os.MkdirAll(dir, 0700))
	require.NoError(t, os.WriteFile(
		filepath.Join(dir, configFilename), []byte(content), 0600,
	))

	return base
}

// TestLoadConfigDefaults checks what a daemon does that is told nothing.
func TestLoadConfigDefaults(t *testing.T) {
	t.Parallel()

	base := t.TempDir()
	cfg, err := LoadConfig([]string{"--socketdir=" + base}, nil)
	require.NoError(t, err)

	require.Equal(t, "mainnet", cfg.Network)
	require.Equal(t, "127.0.0.1:8881", cfg.RPCListen)
	require.Equal(t, "127.0.0.1:8882", cfg.RESTListen)
	require.Equal(t, base+"/mainnet/tls.cert", cfg.TLSCertPath)
	require.Equal(t, base+"/mainnet/tls.key", cfg.TLSKeyPath)
	require.Equal(t, uint64(50501), cfg.MacaroonRootKeyID)
	require.Equal(t, "localhost:10009", cfg.Lnd.Host)
	require.True(t, strings.HasSuffix(
		cfg.Lnd.MacaroonPath, "/bitcoin/mainnet/admin.macaroon",
	))
	require.Empty(t, cfg.Relay.ExternalIPs)
	require.Equal(t, "21000-21999", cfg.Relay.Ports)
	require.Equal(t, 100, cfg.Relay.MaxSockets)
	require.Equal(t, 30*time.Second, cfg.Relay.PinTimeout)
	require.Equal(t, 10*time.Minute, cfg.Relay.IdleTimeout)
	require.Equal(t, 24*time.Hour, cfg.Relay.Lifetime)
	require.Equal(t, 1000, cfg.Relay.MaxPairs)
	require.Equal(t, 100, cfg.Relay.MaxWaiting)
	require.Equal(t, 2*time.Minute, cfg.Relay.WaitTimeout)
	require.Equal(t, time.Minute, cfg.Relay.KeepAlive)
	require.Zero(t, cfg.Relay.MaxConns)
	require.Equal(t, Quantity(62_500_000), cfg.Relay.Bandwidth)
	require.Equal(t, Quantity(12_500_000), cfg.Relay.SocketBandwidth)
	require.Equal(t, Quantity(50_000), cfg.Relay.SocketPackets)
	require.Zero(t, cfg.Relay.SocketBytes)
	require.Equal(t, Quantity(25_000_000), cfg.Relay.NodeBandwidth)
	require.Equal(t, 5, cfg.Relay.NodeSockets)
	require.Equal(t, []string{"channel"}, cfg.Offer.AllowRequests)
	require.Empty(t, cfg.Offer.OpenFor)
	require.Equal(t, 50, cfg.Offer.MaxHosted)
	require.Equal(t, 24*time.Hour, cfg.Offer.MaxLifetime)
	require.Equal(t, Quantity(12_500_000), cfg.Offer.MaxBandwidth)
	require.Equal(t, 720*time.Hour, cfg.Store.History)
	require.Equal(t, base+"/mainnet/socketd.db", cfg.databasePath())

	// On the private networks a host needs no address.
	for _, network := range []string{"regtest", "simnet"} {
		cfg, err := LoadConfig([]string{
			"--socketdir=" + base, "--network=" + network,
		}, nil)
		require.NoError(t, err)
		require.Equal(t, []string{"127.0.0.1"}, cfg.Relay.ExternalIPs)

		// An empty value takes the default back.
		cfg, err = LoadConfig([]string{
			"--socketdir=" + base, "--network=" + network,
			"--relay.externalip=",
		}, nil)
		require.NoError(t, err)
		require.Empty(t, cfg.Relay.ExternalIPs)
	}
}

// TestLoadConfigPrecedence checks that the command line wins over the
// environment, and the environment over the file.
func TestLoadConfigPrecedence(t *testing.T) {
	t.Parallel()

	base := writeConf(t, "regtest", `
[Application Options]
debuglevel=warn
rpclisten=127.0.0.1:1
lnd.host=file:10009
relay.maxsockets=7
relay.externalip=192.0.2.1
relay.externalip=2001:db8::1
restcors=https://a.example
relay.bandwidth=1G
relay.socketbytes=2G
`)
	args := []string{
		"--socketdir=" + base, "--lnd.host=flag:10009",
		"--restcors=https://c.example",
	}
	environ := []string{
		"HOME=/nowhere",
		"SOCKETD_NETWORK=regtest",
		"SOCKETD_LND_HOST=env:10009",
		"SOCKETD_RPCLISTEN=127.0.0.1:2",
		"SOCKETD_RESTCORS=https://b.example,https://d.example",
		"SOCKETD_DEBUGLEVEL=info,RELY=trace",
		"SOCKETD_RELAY_BANDWIDTH=1500k",
	}

	cfg, err := LoadConfig(args, environ)
	require.NoError(t, err)
	require.Equal(t, "regtest", cfg.Network)
	require.Equal(t, "flag:10009", cfg.Lnd.Host)
	require.Equal(t, "127.0.0.1:2", cfg.RPCListen)
	require.Equal(t, 7, cfg.Relay.MaxSockets)
	require.Equal(t, "info,RELY=trace", cfg.DebugLevel)
	require.Equal(t, Quantity(1_500_000), cfg.Relay.Bandwidth)
	require.Equal(t, Quantity(2_000_000_000), cfg.Relay.SocketBytes)
	require.Equal(t, []string{"https://c.example"}, cfg.RESTCORS)
	require.Equal(
		t, []string{"192.0.2.1", "2001:db8::1"}, cfg.Relay.ExternalIPs,
	)

	// Without the flag the environment's list counts, whole.
	cfg, err = LoadConfig(args[:2], environ)
	require.NoError(t, err)
	require.Equal(
		t, []string{"https://b.example", "https://d.example"},
		cfg.RESTCORS,
	)
}

// TestLoadConfigErrors checks that every mistake is named.
func TestLoadConfigErrors(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name    string
		args    []string
		environ []string
		file    string
		want    string
	}{
		{name: "unknown flag", args: []string{"--nosuch=1"},
			want: "nosuch"},
		{name: "argument", args: []string{"start"}, want: `"start"`},
		{name: "unknown variable", environ: []string{"SOCKETD_NO=1"},
			want: "SOCKETD_NO"},
		{name: "unknown key", file: "nosuch=1", want: "nosuch"},
		{name: "network in file", file: "network=regtest",
			want: "network"},
		{name: "network", args: []string{"--network=main"},
			want: "network"},
		{name: "rpclisten", args: []string{"--rpclisten=8881"},
			want: "rpclisten"},
		{name: "restlisten", args: []string{"--restlisten=unix://"},
			want: "restlisten"},
		{name: "root key", args: []string{"--macaroonrootkeyid=0"},
			want: "macaroonrootkeyid"},
		{name: "log files", args: []string{"--maxlogfiles=-1"},
			want: "maxlogfiles"},
		{name: "log size", args: []string{"--maxlogfilesize=0"},
			want: "maxlogfilesize"},
		{name: "tls ip", args: []string{"--tlsextraip=x"},
			want: "tlsextraip"},
		{name: "lnd host", args: []string{"--lnd.host=x"},
			want: "lnd.host"},
		{name: "external host name", args: []string{
			"--relay.externalip=example.com",
		}, want: "relay.externalip"},
		{name: "external unspecified", args: []string{
			"--relay.externalip=0.0.0.0",
		}, want: "relay.externalip"},
		{name: "listen", args: []string{"--relay.listen=x"},
			want: "relay.listen"},
		{name: "ports", args: []string{"--relay.ports=22-21"},
			want: "relay.ports"},
		{name: "max sockets", args: []string{"--relay.maxsockets=0"},
			want: "relay.maxsockets"},
		{name: "pin timeout", args: []string{"--relay.pintimeout=0s"},
			want: "relay.pintimeout"},
		{name: "idle timeout", args: []string{
			"--relay.idletimeout=-1s",
		}, want: "relay.idletimeout"},
		{name: "lifetime", args: []string{"--relay.lifetime=-1s"},
			want: "relay.lifetime"},
		{name: "max pairs", args: []string{"--relay.maxpairs=0"},
			want: "relay.maxpairs"},
		{name: "max waiting", args: []string{"--relay.maxwaiting=0"},
			want: "relay.maxwaiting"},
		{name: "wait timeout", args: []string{"--relay.waittimeout=0s"},
			want: "relay.waittimeout"},
		{name: "keep-alive", args: []string{"--relay.keepalive=999ms"},
			want: "relay.keepalive"},
		{name: "negative conns", args: []string{"--relay.maxconns=-1"},
			want: "relay.maxconns"},
		{name: "half a pair", args: []string{"--relay.maxconns=1"},
			want: "relay.maxconns"},
		{name: "bandwidth", args: []string{"--relay.bandwidth=1.5G"},
			want: "relay.bandwidth"},
		{name: "quantity", args: []string{"--relay.bandwidth=1.5G"},
			want: `"1.5G" is not a whole number`},
		{name: "negative packets", args: []string{
			"--relay.socketpackets=-1",
		}, want: "relay.socketpackets"},
		{name: "too many bytes", environ: []string{
			"SOCKETD_RELAY_SOCKETBYTES=9223372037G",
		}, want: "too large"},
		{name: "bandwidth in file", file: "relay.nodebandwidth=fast",
			want: `"fast" is not a whole number`},
		{name: "history", args: []string{"--store.history=167h"},
			want: "store.history"},
		{name: "node sockets", args: []string{"--relay.nodesockets=0"},
			want: "relay.nodesockets"},
		{name: "no such file", args: []string{"--configfile=/no/file"},
			want: "/no/file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()

			base := writeConf(t, "mainnet", test.file)
			args := append(
				[]string{"--socketdir=" + base}, test.args...,
			)
			_, err := LoadConfig(args, test.environ)
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestHelp checks that --help is told apart from a mistake.
func TestHelp(t *testing.T) {
	t.Parallel()

	_, err := LoadConfig([]string{"--help"}, nil)
	var flagErr *flags.Error
	require.ErrorAs(t, err, &flagErr)
	require.Equal(t, flags.ErrHelp, flagErr.Type)
	require.Contains(t, flagErr.Message, "--lnd.macaroonpath")
}

// eachOption calls fn for every option that may stand in the file.
func eachOption(group *flags.Group, fn func(*flags.Option)) {
	for _, option := range group.Options() {
		if option.Field().Tag.Get("no-ini") == "" {
			fn(option)
		}
	}
	for _, sub := range group.Groups() {
		eachOption(sub, fn)
	}
}

// TestSampleConf checks that the sample has every option of the daemon and no
// other, each commented out, and that those with a fixed default show it.
func TestSampleConf(t *testing.T) {
	t.Parallel()

	file, err := os.Open("../sample-conf/" + configFilename)
	require.NoError(t, err)
	defer file.Close()

	sample := make(map[string]string)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		option, ok := strings.CutPrefix(lines.Text(), "; ")
		if !ok {
			continue
		}
		name, value, ok := strings.Cut(option, "=")
		if !ok || strings.Contains(name, " ") {
			continue
		}
		sample[name] = value
	}
	require.NoError(t, lines.Err())

	cfg := DefaultConfig()
	parser := newParser(&cfg)
	var args []string
	eachOption(parser.Group, func(option *flags.Option) {
		name := option.LongNameWithNamespace()
		if name == "" || name == "help" {
			return
		}
		value, ok := sample[name]
		require.True(t, ok, "sample lacks %s", name)
		delete(sample, name)

		def := fmt.Sprintf("%v", option.Value())
		fixed := def != "" && def != "[]" &&
			!strings.Contains(def, "/.")
		if fixed {
			arg := []string{"--" + name + "=" + value}
			require.NoError(t, parseArgs(&cfg, arg))
			require.Equal(t, def, fmt.Sprintf("%v", option.Value()),
				"default of %s", name)
		}
		args = append(args, "--"+name+"="+value)
	})
	require.Empty(t, sample, "sample has unknown options")

	// Taken together, what the sample shows is valid.
	_, err = LoadConfig(append(args, "--configfile=/dev/null"), nil)
	require.NoError(t, err)
}
