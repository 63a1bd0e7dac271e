package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketd/socketd/relay/bind"
	relayclient "github.com/socketd/socketd/relay/client"
	"github.com/stretchr/testify/require"
)

// boundConfigs returns the configs of two clients that bind at the ports of a
// forwarder, of which the second one moves in the middle.
func boundConfigs(f *forwarder, count, window int) [2]clientConfig {
	cfgs := configs(f, count, window)
	for i, token := range f.want() {
		cfgs[i].leg, cfgs[i].token = exampleLeg(uint8(i+1)), token
	}
	cfgs[1].moveAfter = count / 2

	return cfgs
}

// TestMove lets two bound clients exchange datagrams while one of them moves to
// another port, in the middle of a window, between two, and before the last
// one. Nothing is lost, and nothing comes from elsewhere than where the client
// is.
func TestMove(t *testing.T) {
	for _, sizes := range []struct{ count, window, moveAfter int }{
		{2, 1, 1}, {1000, 64, 500}, {1000, 64, 512}, {1000, 64, 936},
		{4000, 64, 2032},
	} {
		f := newForwarder(t, nil)
		cfgs := boundConfigs(f, sizes.count, sizes.window)
		cfgs[1].moveAfter = sizes.moveAfter

		got, errs := runPair(t, cfgs)
		require.NoError(t, errors.Join(errs[:]...))
		require.NoError(t, checkExchange(
			got[0], got[1], uint64(sizes.count),
		))

		require.Empty(t, got[0].MovedFrom)
		require.NotEmpty(t, got[1].MovedFrom)
		require.NotEqual(t, got[1].MovedFrom, got[1].Addr)

		f.mu.Lock()
		want := wantLegs(got[0], got[1], [2]intrusions{})
		for i := range want {
			require.Equal(t, f.clients[i].String(), want[i].client)
			require.Equal(t, f.in[i], want[i].packetsIn)
			require.Equal(t, f.out[i], want[i].packetsOut)
			require.Zero(t, f.stranger[i])
		}
		f.mu.Unlock()
	}
}

// TestMoveTells checks what a client says of its move.
func TestMoveTells(t *testing.T) {
	f := newForwarder(t, nil)
	cfgs := boundConfigs(f, 500, 50)

	var (
		wg   sync.WaitGroup
		errs [2]error
		out  [2]strings.Builder
		got  [2]*clientSummary
	)
	for i, cfg := range cfgs {
		wg.Go(func() {
			got[i], errs[i] = runClient(
				t.Context(), cfg, &out[i], noHold,
			)
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs[:]...))

	require.NotRegexp(t, `moves`, out[0].String())
	lines := strings.Split(out[1].String(), "\n")
	match := clientMoved.FindStringSubmatch(lines[2])
	require.Equal(t, []string{
		lines[2], got[1].MovedFrom, got[1].Addr,
	}, match)
	require.Equal(t, "b says hello from "+got[1].MovedFrom, lines[0])
	require.Regexp(t, `when it has sent \d+ datagrams and received \d+; `+
		`it sends \d+ and receives \d+ meanwhile$`, lines[2])
}

// TestLostByMove checks that it is noticed when a datagram of a client that
// moves is lost.
func TestLostByMove(t *testing.T) {
	t.Parallel()

	f := newForwarder(t, func(port, number int, packet []byte) [][]byte {
		if port == 1 && number == 101 {
			return nil
		}

		return [][]byte{packet}
	})
	cfgs := boundConfigs(f, 200, 16)
	cfgs[0].timeout, cfgs[1].timeout = 2*time.Second, 4*time.Second

	_, errs := runPair(t, cfgs)
	require.ErrorIs(t, errs[0], errLost)
	require.ErrorContains(t, errs[0], "the first is number 101")
	require.ErrorIs(t, errs[1], errLost)
}

// TestUnbound checks that a client whose token is wrong gives up, and that one
// which cannot move says so.
func TestUnbound(t *testing.T) {
	f := newForwarder(t, nil)
	cfg := boundConfigs(f, 10, 1)[0]
	cfg.timeout = 100 * time.Millisecond
	cfg.token = bind.Token{3}
	_, err := runClient(t.Context(), cfg, io.Discard, noHold)
	require.ErrorIs(t, err, relayclient.ErrUnbound)

	cfg.leg.Num = 3
	_, err = runClient(t.Context(), cfg, io.Discard, noHold)
	require.ErrorContains(t, err, "leg 3")

	// The token is withdrawn when both have begun.
	cfgs := boundConfigs(f, 100, 10)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cfgs[1].moveAfter = 90
	done := make(chan error, 1)
	go func() {
		_, err := runClient(ctx, cfgs[0], io.Discard, noHold)
		done <- err
	}()
	_, err = runClient(ctx, cfgs[1], io.Discard, func() error {
		f.mu.Lock()
		f.keys[1] = bind.NewKey(exampleLeg(2), bind.Token{4})
		f.mu.Unlock()
		time.AfterFunc(helloInterval, func() { cancel(cause) })

		return nil
	})
	require.ErrorIs(t, err, cause)
	require.ErrorIs(t, <-done, cause)
}

// TestBoundCommand runs two clients that bind by their command lines, as the
// demo does, each with its token in the environment, and nowhere else.
func TestBoundCommand(t *testing.T) {
	f := newForwarder(t, nil)
	cfgs := boundConfigs(f, 300, 64)

	var (
		wg    sync.WaitGroup
		codes [2]int
		out   [2]strings.Builder
	)
	for i, cfg := range cfgs {
		args := clientArgs(cfg, false)
		require.NotContains(t, strings.Join(args, " "), cfg.token.Hex())
		env := clientEnv(cfg)
		require.Len(t, env, 1)

		wg.Go(func() {
			p := &program{
				stdin:  strings.NewReader(""),
				stdout: &out[i],
				stderr: io.Discard,
				getenv: func(name string) string {
					value, _ := strings.CutPrefix(
						env[0], name+"=",
					)

					return value
				},
			}
			codes[i] = p.run(append([]string{"socketdev"}, args...))
		})
	}
	wg.Wait()
	require.Equal(t, [2]int{exitDone, exitDone}, codes)

	var summaries [2]clientSummary
	for i := range summaries {
		lines := strings.Split(strings.TrimSpace(out[i].String()), "\n")
		require.NoError(t, json.Unmarshal(
			[]byte(lines[len(lines)-1]), &summaries[i],
		))
		require.NotContains(t, out[i].String(), cfgs[i].token.Hex())
	}
	require.NoError(t, checkExchange(&summaries[0], &summaries[1], 300))
	require.NotEmpty(t, summaries[1].MovedFrom)
	require.Empty(t, clientEnv(clientConfig{}))
}
