package sidecar

import (
	"context"
	"fmt"
	"time"

	"github.com/socketd/socketd/sidecar/offer"
	"github.com/socketd/socketd/sidecar/wire"
	"github.com/socketd/socketd/socketrpc"
)

// describeOffers returns offers as the API has them, with the aliases of their
// peers and what happens next.
func (r *rpcServer) describeOffers(ctx context.Context,
	offers []offer.Offer) []*socketrpc.Offer {

	peers := make(map[offer.PubKey]struct{})
	for i := range offers {
		peers[offers[i].Peer] = struct{}{}
	}
	names := r.aliases.of(ctx, peers)
	outlooks := r.offers.Outlooks(offers)

	now := time.Now()
	described := make([]*socketrpc.Offer, 0, len(offers))
	for i := range offers {
		o := marshalOffer(&offers[i])
		o.PeerAlias = names[offers[i].Peer]
		o.Next = nextText(&offers[i], outlooks[i], now)
		described = append(described, o)
	}

	return described
}

// describeOffer is describeOffers for one.
func (r *rpcServer) describeOffer(ctx context.Context,
	o offer.Offer) *socketrpc.Offer {

	return r.describeOffers(ctx, []offer.Offer{o})[0]
}

// nextText says what happens next to an offer, or nothing if nothing does.
func nextText(o *offer.Offer, outlook offer.Outlook, now time.Time) string {
	expires := "expires in " + formatWait(o.ExpiresAt.Sub(now))
	switch {
	case o.IsRequest && !o.Ended():
		return nextOfRequest(o, outlook, now) + ", " + expires

	case o.State.Pending() && outlook.Sends == wire.TypeOffer:
		return sendingText("sent", outlook, now) + ", " + expires

	case o.State.Pending() && o.Direction == offer.Outgoing:
		return "waits for the other node's decision, " + expires

	case o.State.Pending():
		return "waits for your decision, " + expires

	// The offer itself may still be sent after it was used.
	case outlook.Sends != 0 && outlook.Sends != wire.TypeOffer:
		return "the other node is told: " +
			sendingText("told", outlook, now)

	case o.Ended():
		return ""

	case !o.Parent.IsZero():
		return "ends with the host's offer"

	case o.Direction == offer.Outgoing:
		return "ends with its socket"
	}

	return "ends with the host's socket"
}

// nextOfRequest says what happens next to a request that is not over.
func nextOfRequest(o *offer.Offer, outlook offer.Outlook,
	now time.Time) string {

	switch {
	case o.Direction == offer.Incoming:
		return "its socket is being opened"

	case outlook.Sends == wire.TypeRequest:
		return sendingText("sent", outlook, now)
	}

	return "waits for the other node's answer"
}

// sendingText says when a message is sent again.
func sendingText(done string, outlook offer.Outlook, now time.Time) string {
	switch {
	case outlook.Offline:
		return "waits for the peer to connect"

	case outlook.At.IsZero():
		return "being " + done + " now"
	}

	return done + " again in " + formatWait(outlook.At.Sub(now))
}

// formatWait returns a time to wait in the largest unit of which there are at
// least two, rounded up.
func formatWait(d time.Duration) string {
	d = max(d, time.Second)
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{
		{24 * time.Hour, "days"}, {time.Hour, "h"},
		{time.Minute, "min"},
	} {
		if d >= 2*unit.of {
			return fmt.Sprintf("%d %s", (d+unit.of-1)/unit.of,
				unit.name)
		}
	}

	return fmt.Sprintf("%d s", (d+time.Second-1)/time.Second)
}
