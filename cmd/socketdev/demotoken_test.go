package main

import (
	"strings"
	"testing"

	"github.com/socketd/socketd/relay/bind"
	"github.com/socketd/socketd/socketrpc"
	"github.com/stretchr/testify/require"
)

// The tokens of the examples.
var (
	exampleToken1 = strings.Repeat("1a", bind.TokenSize)
	exampleToken2 = strings.Repeat("2b", bind.TokenSize)
	exampleToken3 = strings.Repeat("3c", bind.TokenSize)
)

// exampleTokens is exampleStart with tokens.
func exampleTokens() *socketrpc.StartSocketResponse {
	socket := exampleStart()
	socket.Token1, socket.Token2 = exampleToken1, exampleToken2

	return socket
}

// TestStartTokens checks that a socket has to have a token for each leg.
func TestStartTokens(t *testing.T) {
	tokens, err := startTokens(exampleTokens())
	require.NoError(t, err)
	require.Equal(t, exampleToken1, tokens[0].Hex())
	require.Equal(t, exampleToken2, tokens[1].Hex())

	for text, spoil := range map[string]func(
		*socketrpc.StartSocketResponse){

		`admission of the socket is "open"`: func(
			s *socketrpc.StartSocketResponse) {

			s.Admission = "open"
		},
		"token of leg 1": func(s *socketrpc.StartSocketResponse) {
			s.Token1 = ""
		},
		"token of leg 2": func(s *socketrpc.StartSocketResponse) {
			s.Token2 += "2b"
		},
		"the same token": func(s *socketrpc.StartSocketResponse) {
			s.Token2 = s.Token1
		},
	} {
		socket := exampleTokens()
		spoil(socket)
		_, err := startTokens(socket)
		require.ErrorContains(t, err, text)
	}
}

// TestGrantedToken checks that an offer has to grant a token of its own, of leg
// 2 only.
func TestGrantedToken(t *testing.T) {
	grant := func(token1, token2 string) (bind.Token, error) {
		return grantedToken(&socketrpc.AcceptOfferResponse{
			Token1: token1,
			Token2: token2,
		}, exampleTokens())
	}

	token, err := grant("", exampleToken3)
	require.NoError(t, err)
	require.Equal(t, exampleToken3, token.Hex())

	for _, test := range []struct{ token1, token2, text string }{
		{"", "", "token of leg 2"},
		{"", "3c", "token of leg 2"},
		{"", exampleToken1, "one of the socket's own"},
		{"", exampleToken2, "one of the socket's own"},
		{exampleToken1, exampleToken3, "the offer grants leg 1 too"},
	} {
		_, err := grant(test.token1, test.token2)
		require.ErrorContains(t, err, test.text)
	}
}

// TestClientConfig checks what the clients of a socket are told.
func TestClientConfig(t *testing.T) {
	d := &demo{socket: exampleStart()}
	_, err := d.clientConfig(1)
	require.ErrorContains(t, err, "id of the socket")

	d.socket.SocketId = strings.Repeat("5c", 32)
	d.tokens = [2]bind.Token{{1}, {2}}
	for i, name := range []string{"client-a", "client-b"} {
		cfg, err := d.clientConfig(i + 1)
		require.NoError(t, err)
		require.Equal(t, name, cfg.name)
		require.Equal(t, uint16(21001+i), cfg.port)
		require.Equal(t, d.tokens[i], cfg.token)
		require.Equal(t, uint8(i+1), cfg.leg.Num)
		require.Equal(t, byte(0x5c), cfg.leg.SocketID[31])
		require.Equal(t, uint8(1), cfg.leg.Protocol)
		require.NotEqual(t, cfg.seed, cfg.peerSeed)
		require.Zero(t, cfg.moveAfter)
	}

	// There is a window to send after the move.
	require.LessOrEqual(t, demoMove, demoCount-demoWindow)

	d.socket.Protocol = "tcp"
	leg, err := d.bindLeg(2)
	require.NoError(t, err)
	require.Equal(t, uint8(2), leg.Protocol)

	d.socket.Port1 = ""
	_, err = d.clientConfig(1)
	require.ErrorContains(t, err, "port1 of the socket")
}
