package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUsageErrors checks that a wrong command line exits with 2, says what is
// wrong with it, and asks nothing of socketd.
func TestUsageErrors(t *testing.T) {
	server := newTestServer(t)

	tests := []struct {
		args   []string
		stderr string
	}{
		// Commands and flags.
		{[]string{"nosuch"}, `unknown command "nosuch" ` +
			"(see socketcli --help)"},
		{[]string{""}, `unknown command ""`},
		{[]string{"help", "nosuch"}, "nosuch"},
		{[]string{"--help", "nosuch"}, "nosuch"},
		{[]string{"--nosuch"}, "not defined: -nosuch " +
			"(see socketcli --help)"},
		{[]string{"start", "--nosuch"}, "not defined: -nosuch " +
			"(see socketcli start --help)"},
		{[]string{"start", "--label"}, "flag needs an argument: " +
			"--label (see socketcli start --help)"},
		{[]string{"offers", "--pending_only=x"}, `invalid value "x" ` +
			"for flag -pending_only"},

		// The number of arguments.
		{[]string{"start", "x"}, `unexpected argument "x" ` +
			"(see socketcli start --help)"},
		{[]string{"stop", idA, "x"}, `unexpected argument "x"`},
		{[]string{"list", "x"}, `unexpected argument "x"`},
		{[]string{"send"}, "missing argument <pubkey>"},
		{[]string{"send", "x", "y"}, `unexpected argument "y"`},
		{[]string{"offers", "x"}, `unexpected argument "x"`},
		{[]string{"accept"}, "missing argument <id>"},
		{[]string{"accept", idA, "help"}, "unexpected argument " +
			`"help"`},
		{[]string{"reject"}, "missing argument <id>"},
		{[]string{"reject", idA, "x"}, `unexpected argument "x"`},
		{[]string{"withdraw"}, "missing argument <id>"},
		{[]string{"withdraw", idA, "x"}, `unexpected argument "x"`},
		{[]string{"events", "x"}, `unexpected argument "x"`},
		{[]string{"getinfo", "x"}, `unexpected argument "x"`},
		{[]string{"getinfo", "--", "--help"}, "unexpected argument " +
			`"--help"`},

		// Ids.
		{[]string{"stop", ""}, `socket_id: "" is too short: give 8 ` +
			"or more of its 64 hex digits"},
		{[]string{"stop", "help"}, `socket_id: "help" is not hex`},
		{[]string{"stop", "1234567"}, `socket_id: "1234567" is too ` +
			"short"},
		{[]string{"stop", "1234567g"}, `socket_id: "1234567g" is ` +
			"not hex"},
		{[]string{"stop", idA + "0"}, "is too long: an id has 64 " +
			"hex digits"},
		{[]string{"accept", "12"}, `id: "12" is too short`},
		{[]string{"withdraw", "12"}, `id: "12" is too short`},
		{[]string{"reject", "0x12345678"}, `id: "0x12345678" is not ` +
			"hex"},
		{[]string{"send", pubkey, "--socket_id=12"}, "--socket_id: " +
			`"12" is too short`},
		{[]string{"start", "--socket_id=12"}, "--socket_id: " +
			`"12" is too short`},

		// Values.
		{[]string{"start", "--label="}, "--label: the value is empty"},
		{[]string{"start", "--protocol", ""}, "--protocol: the " +
			"value is empty"},
		{[]string{"start", "--admission="}, "--admission: the value"},
		{[]string{"start", "--socket_id="}, "--socket_id: the value"},
		{[]string{"start", "--allow1="}, "--allow1, --allow2: a " +
			"value is empty"},
		{[]string{"start", "--allow2=192.0.2.1,"}, "--allow1, " +
			"--allow2: a value is empty"},
		{[]string{"start", "--bandwidth="}, "--bandwidth: the value"},
		{[]string{"start", "--pairs="}, "--pairs: the value"},
		{[]string{"start", "--lifetime="}, "--lifetime: the value"},
		{[]string{"send", pubkey, "--socket_id="}, "--socket_id: " +
			"the value is empty"},
		{[]string{"send", pubkey, "--mode=both"}, `--mode: "both" ` +
			"is not one of auto, offer, request"},
		{[]string{"send", pubkey, "--mode="}, "--mode: the value"},
		{[]string{"send", pubkey, "--leg=3"}, `--leg: "3" is ` +
			"neither 1 nor 2"},
		{[]string{"send", pubkey, "--leg="}, "--leg: the value"},
		{[]string{"send", pubkey, "--expiry=tomorrow"}, "--expiry: " +
			`"tomorrow" is neither a duration`},
		{[]string{"send", pubkey, "--expiry=-1h"}, `--expiry: "-1h"`},
		{[]string{"send", pubkey, "--expiry", "-5"}, `--expiry: "-5"`},
		{[]string{"send", pubkey, "--expiry=0"}, `--expiry: "0"`},
		{[]string{"send", pubkey, "--expiry=999ms"}, "--expiry: " +
			`"999ms"`},
		{[]string{"send", pubkey, "--expiry=99999999999999999999"},
			"--expiry: "},
		{[]string{"start", "--bandwidth=1.5M"}, "--bandwidth: " +
			`"1.5M" is not a whole number, with k, M or G`},
		{[]string{"start", "--bandwidth=k"}, `--bandwidth: "k" is not`},
		{[]string{"start", "--bandwidth=1K"}, "--bandwidth: " +
			`"1K" is not`},
		{[]string{"start", "--bandwidth=1 k"}, "--bandwidth: " +
			`"1 k" is not`},
		{[]string{"start", "--bandwidth=1kM"}, "--bandwidth: " +
			`"1kM" is not`},
		{[]string{"start", "--packets=-1"}, `--packets: "-1" is not`},
		{[]string{"start", "--packets=+1"}, `--packets: "+1" is not`},
		{[]string{"start", "--total_bytes=18446744073709551616"},
			"--total_bytes: " + `"18446744073709551616" is too ` +
				"large"},
		{[]string{"start", "--total_bytes=18446744074G"},
			`--total_bytes: "18446744074G" is too large`},
		{[]string{"start", "--idle_timeout=10"}, "--idle_timeout: " +
			`"10" is not a time of whole seconds`},
		{[]string{"start", "--idle_timeout=1500ms"},
			`--idle_timeout: "1500ms" is not`},
		{[]string{"start", "--lifetime=-1h"}, `--lifetime: "-1h"`},
		{[]string{"start", "--lifetime=9999999h"}, "--lifetime: "},
		{[]string{"start", "--pairs=4294967296"}, "--pairs: " +
			`"4294967296" is not a whole number of pairs`},
		{[]string{"start", "--pairs=1k"}, `--pairs: "1k" is not`},
		{[]string{"send", pubkey, "--expiry="}, "--expiry: the value"},
		{[]string{"events", "--after=x"}, `--after: "x" is not a ` +
			"cursor"},
		{[]string{"events", "--after=-1"}, `--after: "-1" is not a ` +
			"cursor"},
		{[]string{"events", "--after="}, "--after: the value"},
		{[]string{"events", "--since=yesterday"}, "--since: " +
			`"yesterday" is neither a duration, as in 90m, nor ` +
			"a time in RFC 3339, as in 2026-01-31T08:00:00Z, nor " +
			"one in Unix seconds"},
		{[]string{"events", "--since=2026-01-31"}, "--since: " +
			`"2026-01-31" is neither`},
		{[]string{"events", "--since=1969-12-31T23:59:59Z"},
			"--since: "},
		{[]string{"events", "--since=0"}, `--since: "0" is neither`},
		{[]string{"events", "--since=-1h"}, `--since: "-1h" is`},
		{[]string{"events", "--since", "-5"}, `--since: "-5" is`},
		{[]string{"events", "--since="}, "--since: the value"},
		{[]string{"events", "--since=1h", "--after=4"}, "--after " +
			"and --since cannot both be given (see socketcli " +
			"events --help)"},

		// Requests.
		{[]string{"send", pubkey, "--both_legs", "--leg=2"}, "--leg " +
			"and --both_legs cannot both be given"},
		{[]string{"send", pubkey, "--both_legs=x"}, `invalid value ` +
			`"x" for flag -both_legs`},
		{[]string{"send", pubkey, "--mode=request", "--socket_id=" +
			idA}, "--socket_id: a request asks for a socket"},
		{[]string{"send", pubkey, "--mode=offer", "--protocol=tcp",
			"--lifetime=1h"}, "--protocol, --lifetime: only for " +
			"a request, and --mode says offer"},
		{[]string{"send", pubkey, "--socket_id=" + idA, "--label=x"},
			"--label: only for a request, and --socket_id names"},
		{[]string{"send", pubkey, "--protocol="}, "--protocol: the " +
			"value is empty"},
		{[]string{"send", pubkey, "--label="}, "--label: the value"},
		{[]string{"send", pubkey, "--admission="}, "--admission: the"},
		{[]string{"send", pubkey, "--lifetime=1"}, `--lifetime: "1" ` +
			"is not a time of whole seconds"},
		{[]string{"meet"}, "missing argument <pubkey>"},
		{[]string{"meet", pubkey, "x"}, `unexpected argument "x"`},
		{[]string{"meet", pubkey}, "missing --via: the public key of " +
			"the node that is to host (see socketcli meet --help)"},
		{[]string{"meet", pubkey, "--via="}, "--via: the value"},
		{[]string{"meet", "xy", "--via", peerB}, `pubkey: "xy" is ` +
			"not hex"},
		{[]string{"meet", pubkey[1:], "--via", peerB}, "has 65 " +
			"digits, and a public key 66"},
		{[]string{"meet", pubkey, "--via", peerB + "00"}, "--via: "},
		{[]string{"meet", pubkey, "--via", "04" + peerB[2:]},
			"begins with neither 02 nor 03"},
		{[]string{"meet", pubkey, "--via", strings.ToUpper(pubkey)},
			"--via: it is the node to meet"},
		{[]string{"meet", pubkey, "--via", peerB, "--timeout="},
			"--timeout: the value"},
		{[]string{"meet", pubkey, "--via", peerB, "--timeout=5"},
			`--timeout: "5" is not a duration of a second`},
		{[]string{"meet", pubkey, "--via", peerB, "--timeout=999ms"},
			`--timeout: "999ms"`},
		{[]string{"meet", pubkey, "--via", peerB, "--timeout=169h"},
			`--timeout: "169h"`},
		{[]string{"meet", pubkey, "--via", peerB, "--label="},
			"--label: the value"},
		{[]string{"meet", pubkey, "--via", peerB, "--bandwidth=x"},
			`--bandwidth: "x" is not`},

		// The policy.
		{[]string{"policy", "x"}, `unexpected argument "x"`},
		{[]string{"policy", "--allow_requests="}, "--allow_requests: " +
			"a value is empty; none is for nobody"},
		{[]string{"policy", "--allow_requests=channel,"},
			"--allow_requests: a value is empty"},
		{[]string{"policy", "--open_for=,"}, "--open_for: a value"},
		{[]string{"policy", "--open_for=" + pubkey, "--open_for="},
			"--open_for: a value is empty"},
		{[]string{"policy", "--max_hosted=-1"}, `--max_hosted: "-1" ` +
			"is not a whole number of sockets"},
		{[]string{"policy", "--max_hosted="}, "--max_hosted: the"},
		{[]string{"policy", "--max_per_node=4294967296"},
			"--max_per_node: "},
		{[]string{"policy", "--max_lifetime=1d"}, "--max_lifetime: " +
			`"1d" is not a time of whole seconds`},
		{[]string{"policy", "--max_bandwidth=fast"},
			`--max_bandwidth: "fast" is not`},
		{[]string{"policy", "--node_bandwidth="}, "--node_bandwidth: "},
		{[]string{"policy", "--total_bandwidth=1.5G"},
			`--total_bandwidth: "1.5G" is not`},
		{[]string{"policy", "--reset", "--max_hosted=1"}, "--reset " +
			"and --max_hosted cannot both be given"},

		// Global flags.
		{[]string{"list", "--json=x"}, `invalid value "x" for flag ` +
			"-json"},
		{[]string{"-n", "main", "list"}, `--network: "main" is not ` +
			"one of mainnet, testnet, testnet4, signet, simnet, " +
			"regtest (see socketcli list --help)"},
		{[]string{"list", "--network="}, "--network: the value"},
		{[]string{"list", "--socketdir="}, "--socketdir: the value"},
		{[]string{"list", "--tlscertpath="}, "--tlscertpath: the"},
		{[]string{"list", "--macaroonpath="}, "--macaroonpath: the"},
		{[]string{"list", "--rpcserver="}, "--rpcserver: the value"},
		{[]string{"list", "--rpcserver=node"}, `--rpcserver: "node" ` +
			"is neither host:port nor unix:///path"},
		{[]string{"list", "--rpcserver=node:rpc"}, "--rpcserver: " +
			`"node:rpc"`},
		{[]string{"list", "--rpcserver=https://node:1"},
			"--rpcserver: "},
	}

	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			res := server.runCLI(t, test.args...)
			require.Equal(t, exitUsage, res.code, res.stderr)
			require.Empty(t, res.stdout)
			require.Regexp(t, `\A\[socketcli\] [^\n]+\n\z`,
				res.stderr)
			require.Contains(t, res.stderr, test.stderr)
		})
	}

	server.noCall(t)
}

