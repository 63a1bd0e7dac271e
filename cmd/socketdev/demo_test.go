package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketd/socketd/internal/regtest"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// TestRunSteps checks that the first step that fails ends the demo and is
// named.
func TestRunSteps(t *testing.T) {
	failure := errors.New("no luck")
	steps := []step{
		{"first", func(context.Context) error { return nil }},
		{"second", func(context.Context) error { return failure }},
		{"third", func(context.Context) error {
			require.Fail(t, "this step must not run")

			return nil
		}},
	}

	var out strings.Builder
	err := runSteps(t.Context(), &out, steps)
	require.ErrorIs(t, err, failure)
	require.EqualError(t, err, "step 2 (second) failed: no luck")
	require.Equal(t, "\n== 1/3 first\n\n== 2/3 second\n", out.String())

	require.NoError(t, runSteps(t.Context(), &out, steps[:1]))

	// Why the context ended is said as well.
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTooSlow)
	err = runSteps(ctx, &out, steps)
	require.ErrorIs(t, err, failure)
	require.ErrorIs(t, err, errTooSlow)
}

// TestWhileNoneFails checks that a process that fails ends what waits, and is
// why.
func TestWhileNoneFails(t *testing.T) {
	start := func(script string) *regtest.Process {
		proc, err := regtest.Start(t.Context(), regtest.ProcessConfig{
			Name:    "sh",
			Path:    "/bin/sh",
			Args:    []string{"-c", script},
			LogFile: filepath.Join(t.TempDir(), "sh.log"),
		})
		require.NoError(t, err)
		t.Cleanup(proc.Kill)

		return proc
	}
	wait := func(ctx context.Context) error {
		<-ctx.Done()

		return ctx.Err()
	}

	running, done := start("exec sleep 60"), start("exit 0")
	failed := start("exit 3")
	err := whileNoneFails(
		t.Context(), []*regtest.Process{running, done, failed}, wait,
	)
	require.ErrorContains(t, err, "sh ended (exit status 3)")

	// Otherwise it is as if nobody looked.
	procs := []*regtest.Process{running, done}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, context.Canceled, whileNoneFails(ctx, procs, wait))

	failure := errors.New("no luck")
	require.Equal(t, failure, whileNoneFails(
		t.Context(), procs, func(context.Context) error {
			return failure
		},
	))
	require.NoError(t, whileNoneFails(
		t.Context(), procs, func(context.Context) error { return nil },
	))
}

// exampleStart is the response to the start of a socket.
func exampleStart() *socketrpc.StartSocketResponse {
	return &socketrpc.StartSocketResponse{
		Protocol:  "udp",
		Ip:        "127.0.0.1",
		Port1:     "21001",
		Port2:     "21002",
		SocketId:  "5ca1ab1e",
		Admission: "token",
	}
}

// TestCheckOffer checks that an offer that differs from the socket is found.
func TestCheckOffer(t *testing.T) {
	data := connection{
		"udp", "127.0.0.1", "21001", "21002", "5ca1ab1e", "token", 2,
	}
	check := func(from string, data any) error {
		raw, err := json.Marshal(data)
		require.NoError(t, err)

		return checkOffer(&socketrpc.Event{
			FromPubkey: from,
			Data:       raw,
		}, "03aa", exampleStart())
	}

	require.NoError(t, check("03aa", data))
	require.ErrorContains(t, check("03bb", data), `from "03bb"`)
	require.ErrorContains(t, check("03aa", "udp"), "data of the event")

	for _, spoil := range []func(*connection){
		func(c *connection) { c.Protocol = "tcp" },
		func(c *connection) { c.IP = "10.0.0.1" },
		func(c *connection) { c.Port1 = "21002" },
		func(c *connection) { c.Port2 = "" },
		func(c *connection) { c.SocketID = "" },
		func(c *connection) { c.Admission = "open" },
		func(c *connection) { c.Leg = 1 },
	} {
		wrong := data
		spoil(&wrong)
		require.ErrorContains(t, check("03aa", wrong), "the offer says")
	}
}

// TestCheckPending checks that an offer has to be listed and pending.
func TestCheckPending(t *testing.T) {
	list := &socketrpc.ListOffersResponse{Offers: []*socketrpc.Offer{
		{Id: "aa", State: socketrpc.Offer_ACCEPTED},
		{Id: "bb", State: socketrpc.Offer_PENDING},
	}}
	require.NoError(t, checkPending(list, "bb"))
	require.EqualError(t, checkPending(list, "aa"),
		"the offer is ACCEPTED")
	require.EqualError(t, checkPending(list, "cc"),
		"the offer cc is not listed")
}

// TestIsPin checks which events tell of the pin that is waited for.
func TestIsPin(t *testing.T) {
	event := &socketrpc.Event{
		SocketId: "5ca1ab1e",
		Data: []byte(`{"leg":2,"client_addr":"127.0.0.1:9",` +
			`"old_client_addr":"127.0.0.1:7"}`),
	}
	want := pinChange{2, "127.0.0.1:9", "127.0.0.1:7"}
	require.True(t, isPin(event, "5ca1ab1e", want))
	require.False(t, isPin(event, "5ca1ab1f", want))

	for _, spoil := range []func(*pinChange){
		func(p *pinChange) { p.Leg = 1 },
		func(p *pinChange) { p.ClientAddr = "127.0.0.1:8" },
		func(p *pinChange) { p.OldClientAddr = "" },
	} {
		wrong := want
		spoil(&wrong)
		require.False(t, isPin(event, "5ca1ab1e", wrong))
	}

	broken, ok := proto.Clone(event).(*socketrpc.Event)
	require.True(t, ok)
	broken.Data = []byte("{")
	require.False(t, isPin(broken, "5ca1ab1e", want))
}

// TestPort checks the ports of a socket.
func TestPort(t *testing.T) {
	d := &demo{socket: exampleStart()}
	for leg, want := range map[int]uint16{1: 21001, 2: 21002} {
		port, err := d.port(leg)
		require.NoError(t, err)
		require.Equal(t, want, port)
	}

	d.socket.Port2 = "70000"
	_, err := d.port(2)
	require.ErrorContains(t, err, "port2 of the socket")
}
