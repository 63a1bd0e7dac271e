package sidecar

import (
	"testing"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/stretchr/testify/require"
)

// TestNextText checks what is said to come next for an offer.
func TestNextText(t *testing.T) {
	t.Parallel()

	now := time.Now()
	again := now.Add(7500 * time.Millisecond)
	for _, c := range []struct {
		dir     offer.Direction
		state   offer.State
		outlook offer.Outlook
		want    string
	}{
		{
			offer.Outgoing, offer.StateQueued,
			offer.Outlook{Sends: wire.TypeOffer, At: again},
			"sent again in 8 s, expires in 60 min",
		},
		{
			offer.Outgoing, offer.StateSent,
			offer.Outlook{Sends: wire.TypeOffer},
			"being sent now, expires in 60 min",
		},
		{
			offer.Outgoing, offer.StateQueued,
			offer.Outlook{
				Sends: wire.TypeOffer, At: again, Offline: true,
			},
			"waits for the peer to connect, expires in 60 min",
		},
		{
			offer.Outgoing, offer.StatePending, offer.Outlook{},
			"waits for the other node's decision, " +
				"expires in 60 min",
		},
		{
			offer.Incoming, offer.StatePending, offer.Outlook{},
			"waits for your decision, expires in 60 min",
		},
		{
			offer.Outgoing, offer.StateAccepted,
			offer.Outlook{Sends: wire.TypeOffer, At: again},
			"ends with its socket",
		},
		{
			offer.Incoming, offer.StateAccepted, offer.Outlook{},
			"ends with the host's socket",
		},
		{
			offer.Incoming, offer.StateAccepted,
			offer.Outlook{Sends: wire.TypeAccept, At: again},
			"the other node is told: told again in 8 s",
		},
		{
			offer.Outgoing, offer.StateWithdrawn,
			offer.Outlook{Sends: wire.TypeClose, Offline: true},
			"the other node is told: waits for the peer to connect",
		},
		{offer.Outgoing, offer.StateExpired, offer.Outlook{}, ""},
		{offer.Incoming, offer.StateRejected, offer.Outlook{}, ""},
	} {
		o := &offer.Offer{
			Direction: c.dir,
			State:     c.state,
			ExpiresAt: now.Add(time.Hour),
		}
		require.Equal(t, c.want, nextText(o, c.outlook, now))
	}
}

// TestFormatWait checks how times to wait are told.
func TestFormatWait(t *testing.T) {
	t.Parallel()

	for d, want := range map[time.Duration]string{
		-time.Hour:                    "1 s",
		time.Millisecond:              "1 s",
		119 * time.Second:             "119 s",
		2 * time.Minute:               "2 min",
		119*time.Minute + time.Second: "120 min",
		2 * time.Hour:                 "2 h",
		7 * 24 * time.Hour:            "7 days",
	} {
		require.Equal(t, want, formatWait(d))
	}
}
