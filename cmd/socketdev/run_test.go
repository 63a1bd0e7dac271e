package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/stretchr/testify/require"
)

// noEnv is an environment without variables.
func noEnv(string) string {
	return ""
}

// runProgram runs a command line and returns the exit code and what was
// printed on each stream.
func runProgram(signals <-chan os.Signal, args ...string) (int, string,
	string) {

	var stdout, stderr strings.Builder
	p := &program{
		stdin:   strings.NewReader(""),
		stdout:  &stdout,
		stderr:  &stderr,
		getenv:  noEnv,
		signals: signals,
	}
	code := p.run(append([]string{"socketdev"}, args...))

	return code, stdout.String(), stderr.String()
}

// TestUsage checks the exit code and the words for a wrong command line.
func TestUsage(t *testing.T) {
	client := []string{
		"udp-client", "--port=1", "--count=1", "--window=1",
	}
	bound := slices.Concat(client, []string{
		"--socketid=" + strings.Repeat("5c", 32),
	})

	for _, test := range []struct {
		args []string
		text string
	}{
		{[]string{"down"}, `unknown command "down"`},
		{[]string{"--fast"}, "-fast"},
		{[]string{"help", "down"}, "down"},
		{[]string{"up", "down"}, `unexpected argument "down"`},
		{[]string{"up", "--nodes", "1"}, "--nodes: 1 is not 2 to 5"},
		{[]string{"up", "--nodes", "6"}, "--nodes: 6 is not 2 to 5"},
		{[]string{"up", "--nodes", "x"}, "nodes"},
		{[]string{"demo", "--nodes", "2"}, "socketdev demo --help"},
		{[]string{"demo", "fast"}, `unexpected argument "fast"`},
		{client[:1], "--port: 0 is not a port"},
		{append(client, "--port=65536"), "--port: 65536"},
		{append(client, "--count=0"), "--count: 0"},
		{append(client, "--window=-1"), "--window: -1"},
		{append(client, "--timeout=0s"), "--timeout: 0s"},
		{append(client, "--moveafter=-1"), "--moveafter: -1"},
		{append(client, "--moveafter=1"), "leaves no window"},
		{append(client, "--count=2", "--moveafter=1"), "not bind"},
		{append(client, "--socketid=5c"), `--socketid: "5c" is not 64`},
		{append(client, "--socketid=x"), `--socketid: "x" is not 64`},
		{bound, "--leg: 0 is not 1 or 2"},
		{slices.Concat(bound, []string{"--leg=3"}), "--leg: 3 is not"},
		{
			slices.Concat(bound, []string{"--leg=1"}),
			"SOCKETDEV_TOKEN: no token",
		},
	} {
		code, stdout, stderr := runProgram(nil, test.args...)
		require.Equal(t, exitUsage, code, "%v", test.args)
		require.True(t, strings.HasPrefix(stderr, "[socketdev] "),
			"%v: %s", test.args, stderr)
		require.Contains(t, stderr, test.text, "%v", test.args)
		require.Empty(t, stdout, "%v", test.args)
	}
}

// TestHelp checks that the commands for people are shown, and the other one is
// not.
func TestHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"help"}} {
		code, stdout, stderr := runProgram(nil, args...)
		require.Equal(t, exitDone, code)
		require.Empty(t, stderr)
		require.Regexp(t, `(?m)^ +up +Run`, stdout)
		require.Regexp(t, `(?m)^ +demo +Show`, stdout)
		require.NotContains(t, stdout, "udp-client")
	}

	code, stdout, _ := runProgram(nil, "up", "--help")
	require.Equal(t, exitDone, code)
	require.Contains(t, stdout, "--nodes")
	require.Contains(t, stdout, "--channel")
}

// TestNoPrograms checks the error of a network that cannot start, and that a
// temporary directory is removed and a given one kept.
func TestNoPrograms(t *testing.T) {
	temp, empty := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)

	for _, command := range []string{"up", "demo"} {
		code, stdout, stderr := runProgram(
			nil, command, "--bindir", empty,
		)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, "start lnd A")
		require.Contains(t, stderr, "start lnd B")
		require.NotContains(t, stdout, "demo: ok")

		left, err := os.ReadDir(temp)
		require.NoError(t, err)
		require.Empty(t, left)

		given := filepath.Join(t.TempDir(), "net")
		code, _, _ = runProgram(
			nil, command, "--bindir", empty, "--dir", given,
		)
		require.Equal(t, exitFailed, code)
		require.DirExists(t, given)
	}

	code, _, stderr := runProgram(
		nil, "up", "--channel", "--bindir", empty,
	)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "start btcd")

	// By default the programs are beside this one, and there are none.
	_, _, stderr = runProgram(nil, "up")
	require.Contains(t, stderr, filepath.Join(
		filepath.Dir(os.Args[0]), "lnd",
	))

	t.Setenv("TMPDIR", filepath.Join(temp, "none"))
	code, _, stderr = runProgram(nil, "demo", "--bindir", empty)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "make a directory")
}

