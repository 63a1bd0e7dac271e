package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"
)

// TestCompareUsage checks what is said to a wrong command line.
func TestCompareUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		text string
	}{
		{[]string{"--only", "udp-fast"}, `"udp-fast" is none of udp-`},
		{[]string{"--only", "udp,sctp"}, `"sctp" is none of udp-`},
		{[]string{"--rounds", "1"}, "--rounds: 1 is less than 2"},
		{[]string{"--rounds", "x"}, "rounds"},
		{[]string{"--budget", "29s"}, "--budget: 29s is less than 30s"},
		{[]string{"fast"}, `unexpected argument "fast"`},
		{[]string{"pin"}, "there is no program to run"},
		{[]string{"pin", "--core", "x"}, "core"},
		{[]string{"turn"}, "--port: 0 is not a port"},
		{[]string{"turn", "--port", "65536"}, "--port: 65536"},
		{[]string{"generate", "x"}, `unexpected argument "x"`},
	} {
		code, stdout, stderr := runProgram(
			nil, append([]string{"compare"}, test.args...)...,
		)
		require.Equal(t, exitUsage, code, "%v", test.args)
		require.True(t, strings.HasPrefix(stderr, "[socketdev] "),
			"%v: %s", test.args, stderr)
		require.Contains(t, stderr, test.text, "%v", test.args)
		require.Empty(t, stdout, "%v", test.args)
	}
}

// TestCompareConfig checks that every flag gets where it is used.
func TestCompareConfig(t *testing.T) {
	p := &program{}
	cmd := p.compareCommand()
	cmd.Action = func(_ context.Context, cmd *cli.Command) error {
		cfg, err := compareConfig(cmd)
		require.NoError(t, err)
		self, err := os.Executable()
		require.NoError(t, err)
		require.Equal(t, self, cfg.Self)
		require.Equal(t, "/programs", cfg.BinDir)
		require.Equal(t, []string{"tcp", "udp-plain"}, cfg.Only)
		require.Equal(t, 7, cfg.Rounds)
		require.Equal(t, "1m30s", cfg.Budget.String())
		require.Equal(t, "socketdev compare --rounds=7 "+
			"--budget=1m30s --only=tcp --only=udp-plain",
			cfg.Command)

		return nil
	}
	require.NoError(t, cmd.Run(t.Context(), []string{
		"compare", "--bindir=/programs", "--only=tcp",
		"--only=udp-plain", "--rounds=7", "--budget=90s",
	}))
}

// TestCompareHelp checks that the rows are named, and that what people have no
// use for is not.
func TestCompareHelp(t *testing.T) {
	code, stdout, _ := runProgram(nil, "compare", "--help")
	require.Equal(t, exitDone, code)
	for _, text := range []string{
		"--only", "--rounds", "--budget", "--bindir", "udp-offload",
		"tcp-idle",
	} {
		require.Contains(t, stdout, text)
	}
	require.NotContains(t, stdout, "generate")

	_, stdout, _ = runProgram(nil, "--help")
	require.Regexp(t, `(?m)^ +compare +Measure`, stdout)
}

// TestCompareNoPrograms checks that nothing is compared without a daemon, and
// that nothing of it is left.
func TestCompareNoPrograms(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)

	code, stdout, stderr := runProgram(
		nil, "compare", "--bindir", t.TempDir(),
	)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "socketd")
	require.Empty(t, stdout)

	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)

	code, _, stderr = runProgram(
		nil, "compare", "generate",
		"--job="+filepath.Join(temp, "none"),
	)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "job")
}
