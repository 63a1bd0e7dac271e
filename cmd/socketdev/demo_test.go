package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

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

// exampleStart is the response to the start of a socket.
func exampleStart() *socketrpc.StartSocketResponse {
	return &socketrpc.StartSocketResponse{
		Protocol: "udp",
		Ip:       "127.0.0.1",
		Port1:    "21001",
		Port2:    "21002",
		SocketId: "5ca1ab1e",
	}
}

// TestCheckOffer checks that an offer that differs from the socket is found.
func TestCheckOffer(t *testing.T) {
	data := connection{"udp", "127.0.0.1", "21001", "21002", "5ca1ab1e", 2}
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
			`"old_client_addr":""}`),
	}
	require.True(t, isPin(event, "5ca1ab1e", 2, "127.0.0.1:9"))
	require.False(t, isPin(event, "5ca1ab1f", 2, "127.0.0.1:9"))
	require.False(t, isPin(event, "5ca1ab1e", 1, "127.0.0.1:9"))
	require.False(t, isPin(event, "5ca1ab1e", 2, "127.0.0.1:8"))

	broken, ok := proto.Clone(event).(*socketrpc.Event)
	require.True(t, ok)
	broken.Data = []byte("{")
	require.False(t, isPin(broken, "5ca1ab1e", 2, "127.0.0.1:9"))
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