// TestInterrupt checks that a signal ends a command with words.
func TestInterrupt(t *testing.T) {
	conn := listenLoopback(t)
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGINT

	code, _, stderr := runProgram(signals, clientArgs(clientConfig{
		name:    "c",
		port:    portOf(conn),
		count:   1,
		window:  1,
		timeout: clientTimeout,
	}, false)...)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "[socketdev] c: interrupted\n", stderr)
}

// TestIsUsage checks that the end of a process is not taken for a usage error.
func TestIsUsage(t *testing.T) {
	process := exec.CommandContext(t.Context(), "false").Run()
	require.Error(t, process)

	require.False(t, isUsage(process))
	require.False(t, isUsage(&regtest.ExitError{Err: process}))
	require.False(t, isUsage(errors.New("else")))
	require.True(t, isUsage(usagef("%w", io.EOF)))
	require.ErrorIs(t, usagef("%w", io.EOF), io.EOF)
}

// TestShellJoin has a shell read words and print them again.
func TestShellJoin(t *testing.T) {
	words := []string{
		"plain", "--flag=/a/b", "", "two words", "it's", "$HOME", "`x`",
		`back\slash`, "*", "a\nb", "ü", "#no", "~", "a;b", `"`,
	}

	out, err := exec.CommandContext(
		t.Context(), "sh", "-c",
		`printf '%s\0' `+shellJoin(words),
	).Output()
	require.NoError(t, err)
	require.Equal(t, strings.Join(words, "\x00")+"\x00", string(out))

	// An alias is quoted once more.
	out, err = exec.CommandContext(
		t.Context(), "sh", "-c", "alias say="+shellQuote(
			`printf '%s\0' `+shellJoin(words),
		)+"\nsay",
	).Output()
	require.NoError(t, err)
	require.Equal(t, strings.Join(words, "\x00")+"\x00", string(out))

	require.Equal(t, "plain", shellQuote("plain"))
}

// guideLab returns a network that was never started.
func guideLab(names ...string) *lab {
	l := &lab{
		Network: &regtest.Network{},
		binDir:  "/path with/bin",
		dir:     "/net",
	}
	for _, name := range names {
		l.Nodes = append(l.Nodes, &regtest.Node{
			Name: name,
			Lnd:  &regtest.Lnd{},
			Socketd: regtest.NewSocketd(regtest.SocketdConfig{
				Dir: filepath.Join("/it's", name),
			}),
		})
	}

	return l
}

// runGuide has a shell take the definitions of a guide, run a script, and
// returns the lines that it prints.
func runGuide(t *testing.T, l *lab, script string) []string {
	t.Helper()

	var definitions []string
	for line := range strings.Lines(guide(l)) {
		if strings.HasPrefix(line, "export ") ||
			strings.HasPrefix(line, "alias ") {

			definitions = append(definitions, line)
		}
	}

	out, err := exec.CommandContext(
		t.Context(), "sh", "-ec",
		strings.Join(definitions, "")+script,
	).Output()
	require.NoError(t, err)

	return strings.Split(string(out), "\n")
}

// TestGuide checks that a shell takes what up prints, and what it learns.
func TestGuide(t *testing.T) {
	l := guideLab("A", "B", "C")
	lines := runGuide(t, l, `
		echo "$MACAROON_A"
		echo "$TLSCERT_B"
		echo "$REST_C"
		alias socketcli-c
		alias lncli-a
	`)
	require.Equal(t, "/it's/A/regtest/socket.macaroon", lines[0])
	require.Equal(t, "/it's/B/regtest/tls.cert", lines[1])
	require.Equal(t, "https://127.0.0.1:0", lines[2])
	require.Contains(t, lines[3], "/path with/bin/socketcli")
	require.Contains(t, lines[4], "/path with/bin/lncli")
	require.Contains(t, guide(l), "socketcli-a send $PUBKEY_B")
	require.Contains(t, guide(l), "\nsocketcli-b pipe <socket_id> ")
	require.NotContains(t, guide(l), "channel")
	require.NotContains(t, guide(l), "btcctl")
}

// TestChannelGuide checks what up prints of a channel, and that it speaks of a
// node without one only if there is one.
func TestChannelGuide(t *testing.T) {
	l := guideLab("A", "B")
	l.Btcd, l.hasChannel = &regtest.Btcd{}, true
	require.Contains(t, guide(l), "A and B have a channel")
	require.Contains(
		t, guide(l), "\nsocketcli-b send --mode request $PUBKEY_A\n",
	)
	require.NotContains(t, guide(l), "has no channel")

	l.Nodes = guideLab("A", "B", "C").Nodes
	require.Contains(t, guide(l), "C has no channel with A")
	require.Contains(
		t, guide(l), "\nsocketcli-c send --mode request $PUBKEY_A\n",
	)
	require.Contains(t, runGuide(t, l, "alias btcctl")[0],
		"/path with/bin/btcctl")
	require.True(t, strings.HasSuffix(
		guide(l), "\n\n# ^C takes everything down.\n",
	))
}