// TestHelp checks that help is wherever one looks for it, on stdout.
func TestHelp(t *testing.T) {
	app := newApp(nil, nil)

	for _, args := range [][]string{{}, {"--help"}, {"-h"}, {"help"}} {
		res := runArgs(t.Context(), args...)
		require.Equal(t, exitDone, res.code)
		require.Empty(t, res.stderr)

		for _, cmd := range app.Commands {
			require.Contains(t, res.stdout, cmd.Usage)
		}
		for _, flag := range globalFlags() {
			name := flag.Names()[0]
			require.Contains(t, res.stdout, "--"+name)
			require.Contains(t, res.stdout,
				"[$SOCKETCLI_"+strings.ToUpper(name)+"]")
		}
	}

	for _, cmd := range app.Commands {
		for _, args := range [][]string{
			{"help", cmd.Name},
			{"--help", cmd.Name},
			{cmd.Name, "--help"},
			{cmd.Name, "-h"},
			{cmd.Name, "argument", "--help"},
		} {
			res := runArgs(t.Context(), args...)
			require.Equal(t, exitDone, res.code, args)
			require.Empty(t, res.stderr, args)
			require.Contains(t, res.stdout, "socketcli "+cmd.Name+
				" - "+cmd.Usage, args)
			require.Regexp(t, `Examples?[^\n]*:\n\n +`+
				`\$ socketcli .*`+cmd.Name, res.stdout, args)
			for _, flag := range cmd.Flags {
				require.Contains(t, res.stdout,
					"--"+flag.Names()[0], args)
			}
			require.Contains(t, res.stdout, "--rpcserver", args)
		}
	}
}

// TestVersion checks what --version prints, with a commit and without.
func TestVersion(t *testing.T) {
	for _, flag := range []string{"--version", "-v"} {
		require.Equal(t, result{stdout: "socketcli version dev\n"},
			runArgs(t.Context(), flag))
	}

	oldVersion, oldCommit := version, commit
	t.Cleanup(func() {
		version, commit = oldVersion, oldCommit
	})
	version, commit = "0.1.0", "abcdef"

	require.Equal(t, result{
		stdout: "socketcli version 0.1.0 commit=abcdef\n",
	}, runArgs(t.Context(), "--version"))
}
