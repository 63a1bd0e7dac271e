package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// noHold is for a client that does not wait before its first window.
func noHold() error {
	return nil
}

// configs returns the configs of two clients at the ports of a forwarder.
func configs(f *forwarder, count, window int) [2]clientConfig {
	a := clientConfig{
		name:     "a",
		port:     f.port(0),
		count:    count,
		window:   window,
		seed:     1,
		peerSeed: 2,
		timeout:  10 * time.Second,
	}
	b := a
	b.name, b.port = "b", f.port(1)
	b.seed, b.peerSeed = a.peerSeed, a.seed

	return [2]clientConfig{a, b}
}

// runPair runs two clients at once.
func runPair(t *testing.T, cfgs [2]clientConfig) ([2]*clientSummary, [2]error) {
	t.Helper()

	var (
		wg        sync.WaitGroup
		summaries [2]*clientSummary
		errs      [2]error
	)
	for i, cfg := range cfgs {
		wg.Go(func() {
			summaries[i], errs[i] = runClient(
				t.Context(), cfg, io.Discard, noHold,
			)
		})
	}
	wg.Wait()

	return summaries, errs
}

// TestExchange lets two clients exchange datagrams, in numbers that do and do
// not make whole windows, and compares what they say with what the forwarder
// counted.
func TestExchange(t *testing.T) {
	for _, sizes := range []struct{ count, window int }{
		{1, 1}, {1, 64}, {64, 64}, {1000, 7}, {5000, 64},
	} {
		f := newForwarder(t, nil)
		got, errs := runPair(t, configs(f, sizes.count, sizes.window))
		require.NoError(t, errors.Join(errs[:]...))
		require.NoError(t, checkExchange(
			got[0], got[1], uint64(sizes.count),
		))

		f.mu.Lock()
		want := wantLegs(got[0], got[1], [2]intrusions{})
		for i := range want {
			require.Equal(t, f.clients[i].String(), want[i].client)
			require.Equal(t, f.in[i], want[i].packetsIn)
			require.Equal(t, f.bytesIn[i], want[i].bytesIn)
			require.Equal(t, f.out[i], want[i].packetsOut)
			require.Equal(
				t, f.noClient[i], want[i].drops[dropNoClient],
			)
			require.Zero(t, f.stranger[i])
			require.Zero(t, got[i].Reordered)
		}
		f.mu.Unlock()
	}
}

// TestFirstClientWaits checks that a client that is alone says hello until the
// other one comes, and prints how far it is.
func TestFirstClientWaits(t *testing.T) {
	f := newForwarder(t, nil)
	cfgs := configs(f, 100, 10)

	lines, printed := io.Pipe()
	done := make(chan error, 1)
	var first *clientSummary
	go func() {
		var err error
		first, err = runClient(t.Context(), cfgs[0], printed, noHold)
		done <- err
	}()

	buf := make([]byte, 256)
	n, err := lines.Read(buf)
	require.NoError(t, err)
	require.Regexp(t, `^a says hello from 127\.0\.0\.1:\d+\n$`,
		string(buf[:n]))

	// Hellos keep coming.
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()

		return f.noClient[0] >= 3
	}, 10*time.Second, helloInterval/10)

	var (
		held    bool
		summary *clientSummary
	)
	second := make(chan error, 1)
	go func() {
		var err error
		summary, err = runClient(
			t.Context(), cfgs[1], io.Discard, func() error {
				held = true

				return nil
			},
		)
		second <- err
	}()

	n, err = lines.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "a hears the other client\n", string(buf[:n]))

	require.NoError(t, <-done)
	require.NoError(t, <-second)
	require.True(t, held)
	require.NoError(t, checkExchange(first, summary, 100))
	require.GreaterOrEqual(t, first.HellosSent, uint64(4))
}

// TestReordered checks that a datagram that comes late is put up with and
// counted.
func TestReordered(t *testing.T) {
	const victim = 40

	// Only the goroutine of one port uses it.
	var late []byte
	f := newForwarder(t, func(port, number int, packet []byte) [][]byte {
		switch {
		case port == 0 && number == victim:
			late = slices.Clone(packet)

			return nil

		case port == 0 && number == victim+3:
			return [][]byte{packet, late}

		default:
			return [][]byte{packet}
		}
	})

	got, errs := runPair(t, configs(f, 200, 16))
	require.NoError(t, errors.Join(errs[:]...))
	require.NoError(t, checkExchange(got[0], got[1], 200))
	require.Equal(t, uint64(3), got[1].Reordered)
	require.Zero(t, got[0].Reordered)
}

