package offer

import (
	"math/rand/v2"
	"sync"
	"time"

	"pgregory.net/rapid"
)

// weather is what a network does to messages until it becomes perfect.
type weather struct {
	Seed uint64

	// Loss, Again and Fail are how many of 100 messages are lost, arrive
	// twice, and are reported to have failed, whether they arrive or not.
	Loss  int
	Again int
	Fail  int

	// Delay is how long a message takes at most, in milliseconds.
	Delay int

	// Outages are what becomes of the connection of the nodes meanwhile.
	Outages outages

	// Ends is when the network becomes perfect, in seconds.
	Ends int
}

// drawWeather draws the weather of a test.
func drawWeather(t *rapid.T) weather {
	return weather{
		Seed:  rapid.Uint64().Draw(t, "seed"),
		Loss:  rapid.IntRange(0, 90).Draw(t, "loss"),
		Again: rapid.IntRange(0, 90).Draw(t, "again"),
		Fail:  rapid.IntRange(0, 50).Draw(t, "fail"),
		Delay: rapid.IntRange(0, 5000).Draw(t, "delay"),
		Outages: rapid.Custom(drawOutages).Draw(
			t, "outages",
		),
		Ends: rapid.IntRange(0, 300).Draw(t, "ends"),
	}
}

// fate returns the fate of messages in this weather.
func (we weather) fate() func(packet) fate {
	rng := rand.New(rand.NewPCG(we.Seed, 1))
	ends := time.Now().Add(time.Duration(we.Ends) * time.Second)
	roll := func(percent int) bool { return rng.IntN(100) < percent }

	// Both nodes send at the same time.
	var mu sync.Mutex

	return func(p packet) fate {
		mu.Lock()
		defer mu.Unlock()

		if !p.at.Before(ends) {
			return fate{delays: []time.Duration{0}}
		}

		var f fate
		copies := 1
		if roll(we.Again) {
			copies++
		}
		for range copies {
			if roll(we.Loss) {
				continue
			}
			f.delays = append(f.delays, time.Duration(
				rng.IntN(we.Delay+1),
			)*time.Millisecond)
		}
		if roll(we.Fail) {
			f.err = errLnd
		}
		if roll(we.Fail) {
			f.err = ErrNotConnected
		}

		return f
	}
}