// TestTrouble checks that datagrams that are lost, changed, doubled or foreign
// are noticed.
func TestTrouble(t *testing.T) {
	const victim = 40

	for name, test := range map[string]struct {
		mangle func(number int, packet []byte) [][]byte
		err    error
		text   string
	}{
		"lost": {
			mangle: func(int, []byte) [][]byte { return nil },
			err:    errLost,
			text:   "the first is number 40",
		},
		"changed": {
			mangle: func(_ int, packet []byte) [][]byte {
				packet[len(packet)/2] ^= 1

				return [][]byte{packet}
			},
			err:  errForeign,
			text: "while number 40 was due",
		},
		"cut": {
			mangle: func(_ int, packet []byte) [][]byte {
				return [][]byte{packet[:len(packet)-1]}
			},
			err: errForeign,
		},
		"doubled": {
			mangle: func(_ int, packet []byte) [][]byte {
				return [][]byte{packet, packet}
			},
			err: errForeign,
		},
		"doubled after a lost one": {
			mangle: func(number int, packet []byte) [][]byte {
				if number == victim {
					return nil
				}

				return [][]byte{packet, packet}
			},
			err: errForeign,
		},
		"foreign": {
			mangle: func(_ int, packet []byte) [][]byte {
				return [][]byte{
					[]byte(strangerPayload), packet,
				}
			},
			err: errForeign,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			f := newForwarder(t, func(port, number int,
				packet []byte) [][]byte {

				if port == 0 && number >= victim &&
					number < victim+2 {

					return test.mangle(number, packet)
				}

				return [][]byte{packet}
			})

			cfgs := configs(f, 200, 16)
			cfgs[1].timeout = 2 * time.Second
			cfgs[0].timeout = 4 * time.Second
			_, errs := runPair(t, cfgs)
			require.ErrorIs(t, errs[1], test.err)
			require.ErrorContains(t, errs[1], test.text)

			// Its peer waits in vain.
			require.ErrorIs(t, errs[0], errLost)
		})
	}
}

// TestClientEnds checks that a client ends with its context, and with the error
// of what it waits for.
func TestClientEnds(t *testing.T) {
	f := newForwarder(t, nil)
	cfgs := configs(f, 10, 10)

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	time.AfterFunc(2*helloInterval, func() { cancel(cause) })
	_, err := runClient(ctx, cfgs[0], io.Discard, noHold)
	require.ErrorIs(t, err, cause)

	// Nobody listens: the refusals are put up with until the time is up.
	conn, err := net.ListenUDP("udp", nil)
	require.NoError(t, err)
	port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	require.NoError(t, conn.Close())

	cfgs[0].port, cfgs[0].timeout = port, helloInterval*3/2
	_, err = runClient(t.Context(), cfgs[0], io.Discard, noHold)
	require.ErrorIs(t, err, errLost)

	// Its output is gone.
	_, printed := io.Pipe()
	require.NoError(t, printed.Close())
	_, err = runClient(t.Context(), cfgs[0], printed, noHold)
	require.ErrorIs(t, err, io.ErrClosedPipe)

	// What it holds for fails.
	f = newForwarder(t, nil)
	cfgs = configs(f, 10, 10)
	cfgs[1].timeout = 2 * time.Second
	done := make(chan error, 1)
	go func() {
		_, err := runClient(t.Context(), cfgs[1], io.Discard, noHold)
		done <- err
	}()
	_, err = runClient(t.Context(), cfgs[0], io.Discard, func() error {
		return os.ErrInvalid
	})
	require.ErrorIs(t, err, os.ErrInvalid)
	require.Error(t, <-done)
}

// TestPayload checks that payloads are what they should be: the same for the
// same sender and number, different otherwise, and of many sizes.
func TestPayload(t *testing.T) {
	var (
		buf   = make([]byte, maxDatagram)
		other = make([]byte, maxDatagram)
		large int
		total [2]int
		sizes = make(map[int]bool)
	)
	for number := range demoCount {
		got := payload(buf, seedA, number)
		require.Equal(t, got, payload(other, seedA, number))
		require.NotEmpty(t, got)
		require.LessOrEqual(t, len(got), maxLarge)
		sizes[len(got)] = true
		total[0] += len(got)
		total[1] += len(payload(other, seedB, number))
		if len(got) > maxSmall {
			large++
		}

		if len(got) >= 16 {
			require.False(t, bytes.Equal(
				got, payload(other, seedB, number),
			))
			require.False(t, bytes.Equal(
				got, payload(other, seedA, number+1),
			))
		}
	}

	// A socket of 12.5 MB/s lets what it passes in 250 ms through at once.
	require.Less(t, max(total[0], total[1]), 12_500_000/4)
	require.Equal(t, demoCount/largeEvery, large)
	require.Contains(t, sizes, 1)
	require.Contains(t, sizes, maxSmall)
	require.Greater(t, len(sizes), maxSmall/2)
}

// TestClientCommand runs two clients by their command lines, as the demo does,
// one of them held until its input ends.
func TestClientCommand(t *testing.T) {
	f := newForwarder(t, nil)
	cfgs := configs(f, 300, 64)
	input, end := io.Pipe()

	var (
		wg    sync.WaitGroup
		codes [2]int
		out   [2]strings.Builder
	)
	for i, cfg := range cfgs {
		wg.Go(func() {
			p := &program{
				stdin:  input,
				stdout: &out[i],
				stderr: io.Discard,
			}
			codes[i] = p.run(append(
				[]string{"socketdev"},
				clientArgs(cfg, i == 1)...,
			))
		})
	}

	// The first one sends a window and waits for the other one's.
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()

		return f.in[0] > 64
	}, 10*time.Second, 10*time.Millisecond)
	f.mu.Lock()
	require.LessOrEqual(t, f.in[1], uint64(10))
	f.mu.Unlock()

	require.NoError(t, end.Close())
	wg.Wait()
	require.Equal(t, [2]int{exitDone, exitDone}, codes)

	var summaries [2]clientSummary
	for i := range summaries {
		text := out[i].String()
		require.Regexp(t, clientHello, strings.Split(text, "\n")[0])
		require.Regexp(t, clientHeard, strings.Split(text, "\n")[1])

		line := strings.Split(text, "\n")[2]
		require.Regexp(t, clientResult, line)
		require.NoError(t, json.Unmarshal([]byte(line), &summaries[i]))
	}
	require.NoError(t, checkExchange(&summaries[0], &summaries[1], 300))
}
